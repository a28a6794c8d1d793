"""Composed frames to a film, in a file or a pipe: its source's times, and its sound if given."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Final, NoReturn, cast, final

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.error import ArgumentError, FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream
from cv2.typing import MatLike
from numpy.typing import NDArray

from ..core.audio import AudioFormat
from ..core.errors import SinkError
from ..core.part_file import PartFile
from ..core.safe import SafeAudio, SafeFrame
from ..core.timing import rescale
from .base import Sink
from .encoders import Encoder, VideoFileOptions
from .film_sound import SoundTrack
from .fragments import whole_fragments
from .standard_output import OutputPipe
from .yuv import BT709, FULL_RANGE, LUMA_WEIGHTS, UNSPECIFIED, to_yuv420p, ycbcr_matrix

__all__ = ["VideoFileSink"]

_IN_PIECES: Final = {
    "movflags": "+hybrid_fragmented+empty_moov+delay_moov+default_base_moof",
    "frag_duration": "1000000",
}
"""Each second is playable once it is written; completing adds one index for all, at the end, and
makes the pieces' own invisible. Source: FFmpeg's documentation of its muxers, "mov, mp4, ismv"."""

_BUFFER_BYTES: Final = 1 << 20
"""Written at a time. Chosen: few calls back into Python."""
_PIPE_BYTES: Final = 1 << 15
"""The same into a pipe. Chosen: half of what Linux's pipes hold (pipe(7)): little waits here."""
ROOM_BYTES: Final = 4 << 20
"""What the disk must have left for a file in pieces to be begun: some seconds of 1080p. Chosen."""


@final
class VideoFileSink(Sink[SafeFrame]):
    """Writes a film that appears under `path` when `finish` succeeds, or goes into a pipe.

    The picture's odd sides are continued by one copied row or column, for 4:2:0 needs even ones.
    Where the container cannot say that pixels are not square, the picture is stretched instead.
    Equal frames reach the encoder equal; its bytes are not promised. Even with one thread x264
    gives other ones for the same pictures, under load and on some CPUs (measured on an AMD EPYC
    with AVX-512: 7 files in 20 runs; only without its macroblock tree, which saves bits, 1).

    Args:
        path: the final name; the part file beside it is hidden. Or a pipe: what was written there
            cannot be taken back, `abort` only stops.
        size_wh: (width, height) of every frame.
        time_base: seconds a tick of the frames' `pts`; kept exactly in MP4, to the millisecond in
            Matroska and WebM, where two frames within one are moved one apart.
        origin_pts: where the output's time begins, taken off every `pts`.
        rate: frames a second, a hint for the encoder and the last frame's duration; None if
            unknown.
        sample_aspect_ratio: width to height of one pixel; None is not written.
        color_primaries, color_trc, colorspace, color_range: code points of ITU-T H.273; None is
            not written. An RGB or unknown `colorspace` becomes BT.709.
        sound: what `write_audio` will bring, from the output's time 0 on, without a gap; None for
            a film without sound. It becomes AAC at its own rate, in WebM Opus.
        options: see `VideoFileOptions`; the suffix of `path` says nothing.
        bitrate: bits a second, instead of what the options say.
        overwrite: False refuses a name that is taken.
        in_pieces: what was written before the disk was full, to a second, is kept under `path` and
            plays; see `rescued`. Costs some bytes a second; completing reads nothing again. MP4
            only.

    Raises:
        SinkError: the file cannot be written there; nothing was left.
        UsageError: there is no such encoder.
    """

    accepts: ClassVar[type] = SafeFrame
    accepts_audio: ClassVar[bool] = True

    def __init__(
        self,
        path: Path | OutputPipe,
        *,
        size_wh: tuple[int, int],
        time_base: Fraction,
        origin_pts: int = 0,
        rate: Fraction | None = None,
        sample_aspect_ratio: Fraction | None = None,
        color_primaries: int | None = None,
        color_trc: int | None = None,
        colorspace: int | None = None,
        color_range: int | None = None,
        sound: AudioFormat | None = None,
        options: VideoFileOptions | None = None,
        bitrate: int | None = None,
        overwrite: bool = False,
        in_pieces: bool = False,
    ) -> None:
        super().__init__()
        options = options or VideoFileOptions()
        self._encoder, self._kind = Encoder.of(options), options.kind
        self._in_pieces, self._rescued, self._encoded = in_pieces, 0, 0
        self._size_wh, self._shown_wh, self._rate = size_wh, size_wh, rate
        self._time_base, self._origin_pts, self._last_pts = time_base, origin_pts, 0
        self._tick = self._kind.tick or time_base
        if options.encoder_name not in self._kind.states_aspect:
            self._shown_wh = _square(size_wh, sample_aspect_ratio)
            sample_aspect_ratio = None
        colorspace = _matrix_of(colorspace)
        self._to_ycbcr = ycbcr_matrix(*LUMA_WEIGHTS[colorspace], full=color_range == FULL_RANGE)
        self._waiting: av.VideoFrame | None = None
        self._durations: dict[int, int] = {}
        self._part = path if isinstance(path, OutputPipe) else PartFile(path, overwrite=overwrite)
        try:
            if in_pieces and isinstance(self._part, PartFile):
                self._part.ask_for(ROOM_BYTES)
            self._container = self._muxer()
            self._stream = self._add_stream(options, bitrate or options.bitrate)
            tags = (color_primaries, color_trc, colorspace, color_range)
            self._describe(self._stream.codec_context, sample_aspect_ratio, tags)
            self._sound = None
            if sound is not None:
                self._sound = SoundTrack.of(self._container, self._kind.sound, sound)
            self._container.start_encoding()
        except BaseException as error:
            self.abort()
            if isinstance(error, FFmpegError | OSError | ValueError):
                self._refuse_to_begin(error)
            raise

    def _refuse_to_begin(self, error: Exception) -> NoReturn:
        if isinstance(error, ArgumentError):  # what encoders say of sizes
            width, height = self._shown_wh
            raise SinkError(
                f"{self._part}: cannot be written: {self._encoder.library} takes no pictures of "
                f"{width}x{height}"
            ) from None
        self._part.refuse(error)

    @property
    def rescued(self) -> int:
        """How many frames a file in pieces kept although it could not be completed."""
        return self._rescued

    def check(self) -> None:
        """Looks whether the file is still where it was made.

        Raises:
            SinkError: it, or its folder, was deleted.
        """
        self._part.check()

    def _muxer(self) -> OutputContainer:
        piped = isinstance(self._part, OutputPipe)
        more = self._kind.in_a_pipe if piped else self._kind.in_a_file
        return av.open(
            self._part,
            "w",
            format=self._kind.muxer,
            # bitexact keeps dates and the software's name out.
            options={"fflags": "+bitexact", **more, **(_IN_PIECES if self._in_pieces else {})},
            buffer_size=_PIPE_BYTES if piped else _BUFFER_BYTES,
            io_open=self._part.reopen,
        )

    def _add_stream(self, options: VideoFileOptions, bitrate: int | None) -> VideoStream:
        width, height = self._shown_wh
        added = self._container.add_stream(
            self._encoder.library,
            rate=self._rate or Fraction(25),
            options=self._encoder.settings(options, bitrate),
        )
        stream = cast("VideoStream", added)
        context = stream.codec_context
        context.width = width + width % 2
        context.height = height + height % 2
        context.pix_fmt = "yuv420p"
        context.time_base = stream.time_base = self._tick
        context.thread_count = options.threads
        if bitrate is not None:
            context.bit_rate = bitrate
        if tag := self._kind.tags.get(options.encoder_name):
            context.codec_tag = tag
        return stream

    def _describe(
        self,
        context: VideoCodecContext,
        aspect: Fraction | None,
        tags: tuple[int | None, int | None, int, int | None],
    ) -> None:
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        primaries, trc, matrix, range_ = tags
        context.color_primaries = primaries or UNSPECIFIED
        context.color_trc = trc or UNSPECIFIED
        context.colorspace = matrix
        context.color_range = range_ or 0

    def _emit(self, item: SafeFrame) -> None:
        if item.size_wh != self._size_wh or item.time_base != self._time_base:
            raise SinkError(
                f"expected {self._size_wh} at {self._time_base} s a tick, "
                f"got {item.size_wh} at {item.time_base}"
            )
        frame = to_yuv420p(_stretched(item.pixels, self._shown_wh), self._to_ycbcr)
        frame.pts = rescale(item.pts - self._origin_pts, self._time_base, self._tick)
        frame.time_base = self._tick
        if self._waiting is not None and self._last_pts < item.pts:
            frame.pts = max(frame.pts, _pts(self._waiting) + 1)
        self._last_pts = item.pts
        waiting, self._waiting = self._waiting, frame
        if waiting is not None:
            self._encode_timed(waiting, frame.pts - _pts(waiting))

    def _emit_audio(self, item: SafeAudio) -> None:
        if self._sound is None:
            raise SinkError("this film was opened without sound")
        try:
            self._sound.add(item)
        except (FFmpegError, OSError) as error:
            self._give_up(error)

    def _encode_timed(self, frame: av.VideoFrame, duration: int) -> None:
        if duration <= 0:
            raise SinkError(f"timestamps must rise; {_pts(frame)} is followed by an earlier one")
        self._durations[_pts(frame)] = duration
        self._encode(frame)

    def _encode(self, frame: av.VideoFrame | None) -> None:
        self._encoded += frame is not None
        in_order = self._encoder.in_order or self._encoded <= self._encoder.undated
        try:
            for packet in cast("list[Packet[VideoStream]]", self._stream.encode(frame)):
                # Without it the muxer would not know how long the last frame is shown.
                packet.duration = self._durations.pop(packet.pts or 0, 0)
                if in_order:
                    packet.dts = packet.pts
                self._container.mux(packet)
        except (FFmpegError, OSError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> NoReturn:
        """Keeps what is whole of a file in pieces, and raises why there is no more of it."""
        try:
            self._part.refuse(error)
        except SinkError as refusal:
            if self._in_pieces:
                self._rescued = self._rescue()
            kept = f"; its first {self._rescued} frames are kept" if self._rescued else ""
            raise SinkError(f"{refusal}{kept}") from None

    def _rescue(self) -> int:
        try:
            assert isinstance(self._part, PartFile)  # a pipe is never in pieces
            with self._part.reopen() as file:
                length, frames = whole_fragments(file)
            if frames:
                self._part.cut(length)
                self._part.publish()
        except OSError:  # read-only, deleted, failing: as it is, or gone
            return 0
        return frames

    def _finish(self) -> None:
        if self._waiting is None:
            raise SinkError("no frame was written, so there is no video to complete")
        self._encode_timed(self._waiting, self._duration_of_last())
        self._encode(None)
        try:
            if self._sound is not None:
                self._sound.end()
            self._container.close()
        except (FFmpegError, OSError) as error:
            self._give_up(error)
        self._part.publish()

    def _duration_of_last(self) -> int:
        shown = 1 / (self._rate or Fraction(25))
        if self._last_duration is not None:
            shown = self._last_duration * self._time_base
        return max(1, rescale(1, shown, self._tick))

    def halt(self) -> None:
        """Ends a write that waits for a pipe's reader; any thread."""
        if isinstance(self._part, OutputPipe):
            self._part.halt()

    def _abort(self) -> None:
        # The container writes nothing more once its file is closed.
        self._part.discard()


def _pts(frame: av.VideoFrame) -> int:
    assert frame.pts is not None  # set in _emit
    return frame.pts


def _matrix_of(colorspace: int | None) -> int:
    if colorspace is None:
        return UNSPECIFIED
    return colorspace if colorspace in LUMA_WEIGHTS else BT709


def _square(size_wh: tuple[int, int], aspect: Fraction | None) -> tuple[int, int]:
    """Returns the size at which pixels of an aspect are square; neither side is made smaller."""
    width, height = size_wh
    if aspect is None or aspect <= 0:
        return size_wh
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def _stretched(pixels: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    if pixels.shape[1::-1] == size_wh:
        return pixels
    bgr: MatLike = pixels
    return np.asarray(cv2.resize(bgr, size_wh, interpolation=cv2.INTER_LINEAR), np.uint8)
