"""Raw frames refuse to leave; safe types refuse to be forged; buffers are zeroed; time is exact."""

from __future__ import annotations

import copy
import io
import logging
import mmap
import pickle
import threading
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2fp_stream.core import redact
from m2fp_stream.core._mint import COMPOSED, LOCATED, Key
from m2fp_stream.core.errors import LeaseError, SealError
from m2fp_stream.core.labels import CIHP
from m2fp_stream.core.raw import RawFrame, Under
from m2fp_stream.core.records import ParseResult
from m2fp_stream.core.ring import BufferPool
from m2fp_stream.core.safe import (
    CoverInfo,
    CoverLevel,
    LabelImage,
    SafeFrame,
    TrackRow,
    TrackState,
    TrackTable,
)
from m2fp_stream.core.timing import rescale, seconds

BASE = Fraction(1, 25)


def raw(pixels: Any = None, **more: Any) -> RawFrame:
    """Makes a raw frame of 6x4."""
    if pixels is None:
        pixels = np.full((4, 6, 3), 9, np.uint8)
    return RawFrame(pixels, frame_id=3, pts=7, time_base=BASE, captured_ns=1, **more)


# ----------------------------------------------------------------- RawFrame


def test_pixels_are_lent_read_only_and_zeroed_with_the_last_lease() -> None:
    pixels = np.full((4, 6, 3), 9, np.uint8)
    frame = raw(pixels)
    with frame.analysis() as outer:
        assert outer.shape == (4, 6, 3)
        assert (outer == 9).all()
        with pytest.raises(ValueError, match="read-only"):
            outer[0, 0, 0] = 1
        with frame.analysis() as inner:
            frame.release()
            assert [frame.released] == [False]
            assert (inner == 9).all()
        assert (outer == 9).all(), "one lease is left"
    assert [frame.released] == [True]
    assert not pixels.any()


def test_what_is_under_is_lent_read_only_and_zeroed_with_the_pixels() -> None:
    under = Under(np.full((4, 6, 3), 7, np.uint8), np.full((4, 6), 200, np.uint8))
    frame = raw(under=under)
    with frame.analysis() as shown, frame.looking() as looked, frame.alpha() as alpha:
        assert alpha is not None
        assert (shown.max(), looked.max(), alpha.max()) == (9, 7, 200)
        for lent in (looked, alpha):
            with pytest.raises(ValueError, match="read-only"):
                lent[0, 0] = 1
        frame.release()
        assert looked.any(), "leases are left"
    assert not under.bgr.any()
    assert not under.alpha.any()
    for lease in (frame.looking, frame.alpha):
        with pytest.raises(LeaseError), lease():
            pass


def test_without_anything_under_it_what_is_shown_is_looked_at() -> None:
    frame = raw()
    with frame.looking() as looked, frame.alpha() as alpha:
        assert (looked == 9).all()
        assert alpha is None
    frame.release()


def test_what_does_not_fit_under_a_picture_is_refused() -> None:
    whole = np.zeros((4, 6), np.uint8)
    with pytest.raises(ValueError, match="what is under"):
        raw(under=Under(np.zeros((4, 5, 3), np.uint8), whole[:, :5].copy()))
    with pytest.raises(ValueError, match="alpha"):
        Under(np.zeros((4, 6, 3), np.uint8), whole[:3])
    with pytest.raises(ValueError, match="uint8"):
        Under(whole, whole)


def test_the_buffer_is_given_back_once_and_as_it_was_taken() -> None:
    back: list[Any] = []
    pixels = np.full((4, 6, 3), 9, np.uint8)
    frame = raw(pixels, give_back=back.append)
    frame.release()
    assert len(back) == 1
    assert back[0] is pixels


def test_after_release_there_is_no_lease_and_no_second_release() -> None:
    frame = raw()
    frame.release()
    with pytest.raises(LeaseError, match="frame 3: its pixels are gone"), frame.analysis():
        pass
    with pytest.raises(LeaseError, match="frame 3: released twice"):
        frame.release()


def test_a_lease_ends_when_its_block_raises() -> None:
    frame = raw()
    with pytest.raises(KeyError), frame.analysis():
        raise KeyError
    frame.release()
    assert frame.released


def test_a_second_release_within_a_lease_takes_nothing_from_it() -> None:
    """Released twice while lent: the lease's pixels stay until it ends, and are zeroed then."""
    pixels = np.full((4, 6, 3), 9, np.uint8)
    frame = raw(pixels)
    with frame.analysis() as bgr:
        frame.release()
        assert (bgr == 9).all()
    assert not pixels.any()


def test_leases_of_many_threads_end_in_one_zeroing() -> None:
    back: list[Any] = []
    frame = raw(give_back=back.append)
    barrier = threading.Barrier(8)

    def look() -> None:
        with frame.analysis():
            barrier.wait()

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    frame.release()
    assert len(back) == 1


ESCAPES: dict[str, Callable[[Any], object]] = {
    "array": np.array,
    "asarray": np.asarray,
    "array method": lambda frame: frame.__array__(),
    "iter": iter,
    "list": list,
    "len": len,
    "index": lambda frame: frame[0],
    "bytes": bytes,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
    "old pickle": lambda frame: pickle.dumps(frame, protocol=0),
    "interface": lambda frame: frame.__array_interface__(),
    "reduce": lambda frame: frame.__reduce__(),
}


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
def test_a_raw_frame_becomes_nothing_else(escape: Callable[[Any], object]) -> None:
    # NumPy looks at __array_interface__ itself, and refuses what it finds there.
    with pytest.raises((LeaseError, ValueError), match=r"inside `with raw|__array_interface__"):
        escape(raw())


def test_a_raw_frame_is_no_buffer_and_has_no_room_for_more() -> None:
    with pytest.raises(TypeError):
        memoryview(raw())  # type: ignore[arg-type]  # the point
    with pytest.raises(AttributeError):
        raw().extra = 1  # type: ignore[attr-defined]  # the point


def test_its_repr_shows_no_pixels() -> None:
    assert repr(raw()) == "RawFrame(frame_id=3, pts=7, size_wh=(6, 4))"


WRONG_PIXELS = {
    "grey": np.zeros((4, 6), np.uint8),
    "float": np.zeros((4, 6, 3), np.float32),
    "alpha": np.zeros((4, 6, 4), np.uint8),
    "empty": np.zeros((0, 6, 3), np.uint8),
    "strided": np.zeros((4, 12, 3), np.uint8)[:, ::2],
    "read-only": np.frombuffer(bytes(72), np.uint8).reshape(4, 6, 3),
}


@pytest.mark.parametrize("pixels", WRONG_PIXELS.values(), ids=WRONG_PIXELS)
def test_other_pixels_are_refused(pixels: Any) -> None:
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\)|must be non-empty"):
        raw(pixels)


# ----------------------------------------------------------------- BufferPool


def test_a_pool_hands_out_zeroed_buffers_and_uses_them_again() -> None:
    pool = BufferPool(keep=1)
    first, second = pool.take(4, 6), pool.take(4, 6)
    assert first.shape == (4, 6, 3)
    assert pool.outstanding == 2
    first.fill(5)
    second.fill(6)
    for one in (first, second):
        pool.give_back(one)
        assert not one.any(), "zeroed at once"
    assert pool.outstanding == 0
    again = pool.take(6, 4)
    assert np.shares_memory(again, first), "same number of bytes"
    assert again.shape == (6, 4, 3)
    assert not np.shares_memory(pool.take(4, 6), second), "only one was kept"


def test_a_kept_buffer_of_another_size_is_let_go() -> None:
    pool = BufferPool()
    small = pool.take(2, 2)
    pool.give_back(small)
    large = pool.take(4, 4)
    assert not large.any()
    assert not np.shares_memory(small, large)


@pytest.mark.parametrize("sides", [(0, 4), (4, 0), (-1, 4)])
def test_a_buffer_needs_positive_sides(sides: tuple[int, int]) -> None:
    pool = BufferPool()
    with pytest.raises(ValueError, match="positive sides"):
        pool.take(*sides)
    assert pool.outstanding == 0


def test_a_pool_cannot_keep_less_than_nothing() -> None:
    with pytest.raises(ValueError, match="keep must be >= 0"):
        BufferPool(keep=-1)


def test_no_memory_is_a_memory_error_and_nothing_counts_as_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    pool = BufferPool()
    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(MemoryError, match="6x4 frame: Cannot allocate memory"):
        pool.take(4, 6)
    assert pool.outstanding == 0


def test_buffers_are_left_out_of_core_dumps_where_the_system_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    class Recording(mmap.mmap):
        def madvise(self, option: int, *_: int) -> None:
            asked.append(option)

    monkeypatch.setattr(mmap, "mmap", Recording)
    BufferPool().take(4, 6)
    assert asked == [mmap.MADV_DONTDUMP]
    monkeypatch.delattr(mmap, "MADV_DONTDUMP")
    assert BufferPool().take(4, 6).shape == (4, 6, 3)
    assert len(asked) == 1


# ----------------------------------------------------------------- SafeFrame, LabelImage

COVER = CoverInfo(0.5, CoverLevel.PARTS, "parsed")


def safe(pixels: Any, key: Any = COMPOSED) -> SafeFrame:
    """Makes a safe frame, if the key lets it."""
    return SafeFrame(pixels, frame_id=1, pts=2, time_base=BASE, captured_ns=3, cover=COVER, key=key)


def test_a_safe_frame_shows_its_pixels_read_only() -> None:
    frame = safe(np.full((4, 6, 3), 9, np.uint8))
    assert frame.size_wh == (6, 4)
    for view in (frame.pixels, frame.pixels.view()):
        with pytest.raises(ValueError, match="read-only"):
            view[0, 0, 0] = 1
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        frame.pixels.setflags(write=True)
    assert "size_wh=(6, 4)" in repr(frame)
    assert "9" not in repr(frame).replace("0.5", "")


def test_a_table_does_not_say_where_anybody_is_when_it_is_printed() -> None:
    row = TrackRow(1, (12, 34, 56, 78), TrackState.PLACED)
    table = TrackTable((row,), frame=3, time_s=Fraction(1), size_wh=(640, 480), key=LOCATED)
    assert repr(table) == "TrackTable(frame=3, rows=1, size_wh=(640, 480))"


def test_without_its_key_nothing_safe_is_made() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    safe(pixels)
    for key in (None, object(), Key("composed")):
        with pytest.raises(SealError, match="is made by"):
            safe(pixels, key)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 6), np.uint8), np.zeros((4, 6, 4), np.uint8), np.zeros((4, 6, 3), np.float32)],
)
def test_a_safe_frame_of_other_pixels_is_refused(pixels: Any) -> None:
    with pytest.raises(SealError, match=r"expected \(H, W, 3\) uint8"):
        safe(pixels)


def parse(labels: Any) -> ParseResult:
    """Makes a parse result of these (h, w) uint8 ids."""
    return ParseResult(
        frame_id=5,
        label_map=labels,
        labels=CIHP,
        groups=(),
        evidence=np.zeros((0, *labels.shape), np.uint8),
        must_cover=np.zeros(labels.shape, np.bool_),
        instances=None,
        parser_id="test",
    )


def test_a_label_image_enlarges_to_the_nearest_label() -> None:
    image = LabelImage(parse(np.array([[1, 2], [3, 4]], np.uint8)), size_wh=(4, 6))
    assert image.size_wh == (4, 6)
    assert image.frame_id == 5
    expected = np.repeat(np.repeat([[1, 2], [3, 4]], 3, 0), 2, 1)
    assert np.array_equal(image.labels, expected)
    with pytest.raises(ValueError, match="read-only"):
        image.labels[0, 0] = 1


@pytest.mark.parametrize("size_wh", [(0, 4), (4, 0), (-1, 4)])
def test_a_label_image_needs_positive_sides(size_wh: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="size_wh must be positive"):
        LabelImage(parse(np.zeros((2, 2), np.uint8)), size_wh=size_wh)


def test_a_label_image_is_made_from_a_parse_result_alone() -> None:
    with pytest.raises(SealError, match="from a ParseResult, not ndarray"):
        LabelImage(np.zeros((2, 2), np.uint8), size_wh=(2, 2))  # type: ignore[arg-type]  # the point


@pytest.mark.parametrize(
    "sealed",
    [
        safe(np.zeros((4, 6, 3), np.uint8)),
        LabelImage(parse(np.zeros((2, 2), np.uint8)), size_wh=(2, 2)),
    ],
    ids=type,
)
def test_sealed_types_cannot_be_pickled_or_extended(sealed: Any) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(sealed)
    with pytest.raises(TypeError, match="is final"):
        type("Mine", (type(sealed),), {})
    with pytest.raises(AttributeError):
        sealed.extra = 1


@pytest.mark.parametrize("final", [RawFrame, BufferPool])
def test_raw_types_are_final(final: type) -> None:
    with pytest.raises(TypeError, match="is final"):
        type("Mine", (final,), {})


def test_a_key_cannot_be_copied_or_pickled() -> None:
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied"):
            attempt(COMPOSED)
    with pytest.raises(TypeError, match="Key is final"):
        type("Mine", (Key,), {})
    assert repr(COMPOSED) == "Key(composed)"


# ----------------------------------------------------------------- timing

bases = st.fractions(min_value=Fraction(1, 10**9), max_value=10).filter(lambda base: base > 0)


@given(st.integers(-(10**12), 10**12), bases, bases)
def test_rescaling_is_off_by_half_a_tick_at_most(
    pts: int, source: Fraction, target: Fraction
) -> None:
    error = rescale(pts, source, target) * target - pts * source
    assert -target / 2 < error <= target / 2


@given(st.integers(-(10**12), 10**12), bases, st.integers(1, 1000))
def test_rescaling_to_finer_ticks_and_back_is_exact(pts: int, base: Fraction, times: int) -> None:
    assert rescale(rescale(pts, base, base / times), base / times, base) == pts


def test_halves_go_up() -> None:
    half = Fraction(1, 2)
    assert [rescale(pts, half, Fraction(1)) for pts in (-3, -1, 1, 3)] == [-1, 0, 1, 2]


@pytest.mark.parametrize(("source", "target"), [(0, 1), (1, 0), (-1, 1)])
def test_a_time_base_must_be_positive(source: int, target: int) -> None:
    with pytest.raises(ValueError, match="time bases must be positive"):
        rescale(1, Fraction(source), Fraction(target))


def test_seconds_are_ticks_times_time_base() -> None:
    assert seconds(90, Fraction(1, 25)) == 3.6


# ----------------------------------------------------------------- redaction


def test_redaction_is_installed_once_before_every_handler() -> None:
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    before = {one: list(one.filters) for one in root.handlers}
    root.addHandler(handler)
    try:
        redact.install_redaction()
        redact.install_redaction()
        assert sum(isinstance(one, redact.RedactingFilter) for one in handler.filters) == 1
        logging.getLogger("m2fp_stream.test").warning("to %s", "rtsp://me:pw@cam/1?t=2")
        try:
            raise ValueError("http://me:pw@host/x?key=1")
        except ValueError:
            logging.getLogger("m2fp_stream.test").warning("failed", exc_info=True, stack_info=True)
    finally:
        root.removeHandler(handler)
        for one, filters in before.items():
            one.filters = filters
    assert "rtsp://***@cam/1?***" in text.getvalue()
    assert "http://***@host/x?***" in text.getvalue()
    assert "pw" not in text.getvalue()
