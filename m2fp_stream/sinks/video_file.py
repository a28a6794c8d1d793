"""Composed frames to an H.264 MP4 file, with the source's exact times, and its sound if given."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, NoReturn, cast, final

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream
from pydantic import Field

from ..core.audio import AudioFormat
from ..core.errors import SinkError
from ..core.part_file import PartFile
from ..core.safe import SafeAudio, SafeFrame
from ..core.timing import rescale
from ..options import Options
from .base import Sink
from .fragments import whole_fragments
from .yuv import BT709, FULL_RANGE, LUMA_WEIGHTS, UNSPECIFIED, to_yuv420p, ycbcr_matrix

__all__ = ["VideoFileOptions", "VideoFileSink"]

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


_AT_ONCE: Final = {"movflags": "+faststart"}
"""The muxer moves the index to the front by reading its own file again."""

_IN_PIECES: Final = {
    "movflags": "+hybrid_fragmented+empty_moov+delay_moov+default_base_moof",
    "frag_duration": "1000000",
}
"""Each second is playable once it is written; completing adds one index for all, at the end, and
makes the pieces' own invisible. Source: FFmpeg's documentation of its muxers, "mov, mp4, ismv"."""

_BUFFER_BYTES: Final = 1 << 20
"""Written at a time. Chosen: few calls back into Python."""
ROOM_BYTES: Final = 4 << 20
"""What the disk must have left for a file in pieces to be begun: some seconds of 1080p. Chosen."""


_AAC_BITS: Final = 3
_AAC_MOST: Final = 96_000
"""Bits a sample of each channel, and bits a second at most. Chosen: 192 kb/s for stereo at 48 kHz,
where FFmpeg's own encoder is hard to tell from the original; below what AAC can hold (6 144 bits a
channel and frame of 1 024 samples, ISO/IEC 14496-3, 4.5.3.3)."""


class VideoFileOptions(Options):
    """How the file is encoded: always H.264, 8 bits, 4:2:0."""

    crf: Annotated[
        int,
        Field(
            title="Quality",
            description="x264's constant rate factor: 0 is lossless, 51 worst.",
            ge=0,
            le=51,
        ),
    ] = 20
    preset: Annotated[
        Preset,
        Field(
            title="Speed of encoding",
            description="x264's preset: slower ones give smaller files of the same quality.",
        ),
    ] = "medium"
    threads: Annotated[
        int,
        Field(
            title="Encoder threads",
            description=(
                "What is encoded does not depend on it; the bytes that x264 makes of it do."
            ),
            ge=1,
            le=64,
        ),
    ] = 2


@final
class VideoFileSink(Sink[SafeFrame]):
    """Writes an MP4 that appears under `path` when `finish` succeeds.

    The picture's odd sides are continued by one copied row or column, for 4:2:0 needs even ones.
    Equal frames reach the encoder equal; its bytes are not promised. Even with one thread x264
    gives other ones for the same pictures, under load and on some CPUs (measured on an AMD EPYC
    with AVX-512: 7 files in 20 runs; only without its macroblock tree, which saves bits, 1).

    Args:
        path: the final name; the part file beside it is hidden.
        size_wh: (width, height) of every frame.
        time_base: seconds a tick of the frames' `pts`; kept exactly.
        origin_pts: where the output's time begins, taken off every `pts`.
        rate: frames a second, a hint for the encoder and the last frame's duration; None if
            unknown.
        sample_aspect_ratio: width to height of one pixel; None is not written.
        color_primaries, color_trc, colorspace, color_range: code points of ITU-T H.273; None is
            not written. An RGB or unknown `colorspace` becomes BT.709.
        sound: what `write_audio` will bring, from the output's time 0 on, without a gap; None for
            a film without sound. It becomes AAC at its own rate.
        options: see `VideoFileOptions`.
        overwrite: False refuses a name that is taken.
        in_pieces: what was written before the disk was full, to a second, is kept under `path` and
            plays; see `rescued`. Costs some bytes a second; completing reads nothing again.

    Raises:
        SinkError: the file cannot be written there; nothing was left.
    """

    accepts: ClassVar[type] = SafeFrame
    accepts_audio: ClassVar[bool] = True

    def __init__(
        self,
        path: Path,
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
        overwrite: bool = False,
        in_pieces: bool = False,
    ) -> None:
        super().__init__()
        options = options or VideoFileOptions()
        self._in_pieces, self._rescued = in_pieces, 0
        self._size_wh, self._rate = size_wh, rate
        self._time_base, self._origin_pts = time_base, origin_pts
        if colorspace is None:
            colorspace = UNSPECIFIED
        elif colorspace not in LUMA_WEIGHTS:
            colorspace = BT709
        self._to_ycbcr = ycbcr_matrix(*LUMA_WEIGHTS[colorspace], full=color_range == FULL_RANGE)
        self._waiting: av.VideoFrame | None = None
        self._durations: dict[int, int] = {}
        self._part = PartFile(path, overwrite=overwrite)
        try:
            if in_pieces:
                self._part.ask_for(ROOM_BYTES)
            self._container = self._muxer()
            self._stream = self._add_stream(options, colorspace)
            context = self._stream.codec_context
            if sample_aspect_ratio is not None:
                context.sample_aspect_ratio = sample_aspect_ratio
            context.color_primaries = color_primaries or UNSPECIFIED
            context.color_trc = color_trc or UNSPECIFIED
            context.color_range = color_range or 0
            self._sound = None if sound is None else _SoundTrack.of(self._container, sound)
            self._container.start_encoding()
        except (FFmpegError, OSError, ValueError) as error:
            self.abort()
            self._part.refuse(error)
        except BaseException:
            self.abort()
            raise

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
        return av.open(
            self._part,
            "w",
            format="mp4",
            # bitexact keeps dates and the software's name out.
            options={
                "use_editlist": "1",
                "fflags": "+bitexact",
                **(_IN_PIECES if self._in_pieces else _AT_ONCE),
            },
            buffer_size=_BUFFER_BYTES,
            io_open=self._part.reopen,
        )

    def _add_stream(self, options: VideoFileOptions, colorspace: int) -> VideoStream:
        width, height = self._size_wh
        stream = self._container.add_stream(
            "libx264",
            rate=self._rate or Fraction(25),
            options={"crf": str(options.crf), "preset": options.preset},
        )
        context = stream.codec_context
        context.width = width + width % 2
        context.height = height + height % 2
        context.pix_fmt = "yuv420p"
        context.time_base = self._time_base
        stream.time_base = self._time_base
        context.thread_count = options.threads
        context.colorspace = colorspace
        return stream

    def _emit(self, item: SafeFrame) -> None:
        if item.size_wh != self._size_wh or item.time_base != self._time_base:
            raise SinkError(
                f"expected {self._size_wh} at {self._time_base} s a tick, "
                f"got {item.size_wh} at {item.time_base}"
            )
        frame = to_yuv420p(item.pixels, self._to_ycbcr)
        frame.pts = item.pts - self._origin_pts
        frame.time_base = self._time_base
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
        try:
            for packet in cast("list[Packet[VideoStream]]", self._stream.encode(frame)):
                # Without it the muxer would not know how long the last frame is shown.
                packet.duration = self._durations.pop(packet.pts or 0, 0)
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
        if self._last_duration is not None:
            return self._last_duration
        rate = self._rate or Fraction(25)
        return max(1, rescale(1, 1 / rate, self._time_base))

    def _abort(self) -> None:
        # The container writes nothing more once its file is closed.
        self._part.discard()


@final
class _SoundTrack:
    """The sound of a film: AAC, its first sample at time 0."""

    def __init__(
        self, container: OutputContainer, stream: AudioStream, audio_format: AudioFormat
    ) -> None:
        self._container, self._stream, self._format = container, stream, audio_format
        self._next = 0

    @classmethod
    def of(cls, container: OutputContainer, audio_format: AudioFormat) -> _SoundTrack:
        """Adds the track to a container that is not begun yet."""
        layout = "mono" if audio_format.channels == 1 else "stereo"
        stream = container.add_stream("aac", rate=audio_format.rate, layout=layout)
        context = stream.codec_context
        context.bit_rate = audio_format.channels * min(_AAC_MOST, _AAC_BITS * audio_format.rate)
        context.time_base = stream.time_base = Fraction(1, audio_format.rate)
        context.flags |= Flags.bitexact  # keeps the encoder's name out
        return cls(container, stream, audio_format)

    def add(self, item: SafeAudio) -> None:
        """Encodes what follows what came before."""
        if item.format != self._format or item.start != self._next:
            raise SinkError(f"expected {self._format} from sample {self._next} on, got {item}")
        layout = self._stream.layout.name
        samples = np.ascontiguousarray(item.samples)
        if not samples.size:
            return
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate, frame.pts = self._format.rate, self._next
        frame.time_base = Fraction(1, self._format.rate)
        self._next += samples.shape[1]
        self._container.mux(self._stream.encode(frame))

    def end(self) -> None:
        """Encodes what the encoder holds."""
        self._container.mux(self._stream.encode(None))


def _pts(frame: av.VideoFrame) -> int:
    assert frame.pts is not None  # set in _emit
    return frame.pts
