"""Transparency that containers and codecs carry beside the picture, where decoders pass it over.

Most formats hold alpha in the picture itself, and FFmpeg decodes it (`convert.write_bgr` shows it
over black). Two hold it beside: WebM puts the alpha of VP8 and VP9 into block additions, which
FFmpeg's own decoders ignore and libvpx's read; HEVC puts it into a layer of its own. HEIF, AVIF and
MP4 may have it in an item or track of its own (`isobmff`); a grey PNG names one grey that is clear.
Whoever ignores it shows what was hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, Final, cast, final

import av
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from ..core.errors import SourceError
from .convert import has_alpha, orientation_of
from .isobmff import announces_alpha
from .orientation import Orientation

__all__ = [
    "AlphaDecoder",
    "AlphaMissingError",
    "carries_alpha",
    "refuse_alpha_apart",
    "refuse_alpha_beside",
    "refuse_lost_alpha",
]

_DECODERS: Final = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

_BLOCK_ADDITION: Final = "matroska_block_additional"
_ALPHA_ID: Final = 1
"""BlockAddID of alpha (WebM Container Guidelines, "Alpha Channel"; RFC 9559, 5.1.3.5.2.3). FFmpeg
writes it, big-endian and 8 bytes long, before the data (AV_PKT_DATA_MATROSKA_BLOCKADDITIONAL)."""

_ALPHA_TRACKS: Final = ("mov", "hls")
"""FFmpeg's names of formats whose tracks may be the alpha of others."""

_PREFIX_SEI: Final = 39
_FIRST_NOT_CODED: Final = 32
_ALPHA_CHANNEL_INFORMATION: Final = 165
"""ITU-T H.265: NAL unit types (table 7-1), those below 32 hold pictures; SEI payload (D.2.1)."""


class AlphaMissingError(ValueError):
    """A picture came without the alpha that others of its stream have."""


@final
class AlphaDecoder:
    """Decodes a VP8 or VP9 stream whose container says that it is transparent.

    Its frames have an alpha channel as soon as a packet brings one. The stream's own decoder sees
    the packets up to the first picture: what the container says of colours and rotation is known
    to it alone.

    Args:
        stream: its codec context is not open yet.
        threads: decoder threads.
        options: of the decoder.
    """

    def __init__(self, stream: VideoStream, *, threads: int, options: Mapping[str, str]) -> None:
        self._stream = stream
        stream.thread_count = 1  # its first picture comes with the first packet that shows one
        name = _DECODERS[stream.codec_context.name]
        self._context = cast("VideoCodecContext", CodecContext.create(name, "r"))
        self._context.thread_count = threads
        self._context.options = dict(options)
        self._like: av.VideoFrame | None = None
        self._began = False
        self.orientation = (Orientation(), False)

    @staticmethod
    def fits(stream: VideoStream) -> bool:
        """Returns whether it is a stream for this decoder.

        FFmpeg calls it `alpha_mode` where the track says so (AlphaMode: RFC 9559, 5.1.4.1.28.4),
        and `ALPHA_MODE` where it copied a film and made a tag of it.
        """
        announced = ("alpha_mode", "1") in {(k.lower(), v) for k, v in stream.metadata.items()}
        return announced and stream.codec_context.name in _DECODERS

    @property
    def size_wh(self) -> tuple[int, int]:
        """(width, height) that the decoder has come across last."""
        return self._context.width, self._context.height

    def decode(self, packet: Packet[VideoStream] | None) -> list[av.VideoFrame]:
        """Returns the frames that a packet completes, None for the end.

        Raises:
            AlphaMissingError: packets before had alpha, this one has not; it is not decoded.
            av.error.FFmpegError: it cannot be decoded.
        """
        if packet is not None and packet.size:
            alpha = _has_addition(packet)
            if self._began and not alpha:
                raise AlphaMissingError("no alpha")
            self._began |= alpha
        if self._like is None and (first := self._stream.decode(packet)[:1]):
            self._like = first[0]
            self.orientation = orientation_of(first[0])
        frames = self._context.decode(packet)
        if (like := self._like) is not None:
            for frame in frames:
                frame.colorspace, frame.color_range = like.colorspace, like.color_range
                frame.color_primaries, frame.color_trc = like.color_primaries, like.color_trc
        return frames


def carries_alpha(stream: VideoStream, packet: Packet[VideoStream], name: str) -> bool:
    """Returns whether alpha comes with this packet, or is announced in it, beside the picture.

    Raises:
        SourceError: it is in the picture, but FFmpeg decodes it wrongly.
    """
    if stream.codec_context.name == "hevc":
        header = stream.codec_context.extradata or b""
        return bool(packet.size and packet.is_keyframe) and (
            _announces(_units_of_header(header)) or _announces(_units(bytes(packet), header))
        )
    if stream.codec_context.name in ("png", "apng") and packet.size:
        head = (stream.codec_context.extradata or b"") + bytes(packet)
        if _clears_grey(head.split(b"IDAT")[0]):
            raise _lost_alpha(name)
    return _has_addition(packet)


def refuse_lost_alpha(frame: av.VideoFrame, name: str) -> None:
    """Raises where `frame`, of a stream that carries alpha, was decoded without it.

    Raises:
        SourceError: so it was.
    """
    if not has_alpha(frame):
        raise _lost_alpha(name)


def refuse_alpha_apart(file: BinaryIO, name: str) -> None:
    """Raises where the file names an alpha that FFmpeg would give apart from its picture.

    Raises:
        SourceError: so it does, or it cannot be read.
    """
    try:
        apart = announces_alpha(file)
    except OSError as error:
        raise SourceError(f"{name}: cannot be read ({error.strerror}); copy it again") from None
    if apart:
        raise _lost_alpha(name)


def refuse_alpha_beside(chosen: VideoStream, streams: Iterable[VideoStream], name: str) -> None:
    """Raises where a live MP4 brings a grey video of the same size beside the one to be shown.

    That is its alpha, as a rule (ISO/IEC 23008-12, 7.5.3): what the track is called FFmpeg does not
    tell, and of a stream it is not read (`isobmff`).

    Raises:
        SourceError: so it is.
    """
    if not chosen.container.format.name.startswith(_ALPHA_TRACKS):
        return
    for other in streams:
        same = (other.width, other.height) == (chosen.width, chosen.height)
        if same and other.index != chosen.index and (other.pix_fmt or "").startswith("gray"):
            raise _lost_alpha(name)


def _lost_alpha(name: str) -> SourceError:
    """Says that there is alpha which is not decoded, and what to do."""
    return SourceError(
        f"{name}: its transparency cannot be decoded, and what it hides would show; "
        "export it without transparency first"
    )


def _has_addition(packet: Packet[VideoStream]) -> bool:
    if not packet.has_sidedata(_BLOCK_ADDITION):
        return False
    data = bytes(packet.get_sidedata(_BLOCK_ADDITION))
    return int.from_bytes(data[:8], "big") == _ALPHA_ID


def _clears_grey(head: bytes) -> bool:
    """Returns whether one grey of a PNG is transparent that FFmpeg compares unscaled.

    Source: PNG (Third Edition), 11.2.1 and 11.3.2.1; measured of FFmpeg 8 at 2 and 4 bits.
    """
    at = head.find(b"IHDR")
    narrow = at >= 0 and head[at + 12 : at + 14] in (b"\1\0", b"\2\0", b"\4\0")
    return narrow and b"tRNS" in head


def _announces(units: Iterator[bytes]) -> bool:
    """Returns whether one of HEVC's NAL units before the first picture speaks of alpha."""
    for unit in units:
        kind = unit[0] >> 1 & 0x3F if unit else _PREFIX_SEI
        if kind < _FIRST_NOT_CODED:
            return False
        if kind == _PREFIX_SEI and _ALPHA_CHANNEL_INFORMATION in _messages(unit[2:]):
            return True
    return False


def _messages(payload: bytes) -> Iterator[int]:
    """Gives the types of SEI messages (ITU-T H.265, 7.3.5)."""
    payload = payload.replace(b"\0\0\3", b"\0\0")  # 7.4.2: emulation prevention
    at = 0
    while at + 2 < len(payload):  # the last byte holds the stop bit
        numbers = []
        for _ in range(2):  # type and size
            number = 0
            while payload[at : at + 1] == b"\xff":
                number, at = number + 255, at + 1
            numbers.append(number + (payload[at] if at < len(payload) else 0))
            at += 1
        yield numbers[0]
        at += numbers[1]


def _units_of_header(header: bytes) -> Iterator[bytes]:
    """Gives the NAL units of a decoder configuration record (ISO/IEC 14496-15, 8.3.3.1)."""
    if not _is_record(header):
        yield from _units(header, b"")
        return
    at = 23
    for _ in range(header[22]):
        count, at = int.from_bytes(header[at + 1 : at + 3], "big"), at + 3
        for _ in range(count):
            length, at = int.from_bytes(header[at : at + 2], "big"), at + 2
            yield header[at : at + length]
            at += length


def _units(data: bytes, header: bytes) -> Iterator[bytes]:
    """Gives the NAL units of a packet, with lengths before them or start codes between."""
    if not _is_record(header):
        yield from data.split(b"\0\0\1")[1:]
        return
    size, at = (header[21] & 3) + 1, 0
    while at + size < len(data):
        length, at = int.from_bytes(data[at : at + size], "big"), at + size
        yield data[at : at + length]
        at += length


def _is_record(header: bytes) -> bool:
    return len(header) > 23 and header[0] == 1
