"""The encoders of films: what `--crf`, `--preset` and `--bitrate` mean to each of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self, final

import av
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from ..core.errors import UsageError
from ..options import Options
from .containers import CONTAINERS, Container, ContainerName

__all__ = ["ENCODERS", "Encoder", "Preset", "VideoFileOptions", "read_rate"]

EncoderName = Literal["x264", "x265", "av1", "vp9"]

Preset = Literal[
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
]
_PRESETS: Final = Preset.__args__  # type: ignore[attr-defined]  # typing's own way to list them

_SVT: Final = dict(zip(_PRESETS, (13, 12, 11, 10, 9, 8, 6, 4, 2), strict=True))
"""SVT-AV1 counts from -1 (best) to 13. Source: its User Guide; 8 is its own default, and takes
less time than x264's `medium` (measured: 60 frames of 1080p on two busy cores, 2 against 31 s)."""

_VPX: Final = dict(zip(_PRESETS, (5, 5, 5, 5, 5, 4, 2, 1, 0), strict=True))
"""libvpx's `cpu-used` for recorded video is 0 to 5. Source: FFmpeg's documentation, "libvpx"."""

_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)([kKmM]?)")
_FACTORS: Final = {"": 1, "k": 1000, "m": 1_000_000}
_LEAST_RATE: Final = 10_000
_MOST_RATE: Final = 1_000_000_000
"""Bits a second. Chosen: below, no encoder makes a picture of it; above, what 8K without loss has
(H.264's highest level, 6.2, ends at 800 Mb/s: ITU-T H.264, table A-1)."""


@final
@dataclass(frozen=True, slots=True)
class Encoder:
    """One encoder.

    Attributes:
        title: what it makes, as people know it.
        library: its name in FFmpeg.
        crf: its constant rate factor unless another is named.
        most_crf: the worst.
        least_crf: the best that players take.
        options: FFmpeg's options for a preset and a number of threads.
        in_order: whether its packets come in the order of showing.
        undated: films of so many frames get no times of decoding from it, but come in order.
    """

    title: str
    library: str
    crf: int
    most_crf: int
    options: Callable[[str, int], Mapping[str, str]]
    least_crf: int = 0
    in_order: bool = False
    undated: int = 0

    @classmethod
    def of(cls, options: VideoFileOptions) -> Encoder:
        """Returns the one that is asked for, or that its container usually has.

        Raises:
            UsageError: PyAV was built without it.
        """
        found = ENCODERS[options.encoder_name]
        if found.library not in av.codecs_available:
            there = [name for name, one in ENCODERS.items() if one.library in av.codecs_available]
            raise UsageError(
                f"encoder {options.encoder_name}: this PyAV has no {found.library}; there are: "
                f"{', '.join(there) or 'none of ours'}"
            )
        return found

    def settings(self, options: VideoFileOptions, bitrate: int | None) -> dict[str, str]:
        """Returns FFmpeg's options: a rate factor only where no bit rate goes another way."""
        made = dict(self.options(options.preset, options.threads))
        if bitrate is None:
            made["crf"] = str(self.factor(options))
        return made

    def factor(self, options: VideoFileOptions) -> int:
        """Returns the constant rate factor that is used."""
        return max(self.crf if options.crf is None else options.crf, self.least_crf)


def _x264(preset: str, _: int) -> Mapping[str, str]:
    return {"preset": preset}


def _x265(preset: str, threads: int) -> Mapping[str, str]:
    # FFmpeg's number of threads is that of frames at a time; the pool is x265's own, all cores
    # unless told. It writes to stderr by itself.
    return {"preset": preset, "x265-params": f"log-level=none:pools={threads}"}


def _av1(preset: str, _: int) -> Mapping[str, str]:
    os.environ.setdefault("SVT_LOG", "0")  # it writes to stderr by itself, and this is its switch
    return {"preset": str(_SVT[preset])}


def _vp9(preset: str, _: int) -> Mapping[str, str]:
    return {"deadline": "good", "cpu-used": str(_VPX[preset]), "row-mt": "1"}


ENCODERS: Final[Mapping[str, Encoder]] = {
    # 0 would be without loss, in a profile (High 4:4:4 Predictive) that QuickTime and browsers do
    # not play; 1 is High.
    "x264": Encoder("H.264", "libx264", 20, 51, _x264, least_crf=1),
    # Of films shorter than its delay, x265 4.2 leaves these times undefined (measured).
    "x265": Encoder("HEVC", "libx265", 22, 51, _x265, undated=2),
    "av1": Encoder("AV1", "libsvtav1", 28, 63, _av1, in_order=True),
    "vp9": Encoder("VP9", "libvpx-vp9", 26, 63, _vp9, in_order=True),
}
"""By what `--encoder` calls them. Their usual factors are near x264's 20: over 60 frames of two
clips (CC BY 4.0, Intel's sample videos) PSNR of luma was 41.2 and 41.6 dB for x264, 40.0 and 41.0
(x265, 63 % and 61 % of the bytes), 40.3 and 41.8 (AV1, 61 % and 93 %), 40.3 and 41.0 (VP9, 88 % and
62 %, between two measured factors)."""


def read_rate(text: str) -> int:
    """Returns the bits a second that ``4M``, ``800k`` or ``800000`` mean.

    Raises:
        ValueError: it is none of them, or out of reach.
    """
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected a bit rate such as 4M or 800k")
    rate = round(float(match[1]) * _FACTORS[match[2].lower()])
    if not _LEAST_RATE <= rate <= _MOST_RATE:
        raise ValueError("expected a bit rate from 10k to 1000M")
    return rate


def _rate(given: object) -> object:
    return read_rate(given) if isinstance(given, str) else given


class VideoFileOptions(Options):
    """How a film is written: always 8 bits, 4:2:0."""

    container: Annotated[
        ContainerName,
        Field(
            title="Kind of file",
            description="What videos become where no output's suffix says so.",
        ),
    ] = "mp4"
    encoder: Annotated[
        EncoderName | None,
        Field(
            title="Encoder",
            description="Leave it out for x264 in MP4 and MKV, av1 in WebM, which permits av1 and "
            "vp9 only.",
        ),
    ] = None
    crf: Annotated[
        int | None,
        Field(
            title="Quality",
            description=(
                "The encoder's constant rate factor: 0 is best, 51 worst (63 for av1 and vp9). "
                "Leave it out for 20 (x264), 22 (x265), 28 (av1) or 26 (vp9), much alike."
            ),
            ge=0,
        ),
    ] = None
    bitrate: Annotated[
        int | None,
        Field(
            title="Bit rate",
            description="Bits a second on average, such as 4M or 800k, instead of a quality.",
            ge=_LEAST_RATE,
            le=_MOST_RATE,
        ),
        BeforeValidator(_rate),
    ] = None
    keep_quality: Annotated[
        bool,
        Field(
            title="Bit rate of the input",
            description="Take the bit rate of the input's video, instead of a quality.",
        ),
    ] = False
    preset: Annotated[
        Preset,
        Field(
            title="Speed of encoding",
            description="Slower ones give smaller files of the same quality.",
        ),
    ] = "medium"
    threads: Annotated[
        int,
        Field(
            title="Encoder threads",
            description="What is encoded does not depend on it; the bytes that come of it do.",
            ge=1,
            le=64,
        ),
    ] = 2

    @property
    def kind(self) -> Container:
        """What it is written into."""
        return CONTAINERS[self.container]

    @property
    def encoder_name(self) -> str:
        """The encoder that is used."""
        return self.encoder or self.kind.encoders[0]

    @field_validator("encoder")
    @classmethod
    def _permitted(cls, encoder: EncoderName | None, info: ValidationInfo) -> EncoderName | None:
        container = CONTAINERS.get(info.data.get("container", ""))
        if container is not None and encoder is not None and encoder not in container.encoders:
            raise ValueError(f"expected {' or '.join(container.encoders)} in {container.title}")
        return encoder

    @field_validator("crf")
    @classmethod
    def _within_reach(cls, crf: int | None, info: ValidationInfo) -> int | None:
        container = CONTAINERS.get(info.data.get("container", "mp4"), CONTAINERS["mp4"])
        encoder = ENCODERS[info.data.get("encoder") or container.encoders[0]]
        if crf is not None and crf > encoder.most_crf:
            raise ValueError(f"expected less than or equal to {encoder.most_crf}")
        return crf

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        given = {
            "crf": self.crf,
            "bitrate": self.bitrate,
            "keep_quality": self.keep_quality or None,
        }
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} exclude each other; name one")
        return self
