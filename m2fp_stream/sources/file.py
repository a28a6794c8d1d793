"""Video files and GIFs to upright BGR frames with exact times, whatever the container says."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Final, cast, final

import av
import numpy as np
from av.container import InputContainer
from av.stream import Stream
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ..core.errors import SourceError, TruncatedSourceError
from ..core.raw import RawFrame, Under
from ..core.ring import BufferPool
from ..core.timing import seconds
from .base import Captured, Source, SourceInfo, open_regular
from .canvas import largest_wh, said
from .choose import apart, bit_rate_of, choose, dropped, rate_of, several
from .convert import ColorTags, is_attached, is_hdr, orientation_of, reason_of, write_bgr
from .deinterlace import Deinterlacer
from .opener import check_size, decodable_videos, let_go, loose_limit, open_file
from .options import FileOptions, read_size
from .orientation import Orientation
from .sound import FileClock
from .spherical import said_of, tags_of
from .timestamps import Timestamps, cut_length, declared_end, zero_of
from .trailers import ends_early, only_boundary
from .transparency import (
    AlphaDecoder,
    AlphaMissingError,
    carries_alpha,
    refuse_alpha_apart,
    refuse_lost_alpha,
)
from .whole import Wholeness

__all__ = ["FileSource"]

_EXACT_SEEK: Final = ("mov", "matroska")
_INTERLACED_ORDERS: Final = (2, 3, 4, 5)
"""FFmpeg's AVFieldOrder: TT, BB, TB, BT."""

_END_TOLERANCE_S: Final = Fraction(1, 5)
"""By how much the last packet may end before the declared end, at least: its own duration is not
always stated. Also three frames, for reordering can hide that many. Chosen."""

_JOINED_MIDWAY: Final = (
    "its first pictures are made from others that it does not hold; they are left out"
)

_MOST_TICKS: Final = 1 << 60
"""Timestamps beyond this are none: FFmpeg counts in 63 bits, and a deinterlacer's ticks are half as
long. Chosen; in nanoseconds 36 years."""

_SEEK_MARGIN_S: Final = 2
"""Seeking goes by decoding time; the farthest reordering H.264 allows (16 frames) is less."""


@final
class FileSource(Source):
    """Reads the main video stream of one local file; nothing else of it is decoded.

    Frames come upright (display matrix applied, mirrors too), deinterlaced where they are flagged
    interlaced, as BGR by the tagged matrix and range, alpha over black, HDR mapped to SDR. Where
    the picture's size changes, all frames are fitted into the largest size of the first seconds
    (`canvas`), with black bars; into the size of the option, where there is one.

    What alpha hides stays hidden: also where VP8 and VP9 carry it beside the picture. Where it is
    known to be there and is not decoded, the file is refused.

    Timestamps are the file's own. A missing one is filled from the frame rate; one that does not
    rise is moved up by one tick; after a fall of more than a second, time goes on from where it
    was. A stream that starts before 0 or with a running clock is moved to 0; in formats whose clock
    starts anywhere, 0 is where the first of its streams starts: 0 is what players call so, and
    `start_s` and `end_s` are counted from there. With `start_s` that point becomes 0.

    Pictures made from others that are damaged or missing are never given (`whole`). At the
    beginning, where a recording was joined midway, that is no damage, but said.

    Raises:
        SourceError: not a regular file, no video in it, too large, no frame, transparency that
            cannot be decoded (also while iterating).
        TruncatedSourceError: damaged or shorter than it declares, unless `salvage`; also while
            iterating.
    """

    def __init__(self, path: Path, options: FileOptions | None = None) -> None:
        super().__init__()
        self._path = path
        self._options = options or FileOptions()
        self._warnings: dict[str, None] = {}  # a set that keeps order
        self._pool = BufferPool()
        self._reformatter = VideoReformatter()
        self._file = open_regular(path)
        self._container: InputContainer | None = None
        self._alpha: AlphaDecoder | None = None
        self._given_from_start = True
        self._left_out = 0
        try:
            refuse_alpha_apart(self._file, str(path))
            self._apart = apart(self._file, str(path))
            container = self._container = open_file(
                self._file, str(path), max_pixels=self._options.max_pixels
            )
            self._stream = self._choose(container)
            self._declared_end, self._ends_with_video = declared_end(container, self._stream)
            self._rate = rate_of(self._stream)
            self._read_end = Fraction(0)
            self._decoded = self._decode()
            first = next(self._decoded, None)
            if first is None:
                raise SourceError(f"{path}: its video stream holds no frame; nothing to show")
            self._decoded = chain([first], self._decoded)
            self._info = self._describe(container, first)
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> SourceInfo:
        """What is known so far; its `warnings` are complete when the frames have ended."""
        warnings = [*self._warnings]
        if len(self._sizes) > 1:
            warnings.append(said(self._sizes, self._canvas_wh))
        return replace(self._info, warnings=tuple(warnings))

    @property
    def clock(self) -> FileClock:
        """Where its pictures lie on the file's own clock, for who reads its sound."""
        base = self._time_base
        end_s = None if self._end is None else self._end * base
        return FileClock(self._zero_pts * base, self._origin * base, end_s)

    def close(self) -> None:
        """Lets go of the file; idempotent. Frames given before stay valid."""
        super().close()
        if self._container is not None:
            let_go(self._container)
            self._container = None
        self._file.close()

    # ----------------------------------------------------------------- opening

    def _choose(self, container: InputContainer) -> VideoStream:
        decodable = decodable_videos(
            container,
            str(self._path),
            missing="holds no video stream (found: {kinds}); name a video",
            unreadable="no decoder for its video; convert it to H.264 first",
        )

        self._videos = decodable
        stream = choose(decodable, self._options.stream, str(self._path))
        if sentence := several(decodable, stream, self._options.stream):
            self._warn(sentence)
        if not stream.width or not stream.height:
            # FFmpeg was given the limit, too, and forgets a size beyond it.
            raise SourceError(
                f"{self._path}: pictures of no known size, or above the limit of "
                f"{self._options.max_pixels} pixels; raise max_pixels if they are meant"
            )
        self._check_size(stream.width, stream.height)
        stream.thread_type = "AUTO"
        stream.thread_count = self._options.threads
        stream.codec_context.options = loose_limit(self._options.max_pixels)
        self._wholeness = Wholeness.of(stream, joining=False)
        if AlphaDecoder.fits(stream):
            self._alpha = AlphaDecoder(
                stream, threads=self._options.threads, options=loose_limit(self._options.max_pixels)
            )
        return stream

    def _check_size(self, width: int, height: int) -> None:
        check_size(str(self._path), (width, height), self._options.max_pixels)

    @property
    def _time_base(self) -> Fraction:
        return self._stream.time_base or Fraction(1, 1000)

    def _describe(self, container: InputContainer, first: av.VideoFrame) -> SourceInfo:
        options = self._options
        self._check_size(first.width, first.height)
        if first.pts is None:
            # Without timestamps the average is FFmpeg's default, the guess looks into the codec.
            self._rate = self._stream.guessed_rate or self._rate
        self._orientation = self._orientation_of(first)
        self._shape = (first.width, first.height, self._orientation)
        first_wh = self._orientation.size_of(first.width, first.height)
        self._sizes = {first_wh: None}  # a set that keeps order
        self._canvas_wh = self._largest_wh(first_wh)
        first_pts = first.pts or 0
        start_s = seconds(first_pts, self._time_base)
        zero = self._zero_pts = zero_of(container, self._stream, first_pts)
        self._origin = zero + self._ticks(options.start_s or 0.0)
        self._end = None if options.end_s is None else zero + self._ticks(options.end_s)

        duration = container.duration / av.time_base if container.duration else None
        if self._declared_end is not None:
            duration = float(self._declared_end) - start_s
        count = self._stream.frames or None
        late_s = seconds(first_pts - zero, self._time_base)
        duration, count = cut_length(duration, count, self._rate, late_s, options)
        if is_hdr(first):
            self._warn("HDR video becomes SDR")
        if sentence := said_of(tags_of(first)):
            self._warn(sentence)
        ratio = self._stream.sample_aspect_ratio or None
        if ratio is not None and self._orientation.transpose:
            ratio = 1 / ratio
        tags = ColorTags.of(first)
        return SourceInfo(
            size_wh=self._canvas_wh,
            time_base=self._time_base,
            sample_aspect_ratio=ratio,
            average_rate=self._rate,
            duration_s=duration,
            frame_count=count,
            color_primaries=tags.primaries,
            color_trc=tags.trc,
            colorspace=tags.matrix,
            color_range=tags.range,
            bit_rate=bit_rate_of(container, self._stream),
            has_audio=bool(container.streams.audio),
            begins_s=seconds(self._origin - zero, self._time_base),
            dropped_streams=(
                *(*dropped(container, self._videos, self._stream), *self._apart),
                *tags_of(first),
            ),
        )

    def _largest_wh(self, first_wh: tuple[int, int]) -> tuple[int, int]:
        if self._options.canvas is not None:
            return read_size(self._options.canvas)
        found = largest_wh(self._path, self._stream.index, max_pixels=self._options.max_pixels)
        return max(first_wh, found or first_wh, key=lambda wh: wh[0] * wh[1])

    def _ticks(self, moment_s: float) -> int:
        return math.ceil(Fraction(moment_s).limit_denominator(1_000_000) / self._time_base)

    def _warn(self, sentence: str) -> None:
        self._warnings[sentence] = None

    # ----------------------------------------------------------------- decoding

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Gives whole decoded frames in presentation order, timestamps as the decoder has them."""
        # Without salvage, damage is an error whenever it shows.
        wait = self._wholeness.wait if self._options.salvage else 0
        held: deque[av.VideoFrame] = deque()
        for frame in chain(self._judged(), [None]):
            if frame is not None:
                held.append(frame)
            while held and (frame is None or len(held) > wait):
                earliest = held.popleft()
                if not wait or self._wholeness.whole(earliest):
                    yield earliest
                else:
                    self._left_out += 1
        if self._left_out and self._wholeness.lost:
            self._warn(f"pictures left out, made from damaged or lost ones: {self._left_out}")

    def _judged(self) -> Iterator[av.VideoFrame]:
        """Gives decoded frames but those that are known to be damaged, and all damage."""
        stream, damaged, transparent = self._stream, False, False
        decoder, wholeness = self._alpha or stream, self._wholeness
        last_packet = last_frame = Fraction(-1)
        for packet in self._packets():
            if packet is not None and not wholeness.take(packet):
                damaged = self._damage(packet.pts)
            transparent |= packet is not None and carries_alpha(stream, packet, str(self._path))
            try:
                frames = decoder.decode(packet)
            except (av.error.FFmpegError, AlphaMissingError, OSError):
                self._check_size(*_size_wh_of(decoder))
                wholeness.lose()
                damaged = self._damage(None if packet is None else packet.pts)
                continue
            if packet is not None and packet.pts is not None and not packet.is_discard:
                last_packet = max(last_packet, packet.pts * self._time_base)
            for frame in frames:
                if transparent:
                    refuse_lost_alpha(frame, str(self._path))
                if frame.pts is not None:
                    shown = frame.duration * self._time_base or 1 / self._rate
                    last_frame = max(last_frame, frame.pts * self._time_base + shown)
                if wholeness.whole(frame):
                    yield frame
                    continue
                self._left_out += 1
                if wholeness.lost:
                    damaged = self._damage(frame.pts)
                elif self._given_from_start:
                    self._warn(_JOINED_MIDWAY)
        # PyAV drops an error that follows good frames in one call; then the tail is missing.
        if 0 <= last_frame <= last_packet and not damaged:
            self._damage(int(last_frame / self._time_base))
        if last_packet >= 0:
            self._check_complete()

    def _packets(self) -> Iterator[av.Packet[VideoStream] | None]:
        """Gives the video packets, at the end whatever makes the decoder give what it holds."""
        container = self._container
        assert container is not None  # nobody asks for packets after close()
        # Sound may outlast the picture, and the declared end then is that of the sound.
        streams: list[Stream] = [self._stream]
        read_to = 0
        if self._declared_end is not None and not self._ends_with_video:
            streams = [s for s in container.streams if not is_attached(s)]
        try:
            for packet in container.demux(streams):
                read_to = (packet.pos or 0) + packet.size
                if packet.pts is not None and packet.time_base:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    self._read_end = max(self._read_end, end)
                # Not `stream_index`: the packets that flush a decoder all have 0 there.
                if packet.stream.index == self._stream.index:
                    yield cast("av.Packet[VideoStream]", packet)
        except IndexError:
            # PyAV 18 cannot flush streams that appeared meanwhile (a new programme in MPEG-TS, or
            # damage that looks like one). It goes by number: ours, an older one, has been flushed.
            return
        except (av.error.FFmpegError, OSError):
            if not only_boundary(container.format.name, self._file, read_to):
                self._damage(None)
            yield None

    def _check_complete(self) -> None:
        if self._declared_end is not None:
            tolerance = max(_END_TOLERANCE_S, 3 / self._rate)
            if self._read_end + tolerance < self._declared_end:
                self._damage(int(self._read_end / self._time_base))
        elif self._container is not None:
            size = os.fstat(self._file.fileno()).st_size
            if ends_early(self._container.format.name, self._file, size):
                self._damage(int(self._read_end / self._time_base))

    def _damage(self, pts: int | None) -> bool:
        """Raises, or with `salvage` warns and returns True."""
        if self._options.salvage:
            self._warn("the file is damaged or cut short; what could be decoded whole is kept")
            return True
        where = "" if pts is None else f" at {seconds(pts, self._time_base):.2f} s"
        of = "" if self._declared_end is None else f" of {float(self._declared_end):.2f} s"
        raise TruncatedSourceError(
            f"{self._path}: damaged or cut short{where}{of}; "
            "copy it again, or keep what can be decoded with --salvage"
        )

    # ----------------------------------------------------------------- frames

    def _capture(self) -> Iterator[Captured]:
        given = 0
        for frame, restart in self._progressive():
            pts = frame.pts
            assert pts is not None  # stamped
            if self._end is not None and pts >= self._end:
                break
            if pts < self._origin:
                continue
            yield self._captured(frame, given, pts - self._origin, restart)
            given += 1
        if given == 0:
            raise SourceError(f"{self._path}: no frame between start and end; check both")

    def _timed(self) -> Iterator[tuple[av.VideoFrame, bool]]:
        """Gives frames with rising timestamps, and whether time jumped back before them."""
        clock = Timestamps(self._time_base, self._rate)
        for frame in self._sought():
            stamp, jumped = clock.stamp(frame.pts)
            if abs(stamp) > _MOST_TICKS:
                raise SourceError(f"{self._path}: damaged, its times are impossible; copy it again")
            frame.pts = stamp
            frame.time_base = self._time_base
            yield frame, jumped
        for sentence in clock.remarks:
            self._warn(sentence)

    def _sought(self) -> Iterator[av.VideoFrame]:
        container = self._container
        if container is None:
            raise SourceError(f"{self._path}: was closed before its frames were read")
        target = self._origin - self._ticks(_SEEK_MARGIN_S)
        # The key frames of alpha are not always those of the picture.
        exact = container.format.name.startswith(_EXACT_SEEK) and self._alpha is None
        if self._options.start_s is not None and target > 0 and exact:
            try:
                container.seek(target, stream=self._stream)
            except av.error.FFmpegError as error:
                raise SourceError(
                    f"{self._path}: cannot go to its start point ({reason_of(error)}); leave it out"
                ) from None
            self._wholeness = Wholeness.of(self._stream, joining=False)
            self._given_from_start = False
            return self._decode()
        return iter(self._decoded)

    def _progressive(self) -> Iterator[tuple[av.VideoFrame, bool]]:
        """Passes frames through the deinterlacer from the first interlaced one on."""
        context = self._stream.codec_context
        flagged = context.field_order in _INTERLACED_ORDERS
        filtering: Deinterlacer | None = None
        for frame, jumped in self._timed():
            if filtering is not None and not filtering.fits(frame):
                yield from filtering.push(None)
                filtering = None
            if filtering is None and (frame.interlaced_frame or flagged):
                filtering = Deinterlacer(frame, self._time_base)
            if filtering is None:
                yield frame, jumped
            else:
                yield from filtering.push(frame, jumped)
        if filtering is not None:
            yield from filtering.push(None)

    def _captured(self, frame: av.VideoFrame, number: int, pts: int, restart: bool) -> Captured:
        self._check_size(frame.width, frame.height)
        orientation = self._orientation_of(frame)
        shape = (frame.width, frame.height, orientation)
        if shape != self._shape:
            restart, self._shape = True, shape
        self._sizes[orientation.size_of(frame.width, frame.height)] = None
        width, height = self._info.size_wh
        buffer = self._pool.take(height, width)
        try:
            under = self._write_bgr(frame, orientation, buffer)
        except SourceError:
            self._pool.give_back(buffer)
            raise
        except (av.error.FFmpegError, OSError) as error:
            self._pool.give_back(buffer)
            raise SourceError(
                f"{self._path}: pixel format {frame.format.name} cannot be converted "
                f"({reason_of(error)}); convert the file to H.264 first"
            ) from None
        raw = RawFrame(
            buffer,
            frame_id=number,
            pts=pts,
            time_base=self._time_base,
            captured_ns=time.monotonic_ns(),
            under=under,
            give_back=self._pool.give_back,
        )
        return Captured(raw, restart, frame.duration or None)

    def _orientation_of(self, frame: av.VideoFrame) -> Orientation:
        orientation, odd = orientation_of(frame) if self._alpha is None else self._alpha.orientation
        if odd:
            self._warn("the picture is rotated by an odd angle; the nearest right angle is used")
        return orientation

    def _write_bgr(
        self, frame: av.VideoFrame, orientation: Orientation, out: NDArray[np.uint8]
    ) -> Under | None:
        name, converter = str(self._path), self._reformatter
        return write_bgr(frame, orientation, out, reformatter=converter, name=name, pool=self._pool)


def _size_wh_of(decoder: AlphaDecoder | VideoStream) -> tuple[int, int]:
    if isinstance(decoder, AlphaDecoder):
        return decoder.size_wh
    return decoder.codec_context.width, decoder.codec_context.height
