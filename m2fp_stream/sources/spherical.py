"""Pictures that are no plain view: all around, fisheye, for two eyes. They are named as such."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, cast

import av
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType

__all__ = ["said_of", "tags_of", "tags_of_photo"]

_PROJECTIONS: Final = (
    *("equirectangular", "cubemap", "equirectangular tile", "half equirectangular"),
    *("rectilinear", "fisheye", "parametric immersive"),
)
"""FFmpeg's AVSphericalProjection, by value (libavutil/spherical.h)."""

_FLAT: Final = "rectilinear"

_PLAIN: Final = 0
"""FFmpeg's AV_STEREO3D_2D: one eye."""

_PHOTO: Final = "equirectangular"
_PHOTO_TAG: Final = b"ProjectionType"
"""Google's Photo Sphere XMP metadata: GPano:ProjectionType has this one value."""


def tags_of(frame: av.VideoFrame) -> tuple[str, ...]:
    """Names the tags by which players bend a picture or give it to two eyes; they do not pass."""
    try:
        # PyAV's stub knows another kind of side data only.
        side_data = cast("Mapping[SideDataType, SideData]", frame.side_data)
    except ValueError:
        return ()  # see `convert.orientation_of`
    tags = []
    if (found := side_data.get(SideDataType.SPHERICAL)) is not None:
        number = _first(found)
        known = 0 <= number < len(_PROJECTIONS)
        tags.append(f"spherical tag ({_PROJECTIONS[number] if known else number})")
    if (found := side_data.get(SideDataType.STEREO3D)) is not None and _first(found) != _PLAIN:
        tags.append("stereo tag (3D)")
    return tuple(tags)


def said_of(tags: tuple[str, ...]) -> str | None:
    """Returns what somebody should know of such pictures; None where there is nothing."""
    if any("spherical" in tag and _FLAT not in tag for tag in tags):
        return (
            "the picture shows all around, and is looked at as a flat one: whoever stands where it "
            "is cut (the left and right edge) or is bent may stay open; cover the edges with "
            "--zone 0,0,0.1,1 --zone 0.9,0,1,1, and look at the output. Its tag is gone: players "
            "show it flat"
        )
    return None


def tags_of_photo(data: bytes) -> tuple[str, ...]:
    """Names such a tag of a photograph."""
    around = _PHOTO_TAG in data and _PHOTO.encode() in data
    return (f"spherical tag ({_PHOTO})",) if around else ()


def _first(data: SideData) -> int:
    return int(struct.unpack_from("=i", memoryview(data))[0])
