"""Which of a file's videos is read, and what of the file does not pass, in words."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import BinaryIO, Final

from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from ..core.errors import SourceError
from .convert import is_attached
from .isobmff import only_stills
from .png import PNG, still_apart

__all__ = ["apart", "bit_rate_of", "choose", "dropped", "rate_of", "several"]

_FALLBACK_RATE: Final = Fraction(25)
"""Frames a second where nothing states one. Source: FFmpeg's default for raw video."""


def apart(file: BinaryIO, name: str) -> tuple[str, ...]:
    """Names what FFmpeg does not give of a file, which is at its beginning afterwards.

    Raises:
        SourceError: it is a picture that FFmpeg does not read, or gives the tiles of; or it cannot
            be read.
    """
    try:
        data = file.read(12)
        data += file.read() if data.startswith(PNG) else b""
        stills = only_stills(file)
    except OSError as error:
        raise SourceError(f"{name}: cannot be read ({error.strerror})") from None
    suffix = ".heic or .avif" if stills else ""
    if data.startswith(PNG) and b"acTL" not in data:
        suffix = ".png"
    if data[:4] == b"RIFF" and data[8:] == b"WEBP":
        suffix = ".webp"
    if suffix:
        raise SourceError(f"{name}: is a picture, no video; name it {suffix}")
    return ("a still picture that is not part of the animation",) if still_apart(data) else ()


def choose(videos: Sequence[VideoStream], wanted: int | None, name: str) -> VideoStream:
    """Returns the video that is read: the one asked for, else what a player would show.

    That is the default one, the largest of several; of those the one with the most pictures, for a
    moving AVIF has a still one, too.

    Args:
        videos: what can be decoded, one at least.
        wanted: counted from 1.
        name: of the file, for messages.

    Raises:
        SourceError: it has fewer than `wanted`.
    """
    if wanted is None:
        return max(videos, key=_rank)
    if wanted > len(videos):
        raise SourceError(
            f"{name}: has no video {wanted}; --stream chooses of {_listed(videos, None)}"
        )
    return videos[wanted - 1]


def several(videos: Sequence[VideoStream], chosen: VideoStream, wanted: int | None) -> str | None:
    """Returns a sentence that names all videos where nobody has said which; else None."""
    if len(videos) == 1 or wanted is not None:
        return None
    return (
        f"holds {len(videos)} videos: {_listed(videos, chosen)}; "
        "the others are left out, --stream chooses"
    )


def dropped(
    container: InputContainer, videos: Sequence[VideoStream], chosen: VideoStream
) -> tuple[str, ...]:
    """Says in words what of the container does not pass (P8); names, never contents."""
    numbers = {one.index: number for number, one in enumerate(videos, 1)}
    words = []
    for stream in container.streams:
        if stream.index == chosen.index:
            continue
        if is_attached(stream):
            words.append("attached picture")
        elif stream.index in numbers and isinstance(stream, VideoStream):
            words.append(f"video {numbers[stream.index]} ({_kind(stream)})")
        else:
            words.append(stream.type)
    if chapters := container.chapters():
        words.append(f"chapters ({len(chapters)})")
    keys = {key.lower() for holder in (container, *container.streams) for key in holder.metadata}
    if keys := {key for key in keys if key.isprintable()}:
        words.append(f"metadata ({', '.join(sorted(keys))})")
    return tuple(words)


def rate_of(stream: VideoStream) -> Fraction:
    """Returns frames a second; an average of twice the guess counts ticks or fields (DV, GXF)."""
    average, guessed = stream.average_rate, stream.guessed_rate
    if average and guessed and average >= 2 * guessed:
        return guessed
    return average or guessed or _FALLBACK_RATE


def bit_rate_of(container: InputContainer, stream: VideoStream) -> int | None:
    """Returns bits a second of a video; None where neither it nor its file says or shows it."""
    if rate := getattr(stream, "bit_rate", None):
        return int(rate)
    others = (one for one in container.streams if one.index != stream.index)
    rest = sum(getattr(one, "bit_rate", None) or 0 for one in others)
    rate = (container.bit_rate or 0) - rest
    return rate if rate > 0 else None


def _rank(stream: VideoStream) -> tuple[bool, int, int]:
    default = bool(stream.disposition & Disposition.default)
    return default, stream.width * stream.height, stream.frames


def _listed(videos: Sequence[VideoStream], chosen: VideoStream | None) -> str:
    return ", ".join(
        f"{number} ({_kind(one)}{', taken' if one is chosen else ''})"
        for number, one in enumerate(videos, 1)
    )


def _kind(stream: VideoStream) -> str:
    return f"{stream.codec_context.name}, {stream.width}x{stream.height}"
