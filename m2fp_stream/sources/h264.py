"""What the headers of an H.264 stream say of its order: ITU-T H.264, as far as losses show there.

Nothing is decoded. Section numbers are those of ITU-T H.264 (08/2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, final

__all__ = ["H264Reader", "Picture"]

_SLICE, _IDR_SLICE, _SEI, _SPS, _PPS = 1, 5, 6, 7, 8
"""NAL unit types (table 7-1). Source: ITU-T H.264."""

_P, _B, _I, _SP, _SI = range(5)
"""Slice types, modulo 5 (table 7-6)."""

_HIGH: Final = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
"""Profiles whose parameter sets speak of chroma and scaling (7.3.2.1.1)."""

_RECOVERY_POINT: Final = 6
"""SEI payload type (D.1.1). Source: ITU-T H.264."""

_HEADER_BYTES: Final = 512
"""Of a slice, more than its header takes: 32 references with weights are below 400 bytes. Source:
counted from ITU-T H.264, 7.3.3; rounded up."""


@final
class _Bits:
    """Reads a payload from its first bit on; beyond its end is a `ValueError`."""

    def __init__(self, payload: bytes) -> None:
        payload = payload.replace(b"\0\0\3", b"\0\0")  # 7.4.1: emulation prevention
        self._value = int.from_bytes(payload, "big")
        self._left = 8 * len(payload)

    def u(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("ends early")
        return self._value >> self._left & (1 << count) - 1

    def ue(self) -> int:
        """9.1: Exp-Golomb."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("no Exp-Golomb code")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)


@dataclass(frozen=True, slots=True)
class _Sequence:
    """A sequence parameter set (7.3.2.1.1)."""

    separate_planes: bool
    chroma: bool
    frame_num_bits: int
    order_kind: int
    order_bits: int
    order_always_zero: bool
    references: int
    gaps_allowed: bool
    frames_only: bool

    @classmethod
    def of(cls, bits: _Bits) -> tuple[int, _Sequence]:
        profile, _, _ = bits.u(8), bits.u(8), bits.u(8)
        number, chroma, separate = bits.ue(), 1, False
        if profile in _HIGH:
            chroma = bits.ue()
            separate = chroma == 3 and bool(bits.u(1))
            _ = bits.ue(), bits.ue(), bits.u(1)
            if bits.u(1):
                for index in range(12 if chroma == 3 else 8):
                    if bits.u(1):
                        _skip_scaling_list(bits, 16 if index < 6 else 64)
        frame_num_bits, kind = bits.ue() + 4, bits.ue()
        order_bits, always_zero = 0, False
        if kind == 0:
            order_bits = bits.ue() + 4
        elif kind == 1:
            always_zero = bool(bits.u(1))
            _ = bits.se(), bits.se()
            for _ in range(min(bits.ue(), 255)):
                bits.se()
        references, gaps = bits.ue(), bool(bits.u(1))
        _ = bits.ue(), bits.ue()
        return number, cls(
            separate_planes=separate,
            chroma=chroma != 0 and not separate,
            frame_num_bits=frame_num_bits,
            order_kind=kind,
            order_bits=order_bits,
            order_always_zero=always_zero,
            references=references,
            gaps_allowed=gaps,
            frames_only=bool(bits.u(1)),
        )


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


@dataclass(frozen=True, slots=True)
class _Pictures:
    """A picture parameter set (7.3.2.2)."""

    sequence: int
    bottom_order: bool
    active: tuple[int, int]
    weighted: bool
    weighted_both: int
    redundant: bool

    @classmethod
    def of(cls, bits: _Bits) -> tuple[int, _Pictures]:
        number, sequence, _ = bits.ue(), bits.ue(), bits.u(1)
        bottom_order = bool(bits.u(1))
        if bits.ue():
            raise ValueError("slice groups")  # FFmpeg does not decode them either
        active = bits.ue() + 1, bits.ue() + 1
        weighted, both = bool(bits.u(1)), bits.u(2)
        _ = bits.se(), bits.se(), bits.se(), bits.u(2)
        return number, cls(sequence, bottom_order, active, weighted, both, bool(bits.u(1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What the header of a picture's first slice says, and what stands before it.

    Attributes:
        idr: nothing after it is made from anything before it.
        intra: every slice of it is, so it is made from itself alone.
        reference: others may be made from it.
        frame_num: counts references, modulo `numbers`.
        numbers: what `frame_num` is counted modulo of.
        gaps_allowed: references may be missing without a loss.
        single: no picture may be made from another than the last reference.
        field: 0 for a frame, 1 for a top, 2 for a bottom field.
        order: place in the order of showing, lowest bits; None where it is not written down.
        orders: what `order` is counted modulo of.
        in_order: pictures are shown in the order in which they come.
        active: references that its first slice, of type P, may choose from; 0 where not read.
        reset: it makes an end of all counting (memory management operation 5).
        recovery: after so many references all is whole (recovery point); None: nothing is said.
        first_part: its first slice is the picture's first.
    """

    idr: bool
    intra: bool
    reference: bool
    frame_num: int
    numbers: int
    gaps_allowed: bool
    single: bool
    field: int
    order: int | None
    orders: int
    in_order: bool
    active: int
    reset: bool
    recovery: int | None
    first_part: bool


@final
class H264Reader:
    """Reads parameter sets and the pictures' first headers, packet by packet in decoding order.

    Args:
        header: the stream's decoder configuration: a record (ISO/IEC 14496-15, 5.3.3.1), or NAL
            units behind start codes; None or empty where packets bring all.
    """

    def __init__(self, header: bytes | None) -> None:
        self._sequences: dict[int, _Sequence] = {}
        self._pictures: dict[int, _Pictures] = {}
        self._length_size = 0
        self.configure(header or b"")

    def configure(self, header: bytes) -> None:
        """Takes another decoder configuration."""
        if len(header) < 7 or header[0] != 1:
            for unit in _split(header):
                self._take_parameters(unit)
            return
        self._length_size = (header[4] & 3) + 1
        at = 5
        for mask in (31, 255):
            count, at = header[at] & mask if at < len(header) else 0, at + 1
            for _ in range(count):
                length, at = int.from_bytes(header[at : at + 2], "big"), at + 2
                self._take_parameters(header[at : at + length])
                at += length

    def pictures(self, data: bytes) -> list[Picture]:
        """Returns the pictures (frames or fields) that begin in a packet, mostly one.

        Raises:
            ValueError: a header cannot be read, or its parameter sets have not come.
        """
        found: list[Picture] = []
        recovery, wholly_intra, begun = None, True, False
        for unit in self._units(data):
            kind = unit[0] & 31 if unit else 0
            if kind in (_SPS, _PPS):
                self._take_parameters(unit)
            elif kind == _SEI:
                recovery = _recovery_of(unit) if recovery is None else recovery
            elif kind in (_SLICE, _IDR_SLICE):
                bits = _Bits(unit[1:_HEADER_BYTES])
                first_slice, slice_type = bits.ue() == 0, bits.ue() % 5
                intra = slice_type in (_I, _SI)
                if first_slice or not begun:
                    if found and not wholly_intra:
                        found[-1] = _as_inter(found[-1])
                    found.append(self._picture(unit, bits, slice_type, recovery, first_slice))
                    recovery, wholly_intra, begun = None, intra, True
                wholly_intra &= intra
        if found and not wholly_intra:
            found[-1] = _as_inter(found[-1])
        return found

    def _units(self, data: bytes) -> Iterator[bytes]:
        size, at = self._length_size, 0
        if not size:
            yield from _split(data)
            return
        while at + size < len(data):
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
            yield data[at : at + length]
            at += length

    def _take_parameters(self, unit: bytes) -> None:
        kind = unit[0] & 31 if unit else 0
        try:
            if kind == _SPS:
                number, sequence = _Sequence.of(_Bits(unit[1:]))
                self._sequences[number] = sequence
            elif kind == _PPS:
                number, pictures = _Pictures.of(_Bits(unit[1:]))
                self._pictures[number] = pictures
        except ValueError:
            return  # then a picture that needs it cannot be read either

    def _picture(
        self, unit: bytes, bits: _Bits, slice_type: int, recovery: int | None, first_part: bool
    ) -> Picture:
        """Reads on where the slice's type ends (7.3.3)."""
        try:
            pictures = self._pictures[bits.ue()]
            sequence = self._sequences[pictures.sequence]
        except KeyError:
            raise ValueError("parameter set missing") from None
        reference, idr = bool(unit[0] & 96), unit[0] & 31 == _IDR_SLICE
        if sequence.separate_planes:
            bits.u(2)
        frame_num, field = bits.u(sequence.frame_num_bits), 0
        if not sequence.frames_only and bits.u(1):
            field = 1 + bits.u(1)
        if idr:
            bits.ue()
        order = None
        if sequence.order_kind == 0:
            order = bits.u(sequence.order_bits)
            if pictures.bottom_order and not field:
                bits.se()
        elif sequence.order_kind == 1 and not sequence.order_always_zero:
            bits.se()
            if pictures.bottom_order and not field:
                bits.se()
        active, reset = 0, False
        if reference and not idr:
            active, reset = _marking(bits, sequence, pictures, slice_type)
        return Picture(
            idr=idr,
            intra=slice_type in (_I, _SI),
            reference=reference,
            frame_num=frame_num,
            numbers=1 << sequence.frame_num_bits,
            gaps_allowed=sequence.gaps_allowed,
            single=sequence.references <= 1,
            field=field,
            order=order,
            orders=1 << sequence.order_bits,
            in_order=sequence.order_kind == 2,
            active=active,
            reset=reset,
            recovery=recovery,
            first_part=first_part,
        )


def _marking(
    bits: _Bits, sequence: _Sequence, pictures: _Pictures, slice_type: int
) -> tuple[int, bool]:
    """Reads on where the order of showing ends; returns `active` and `reset` (see `Picture`)."""
    if pictures.redundant:
        bits.ue()
    if slice_type == _B:
        bits.u(1)
    active = list(pictures.active)
    lists = {_P: 1, _SP: 1, _B: 2}.get(slice_type, 0)
    if lists and bits.u(1):
        for index in range(lists):
            active[index] = bits.ue() + 1
    for _ in range(lists):  # 7.3.3.1
        if bits.u(1):
            while bits.ue() != 3:
                bits.ue()
    if (lists == 1 and pictures.weighted) or (lists == 2 and pictures.weighted_both == 1):
        _skip_weights(bits, sum(active[:lists]), chroma=sequence.chroma)
    forward, reset = active[0] if lists == 1 else 0, False
    if not bits.u(1):  # 7.3.3.3
        return forward, False
    while operation := bits.ue():
        reset |= operation == 5
        for _ in range({5: 0, 3: 2}.get(operation, 1)):
            bits.ue()
    return forward, reset


def _skip_weights(bits: _Bits, count: int, *, chroma: bool) -> None:
    """7.3.3.2."""
    bits.ue()
    if chroma:
        bits.ue()
    for _ in range(count):
        for values in (2, 4) if chroma else (2,):
            if bits.u(1):
                for _ in range(values):
                    bits.se()


def _as_inter(picture: Picture) -> Picture:
    return replace(picture, intra=False)


def _recovery_of(unit: bytes) -> int | None:
    """Returns the frame count of a recovery point message (7.3.2.3, D.1.8); None without one."""
    payload, at = unit[1:].replace(b"\0\0\3", b"\0\0"), 0
    while at + 2 < len(payload):  # the last byte holds the stop bit
        numbers = []
        for _ in range(2):  # type and size
            number = 0
            while payload[at : at + 1] == b"\xff":
                number, at = number + 255, at + 1
            numbers.append(number + (payload[at] if at < len(payload) else 0))
            at += 1
        kind, size = numbers
        if kind == _RECOVERY_POINT:
            try:
                return _Bits(payload[at : at + size]).ue()
            except ValueError:
                return None
        at += size
    return None


def _split(data: bytes) -> list[bytes]:
    return data.split(b"\0\0\1")[1:]
