"""H.264 without delay for sinks that stream, and the only muxing beside the file sinks'."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Final, Literal, Protocol, cast, final

import av
from av.codec.context import ThreadType
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.stream import VideoStream
from pydantic import Field

from ..core.errors import SinkError
from ..core.safe import SafeFrame
from ..core.timing import rescale
from .encoders import Preset
from .yuv import BT709, LUMA_WEIGHTS, NARROW_RANGE, to_yuv420p, ycbcr_matrix

__all__ = ["EncodedFrame", "KeyFrameSeconds", "LiveEncoder", "LivePreset", "Muxer", "Writer"]

LivePreset = Annotated[
    Preset,
    Field(
        title="Speed of encoding",
        description="x264's preset: slower ones need less bandwidth for the same quality.",
    ),
]

KeyFrameSeconds = Annotated[
    float,
    Field(
        title="Key frame every",
        description="Seconds; somebody who begins to watch waits that long for a picture.",
        ge=0.2,
        le=10,
    ),
]

TICK: Final = Fraction(1, 90_000)
"""Seconds a tick of `EncodedFrame.pts`. Sources: ISO/IEC 13818-1, 2.4.3.7; RFC 6184, 8.2.1."""

CRF: Final = 23
"""x264's own default quality, used where no bit rate is given."""

_RATE_HINT: Final = Fraction(30)
"""Frames a second by which x264 counts bits and chooses the level. The stream announces it, too
(x264 knows the real durations only one frame late); players go by the timestamps."""

_THREADS: Final = 2
"""The program's default for encoders and decoders; under `zerolatency` threads share a picture,
so that more of them add no delay."""


@final
@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One H.264 picture (Annex B), decodable in the order of `pts`.

    Attributes:
        data: the bytes; those of a key frame begin with its parameter sets.
        pts: ticks of `TICK` since the first frame; decoding and presentation times are the same.
        key: an IDR picture: nothing before it is needed.
    """

    data: bytes
    pts: int
    key: bool


@final
class LiveEncoder:
    """Encodes composed frames one by one, each available as soon as it was put in.

    No frame is held back: no B-frames, no lookahead, no threads a frame apart. Key frames are
    placed by time, not by count, because live frames come unevenly. Colours are BT.709, narrow
    range, and tagged so. x264's settings are in the stream, nothing else about this computer.

    Args:
        size_wh: (width, height) of every frame; odd sides are continued by one copied row or
            column.
        time_base: seconds a tick of the frames' `pts`.
        preset: x264's; slower ones need less bandwidth for the same quality.
        keyframe_s: seconds after which the next frame is a key frame.
        bitrate_kbps: the average at 30 frames a second (fewer frames: less), and within a second
            also the limit; None keeps the quality at `CRF` instead.

    Raises:
        SinkError: x264 does not take the size.
    """

    def __init__(
        self,
        size_wh: tuple[int, int],
        time_base: Fraction,
        *,
        preset: Preset,
        keyframe_s: float,
        bitrate_kbps: int | None = None,
    ) -> None:
        self._size_wh = size_wh
        self._time_base = time_base
        self._key_ticks = round(Fraction(keyframe_s) / TICK)
        self._matrix = ycbcr_matrix(*LUMA_WEIGHTS[BT709], full=False)
        self._first_pts: int | None = None
        self._last_pts = 0
        self._last_ticks = -1
        self._last_key = 0
        self._context = context = VideoCodecContext.create("libx264", "w")
        assert isinstance(context, VideoCodecContext)  # libx264 encodes video
        context.width, context.height = self.coded_size_wh
        context.pix_fmt = "yuv420p"
        context.time_base = TICK
        context.framerate = _RATE_HINT
        context.thread_count = _THREADS
        context.thread_type = ThreadType.SLICE
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = NARROW_RANGE
        options = {
            "preset": preset,
            "tune": "zerolatency",
            "bf": "0",
            "flags": "+bitexact",
            # Chroma is the mean of 2x2 pixels, so it lies between them (ITU-T H.264, figure E-1,
            # type 1).
            "x264-params": "keyint=infinite:scenecut=0:chromaloc=1",
        }
        if bitrate_kbps is None:
            options["crf"] = str(CRF)
        else:
            context.bit_rate = bitrate_kbps * 1000
            options["maxrate"] = options["bufsize"] = str(bitrate_kbps * 1000)
        context.options = options
        try:
            context.open()
        except (FFmpegError, ValueError) as error:
            width, height = size_wh
            raise SinkError(
                f"{width}x{height} pixels cannot be encoded ({_reason(error)}); "
                "choose another size of the camera's picture"
            ) from None

    @property
    def coded_size_wh(self) -> tuple[int, int]:
        """(width, height) of the stream: even."""
        width, height = self._size_wh
        return width + width % 2, height + height % 2

    def check(self, frame: SafeFrame) -> None:
        """Refuses a frame that cannot be encoded.

        Raises:
            SinkError: it has another size or time base than announced.
        """
        if frame.size_wh != self._size_wh or frame.time_base != self._time_base:
            raise SinkError(
                f"expected {self._size_wh} at {self._time_base} s a tick, "
                f"got {frame.size_wh} at {frame.time_base}"
            )

    def encode(self, frame: SafeFrame, *, key: bool = False) -> EncodedFrame:
        """Returns `frame`, encoded; `key` makes it a key frame whenever the last one was.

        Raises:
            SinkError: another size or time base than announced, or a `pts` that does not rise.
        """
        self.check(frame)
        if self._first_pts is None:
            self._first_pts, key = frame.pts, True
        elif frame.pts <= self._last_pts:
            raise SinkError(f"timestamps must rise; {self._last_pts} is followed by {frame.pts}")
        self._last_pts = frame.pts
        # Two frames within one tick are moved one apart.
        ticks = rescale(frame.pts - self._first_pts, self._time_base, TICK)
        ticks = self._last_ticks = max(ticks, self._last_ticks + 1)
        if key or ticks - self._last_key >= self._key_ticks:
            key, self._last_key = True, ticks
        picture = to_yuv420p(frame.pixels, self._matrix)
        picture.pts, picture.time_base = ticks, TICK
        picture.pict_type = PictureType.I if key else PictureType.NONE
        try:
            (packet,) = cast("list[Packet[VideoStream]]", self._context.encode(picture))
        except (FFmpegError, ValueError) as error:
            raise SinkError(f"the encoder failed ({_reason(error)}); start again") from None
        return EncodedFrame(bytes(packet), ticks, packet.is_keyframe)


class Writer(Protocol):
    """Takes what a `Muxer` makes."""

    def write(self, data: bytes, /) -> int:
        """Takes all of `data` and returns its length."""
        ...


_OPTIONS: Final[dict[str, dict[str, str]]] = {
    # Each access unit begins with the tables, so that a stream can be cut before any key frame.
    "mpegts": {"mpegts_flags": "+pat_pmt_at_frames", "flush_packets": "1"},
    # A stream has no end to go back from.
    "flv": {"flvflags": "+no_duration_filesize"},
    # Over UDP a lost packet would spoil the picture up to the next key frame.
    "rtsp": {"rtsp_transport": "tcp"},
}


@final
class Muxer:
    """Puts encoded frames into a container, without metadata.

    A network target is connected to by the first `write`. PyAV's time limits cover reading only,
    and it connects without releasing the interpreter: give it a URL in a process of its own only.

    Args:
        target: a URL, or where the bytes go.
        kind: the container, or for RTSP the protocol.
        size_wh: (width, height) of the stream.
    """

    def __init__(
        self, target: str | Writer, kind: Literal["mpegts", "flv", "rtsp"], size_wh: tuple[int, int]
    ) -> None:
        self._container: OutputContainer = av.open(
            target, "w", format=kind, options={"fflags": "+bitexact", **_OPTIONS[kind]}
        )
        width, height = size_wh
        self._stream = self._container.add_mux_stream(
            "h264", width=width, height=height, time_base=TICK
        )

    def write(self, frame: EncodedFrame) -> None:
        """Writes one frame; the first one must be a key frame.

        Raises:
            SinkError: the system's or the server's reason, without the target's name.
        """
        packet = Packet(frame.data)
        packet.stream = self._stream
        packet.pts = packet.dts = frame.pts
        packet.time_base = TICK
        packet.is_keyframe = frame.key
        try:
            self._container.mux(packet)
        except (FFmpegError, OSError, ValueError) as error:
            raise SinkError(_reason(error)) from None

    def close(self) -> None:
        """Writes what ends the container; nothing where no frame was written.

        Raises:
            SinkError: as for `write`.
        """
        try:
            self._container.close()
        except (FFmpegError, OSError, ValueError) as error:
            raise SinkError(_reason(error)) from None


def _reason(error: Exception) -> str:
    """Returns why, without what: the text of a foreign exception may hold a URL."""
    return str(getattr(error, "strerror", None) or type(error).__name__)
