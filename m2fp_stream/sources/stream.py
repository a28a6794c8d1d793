"""Cameras and servers on the network: RTSP, RTMP, and video or pictures by HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Final, cast, final

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Stream
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from ..core.address import Address
from ..core.errors import SourceError
from .base import Captured, SourceInfo
from .canvas import said
from .convert import ColorTags, is_hdr, orientation_of, reason_of, write_bgr
from .key_frames import KeyFrames
from .live import LIVE_TIME_BASE, LiveSource, Pace
from .losses import LOSS, stop_watching, watch_losses
from .opener import (
    TRUSTED,
    Piped,
    address_or_problem,
    check_size,
    decodable_videos,
    let_go,
    loose_limit,
    no_answer,
    open_stream,
)
from .options import StreamOptions
from .orientation import Orientation
from .transparency import carries_alpha, refuse_alpha_beside, refuse_lost_alpha
from .whole import Wholeness

__all__ = ["StreamSource"]


_PACED: Final = "hls"
"""Gives seconds of video at once, whole segments of it; all others give frames as they happen."""

_MOST_SIZES: Final = 16
"""Sizes of a stream's pictures that are remembered. Chosen: more than a sentence names."""

_SAID_AFTER_S: Final = 1.0
"""Packets that bring no whole picture for longer are worth a word. The key frames of a camera that
is set up for live viewing are closer together. Chosen: nobody wonders sooner."""


@final
class StreamSource(LiveSource):
    """Reads the video of one network stream: rtsp, rtsps, rtmp, http and https.

    By HTTP it may be MPEG-TS, FLV, JPEG pictures (multipart) or HLS. Frames come upright, as BGR by
    the tagged matrix and range, HDR mapped to SDR; fields of interlaced video are left as they are.
    Sound is never decoded, of RTSP not even asked for. HLS is played at its own pace, everything
    else as it arrives.

    What is damaged, and what is made from lost or damaged pictures, is left out (`whole`), up to
    the next key frame or the end of a refresh. While packets come, those are waited for, and
    `waiting_for` says so.

    Only the protocols that the URL's own needs can be used. HTTP does not follow redirects. Two
    things FFmpeg does not let us hold: an RTSP server may redirect to another host (which then gets
    user and password), and an HLS playlist may name other hosts.

    PyAV cannot be closed while it reads: after `close` a read under way lasts `read_timeout_s` at
    most. Construction cannot be ended early; it lasts three times `open_timeout_s` at most, or
    twice and `key_frame_timeout_s` where packets come, plus what the resolver takes to look up a
    name.

    Args:
        url: with user and password if need be; see `core.address`. Or what is piped in.
        options: limits and transport.
        first_frame_id, size_wh: see `LiveSource`.
        on_notice: gets sentences for the user, from the thread that constructs or reads.
        trusted: see `opener.open_stream`.

    Raises:
        SourceError: no such address, refused, no answer, no video; while iterating: the stream
            ended or went silent. The message never holds a password.
    """

    def __init__(
        self,
        url: str | Piped,
        options: StreamOptions | None = None,
        *,
        first_frame_id: int = 0,
        size_wh: tuple[int, int] | None = None,
        on_notice: Callable[[str], None] | None = None,
        trusted: Sequence[str] = TRUSTED,
    ) -> None:
        place, problem = address_or_problem(url) if isinstance(url, str) else (url, "")
        if isinstance(place, Address):
            name = place.shown
        else:
            name = "the address given" if place is None else place.name
        super().__init__(name, first_frame_id=first_frame_id, size_wh=size_wh)
        self._options = options or StreamOptions()
        self._notice = on_notice or (lambda _: None)
        self._waiting_for: str | None = None
        self._left_out = 0
        self._unjoined = 0  # damage before the stream could be joined, which is none
        self._transparent = False
        self._warnings: dict[str, None] = {}  # a set that keeps order
        self._reformatter = VideoReformatter()
        self._container: InputContainer | None = None
        self._watches = False
        try:
            if place is None:
                raise SourceError(f"{name}: {problem}")
            container = self._container = open_stream(
                place, self._name, self._options, on_warning=self._warn, trusted=trusted
            )
            self._stream = self._choose(container)
            self._wholeness = Wholeness.of(self._stream, joining=True)
            self._paced = container.format.name == _PACED
            decoded = self._decode(container)
            first = next(decoded)
            self._decoded = chain([first], decoded)
            self._info = self._describe(container, first[0])
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> SourceInfo:
        """What is known so far; `warnings` may grow while frames are read."""
        warnings = [*self._warnings]
        if len(self._sizes) > 1:
            warnings.append(said(tuple(self._sizes), self._size_wh))
        return replace(self._info, warnings=tuple(warnings))

    @property
    def corrupt(self) -> int:
        """How often packets were damaged or missing, or a picture damaged; any thread may ask."""
        return self._wholeness.lost - self._unjoined

    @property
    def left_out(self) -> int:
        """How many decoded pictures were not given, for want of whole ones; any thread may ask."""
        return self._left_out

    @property
    def waiting_for(self) -> str | None:
        """What is waited for while packets come but no whole picture; any thread may ask."""
        return self._waiting_for

    def _shut(self) -> None:
        if self._container is not None:
            let_go(self._container)
            self._container = None
        if self._watches:
            self._watches = False
            stop_watching()

    # ----------------------------------------------------------------- opening

    def _choose(self, container: InputContainer) -> VideoStream:
        decodable = decodable_videos(
            container,
            self._name,
            missing="holds no video (found: {kinds}); check the path",
            unreadable="no decoder for its video; have it send H.264",
        )
        stream = max(decodable, key=lambda one: one.width * one.height)
        refuse_alpha_beside(stream, decodable, self._name)
        self._check_size(stream.width, stream.height)
        # Frame threads would each add the delay of a frame. With more than one for slices, FFmpeg
        # marks no damaged H.264 pictures (measured: 0 of 20 with a slice left out or cut short).
        stream.thread_type = "SLICE"
        stream.thread_count = 1 if stream.codec_context.name == "h264" else self._options.threads
        settings = loose_limit(self._options.max_pixels)
        if stream.codec_context.name == "mjpeg":
            settings["err_detect"] = "explode"  # its decoder flags no damage
        stream.codec_context.options = settings
        stream.codec_context.flags |= Flags.low_delay
        return stream

    def _check_size(self, width: int, height: int) -> None:
        check_size(self._name, (width, height), self._options.max_pixels)

    def _warn(self, sentence: str) -> None:
        self._warnings[sentence] = None

    def _describe(self, container: InputContainer, first: av.VideoFrame) -> SourceInfo:
        self._check_size(first.width, first.height)
        orientation = self._orientation_of(first)
        self._shape = (first.width, first.height, orientation)
        upright_wh = orientation.size_of(first.width, first.height)
        self._size_wh = self._canvas_wh or upright_wh
        self._sizes = {upright_wh: None}  # a set that keeps order
        if is_hdr(first):
            self._warn("HDR video becomes SDR")
        ratio = self._stream.sample_aspect_ratio or None
        if ratio is not None and orientation.transpose:
            ratio = 1 / ratio
        tags = ColorTags.of(first)
        return SourceInfo(
            size_wh=self._size_wh,
            time_base=LIVE_TIME_BASE,
            sample_aspect_ratio=ratio,
            average_rate=self._stream.average_rate or self._stream.guessed_rate,
            color_primaries=tags.primaries,
            color_trc=tags.trc,
            colorspace=tags.matrix,
            color_range=tags.range,
            has_audio=bool(container.streams.audio),
            dropped_streams=tuple(
                one.type for one in container.streams if one.index != self._stream.index
            ),
        )

    # ----------------------------------------------------------------- reading

    def _decode(self, container: InputContainer) -> Iterator[tuple[av.VideoFrame, int]]:
        """Gives whole pictures and the time they came at, until the stream ends: an error."""
        packets = container.demux()  # all streams, so that sound alone cannot hide a lost picture
        lossy = self._options.transport == "udp" and container.format.name == "rtsp"
        if lossy:
            self._watches = True
            watch_losses()
        silence_s, whole_s = self._options.open_timeout_s, time.monotonic()
        keys = KeyFrames(self._options.key_frame_timeout_s, self._options.read_timeout_s)
        while True:
            problem, began_s = "", time.monotonic()
            try:
                packet, missed = _next_watched(packets) if lossy else (next(packets), False)
            except (StopIteration, IndexError):  # the latter: see `FileSource._packets`
                problem = f"{self._name}: ended; check the sender, then start again"
            except (av.error.FFmpegError, OSError) as error:
                problem = (
                    f"{self._name}: connection lost ({reason_of(error)}); "
                    "check sender and network, then start again"
                )
            # Interrupted, RTSP still gives what it holds.
            if time.monotonic() - began_s >= self._options.read_timeout_s:
                problem = no_answer(self._name, self._options.read_timeout_s)
            if self._closed.is_set():
                return
            if problem:
                raise SourceError(problem)
            if packet.stream.index == self._stream.index:
                silence_s, whole_s = self._options.read_timeout_s, time.monotonic()
                for frame in self._pictures(cast("av.Packet[VideoStream]", packet), missed):
                    yield frame, time.monotonic_ns()
                    whole_s = keys.shown()
                keys.joined(self._wholeness.joined)
                if not self._wholeness.joined:
                    self._unjoined = self._wholeness.lost
                self._tell(keys)
            if time.monotonic() - whole_s > silence_s:
                raise SourceError(
                    f"{self._name}: no whole picture came for {silence_s:g} s; "
                    "check camera and network, or raise the time-out"
                )
            if keys.waited_s > keys.longest_s:
                raise SourceError(
                    f"{self._name}: packets came, but no key frame for {keys.longest_s:.0f} s; "
                    "have it send key frames more often, or raise key_frame_timeout_s"
                )

    def _tell(self, keys: KeyFrames) -> None:
        waits = keys.waited_s > _SAID_AFTER_S
        if waits and self._waiting_for is None:
            self._waiting_for = "a key frame"
            self._notice(
                "packets come, but no whole picture; waiting for a key frame, "
                f"{keys.longest_s:.0f} s at most"
            )
        elif not waits and self._waiting_for is not None:
            self._waiting_for = None
            self._notice("a key frame came")

    def _pictures(self, packet: av.Packet[VideoStream], missed: bool) -> Iterator[av.VideoFrame]:
        """Gives the whole pictures of a packet; `missed`: something is missing there."""
        if self._paced:
            packet.is_corrupt = False  # segments of HLS may each count from 0: reads like a loss
        self._wholeness.take(packet)
        if missed:
            self._wholeness.lose(near=True)
        self._transparent |= carries_alpha(self._stream, packet, self._name)
        frames = None
        with suppress(av.error.FFmpegError, OSError):
            frames = self._stream.decode(packet)
        if frames is None:
            context = self._stream.codec_context
            self._check_size(context.width, context.height)
            self._wholeness.lose()
        for frame in frames or ():
            if self._transparent:
                refuse_lost_alpha(frame, self._name)
            if self._wholeness.whole(frame):
                yield frame
            else:
                self._left_out += 1

    def _capture(self) -> Iterator[Captured]:
        self._check_open()
        pace = Pace(self._closed) if self._paced else None
        while True:
            given = self._read(lambda: next(self._decoded, None))
            if given is None:
                return
            frame, captured_ns = given
            if pace is not None and frame.pts is not None and frame.time_base:
                pace.wait(float(frame.pts * frame.time_base))
                captured_ns = time.monotonic_ns()
            if self._closed.is_set():
                return
            yield self._frame(frame, captured_ns)

    def _frame(self, frame: av.VideoFrame, captured_ns: int) -> Captured:
        self._check_size(frame.width, frame.height)
        orientation = self._orientation_of(frame)
        shape = (frame.width, frame.height, orientation)
        restart = shape != self._shape
        if restart:
            self._shape = shape
            if len(self._sizes) < _MOST_SIZES:
                self._sizes[orientation.size_of(frame.width, frame.height)] = None
        problem = ""
        try:
            return self._captured(
                lambda out: write_bgr(
                    frame,
                    orientation,
                    out,
                    reformatter=self._reformatter,
                    name=self._name,
                    pool=self._pool,
                ),
                self._size_wh,
                captured_ns,
                restart=restart,
            )
        except av.error.FFmpegError as error:
            problem = reason_of(error)
        raise SourceError(
            f"{self._name}: pixel format {frame.format.name} cannot be converted ({problem}); "
            "have it send H.264"
        )

    def _orientation_of(self, frame: av.VideoFrame) -> Orientation:
        orientation, odd = orientation_of(frame)
        if odd:
            self._warn("the picture is rotated by an odd angle; the nearest right angle is used")
        return orientation


def _next_watched(packets: Iterator[av.Packet[Stream]]) -> tuple[av.Packet[Stream], bool]:
    """Returns the next packet, and whether FFmpeg says that one before it is missing."""
    with av.logging.Capture() as lines:  # of this thread, which may be another
        packet = next(packets)
    return packet, any(line.startswith(LOSS) for _, _, line in lines)
