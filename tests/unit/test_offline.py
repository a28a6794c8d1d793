"""The file pipeline: every frame, in order, covered from both sides of time, and nothing left."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.core.errors import LeaseError, ModelError, ParserError, SinkError, SourceError
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import Parsed, Propagated, Unknown, Why
from m2fp_stream.core.records import Look, ParseResult
from m2fp_stream.core.safe import SafeFrame
from m2fp_stream.pipeline import offline
from m2fp_stream.sources.base import Captured
from m2fp_stream.tracking.flow import Small
from tests.chaos.faulty import good_result
from tests.chaos.stage import (
    HEIGHT,
    WIDTH,
    Footage,
    Kept,
    Picture,
    Script,
    Scripted,
    Show,
    backdrop,
)
from tests.labelsets import HEAD_PARTS

ROOM = backdrop(0)


def labelled(mask: NDArray[np.bool_], frame_id: int) -> ParseResult:
    """A parse that found a face in `mask`."""
    label_map = np.where(mask, Label.FACE, 0).astype(np.uint8)
    return ParseResult(
        frame_id=frame_id,
        label_map=label_map,
        labels=HEAD_PARTS,
        groups=(),
        evidence=np.zeros((0, *mask.shape), np.uint8),
        must_cover=np.zeros(mask.shape, np.bool_),
        instances=None,
        parser_id="scripted",
    )


BOX = np.zeros((HEIGHT, WIDTH), np.bool_)
BOX[60:110, 130:180] = True


def from_frame(first: int) -> Script:
    """A parser that sees a face in BOX from frame `first` on, and nobody before."""
    return lambda bgr, frame_id: labelled(BOX & (frame_id >= first), frame_id)


def still(count: int, **options: Any) -> Footage:
    return Footage([ROOM] * count, **options)


def tiny(count: int, **options: Any) -> Footage:
    """For what does not depend on the picture."""
    return Footage([backdrop(0, 128, 72)] * count, **options)


def covered(show: Show, frame_id: int) -> float:
    """The share of BOX that the plan of a frame covers."""
    plan = show.witness.plan(frame_id)
    assert plan is not None, f"frame {frame_id} is unknown"
    cover = cv2.resize(plan.cover, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    return float((cover[BOX] > 0).mean())


def unknown_frames(show: Show) -> list[int]:
    return sorted(i for i, state in show.witness.states.items() if isinstance(state, Unknown))


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


def test_parsed_frames_say_so_and_the_others_their_age() -> None:
    parser = Scripted()
    show = Show(still(40), parser=parser, options={"interval_s": 0.2, "max_gap": 60})
    outcome = show.run()
    asked = set(parser.asked)
    assert {0, 39} <= asked
    assert outcome.parses == len(asked)
    for frame_id, state in show.witness.states.items():
        assert isinstance(state, Parsed if frame_id in asked else Propagated)
        if isinstance(state, Propagated):
            nearest = min(abs(frame_id - other) for other in asked) / 25
            assert state.age_s == pytest.approx(nearest, abs=1e-6)


def test_parses_come_by_time_and_by_count() -> None:
    slow, fast = Scripted(), Scripted()
    options = {"interval_s": 0.4, "max_gap": 5}
    Show(tiny(30, pts=[20 * n for n in range(30)]), parser=slow, options=options).run()
    Show(tiny(30, pts=[200 * n for n in range(30)]), parser=fast, options=options).run()
    assert slow.asked == [0, 5, 10, 15, 20, 25, 29]
    assert fast.asked == [*range(0, 30, 2), 29]


def test_the_share_that_is_covered_is_counted() -> None:
    nobody = Show(still(20), parser=Scripted(from_frame(99)))
    assert nobody.run().covered_fraction == 0.0
    someone = Show(still(20), parser=Scripted(from_frame(0)))
    assert BOX.mean() <= someone.run().covered_fraction < 3 * BOX.mean()


def test_progress_ends_with_all_frames() -> None:
    told: list[int] = []
    Show(still(20)).run(told.append)
    assert told == sorted(told)
    assert told[-1] == 20


# --- equal input, equal output ---


def passing(count: int = 50) -> list[Picture]:
    """Someone passes whom the parser sees in every tenth frame only."""
    person = backdrop(8, 40, 60)
    pictures = []
    for index in range(count):
        picture = ROOM.copy()
        left = 6 * index - 40
        first, last = max(0, left), min(WIDTH, left + 40)
        if last > first:
            picture[60:120, first:last] = person[:, first - left : last - left]
        pictures.append(picture)
    return pictures


def sleepy(seed: int) -> Script:
    random = np.random.default_rng(seed)

    def script(bgr: Picture, frame_id: int) -> ParseResult:
        time.sleep(float(random.uniform(0, 0.02)))
        mask = np.zeros(bgr.shape[:2], np.bool_)
        if frame_id % 10 == 0:
            left = max(0, 6 * frame_id - 40)
            mask[60:120, left : left + 40] = True
        return labelled(mask, frame_id)

    return script


def test_equal_input_gives_equal_covers_however_long_parses_take() -> None:
    runs = [Show(Footage(passing()), parser=Scripted(sleepy(seed))) for seed in range(2)]
    outcomes = [show.run() for show in runs]
    assert len(set(outcomes)) == 1
    for frame_id in range(50):
        first = runs[0].sink.frames[frame_id].pixels
        for show in runs[1:]:
            np.testing.assert_array_equal(show.sink.frames[frame_id].pixels, first)
            state, other = runs[0].witness.states[frame_id], show.witness.states[frame_id]
            assert type(state) is type(other)


# --- covered backwards ---


def shown_from(show: Show) -> int:
    """The first frame in which BOX is covered whole."""
    whole = [n for n in sorted(show.witness.states) if covered(show, n) == 1.0]
    first = whole[0]
    assert whole == list(range(first, len(show.witness.states))), "covered, then not"
    assert covered(show, first - 1) == 0.0 if first else True
    return first


@pytest.mark.parametrize("lookbehind_s", [0.4, 1.0])
def test_who_is_found_late_is_covered_before_as_far_as_asked(lookbehind_s: float) -> None:
    parser = Scripted(from_frame(60))
    options = {"lookbehind_s": lookbehind_s, "max_gap": 5}
    show = Show(still(80), parser=parser, options=options)
    show.run()
    found = min(n for n in parser.asked if n >= 60)
    behind = found - shown_from(show)
    assert behind == pytest.approx(lookbehind_s * 25, abs=1)


def test_who_is_found_late_is_covered_before_to_the_cut_and_not_beyond() -> None:
    pictures = [backdrop(9)] * 30 + [ROOM] * 40
    show = Show(Footage(pictures), parser=Scripted(from_frame(50)), options={"lookbehind_s": 9.0})
    show.run()
    assert shown_from(show) == 30
    assert unknown_frames(show) == []


def test_who_entered_unseen_is_covered_back_to_the_edge() -> None:
    """The parser sees the person in the middle of the picture only."""

    def script(bgr: Picture, frame_id: int) -> ParseResult:
        mask = np.zeros(bgr.shape[:2], np.bool_)
        left = 6 * frame_id - 40
        if 100 < left < 200:
            mask[60:120, left : left + 40] = True
        return labelled(mask, frame_id)

    show = Show(Footage(passing(40)), parser=Scripted(script))
    show.run()
    for frame_id in range(8, 40):
        left = 6 * frame_id - 40
        plan = show.witness.plan(frame_id)
        assert plan is not None
        inside = plan.cover[62:118, max(0, left) + 2 : min(WIDTH, left + 38)]
        assert (inside > 0).mean() > 0.95, frame_id


# --- glances ---


def glances(script: Script) -> Scripted:
    """A parser whose glances see what full parses see, and say that they are glances."""
    parser = Scripted()

    def answer(bgr: Picture, frame_id: int) -> ParseResult:
        thorough = parser.looks[frame_id][-1] is not Look.GLANCE
        return replace(script(bgr, frame_id), thorough=thorough)

    parser._script = answer
    return parser


def test_full_parses_are_as_far_apart_as_said_and_glances_lie_between() -> None:
    parser = glances(from_frame(0))
    options = {"interval_s": 0.2, "full_interval_s": 0.8, "max_gap": 60}
    Show(still(60), parser=parser, options=options).run()
    full = [n for n in sorted(parser.looks) if parser.looks[n][0] in (Look.FRESH, Look.FULL)]
    assert full == [0, 20, 40]
    assert parser.looks[5] == [Look.GLANCE]
    assert parser.looks[59] == [Look.ASIDE]  # the end of a shot is ordered after what follows it


def test_what_moves_unexplained_is_looked_at_fully() -> None:
    """A glance that sees nobody in it is not enough."""
    parser = glances(from_frame(999))
    options = {"interval_s": 0.1, "full_interval_s": 10.0, "max_gap": 60}
    Show(Footage(passing(40)), parser=parser, options=options).run()
    asked_twice = [looks for looks in parser.looks.values() if len(looks) > 1]
    assert asked_twice
    assert all(looks == [Look.GLANCE, Look.ASIDE] for looks in asked_twice)


def test_whom_a_glance_loses_a_full_parse_looks_for() -> None:
    def script(bgr: Picture, frame_id: int) -> ParseResult:
        thorough = parser.looks[frame_id][-1] is not Look.GLANCE
        seen = thorough or frame_id < 20
        return replace(labelled(BOX & seen, frame_id), thorough=thorough)

    parser = Scripted(script)
    options = {"interval_s": 0.2, "full_interval_s": 10.0, "max_gap": 60}
    show = Show(still(60), parser=parser, options=options)
    show.run()
    assert parser.looks[15] == [Look.GLANCE]
    assert parser.looks[25] == [Look.GLANCE, Look.ASIDE]
    assert all(covered(show, frame_id) == 1 for frame_id in range(60))


def test_a_cut_is_followed_by_a_full_parse() -> None:
    parser = glances(from_frame(0))
    options = {"interval_s": 0.2, "full_interval_s": 10.0}
    Show(still(30, restarts=[13]), parser=parser, options=options).run()
    assert parser.looks[13] == [Look.FRESH]
    assert parser.looks[12] == [Look.ASIDE]


# --- memory ---


def test_no_more_frames_are_held_than_the_buffer_allows() -> None:
    wide = backdrop(0, 640, 480)
    source = Footage([wide] * 60)
    options = {"lookbehind_s": 30.0, "buffer_mb": 16, "max_gap": 5}
    Show(source, parser=Scripted(from_frame(999)), options=options).run()
    held = 16_000_000 // wide.size
    bound = held + 5 + offline._READ_AHEAD + offline._WRITE_AHEAD + 4
    assert held < source.most_unreleased <= bound < 60


def test_memory_does_not_grow_with_length() -> None:
    def most(count: int) -> int:
        source = tiny(count)
        Show(source, options={"lookbehind_s": 0.4}).run()
        return source.most_unreleased

    bound = 10 + 10 + offline._READ_AHEAD + offline._WRITE_AHEAD + 4
    assert most(60) <= bound
    assert most(180) <= bound


# --- everything is released and zeroed ---


def test_every_frame_is_gone_after_success() -> None:
    show = Show(still(30))
    show.run()
    assert len(show.source.given) == 30
    assert show.source.all_gone()


def boom(frame_id: int, error: BaseException) -> Script:
    def script(bgr: Picture, asked: int) -> ParseResult:
        if asked >= frame_id:
            raise error
        return good_result(bgr.shape[0], bgr.shape[1], asked)

    return script


@pytest.mark.parametrize(
    "error",
    [ModelError("no weights"), KeyError("a bug"), KeyboardInterrupt(), MemoryError()],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_parser_ends_the_run_and_leaves_nothing(error: BaseException) -> None:
    show = Show(tiny(60), parser=Scripted(boom(30, error)))
    with pytest.raises(type(error)):
        show.run()
    assert show.sink.aborted
    assert not show.sink.finished
    assert show.source.all_gone()


def test_an_error_of_the_source_is_raised_after_its_frames_and_leaves_nothing() -> None:
    show = Show(tiny(30, error=SourceError("torn file")))
    with pytest.raises(SourceError, match="torn file"):
        show.run()
    assert show.sink.aborted
    assert show.source.all_gone()


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


@pytest.mark.parametrize("calls", [1, 10, 30, 50])
def test_an_interrupt_in_the_middle_leaves_nothing(calls: int) -> None:
    """Whatever reader and writer are doing at that moment."""
    told: list[int] = []

    def on_frames(done: int) -> None:
        told.append(done)
        if len(told) == calls:
            time.sleep(0.1)  # the reader fills its queue, and waits for room
            raise KeyboardInterrupt

    show = Show(tiny(60))
    with pytest.raises(KeyboardInterrupt):
        show.run(on_frames)
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


def test_frames_around_a_failed_parse_are_unknown_and_the_others_are_not() -> None:

    def script(bgr: Picture, frame_id: int) -> ParseResult:
        if frame_id == 12:
            raise ParserError("it died")
        return labelled(BOX, frame_id)

    parser = Scripted(script)
    show = Show(still(40), parser=parser, options={"interval_s": 0.16, "max_gap": 4})
    outcome = show.run()
    assert parser.asked.count(12) == 2  # tried twice
    assert unknown_frames(show) == [9, 10, 11, 12, 13, 14, 15]
    assert outcome.unknown_frames == 7
    for frame_id in unknown_frames(show):
        assert show.witness.states[frame_id] == Unknown(Why.PARSER_FAILED)


@pytest.mark.parametrize("fails", [False, True])
def test_what_flashes_up_between_two_parses_is_looked_at(fails: bool) -> None:
    """It is there in one frame, something else is in the next: neither parse explains it."""
    random = np.random.default_rng(6)
    pictures = [ROOM.copy() for _ in range(12)]
    for frame_id, left in ((6, 60), (7, 200)):
        flicker = random.integers(0, 2, (10, 8, 1), np.uint8).repeat(6, 0).repeat(6, 1)
        pictures[frame_id][60:120, left : left + 48] = flicker * np.uint8(255)

    def script(bgr: Picture, frame_id: int) -> ParseResult:
        if fails and frame_id == 6:
            raise ParserError("it died")
        return labelled(np.zeros_like(BOX), frame_id)

    parser = Scripted(script)
    show = Show(Footage(pictures), parser=parser, options={"interval_s": 0.2})
    assert show.run().frames == 12
    assert 6 in parser.asked
    assert 6 % 5 != 0  # no regular parse
    if fails:
        assert show.witness.states[6] == Unknown(Why.PARSER_FAILED)
    for frame_id, left in ((6, 60), (7, 200)):
        plan = show.witness.plan(frame_id)
        if plan is not None:
            assert (plan.cover[60:120, left : left + 48] > 0).mean() > 0.9


def test_too_many_failures_in_a_row_end_the_run() -> None:
    show = Show(
        tiny(80), parser=Scripted(boom(20, ParserError("it hung"))), options={"max_failures": 3}
    )
    with pytest.raises(ParserError, match=r"3 parses in a row failed.*it hung"):
        show.run()
    assert show.sink.aborted
    assert show.source.all_gone()


def test_failures_with_a_good_parse_between_do_not_end_the_run() -> None:
    def script(bgr: Picture, frame_id: int) -> ParseResult:
        if frame_id % 8 == 4:
            raise ParserError("every second one fails")
        return labelled(BOX, frame_id)

    options = {"max_failures": 2, "max_gap": 4, "interval_s": 0.16}
    show = Show(still(40), parser=Scripted(script), options=options)
    assert show.run().frames == 40
    assert 0 < len(unknown_frames(show)) < 40


@pytest.mark.parametrize("first", [0, 3])
def test_a_result_the_policy_cannot_read_is_unknown(first: int) -> None:
    """An evidence group without a label."""

    def script(bgr: Picture, frame_id: int) -> ParseResult:
        good = labelled(BOX, frame_id)
        if frame_id != first:
            return good
        return ParseResult(
            frame_id=frame_id,
            label_map=good.label_map,
            labels=HEAD_PARTS,
            groups=("no-such-part",),
            evidence=np.zeros((1, HEIGHT, WIDTH), np.uint8),
            must_cover=good.must_cover,
            instances=None,
            parser_id="scripted",
        )

    show = Show(still(12), parser=Scripted(script), options={"max_gap": 3})
    show.run()
    assert unknown_frames(show) == list(range(max(0, first - 2), first + 3))


def test_a_uniform_frame_is_unknown_and_starts_a_shot() -> None:
    pictures = [ROOM] * 12 + [np.full_like(ROOM, 17)] * 3 + [ROOM] * 12
    parser = Scripted(from_frame(0))
    show = Show(Footage(pictures), parser=parser)
    show.run()
    assert unknown_frames(show) == [12, 13, 14]
    assert show.witness.states[13] == Unknown(Why.UNIFORM)
    assert {11, 15} <= set(parser.asked)  # the last before, the first after


@pytest.mark.parametrize("how", ["said", "unsaid"])
def test_a_change_of_size_starts_a_shot(how: str) -> None:
    """Also where the source forgets to say so."""
    other = np.asarray(cv2.resize(ROOM, (240, 180)), np.uint8)
    parser = Scripted(lambda bgr, n: labelled(np.ones(bgr.shape[:2], np.bool_) & (n < 12), n))
    source = Footage([ROOM] * 12 + [other] * 12, restarts=[12] if how == "said" else [])
    show = Show(source, parser=parser)
    show.run()
    assert {11, 12} <= set(parser.asked)
    plans = [show.witness.plan(n) for n in range(24)]
    assert all(plan is not None and plan.cover.all() for plan in plans[:12])
    assert not any(plan is None or plan.cover.any() for plan in plans[12:])
    assert [frame.size_wh for frame in show.sink.frames] == [(320, 180)] * 12 + [(240, 180)] * 12


def test_a_frame_whose_pixels_are_gone_is_not_taken_for_nobody() -> None:
    class Gone(Footage):
        def _capture(self) -> Any:
            for captured in super()._capture():
                if captured.frame.frame_id == 7:
                    captured.frame.release()
                yield Captured(captured.frame)

    show = Show(Gone([ROOM] * 20))
    with pytest.raises(LeaseError, match="frame 7: released twice"):
        show.run()
    assert show.sink.aborted
    assert show.source.all_gone()


def test_a_run_leaves_no_small_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    genuine = Small.of

    def recorded(*arguments: Any) -> Any:
        made.append(genuine(*arguments))
        return made[-1]

    monkeypatch.setattr(Small, "of", recorded)
    Show(still(30)).run()
    assert len(made) == 30
    assert not any(small.colour.any() or small.grey.any() for small in made)


def test_every_parse_copy_is_zeroed() -> None:
    copies: list[Picture] = []

    def script(bgr: Picture, frame_id: int) -> ParseResult:
        assert bgr.any()
        copies.append(bgr)
        return labelled(BOX, frame_id)

    Show(still(30), parser=Scripted(script)).run()
    assert copies
    assert not any(copy.any() for copy in copies)


def test_parse_copies_are_no_larger_than_asked() -> None:
    sizes: set[Sequence[int]] = set()

    def script(bgr: Picture, frame_id: int) -> ParseResult:
        sizes.add(bgr.shape)
        return labelled(np.zeros(bgr.shape[:2], np.bool_), frame_id)

    for side in (160, 640):
        Show(still(3), parser=Scripted(script), options={"parse_side": side}).run()
    assert sizes == {(90, 160, 3), (180, 320, 3)}
