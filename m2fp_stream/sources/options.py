"""Options of the sources."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from ..options import Options
from .base import MAX_PIXELS

__all__ = ["CameraOptions", "FileOptions", "StreamOptions", "SyntheticOptions", "read_size"]


def read_size(text: str) -> tuple[int, int]:
    """Returns the (width, height) that ``1280x720`` means.

    Raises:
        ValueError: it means none.
    """
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text, re.ASCII)
    if found is None:
        raise ValueError(f"expected WIDTHxHEIGHT in pixels, such as 1280x720, got {text!r}")
    return int(found[1]), int(found[2])


class FileOptions(Options):
    """How a video file is read."""

    max_pixels: Annotated[
        int,
        Field(
            title="Largest picture",
            description="Width times height above which a file is refused before it is decoded.",
            ge=1,
        ),
    ] = MAX_PIXELS
    threads: Annotated[
        int, Field(title="Decoder threads", description="Never changes the result.", ge=1, le=64)
    ] = 2
    stream: Annotated[
        int | None,
        Field(
            title="Video",
            description=(
                "Which of several videos in a file, counted from 1; leave it out for the one that "
                "a player shows."
            ),
            ge=1,
        ),
    ] = None
    canvas: Annotated[
        str | None,
        Field(
            title="Size of the picture",
            description=(
                "WIDTHxHEIGHT of a video's pictures; all are fitted into it, with black bars. "
                "Leave it out for their own size, the largest of the first seconds where it "
                "changes."
            ),
        ),
    ] = None
    start_s: Annotated[
        float | None,
        Field(
            title="Start",
            description="Seconds of the input, as players count; earlier frames are left out.",
            ge=0,
        ),
    ] = None
    end_s: Annotated[
        float | None,
        Field(
            title="End",
            description=(
                "Seconds of the input, as players count; frames from there on are left out."
            ),
            gt=0,
        ),
    ] = None
    fps: Annotated[
        float,
        Field(
            title="Rate of numbered pictures",
            description="Frames a second of an input such as frames/%06d.png.",
            gt=0,
            le=1000,
        ),
    ] = 25.0
    pipe_mb: Annotated[
        int,
        Field(
            title="Largest input of a pipe",
            description=(
                "Megabytes of what comes from standard input; it is held in memory until its end."
            ),
            ge=1,
        ),
    ] = 2048
    salvage: Annotated[
        bool,
        Field(
            title="Take what can be decoded",
            description=(
                "A damaged or truncated file gives a warning instead of an error; pictures made "
                "from lost or damaged ones are left out."
            ),
        ),
    ] = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start_s is not None and self.end_s is not None and self.start_s >= self.end_s:
            raise ValueError("start_s must be before end_s")
        return self

    @field_validator("canvas")
    @classmethod
    def _readable(cls, text: str | None) -> str | None:
        if text is not None:
            read_size(text)
        return text

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        if self.canvas is not None:
            width, height = read_size(self.canvas)
            if width * height > self.max_pixels:
                raise ValueError(f"canvas: {self.canvas} is above max_pixels")
        return self


class CameraOptions(Options):
    """What is asked of a camera; it may answer with the nearest it can."""

    width: Annotated[
        int, Field(title="Width", description="Pixels across the picture.", ge=16, le=7680)
    ] = 1280
    height: Annotated[
        int, Field(title="Height", description="Pixels down the picture.", ge=16, le=4320)
    ] = 720
    fps: Annotated[
        int,
        Field(
            title="Frame rate",
            description="Frames a second.",
            ge=1,
            le=240,
        ),
    ] = 30
    fourcc: Annotated[
        Literal["MJPG", "YUYV", "NV12"] | None,
        Field(
            title="Format on the wire",
            description="MJPG gives large pictures over USB 2; leave empty for the camera's own.",
        ),
    ] = "MJPG"


class StreamOptions(Options):
    """How a network stream is read."""

    transport: Annotated[
        Literal["tcp", "udp"],
        Field(
            title="RTSP transport",
            description="tcp loses nothing; udp may be faster where the network is good.",
        ),
    ] = "tcp"
    open_timeout_s: Annotated[
        float,
        Field(
            title="Time to open",
            description="Seconds to connect in, and again seconds until the first packet.",
            ge=0.5,
            le=120,
        ),
    ] = 10.0
    read_timeout_s: Annotated[
        float,
        Field(
            title="Longest silence",
            description="Seconds without a packet of video after which the stream counts as lost.",
            ge=0.5,
            le=120,
        ),
    ] = 5.0
    key_frame_timeout_s: Annotated[
        float,
        Field(
            title="Longest wait for a key frame",
            description=(
                "Seconds in which packets come but no whole picture, after which the stream "
                "counts as lost. Once key frames have come: ten times their distance if that is "
                "less (never less than read_timeout_s), three times if that is more."
            ),
            ge=0.5,
            le=3600,
        ),
    ] = 60.0
    verify_tls: Annotated[
        bool,
        Field(
            title="Check certificates",
            description="Off, rtsps and https are encrypted, but anyone may pose as the server.",
        ),
    ] = True
    ca_file: Annotated[
        str | None,
        Field(
            title="Certificate file",
            description="PEM file to check certificates with, such as a camera's own certificate.",
            min_length=1,
        ),
    ] = None
    max_pixels: Annotated[
        int,
        Field(
            title="Largest picture",
            description="Width times height above which a stream is refused.",
            ge=1,
        ),
    ] = MAX_PIXELS
    threads: Annotated[
        int,
        Field(
            title="Decoder threads",
            description="H.264 takes one, for with more its damaged pictures would pass as whole.",
            ge=1,
            le=64,
        ),
    ] = 1


class SyntheticOptions(Options):
    """What the test picture looks like."""

    width: Annotated[
        int, Field(title="Width", description="Pixels across the picture.", ge=64, le=7680)
    ] = 1280
    height: Annotated[
        int, Field(title="Height", description="Pixels down the picture.", ge=64, le=4320)
    ] = 720
    fps: Annotated[
        int,
        Field(
            title="Frame rate",
            description="Frames a second.",
            ge=1,
            le=240,
        ),
    ] = 30
    seconds: Annotated[
        float | None,
        Field(
            title="Length",
            description="Seconds after which it ends; leave out to go on for ever.",
            gt=0,
        ),
    ] = None
