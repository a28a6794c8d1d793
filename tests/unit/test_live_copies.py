"""The copies of live frames from which people are followed and parsed: cheap, right, wiped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.core.raw import RawFrame
from m2fp_stream.pipeline.live import run as live
from m2fp_stream.pipeline.live.follow import Follower
from m2fp_stream.sources.base import Captured
from m2fp_stream.tracking.flow import Analyser
from m2fp_stream.tracking.options import TrackingOptions
from m2fp_stream.tracking.propagate import Tracker

Picture = NDArray[np.uint8]

WIDTH, HEIGHT, SIDE = 640, 360, 320


def gradient(width: int, height: int) -> Picture:
    across = np.linspace(0, 255, width)[None, :, None]
    along = np.linspace(0, 255, height)[:, None, None]
    return np.asarray((across * [1, 0.5, 0] + along * [0, 0.5, 1]).round(), np.uint8)


@given(st.integers(2, 1400), st.integers(2, 1400), st.integers(16, 960))
def test_a_copy_is_halved_as_far_as_its_size_allows(width: int, height: int, side: int) -> None:
    source = gradient(width, height)
    copy = live._halved(source, side)
    assert not np.shares_memory(copy, source)
    factor = width // copy.shape[1]
    assert (copy.shape[1] * factor, copy.shape[0] * factor) == (width, height)
    assert factor == 1 or max(copy.shape[:2]) >= side
    odd = copy.shape[0] % 2 or copy.shape[1] % 2
    assert odd or max(copy.shape[:2]) < 2 * side


@pytest.mark.parametrize("size_wh", [(1280, 720), (1920, 1080), (720, 1280), (1366, 768)])
@pytest.mark.parametrize("side", [320, 416, 512, 640])
def test_by_way_of_halves_a_parse_copy_is_what_it_would_be_at_once(
    size_wh: tuple[int, int], side: int
) -> None:
    source = gradient(*size_wh)
    copy = live._resized(live._halved(source, 640), side)
    at_once = live._resized(source, side)
    assert copy.shape == at_once.shape
    assert max(copy.shape[:2]) == side
    assert int(cv2.absdiff(copy, at_once).max()) <= 2


def frame(number: int) -> RawFrame:
    bgr = gradient(WIDTH, HEIGHT)
    bgr[:, number * 4 : number * 4 + 40] = 255
    return RawFrame(
        bgr, frame_id=number, pts=number, time_base=Fraction(1, 30), captured_ns=number * 33_000_000
    )


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Picture]:
    """Every copy that is made of a frame, in order."""
    copies: list[Picture] = []
    halved = live._halved

    def recorded(bgr: Picture, side: int) -> Picture:
        copies.append(halved(bgr, side))
        return copies[-1]

    monkeypatch.setattr(live, "_halved", recorded)
    return copies


@pytest.fixture
def following() -> Iterator[live._Following]:
    analyser = Analyser()
    follower = Follower(
        Tracker(TrackingOptions()),
        aligned=True,
        full_interval_s=1,
        full_spacing_s=1,
        history_s=10,
        reverse=analyser.reverse,
    )
    one = live._Following(follower, analyser, (160, 90), SIDE, None)
    try:
        yield one
    finally:
        one.close()


def take(following: live._Following, numbers: Iterable[int]) -> None:
    for number in numbers:
        one = frame(number)
        following.take(Captured(one))
        one.release()


def test_copies_are_made_as_large_as_asked_for_and_wiped(
    kept: list[Picture], following: live._Following
) -> None:
    take(following, range(6))
    # A parse may be ordered of the first of the shot and of the newest.
    assert [bool(copy.any()) for copy in kept] == [True, False, False, False, False, True]
    assert following.copy_of(3, SIDE) is None
    smaller = following.copy_of(0, 200)
    assert smaller is not None
    assert smaller.shape == (112, 200, 3)
    assert smaller.any()
    assert not kept[0].any()
    assert following.copy_of(5, SIDE) is kept[5]
    take(following, [6])
    following.close()
    assert not kept[6].any()


def test_a_copy_that_cannot_be_made_is_a_parse_less_and_wiped(
    kept: list[Picture], following: live._Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(following, range(2))

    def fails(picture: Picture, side: int) -> Picture:
        raise cv2.error("out of memory")

    monkeypatch.setattr(live, "_resized", fails)
    assert following.copy_of(1, 200) is None
    assert not kept[1].any()
