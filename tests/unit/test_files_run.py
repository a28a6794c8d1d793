"""The file pipeline: every frame, in order, covered from both sides of time, and nothing left."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.core.errors import LeaseError, ModelError, ParserError, SinkError, SourceError
from m2fp_stream.core.labels import BODY_PARTS, Label
from m2fp_stream.core.plan import Parsed, Propagated, Unknown, Why
from m2fp_stream.core.records import LookKind, ParseResult
from m2fp_stream.core.safe import SafeFrame
from m2fp_stream.pipeline.files import run as files_run
from m2fp_stream.pipeline.looks import Seen
from m2fp_stream.pipeline.solver.solve import Solver
from m2fp_stream.sources.base import Captured
from m2fp_stream.tracking.motion import SmallGrey
from tests.kit.faulty import detections, people_in, planes_of
from tests.kit.stage import (
    HEIGHT,
    WIDTH,
    Footage,
    Kept,
    Picture,
    Scripted,
    Show,
    Watcher,
    backdrop,
)

FACES, PEOPLE, PARTS = LookKind.FACES, LookKind.PEOPLE, LookKind.PARTS

BOX = np.zeros((HEIGHT, WIDTH), np.bool_)
BOX[50:100, 130:170] = True
HEAD = np.random.default_rng(3).integers(60, 200, (50, 40, 1), np.uint8).repeat(3, 2)


def room(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """A room without blue: what is grey in it is a head."""
    picture = backdrop(seed, width, height)
    picture[..., 0] = 0
    return picture


ROOM = room()


def with_head(picture: Picture, left: int, top: int = 50) -> Picture:
    """The picture with a head whose upper left corner is there; it may be cut."""
    drawn = picture.copy()
    first, last = max(0, left), min(picture.shape[1], left + 40)
    if last > first:
        drawn[top : top + 50, first:last] = HEAD[:, first - left : last - left]
    return drawn


SOMEONE = with_head(ROOM, 130)


def still(count: int, **options: Any) -> Footage:
    """Somebody stands in the room."""
    return Footage([SOMEONE] * count, **options)


def lively(count: int) -> Footage:
    """The same, and a lamp blinks: people are looked for in every frame."""
    pictures = [SOMEONE.copy() for _ in range(count)]
    for picture in pictures[::2]:
        picture[4:24, 290:310] = (0, 250, 250)
    return Footage(pictures)


def tiny(count: int, **options: Any) -> Footage:
    """For what does not depend on the picture."""
    return Footage([room(0, 128, 72)] * count, **options)


def empty(kind: LookKind, frame_id: int, bgr: Picture) -> Seen:
    """What a look finds where nobody is."""
    if kind is PARTS:
        return planes_of(np.zeros(bgr.shape[:2], np.bool_), frame_id)
    return detections(frame_id, kind, [], 0.0)


def from_frame(first: int) -> Watcher:
    """Sees nobody before frame `first`."""
    return Watcher(lambda bgr, kind, n: empty(kind, n, bgr) if n < first else None)


def weak_until(strong: int) -> Watcher:
    """Sees what may be a face before frame `strong`, what is one from then on, and no bodies.

    Closer looks before that frame say that it is none.
    """

    def script(bgr: Picture, kind: LookKind, frame_id: int) -> Seen | None:
        if kind is PEOPLE:
            return empty(kind, frame_id, bgr)
        if frame_id >= strong:
            return None
        if kind is FACES:
            boxes = [(float(a), float(b), float(c), float(d)) for a, b, c, d in people_in(bgr)]
            return detections(frame_id, FACES, boxes, 0.16)
        if kind is LookKind.CLOSER:
            return detections(frame_id, kind, [(0, 0, 9, 9)], 0.0)
        return empty(kind, frame_id, bgr)

    return Watcher(script)


def failing(kind: LookKind, at: Callable[[int], bool]) -> Watcher:
    """Looks of one kind fail at some frames."""

    def script(bgr: Picture, asked: LookKind, frame_id: int) -> Seen | None:
        if asked is kind and at(frame_id):
            raise ParserError("it died")
        return None

    return Watcher(script)


def plan_of(show: Show, frame_id: int) -> NDArray[np.bool_]:
    """Where the plan of a frame covers, at the frame's size."""
    plan = show.witness.plan(frame_id)
    assert plan is not None, f"frame {frame_id} is unknown"
    cover = cv2.resize(plan.cover, plan.size_wh, interpolation=cv2.INTER_NEAREST)
    return np.asarray(cover > 0, np.bool_)


def covered(show: Show, frame_id: int) -> float:
    """The share of BOX that the plan of a frame covers."""
    return float(plan_of(show, frame_id)[BOX].mean())


def unknown_frames(show: Show) -> list[int]:
    return sorted(i for i, state in show.witness.states.items() if isinstance(state, Unknown))


def digests(show: Show) -> list[int]:
    """Of every composed frame; never compare the pixels themselves in an assertion."""
    return [zlib.crc32(frame.pixels.tobytes()) for frame in show.sink.frames]


# --- order, time, counts ---


def test_every_frame_comes_out_once_in_order_with_its_own_time() -> None:
    random = np.random.default_rng(4)
    pts = np.cumsum(random.integers(1, 400, 60)).tolist()
    show = Show(tiny(60, pts=pts))
    outcome = show.run()
    assert [frame.frame_id for frame in show.sink.frames] == list(range(60))
    assert [frame.pts for frame in show.sink.frames] == pts
    assert [frame.captured_ns for frame in show.sink.frames] == list(range(60))
    assert outcome.frames == 60
    assert show.sink.finished
    assert not show.sink.aborted


@pytest.mark.parametrize("count", [1, 2, 3, 11, 26])
def test_a_source_of_any_length_comes_out_whole(count: int) -> None:
    show = Show(tiny(count))
    assert show.run().frames == len(show.sink.frames) == count
    assert show.source.all_gone()


def test_faces_are_looked_for_in_every_frame_and_every_look_is_counted() -> None:
    watcher = Watcher()
    outcome = Show(still(40), [watcher]).run()
    assert watcher.frames(FACES) == list(range(40))
    looks = dict(outcome.looks)
    assert looks["faces"] == 40
    assert looks["people"] + looks["turned"] == sum(kind is PEOPLE for kind, _ in watcher.asked)
    assert looks["faces"] + looks["turned"] == sum(kind is FACES for kind, _ in watcher.asked)
    assert looks["parts"] == sum(kind is PARTS for kind, _ in watcher.asked)
    assert looks["closer"] == sum(kind is LookKind.CLOSER for kind, _ in watcher.asked)
    assert 0 < looks["people"] < 40
    assert 0 < looks["parts"] < 40


def test_somebody_who_is_seen_in_turned_copies_alone_is_covered_and_they_are_wiped() -> None:
    """A white corner tells which way a copy is turned."""
    pictures = [SOMEONE.copy() for _ in range(30)]
    for picture in pictures:
        picture[:12, :12] = 255
    copies: list[Picture] = []

    def script(bgr: Picture, kind: LookKind, frame_id: int) -> Seen | None:
        if kind not in (FACES, PEOPLE):
            return None
        copies.append(bgr)
        return None if bgr[-4, -4].min() > 200 else empty(kind, frame_id, bgr)

    show = Show(Footage(pictures), [Watcher(script)])
    outcome = show.run()
    assert dict(outcome.looks)["turned"] > 3
    for frame_id in range(30):
        assert plan_of(show, frame_id)[BOX].all(), frame_id
    assert not any(copy.any() for copy in copies)


@pytest.mark.parametrize("kind", [FACES, PEOPLE])
def test_a_frame_whose_turned_looks_failed_is_unknown_though_the_upright_ones_succeeded(
    kind: LookKind,
) -> None:
    """P2: a look that was wanted and failed is no "nobody"; it is made up for soon."""
    turned: list[int] = []

    def script(bgr: Picture, asked: LookKind, frame_id: int) -> Seen | None:
        if asked is kind and bgr.shape[0] > bgr.shape[1]:
            turned.append(frame_id)
            if frame_id == 0:
                raise ParserError("it died")
        return None

    show = Show(still(30), [Watcher(script)])
    show.run()
    assert unknown_frames(show) == [0]
    assert 0 < min(n for n in turned if n) < 8


def test_frames_that_were_looked_at_for_people_say_so() -> None:
    watcher = Watcher()
    show = Show(still(40), [watcher])
    show.run()
    looked = set(watcher.frames(PEOPLE))
    assert 0 in looked
    for frame_id, state in show.witness.states.items():
        assert isinstance(state, Parsed if frame_id in looked else Propagated), frame_id


def moving(count: int = 50, step: int = 6) -> list[Picture]:
    """Somebody passes from left to right."""
    return [with_head(ROOM, step * index - 40) for index in range(count)]


def test_people_are_looked_for_at_least_as_often_as_asked() -> None:
    for every in (2, 7):
        watcher = Watcher()
        pictures = moving(60, step=3)
        Show(Footage(pictures), [watcher], options={"people_every": every}).run()
        looked = watcher.frames(PEOPLE)
        gaps = np.diff([*looked, 60])
        assert gaps.max() == every


def test_close_looks_at_one_person_are_as_far_apart_as_asked() -> None:
    watcher = Watcher()
    Show(still(60), [watcher], options={"parts_every": 9}).run()
    looked = watcher.frames(PARTS)
    assert len(looked) >= 6
    assert set(np.diff(looked)) == {9}


def test_no_more_close_looks_are_made_at_a_frame_than_asked() -> None:
    wide = room(0, 640, 180)
    crowd = with_head(with_head(with_head(with_head(wide, 60), 220), 380), 540)
    watcher = Watcher()
    show = Show(Footage([crowd] * 30), [watcher], options={"parts_a_frame": 2, "parts_every": 4})
    show.run()
    at = [number for kind, number in watcher.asked if kind is PARTS]
    assert max(at.count(number) for number in at) == 2
    for frame_id in range(30):  # who gets none keeps an ellipse
        assert plan_of(show, frame_id)[75, [80, 240, 400, 560]].all()


def test_the_share_that_is_covered_is_counted() -> None:
    nobody = Show(still(20), [from_frame(99)])
    assert nobody.run().covered_fraction == 0.0
    someone = Show(still(20))
    assert BOX.mean() <= someone.run().covered_fraction < 5 * BOX.mean()


def test_progress_ends_with_all_frames() -> None:
    told: list[int] = []
    Show(still(20)).run(told.append)
    assert told == sorted(told)
    assert told[-1] == 20


def test_a_still_person_is_covered_whole_and_the_room_is_not() -> None:
    show = Show(still(30))
    show.run()
    for frame_id, frame in enumerate(show.sink.frames):
        assert covered(show, frame_id) == 1.0
        np.testing.assert_array_equal(frame.pixels[:, :60], SOMEONE[:, :60])
        np.testing.assert_array_equal(frame.pixels[:, 240:], SOMEONE[:, 240:])


def test_somebody_who_moves_is_covered_in_every_frame() -> None:
    show = Show(Footage(moving(60)))
    show.run()
    for frame_id in range(60):
        left = 6 * frame_id - 40
        inside = plan_of(show, frame_id)[52:98, max(0, left) : max(0, min(WIDTH, left + 40))]
        assert inside.all(), frame_id


@pytest.mark.parametrize("quality", ["standard", "high"])
def test_shots_of_one_frame_are_covered_by_what_that_frame_shows(quality: str) -> None:
    """And so is a single picture."""
    for count in (1, 9):
        pictures = [with_head(room(n), 20 + 30 * n) for n in range(count)]
        again = Footage(pictures) if quality == "high" else None
        show = Show(Footage(pictures), again=again, options={"quality": quality})
        show.run()
        assert unknown_frames(show) == []
        for frame_id in range(count):
            left = 20 + 30 * frame_id
            cover = plan_of(show, frame_id)
            assert cover[50:100, left : left + 40].mean() > 0.98, frame_id
            assert cover.mean() < 0.3


# --- equal input, equal output ---


def sleepy(seed: int) -> Watcher:
    random = np.random.default_rng(seed)

    def script(bgr: Picture, kind: LookKind, frame_id: int) -> Seen | None:
        time.sleep(float(random.uniform(0, 0.01)))
        return empty(kind, frame_id, bgr) if kind is FACES and frame_id % 3 else None

    return Watcher(script)


def test_equal_input_gives_equal_covers_however_long_looks_take_and_whoever_makes_them() -> None:
    pictures = [with_head(picture, 260 - 2 * n, 110) for n, picture in enumerate(moving(50))]
    runs = [
        Show(Footage(pictures), [sleepy(10 * count + k) for k in range(count)])
        for count in (1, 1, 3)
    ]
    outcomes = [show.run() for show in runs]
    assert len(set(outcomes)) == 1
    assert digests(runs[0]) == digests(runs[1]) == digests(runs[2])
    assert len(set(digests(runs[0]))) == 50
    for frame_id in range(50):
        states = {type(show.witness.states[frame_id]) for show in runs}
        assert len(states) == 1


# --- covered backwards ---


def shown_from(show: Show) -> int:
    """The first frame in which BOX is covered but for its corners, and is from there on."""
    whole = [n for n in sorted(show.witness.states) if covered(show, n) > 0.93]
    first = whole[0]
    assert whole == list(range(first, len(show.witness.states))), "covered, then not"
    assert covered(show, first - 1) == 0.0 if first else True
    return first


@pytest.mark.parametrize("lookbehind_s", [0.6, 1.6])
def test_who_is_known_late_is_covered_before_as_far_as_asked(lookbehind_s: float) -> None:
    show = Show(still(80), [weak_until(60)], options={"lookbehind_s": lookbehind_s})
    show.run()
    behind = 60 - shown_from(show)
    # A frame waits for looks at parts, too, which are taken some frames after they were asked for.
    assert lookbehind_s * 25 <= behind <= lookbehind_s * 25 + files_run._PARTS_LAG + 1


def test_who_is_known_late_is_covered_before_to_the_cut_and_not_beyond() -> None:
    other = with_head(room(9), 130)
    show = Show(
        Footage([other] * 30 + [SOMEONE] * 40), [weak_until(50)], options={"lookbehind_s": 9.0}
    )
    show.run()
    assert shown_from(show) == 30
    assert unknown_frames(show) == []


def test_who_is_first_seen_in_the_middle_of_the_picture_was_covered_shortly_before() -> None:
    """No body was ever seen: nothing contradicts."""

    def script(bgr: Picture, kind: LookKind, frame_id: int) -> Seen | None:
        return empty(kind, frame_id, bgr) if kind is PEOPLE or frame_id < 40 else None

    show = Show(still(60), [Watcher(script)])
    show.run()
    assert 30 <= shown_from(show) <= 38


def test_who_entered_unseen_is_covered_back_to_the_edge() -> None:
    """Looks see the person in the middle of the picture only; he moved in unexplained motion."""

    def script(bgr: Picture, kind: LookKind, frame_id: int) -> Seen | None:
        seen = 60 < 12 * frame_id - 40 < 220
        return None if seen else empty(kind, frame_id, bgr)

    show = Show(Footage(moving(40, step=12)), [Watcher(script)])
    show.run()
    for frame_id in range(40):
        left = 12 * frame_id - 40
        inside = plan_of(show, frame_id)[54:96, max(0, left + 2) : max(0, min(WIDTH, left + 38))]
        assert inside.size == 0 or inside.mean() > 0.95, frame_id


def test_whom_faces_lose_a_look_for_people_holds() -> None:
    """A face that is not seen contradicts nothing."""
    show = Show(
        still(60),
        [Watcher(lambda b, kind, n: empty(kind, n, b) if kind is not PEOPLE and n > 20 else None)],
    )
    show.run()
    assert unknown_frames(show) == []
    assert [n for n in range(60) if covered(show, n) < 0.9] == []


def test_what_appears_unexplained_is_looked_at_in_that_frame() -> None:
    """It is there in one frame only, and no look for people is due."""
    pictures = [ROOM] * 12
    random = np.random.default_rng(6)
    flicker = random.integers(0, 2, (10, 8, 1), np.uint8).repeat(6, 0).repeat(6, 1)
    pictures[5] = ROOM.copy()
    pictures[5][60:120, 60:108, 1:] = flicker * np.uint8(255)
    watcher = Watcher()
    Show(Footage(pictures), [watcher], options={"people_every": 60}).run()
    calm = Watcher()
    Show(Footage([ROOM] * 12), [calm], options={"people_every": 60}).run()
    assert 5 not in calm.frames(PEOPLE)
    assert 5 in watcher.frames(PEOPLE)


# --- read twice ---


def twice(pictures: Sequence[Picture], again: Footage | None = None, **settings: Any) -> Show:
    """A run under `--quality high`."""
    options = {"quality": "high", **settings.pop("options", {})}
    again = again or Footage(pictures)
    return Show(Footage(pictures), again=again, options=options, **settings)


def test_high_quality_knows_the_whole_shot_before_it_covers_it() -> None:
    once = Show(still(120), [weak_until(100)])
    once.run()
    assert shown_from(once) > 40
    show = twice([SOMEONE] * 120, lookers=[weak_until(100)])
    show.run()
    assert shown_from(show) == 0
    assert len(show.sink.frames) == 120
    assert show.all_gone()


def test_high_quality_looks_for_people_in_every_frame() -> None:
    watcher = Watcher()
    twice(moving(20), lookers=[watcher]).run()
    assert watcher.frames(PEOPLE) == list(range(20))


def test_high_quality_holds_few_frames_of_a_long_shot() -> None:
    show = twice([room(0, 128, 72)] * 200)
    show.run()
    bound = files_run._KEPT_FRAMES + 2 * (files_run._READ_AHEAD + files_run._PARTS_LAG)
    assert show.source.most_unreleased <= bound
    assert show.again is not None
    assert show.again.most_unreleased <= files_run._WRITE_AHEAD + 4


def test_high_quality_composes_what_standard_does_where_nothing_is_late() -> None:
    show = twice([SOMEONE] * 30)
    show.run()
    assert [frame.frame_id for frame in show.sink.frames] == list(range(30))
    for frame in show.sink.frames:
        np.testing.assert_array_equal(frame.pixels[:, :60], SOMEONE[:, :60])
    assert min(covered(show, n) for n in range(30)) == 1.0


def changed(how: str) -> Footage:
    pictures = [SOMEONE] * 40
    if how == "shorter":
        return Footage(pictures[:30])
    if how == "other times":
        return Footage(pictures, pts=[41 * n for n in range(40)])
    other = with_head(ROOM, 60) if how == "other picture" else SOMEONE[:, :300]
    return Footage([*pictures[:30], np.ascontiguousarray(other), *pictures[31:]])


@pytest.mark.parametrize("how", ["shorter", "other times", "other picture", "other size"])
def test_an_input_that_changed_between_two_readings_is_refused(how: str) -> None:
    show = twice([SOMEONE] * 40, again=changed(how))
    with pytest.raises(SourceError, match="the input changed while it was read"):
        show.run()
    assert show.sink.aborted
    assert not show.sink.finished
    assert show.all_gone()


# --- a second parser ---


def fine_parser(mask: NDArray[np.bool_]) -> Scripted:
    """A second parser that sees one person's face in `mask`, in every picture."""

    def script(bgr: Picture, frame_id: int) -> ParseResult:
        size_wh = bgr.shape[1], bgr.shape[0]
        small = cv2.resize(mask.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST)
        label_map = np.where(small > 0, Label.FACE, 0).astype(np.uint8)
        return ParseResult(
            frame_id=frame_id,
            label_map=label_map,
            labels=BODY_PARTS,
            groups=(),
            evidence=np.zeros((0, *label_map.shape), np.uint8),
            must_cover=np.zeros(label_map.shape, np.bool_),
            instances=np.asarray(small, np.uint8),
            parser_id="fine",
        )

    return Scripted(script)


def test_whom_the_second_parser_alone_sees_is_covered() -> None:
    show = Show(still(40), [from_frame(99)], fine=fine_parser(BOX))
    assert dict(show.run().looks)["fine"] == 8  # one in .2 seconds
    assert [n for n in range(40) if covered(show, n) < 0.95] == []
    for frame in show.sink.frames:
        np.testing.assert_array_equal(frame.pixels[:, :60], SOMEONE[:, :60])


def test_a_second_parser_that_sees_nobody_changes_nothing() -> None:
    alone = Show(still(40))
    alone.run()
    show = Show(still(40), fine=fine_parser(np.zeros_like(BOX)))
    show.run()
    assert digests(show) == digests(alone)


def test_a_second_parser_only_adds() -> None:
    alone = Show(still(40))
    alone.run()
    other = np.zeros_like(BOX)
    other[60:90, 20:50] = True
    for mask in (BOX, other, BOX | other):
        show = Show(still(40), fine=fine_parser(mask))
        show.run()
        for frame_id in range(40):
            lost = plan_of(alone, frame_id) & ~plan_of(show, frame_id)
            assert not lost.any(), frame_id


# --- memory ---


def test_no_more_frames_are_held_than_the_buffer_allows_and_what_it_shortens_is_counted() -> None:
    wide = room(0, 640, 480)
    source = Footage([wide] * 60)
    outcome = Show(source, options={"lookbehind_s": 30.0, "buffer_mb": 16}).run()
    held = 16_000_000 // wide.size
    bound = held + files_run._READ_AHEAD + files_run._WRITE_AHEAD + files_run._PARTS_LAG + 4
    assert held < source.most_unreleased <= bound < 60
    assert 0 < outcome.shortened_frames <= 60 - held
    assert Show(still(30)).run().shortened_frames == 0


def test_memory_does_not_grow_with_length() -> None:
    def most(count: int) -> int:
        source = tiny(count)
        Show(source, options={"lookbehind_s": 0.4}).run()
        return source.most_unreleased

    bound = 10 + files_run._PARTS_LAG + files_run._READ_AHEAD + files_run._WRITE_MOST + 8
    assert most(60) <= bound
    assert most(180) <= bound


def test_what_is_known_of_past_frames_does_not_grow_with_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []

    def recorded(**known: Any) -> Any:
        made.append(Solver(**known))
        return made[-1]

    held: dict[int, int] = {}

    def on_frames(done: int) -> None:
        solver = made[0]
        known = sum(len(track.seen) for track in solver._tracker.tracks)
        known += sum(len(one.head) for one in solver._shapes.values())
        held[done // 150] = known + len(solver._places.motions) + len(solver._places.bodies)

    monkeypatch.setattr(files_run, "Solver", recorded)
    small = np.ascontiguousarray(SOMEONE[30:120, 70:230])
    Show(Footage([small] * 460), options={"lookbehind_s": 0.4}).run(on_frames)
    assert len(held) == 4
    assert held[2] <= held[1] + 100  # as far as it is let go of now and then


# --- everything is released and zeroed ---


def test_every_frame_is_gone_after_success() -> None:
    show = Show(still(30))
    show.run()
    assert len(show.source.given) == 30
    assert show.source.all_gone()


def boom(kind: LookKind, frame_id: int, error: BaseException) -> Watcher:
    def script(bgr: Picture, asked: LookKind, number: int) -> Seen | None:
        if asked is kind and number >= frame_id:
            raise error
        return None

    return Watcher(script)


@pytest.mark.parametrize("kind", list(LookKind))
@pytest.mark.parametrize(
    "error",
    [ModelError("no weights"), KeyError("a bug"), KeyboardInterrupt(), MemoryError()],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_a_looker_ends_the_run_and_leaves_nothing(
    kind: LookKind, error: BaseException
) -> None:
    show = Show(still(50), [boom(kind, 20, error)])
    with pytest.raises(type(error)):
        show.run()
    assert show.sink.aborted
    assert not show.sink.finished
    assert show.source.all_gone()


@pytest.mark.parametrize("quality", ["standard", "high"])
def test_an_error_of_the_source_is_raised_after_its_frames_and_leaves_nothing(quality: str) -> None:
    source = tiny(30, error=SourceError("torn file"))
    again = tiny(30) if quality == "high" else None
    show = Show(source, again=again, options={"quality": quality})
    with pytest.raises(SourceError, match="torn file"):
        show.run()
    assert show.sink.aborted
    assert show.all_gone()


def raise_at(frame_id: int, error: BaseException) -> Kept:
    def on_emit(frame: SafeFrame) -> None:
        if frame.frame_id == frame_id:
            raise error

    return Kept(on_emit)


@pytest.mark.parametrize("frame_id", [0, 20, 59])
@pytest.mark.parametrize("error", [SinkError("disk full"), KeyboardInterrupt()], ids=["sink", "^C"])
def test_an_error_of_the_sink_is_raised_and_leaves_nothing(
    frame_id: int, error: BaseException
) -> None:
    show = Show(tiny(60), sink=raise_at(frame_id, error))
    with pytest.raises(type(error)):
        show.run()
    assert show.sink.aborted
    assert len(show.sink.frames) == frame_id
    assert show.source.all_gone()


def test_an_output_that_cannot_be_completed_is_aborted() -> None:
    class Unfinished(Kept):
        def _finish(self) -> None:
            raise SinkError("cannot be moved")

    show = Show(still(5), sink=Unfinished())
    with pytest.raises(SinkError, match="cannot be moved"):
        show.run()
    assert show.sink.aborted
    assert show.source.all_gone()


@pytest.mark.parametrize("quality", ["standard", "high"])
@pytest.mark.parametrize("calls", [1, 10, 30, 50])
def test_an_interrupt_in_the_middle_leaves_nothing(calls: int, quality: str) -> None:
    """Whatever reader, writer and looks are doing at that moment."""
    told: list[int] = []

    def on_frames(done: int) -> None:
        told.append(done)
        if len(told) == calls:
            time.sleep(0.1)  # the reader fills its queue, and waits for room
            raise KeyboardInterrupt

    pictures = [SOMEONE] * 60
    again = Footage(pictures) if quality == "high" else None
    show = Show(Footage(pictures), again=again, options={"quality": quality})
    with pytest.raises(KeyboardInterrupt):
        show.run(on_frames)
    assert show.sink.aborted
    assert not show.sink.finished
    assert show.all_gone()


@pytest.mark.parametrize(
    "name", ["wants_people", "feed", "past_orders", "part_orders", "take_parts", "cover"]
)
def test_a_bug_in_the_solver_ends_the_run_without_an_output(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = getattr(Solver, name)
    calls = [0]

    def broken(*arguments: Any, **known: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise ZeroDivisionError
        return genuine(*arguments, **known)

    monkeypatch.setattr(Solver, name, broken)
    show = Show(still(50))
    with pytest.raises(ZeroDivisionError):
        show.run()
    assert show.sink.aborted
    assert not show.sink.finished
    assert show.source.all_gone()


def test_a_reader_that_cannot_be_started_aborts_the_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    show = Show(still(5))
    genuine = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "reader":
            raise RuntimeError("can't start new thread")
        genuine(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        show.run()
    assert show.sink.aborted


# --- unknown, never nobody ---


@pytest.mark.parametrize("kind", [FACES, PEOPLE])
def test_a_frame_whose_look_failed_is_unknown_and_the_others_are_not(kind: LookKind) -> None:
    watcher = failing(kind, lambda n: n == 12)
    show = Show(lively(40), [watcher], options={"people_every": 1})
    outcome = show.run()
    assert watcher.asked.count((kind, 12)) == 2  # tried twice
    assert unknown_frames(show) == [12]
    assert outcome.unknown_frames == 1
    assert show.witness.states[12] == Unknown(Why.PARSER_FAILED)
    assert min(covered(show, n) for n in range(40) if n != 12) == 1.0


def test_a_part_look_that_fails_leaves_the_heads_ellipse() -> None:
    watcher = failing(PARTS, lambda n: True)
    show = Show(still(40), [watcher], options={"max_failures": 1000})
    show.run()
    assert watcher.frames(PARTS)
    assert unknown_frames(show) == []
    for frame_id in range(40):
        cover = plan_of(show, frame_id)
        assert covered(show, frame_id) == 1.0
        assert not cover[:, :60].any()
        assert not cover[:, 240:].any()


@pytest.mark.parametrize("kind", [FACES, PEOPLE])
def test_until_both_whole_frame_looks_of_a_shot_succeeded_everything_is_covered(
    kind: LookKind,
) -> None:
    """P4: a shot that was never looked at for people is not known by its faces."""
    watcher = failing(kind, lambda n: n in (0, 20))
    pictures = [SOMEONE] * 20 + [with_head(room(9), 130)] * 20
    show = Show(Footage(pictures), [watcher], options={"people_every": 60})
    show.run()
    unknown = unknown_frames(show)
    for start in (0, 20):
        first = min(n for n in watcher.frames(PEOPLE) if n >= start and (kind, n) != (kind, start))
        assert first - start < 8
        assert set(range(start, first)) <= set(unknown)
    assert len(unknown) < 16


@pytest.mark.parametrize("kind", list(LookKind))
def test_looks_of_one_kind_that_fail_again_and_again_end_the_run(kind: LookKind) -> None:
    """Though those of the other kinds go on."""
    options = {"max_failures": 3, "people_every": 1, "parts_every": 1}
    show = Show(lively(80), [failing(kind, lambda n: n >= 20)], options=options)
    with pytest.raises(ParserError, match=r"3 looks.*in a row failed.*it died"):
        show.run()
    assert show.sink.aborted
    assert show.source.all_gone()


@pytest.mark.parametrize("kind", list(LookKind))
def test_failures_with_a_good_look_between_do_not_end_the_run(kind: LookKind) -> None:
    options = {"max_failures": 2, "people_every": 1, "parts_every": 1}
    show = Show(lively(40), [failing(kind, lambda n: n % 2 == 1)], options=options)
    assert show.run().frames == 40
    wanted = list(range(1, 40, 2)) if kind in (FACES, PEOPLE) else []
    assert unknown_frames(show) == wanted


def test_a_uniform_frame_is_unknown_and_starts_a_shot() -> None:
    pictures = [SOMEONE] * 12 + [np.full_like(ROOM, 17)] * 3 + [SOMEONE] * 12
    watcher = Watcher()
    show = Show(Footage(pictures), [watcher], options={"people_every": 60})
    show.run()
    assert unknown_frames(show) == [12, 13, 14]
    assert show.witness.states[13] == Unknown(Why.UNIFORM)
    assert 15 in watcher.frames(PEOPLE)
    assert not {12, 13, 14} & set(watcher.frames(FACES))
    assert min(covered(show, n) for n in range(27) if n not in (12, 13, 14)) == 1.0


@pytest.mark.parametrize("how", ["said", "unsaid"])
@pytest.mark.parametrize("cut", [np.s_[:, 60:300], np.s_[20:140, 100:]], ids=["wide", "other"])
def test_a_change_of_size_starts_a_shot_and_covers_stay_in_place(how: str, cut: Any) -> None:
    """Also where the source forgets to say so."""
    smaller = np.ascontiguousarray(SOMEONE[cut])
    watcher = Watcher()
    source = Footage([SOMEONE] * 12 + [smaller] * 12, restarts=[12] if how == "said" else [])
    show = Show(source, [watcher], options={"people_every": 60})
    show.run()
    assert 12 in watcher.frames(PEOPLE)
    for frame_id in range(12, 24):
        cover = plan_of(show, frame_id)
        assert cover.shape == smaller.shape[:2]
        assert cover[BOX[cut]].all(), frame_id
        assert cover.mean() < 0.5
    sizes = [frame.size_wh for frame in show.sink.frames]
    assert sizes == [(320, 180)] * 12 + [(smaller.shape[1], smaller.shape[0])] * 12


def test_a_frame_whose_pixels_are_gone_is_not_taken_for_nobody() -> None:
    class Gone(Footage):
        def _capture(self) -> Any:
            for captured in super()._capture():
                if captured.frame.frame_id == 7:
                    captured.frame.release()
                yield Captured(captured.frame)

    show = Show(Gone([SOMEONE] * 20))
    with pytest.raises(LeaseError, match="frame 7: released twice"):
        show.run()
    assert show.witness.states[7] == Unknown(Why.TRACKING_FAILED)
    assert show.sink.aborted
    assert show.source.all_gone()


@pytest.mark.parametrize("quality", ["standard", "high"])
def test_a_run_leaves_no_small_copy(monkeypatch: pytest.MonkeyPatch, quality: str) -> None:
    made: list[SmallGrey] = []
    genuine = SmallGrey.of

    def recorded(bgr: Picture) -> SmallGrey:
        made.append(genuine(bgr))
        return made[-1]

    monkeypatch.setattr(SmallGrey, "of", recorded)
    again = still(30) if quality == "high" else None
    Show(still(30), again=again, options={"quality": quality}).run()
    assert len(made) == (60 if again else 30)
    assert not any(small.grey.any() for small in made)


def test_every_copy_that_was_looked_at_is_zeroed() -> None:
    copies: dict[LookKind, list[Picture]] = {kind: [] for kind in LookKind}

    def script(bgr: Picture, kind: LookKind, frame_id: int) -> Seen | None:
        assert bgr.any()
        copies[kind].append(bgr)
        return None

    Show(still(30), [Watcher(script)], hide="skin").run()
    assert all(copies.values())
    assert not any(copy.any() for kind in LookKind for copy in copies[kind])


def test_copies_are_no_larger_than_asked_and_never_enlarged() -> None:
    sizes: set[tuple[LookKind, Sequence[int]]] = set()

    def script(bgr: Picture, kind: LookKind, frame_id: int) -> Seen | None:
        sizes.add((kind, tuple(sorted(bgr.shape))))
        return empty(kind, frame_id, bgr)

    for side in (160, 640):
        options = {"look_size": side, "people_every": 1}
        Show(still(3), [Watcher(script)], options=options).run()
    assert sizes == {
        *((FACES, (3, 90, 160)), (PEOPLE, (3, 90, 160))),  # asked for 160
        *((FACES, (3, 180, 320)), (PEOPLE, (3, 180, 320))),  # for 640, or a far look
    }


def test_close_looks_get_pixels_of_the_full_size_frame() -> None:
    """A head of a large picture is looked at closely at its own size."""
    large = cv2.resize(SOMEONE, (1280, 720), interpolation=cv2.INTER_NEAREST)
    shapes: list[tuple[int, ...]] = []

    def script(bgr: Picture, kind: LookKind, frame_id: int) -> Seen | None:
        if kind is PARTS:
            shapes.append(bgr.shape)
            assert people_in(bgr)
        return None

    show = Show(Footage([np.asarray(large, np.uint8)] * 8), [Watcher(script)])
    show.run()
    assert shapes
    assert max(height * width for height, width, _ in shapes) <= 70_000
    assert covered_large(show) == 1.0


def covered_large(show: Show) -> float:
    box = cv2.resize(BOX.astype(np.uint8), (1280, 720), interpolation=cv2.INTER_NEAREST) > 0
    return min(float(plan_of(show, n)[box].mean()) for n in show.witness.states)
