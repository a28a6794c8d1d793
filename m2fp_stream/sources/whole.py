"""Which decoded pictures are whole: made only from what arrived, back to a picture of itself.

Decoders fill in for a reference that is missing (FFmpeg copies the one before) and say nothing;
what is made from it smears. So it is told here, from the packets:

- H.264: by the numbers that its references carry (ITU-T H.264, 7.4.3, frame_num). A number left
  out is a reference lost, unless the stream says that numbers may be left out. They count modulo
  16 at least; where the first number after a lost key frame fits by chance, there is a hole in
  time, and fewer references are offered than ever since there were many. From there on,
  pictures count as damaged up to an IDR picture, or to where a recovery point says that all is
  well again; a plain I picture is whole, but what follows it may reach back beyond it.
- HEVC: every picture lists its references (ITU-T H.265, 8.3.2), and FFmpeg marks those that lack
  one, and theirs.
- Others: what follows damage is left out up to the next picture that stands for itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Final, final

import av
from av.codec.context import Flags
from av.video.frame import PictureType
from av.video.stream import VideoStream

from .h264 import H264Reader, Picture

__all__ = ["Wholeness"]

_MEMORY: Final = 256
"""Pictures that may come out of a decoder later than the newest that went in: 16 for the order of
showing (ITU-T H.264, A.3.1), and one a thread, 64 at most; with room."""


_MANY: Final = 8
"""References since the last IDR picture. x264 offers 4 by default, each picture all there are.
Chosen: twice that."""


@dataclass(frozen=True, slots=True)
class _Place:
    """What goes through the decoder with a packet, an object of its own for each.

    PyAV finds it by its id, and forgets it with the first that is freed: a small number, which
    Python has once, would be lost where others have it.
    """

    number: int


class Wholeness(ABC):
    """Says of every decoded picture of one stream whether it is whole.

    `take` each packet before it is decoded, in order, and `lose` it where more is known; then ask
    `whole` of every frame in the order they come.

    Packets have places, which count up in decoding order: packets at even ones, losses between at
    odd ones.

    Attributes:
        joined: how often the stream could be joined so far: key frames, finished refreshes.
        lost: how often something was missing or damaged so far, after it could be joined.
        wait: so many frames later, the answer may be another.
    """

    wait = 0

    def __init__(self, stream: VideoStream, *, joining: bool) -> None:
        self.joined = 0
        self.lost = 0
        self._early = stream.container.format.name == "mpegts"  # where a parser splits pictures
        self._behind = stream.thread_count - 1  # packets, of the decoder's complaints
        self._place = 0
        self._damages: deque[int] = deque([-1] if joining else [], maxlen=_MEMORY)

    @staticmethod
    def of(stream: VideoStream, *, joining: bool) -> Wholeness:
        """Returns what fits the stream, whose decoder has its threads but is not open yet.

        Args:
            stream: its frames are to be judged.
            joining: the stream was running before its first packet. Otherwise a picture that
                begins it is believed to need no other.
        """
        # Damaged frames are not withheld in silence, but come with a mark.
        stream.codec_context.flags |= Flags.output_corrupt | Flags.copy_opaque
        if stream.codec_context.name == "h264":
            return _H264(stream, joining=joining)
        return _Marked(stream, joining=joining, strict=stream.codec_context.name == "hevc")

    def take(self, packet: av.Packet[VideoStream]) -> bool:
        """Reads a packet that is decoded next; returns False where it or one before is damaged."""
        self._place += 2
        packet.opaque = _Place(self._place)
        if packet.is_corrupt:
            # MPEG-TS tells of a hole with the picture before the one that it is in.
            self._spoil(2 if self._early else 0, 2)
        return not packet.is_corrupt

    def lose(self, *, near: bool = False) -> None:
        """Says that the packet taken last is damaged, or something right before it missing.

        The decoder's complaint may be of one packet earlier for every thread. With `near`, the next
        one may be damaged, too: a picture is known to be complete when the next one begins, and a
        hole in that may be found by then.
        """
        self._spoil(-2 * self._behind, 2 if near else 0)

    def _spoil(self, first: int, last: int) -> None:
        """Takes the packets at these places for damaged, counted from that of the last one."""
        self.lost += 1
        self._damages.extend(range(self._place + first, self._place + last + 1, 2))

    @abstractmethod
    def whole(self, frame: av.VideoFrame) -> bool:
        """Returns whether a frame is made from whole pictures only, as far as is known.

        Of a damaged picture that is shown late, those that are shown before it and made from it are
        whole until it comes: who can `wait` asks again.
        """


@final
class _Marked(Wholeness):
    """Goes by the decoder's marks; `strict`: I pictures that are no key frames do not count."""

    def __init__(self, stream: VideoStream, *, joining: bool, strict: bool) -> None:
        super().__init__(stream, joining=joining)
        self._strict = strict
        self._alone = -2  # the place of the last picture shown that stands for itself

    def whole(self, frame: av.VideoFrame) -> bool:
        place = frame.opaque.number if isinstance(frame.opaque, _Place) else self._place
        if frame.is_corrupt:
            self.lost += self.joined > 0
            if not self._strict:  # HEVC's decoder marks all that is made from it, too
                self._damages.append(place)
            return False
        if frame.key_frame or (not self._strict and frame.pict_type == PictureType.I):
            self.joined += 1
            self._alone = max(place, self._alone)
        return not any(self._alone <= damage <= place for damage in self._damages)


@dataclass(frozen=True, slots=True)
class _Made:
    """Where a picture stands in decoding order, and from where on others went into it."""

    place: int
    since: int


@dataclass(frozen=True, slots=True)
class _Refresh:
    """A recovery point: its place, the number of its picture, the references until it holds."""

    place: int
    number: int
    count: int


@dataclass(frozen=True, slots=True)
class _Start:
    """All shown from `order` on is made from what came since `since`; `place`: who has `order`."""

    since: int
    place: int
    order: int


@final
class _H264(Wholeness):
    """Goes by the numbers of references."""

    wait = 16  # may be shown before one that they are made from (ITU-T H.264, A.3.1: DPB)

    def __init__(self, stream: VideoStream, *, joining: bool) -> None:
        super().__init__(stream, joining=joining)
        self._reader = H264Reader(stream.codec_context.extradata)
        self._since = -2  # of the pictures to come
        self._number: int | None = None  # of the last reference
        self._was_frame = False  # the last reference
        self._half: tuple[int, int] | None = None  # the number and field of an unpaired field
        self._since_idr = 0  # references
        self._least_active: int | None = None  # references offered, where there are many
        self._sent: int | None = None  # decoding time of the packet before
        self._step: int | None = None  # the least from one packet to the next
        self._late = False  # the packet at hand, by half that or more
        self._order, self._order_high = 0, 0
        self._refreshes: list[_Refresh] = []
        self._start: _Start | None = None

    def take(self, packet: av.Packet[VideoStream]) -> bool:
        before, made = self.lost, None
        super().take(packet)
        self._clock(packet.dts)
        if packet.has_sidedata("new_extradata"):
            self._reader.configure(bytes(packet.get_sidedata("new_extradata")))
        try:
            for picture in self._reader.pictures(bytes(packet)):
                first = self._follow(picture)
                made = made or first
        except ValueError:
            # Damaged, and the decoder says so, or something it knows and the reader does not.
            self._number = None
        packet.opaque = made or _Made(self._place, self._since)
        return self.lost == before

    def _clock(self, sent: int | None) -> None:
        self._late = False
        if sent is not None and self._sent is not None and sent > self._sent:
            step = sent - self._sent
            self._step = min(step, self._step or step)
            self._late = 2 * step >= 3 * self._step
        self._sent = sent

    def whole(self, frame: av.VideoFrame) -> bool:
        made = frame.opaque
        if not isinstance(made, _Made):
            return not frame.is_corrupt and not self._damages
        if frame.is_corrupt and made.place not in self._damages:
            self.lost += made.since >= 0
            self._damages.append(made.place)
        return not any(made.since <= damage <= made.place for damage in self._damages)

    def _follow(self, picture: Picture) -> _Made:
        second = not picture.idr and self._half == (picture.frame_num, 3 - picture.field)
        self._half = (picture.frame_num, picture.field) if picture.field and not second else None
        if self._number is None and self._place == 2 and picture.recovery is not None:
            self._damages.append(-1)  # what is shown before it, but comes later, lacks references
        if not second and (self._breaks(picture) or not picture.first_part):
            self.lost += 1
            self._damages.append(self._place - 1)
        order = self._ordered(picture)
        if picture.idr:
            self._join(self._place, None)
        elif not second:
            self._recover(picture, order)
        since, start = self._since, self._start
        if start is not None and (order is None or order >= start.order):
            since = start.since
            if start.place != self._place:  # what is shown before it has come
                self._since, self._start = since, None
        if picture.intra and not picture.field:
            since = self._place  # a plain one stands for itself, though for no other
        if picture.reference:
            self._number, self._was_frame = picture.frame_num, not picture.field
            self._since_idr = 0 if picture.idr else self._since_idr + 1
            if picture.active and self._since_idr >= _MANY:
                self._least_active = min(picture.active, self._least_active or picture.active)
        if picture.reset:
            self._number, self._order, self._order_high = 0, 0, 0
            self._refreshes.clear()
            if start is not None:
                self._since, self._start = start.since, None
        return _Made(self._place, since)

    def _breaks(self, picture: Picture) -> bool:
        """7.4.3: numbers of references follow each other; other pictures have the next one."""
        last, number = self._number, picture.frame_num
        if picture.idr or last is None or picture.gaps_allowed:
            return False
        if number == last:
            again = picture.reference and self._was_frame and not picture.field
            return again and not picture.intra
        if number != (last + 1) % picture.numbers:
            return True
        # As it were the first ones after an IDR picture that never came.
        anew = 0 < picture.active == number < (self._least_active or 0)
        return anew and self._since_idr >= _MANY and self._late and not picture.field

    def _ordered(self, picture: Picture) -> int | None:
        """8.2.1.1: the place in the order of showing since the last IDR picture, where known."""
        if picture.in_order:
            return 2 * self._place
        if picture.order is None:
            return None
        if picture.idr:
            self._order = self._order_high = 0
        high, half = self._order_high, picture.orders // 2
        if self._order - picture.order >= half:
            high += picture.orders
        elif picture.order - self._order > half:
            high -= picture.orders
        if picture.reference:
            self._order, self._order_high = picture.order, high
        return high + picture.order

    def _recover(self, picture: Picture, order: int | None) -> None:
        """D.2.8: what is shown from a reference on, a count of them after the point, is whole."""
        if order is None:
            return  # written down in a way that this does not read; IDR pictures remain
        count = picture.recovery
        if count is None and picture.intra and picture.single and not picture.field:
            count = 0 if picture.reference else None
        if count is not None and count < picture.numbers:
            refresh = _Refresh(self._place, picture.frame_num, count)
            self._refreshes = [*self._refreshes[-_MEMORY:], refresh]
        if not picture.reference:
            return
        done = [
            one.place
            for one in self._refreshes
            if (picture.frame_num - one.number) % picture.numbers >= one.count
        ]
        if done:
            self._refreshes = [one for one in self._refreshes if one.place > done[-1]]
            self._join(done[-1], order)

    def _join(self, since: int, order: int | None) -> None:
        """What is shown from the picture at hand on is made from what came since `since`."""
        self.joined += 1
        if order is None:
            self._since, self._start = since, None
            self._refreshes.clear()
        else:
            self._start = _Start(since, self._place, order)
        oldest = min(since, self._since) - 2 * _MEMORY
        self._damages = deque((one for one in self._damages if one > oldest), maxlen=_MEMORY)
