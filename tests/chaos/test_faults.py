"""Whatever breaks, the texture of the sensitive region is in no frame that a sink received.

Each test lays the marker over a walking person, breaks one thing, and looks for it in everything
that came out. Each one also sends a raw picture, forged with the compositor's key, through the
same sink: the same search must find it there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.compositor.compose import Compositor
from m2fp_stream.core._mint import COMPOSED
from m2fp_stream.core.errors import ModelError, ParserError
from m2fp_stream.core.plan import CoverState, Parsed, Propagated, Unknown
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.records import Look
from m2fp_stream.core.safe import CoverInfo, CoverLevel, SafeFrame
from m2fp_stream.pipeline.workers import ParserWorker, WorkerSpec
from tests.texture import contains_marker, marker

from . import faulty
from .stage import HEIGHT, WIDTH, Footage, Kept, Picture, Show, backdrop

SEED = 77
FRAMES = 30
FAULTY_FRAME = 12
OPTIONS = {"interval_s": 0.16, "max_gap": 4}  # parses frames 0, 4, 8, 12...
TEXTURE = marker(SEED, 64, 48)
ROOM = backdrop(0)


def scene(frame_id: int, *, light: float = 1.0) -> Picture:
    """The room with the marked person in it."""
    left, top, right, bottom = faulty.person_box(frame_id)
    picture = ROOM.copy()
    picture[top:bottom, left:right] = TEXTURE
    return np.asarray(picture * light, np.uint8)


def exposed(sink: Kept, found_in: Callable[[SafeFrame], bool] | None = None) -> list[int]:
    """The frames a sink received in which the marker is to be seen."""
    look = found_in or shows_marker
    return [frame.frame_id for frame in sink.frames if look(frame)]


def shows_marker(frame: SafeFrame) -> bool:
    """Whether a frame shows the marker where the person stands in it."""
    return shown(frame.pixels, frame.frame_id)


def shown(picture: Picture, frame_id: int) -> bool:
    left, top, right, bottom = faulty.person_box(frame_id)
    return contains_marker(picture[top:bottom, left:right], TEXTURE)


def bypass(sink: Kept, pictures: Sequence[tuple[int, Picture]]) -> None:
    """Sends raw pictures through a sink, as a broken compositor would."""
    for frame_id, picture in pictures:
        sink.write(
            SafeFrame(
                picture.copy(),
                frame_id=frame_id,
                pts=frame_id,
                time_base=Fraction(1, 25),
                captured_ns=0,
                cover=CoverInfo(0.0, CoverLevel.PARTS, "parsed"),
                key=COMPOSED,
            )
        )


def assert_control_is_found(like: Show, frame_id: int = FAULTY_FRAME) -> None:
    """The bypass control: what the search above would have said of a raw frame."""
    control = type(like.sink)()
    bypass(control, [(frame_id, scene(frame_id))])
    assert exposed(control) == [frame_id]


def show_with(fault: str, **settings: Any) -> Show:
    """A run whose real parser process fails on one frame."""
    options = {"fault": fault, "at": settings.pop("at", [FAULTY_FRAME])}
    deadline_s = 0.7 if fault == "hanging" else 60.0
    spec = WorkerSpec("tests.chaos.faulty:Faulty", options, deadline_s=deadline_s)
    source = settings.pop("source", None) or Footage([scene(n) for n in range(FRAMES)])
    return Show(source, parser=ParserWorker(spec), options=OPTIONS | settings)


def unknown(show: Show) -> set[int]:
    return {n for n, state in show.witness.states.items() if isinstance(state, Unknown)}


def assert_covered_around_the_failed_parse(show: Show) -> None:
    outcome = show.run()
    assert outcome.frames == len(show.sink.frames) == FRAMES
    assert exposed(show.sink) == []
    assert_control_is_found(show)
    # Only the frames that hang on this parse are covered whole: the run went on.
    assert FAULTY_FRAME in unknown(show)
    assert unknown(show) <= set(range(FAULTY_FRAME - 4, FAULTY_FRAME + 5))
    assert show.source.all_gone()


def test_without_a_fault_the_marker_is_covered_and_the_room_is_not() -> None:
    show = show_with("none")
    show.run()
    assert exposed(show.sink) == []
    assert_control_is_found(show)
    assert unknown(show) == set()
    for frame in show.sink.frames:
        np.testing.assert_array_equal(frame.pixels[:20], ROOM[:20])


def test_parser_raising() -> None:
    assert_covered_around_the_failed_parse(show_with("raising"))


def test_parser_hanging() -> None:
    assert_covered_around_the_failed_parse(show_with("hanging"))


def test_parser_killed() -> None:
    assert_covered_around_the_failed_parse(show_with("killed"))


def test_parser_exiting() -> None:
    assert_covered_around_the_failed_parse(show_with("exiting"))


def test_parser_returning_nan() -> None:
    assert_covered_around_the_failed_parse(show_with("nan"))


def test_parser_returning_a_wrong_size() -> None:
    assert_covered_around_the_failed_parse(show_with("wrong_size"))


def test_parser_returning_a_stale_id() -> None:
    assert_covered_around_the_failed_parse(show_with("stale"))


def test_parser_returning_an_empty_map() -> None:
    assert_covered_around_the_failed_parse(show_with("empty"))


def test_parser_forging_its_message() -> None:
    assert_covered_around_the_failed_parse(show_with("forged_frame"))


def test_parser_failing_on_the_very_first_frame() -> None:
    show = show_with("raising", at=[0])
    show.run()
    assert exposed(show.sink) == []
    assert_control_is_found(show)
    assert unknown(show) == {0, 1, 2, 3}  # until the first good parse


@pytest.mark.parametrize("fault", ["raising", "killed", "hanging"])
def test_parser_failing_for_good_ends_the_run_without_an_output(fault: str) -> None:
    show = show_with(fault, at=list(range(FAULTY_FRAME, FRAMES)), max_failures=3)
    with pytest.raises(ParserError, match="3 parses in a row failed, nothing was written"):
        show.run()
    assert show.sink.aborted
    assert not show.sink.finished
    assert exposed(show.sink) == []
    assert_control_is_found(show)
    assert show.source.all_gone()


def test_parser_that_cannot_be_loaded_ends_the_run_without_an_output() -> None:
    spec = WorkerSpec("tests.chaos.faulty:broken_factory")
    show = Show(Footage([scene(n) for n in range(FRAMES)]), parser=ParserWorker(spec))
    with pytest.raises(ModelError, match="cannot start"):
        show.run()
    assert show.sink.aborted
    assert exposed(show.sink) == []
    assert_control_is_found(show)
    assert show.source.all_gone()


class BrokenFlow:
    """DIS optical flow that fails from its nth call on, or answers with NaN."""

    def __init__(self, genuine: cv2.DISOpticalFlow, first: int, answer: str) -> None:
        self._genuine, self._left, self._answer = genuine, first, answer

    def calc(self, here: Picture, there: Picture, zero: NDArray[np.float32]) -> Any:
        self._left -= 1
        if self._left > 0:
            return self._genuine.calc(here, there, zero)
        if self._answer == "error":
            raise cv2.error("out of luck")
        return np.full_like(zero, np.nan)


@pytest.mark.parametrize("first", [1, 2, 23, 24])
@pytest.mark.parametrize("answer", ["error", "nan"])
def test_flow_failing(monkeypatch: pytest.MonkeyPatch, answer: str, first: int) -> None:
    genuine = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    class Maker:
        @staticmethod
        def create(preset: int) -> BrokenFlow:
            return BrokenFlow(genuine, first, answer)

    monkeypatch.setattr(cv2, "DISOpticalFlow", Maker)
    show = show_with("none")
    assert show.run().frames == FRAMES
    assert exposed(show.sink) == []
    assert_control_is_found(show)
    if answer == "error":
        assert len(unknown(show)) >= (FRAMES - 1 - first // 2) // 2


@pytest.mark.parametrize("where", ["step", "correct"])
def test_tracking_failing_in_the_solver(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    from m2fp_stream.tracking.propagate import Tracker

    genuine = getattr(Tracker, where)
    calls = [0]

    def broken(self: Tracker, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] % 3 == 1:
            raise cv2.error("out of luck")
        return genuine(self, *arguments)

    monkeypatch.setattr(Tracker, where, broken)
    show = show_with("none")
    assert show.run().frames == FRAMES
    assert exposed(show.sink) == []
    assert_control_is_found(show)
    assert unknown(show)


@pytest.mark.parametrize("said", [True, False], ids=["said", "unsaid"])
def test_source_changing_its_size(said: bool) -> None:
    change = FAULTY_FRAME + 1  # no regular parse
    pictures = [scene(n) for n in range(FRAMES)]
    pictures[change:] = [picture[:, 40:280].copy() for picture in pictures[change:]]
    source = Footage(pictures, restarts=[change] if said else [])

    class Shifted(faulty.Faulty):
        """Knows the scene after the change, too."""

        def parse(self, bgr: Picture, *, frame_id: int, look: Look = Look.FULL) -> Any:
            if frame_id < change:
                return super().parse(bgr, frame_id=frame_id, look=look)
            whole = faulty.good_result(HEIGHT, WIDTH, frame_id)
            label_map = whole.label_map[:, 40:280].copy()
            evidence = whole.evidence[:, :, 40:280].copy()
            empty = np.zeros(label_map.shape, np.bool_)
            return self._with(whole, label_map=label_map, evidence=evidence, must_cover=empty)

        def interrupt(self) -> None:
            """It ends by itself."""

        close = interrupt

    show = Show(source, parser=Shifted(), options=OPTIONS)
    show.run()
    assert {frame.size_wh for frame in show.sink.frames} == {(320, 180), (240, 180)}

    def found(frame: SafeFrame) -> bool:
        aside = 40 if frame.frame_id >= change else 0
        padded = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        padded[:, aside : aside + frame.pixels.shape[1]] = frame.pixels
        return shown(padded, frame.frame_id)

    assert exposed(show.sink, found) == []
    control = Kept()
    bypass(control, [(n, pictures[n]) for n in (0, change)])
    assert exposed(control, found) == [0, change]
    assert isinstance(show.witness.states[change], Parsed)  # P4: nothing was carried over it


def test_a_plan_for_another_size_becomes_the_card() -> None:
    """What the compositor does if the pipeline should mix up frames."""
    show = show_with("none")
    show.run()
    state = show.witness.states[FAULTY_FRAME]
    assert isinstance(state, Parsed | Propagated)
    pictures = {n: scene(n) for n in (FAULTY_FRAME, FAULTY_FRAME + 8)}
    sink = Kept()
    for frame_id, picture in pictures.items():
        for cut in (picture.copy(), picture[:, :-1].copy()):
            if frame_id == FAULTY_FRAME and cut.shape == picture.shape:
                continue  # the frame that the plan is for
            raw = RawFrame(cut, frame_id=frame_id, pts=0, time_base=Fraction(1, 25), captured_ns=0)
            sink.write(Compositor().compose(raw, state))
            raw.release()
    assert [frame.cover.level for frame in sink.frames] == [CoverLevel.FRAME] * 3
    assert exposed(sink) == []
    assert_control_is_found(show)


def test_a_uniform_frame() -> None:
    """A fade to black: it stays black, shows nobody on the way, and hides the person after."""
    lights = [1.0] * 8 + [0.5, 0.2, 0.05, 0.0, 0.0, 0.0, 0.0, 0.05, 0.2, 0.5] + [1.0] * 12
    pictures = [scene(n, light=light) for n, light in enumerate(lights)]
    show = show_with("none", source=Footage(pictures))
    show.run()
    assert exposed(show.sink) == []
    assert_control_is_found(show)
    for frame_id in range(11, 15):
        assert not show.sink.frames[frame_id].pixels.any()
        assert show.sink.frames[frame_id].cover.level is CoverLevel.FRAME


def test_a_flash_to_white_and_a_cut() -> None:
    pictures = [scene(n) for n in range(FRAMES)]
    pictures[10] = np.full_like(ROOM, 255)
    for frame_id in range(20, FRAMES):
        left, top, right, bottom = faulty.person_box(frame_id)
        pictures[frame_id] = backdrop(3)
        pictures[frame_id][top:bottom, left:right] = TEXTURE
    show = show_with("none", source=Footage(pictures))
    show.run()
    assert exposed(show.sink) == []
    assert_control_is_found(show)


class Broken:
    """The compositor's stand-in that fails as a bug or a lack of memory would."""

    def __init__(self, error: BaseException) -> None:
        self._compositor, self._error = Compositor(), error

    def compose(self, raw: RawFrame, state: CoverState) -> SafeFrame:
        if raw.frame_id == FAULTY_FRAME:
            raise self._error
        return self._compositor.compose(raw, state)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("bug")], ids=repr)
def test_composer_raising_ends_the_run_without_an_output(error: Exception) -> None:
    show = show_with("none")
    show.witness.compose = Broken(error).compose  # type: ignore[method-assign]  # the fault
    with pytest.raises(type(error)):
        show.run()
    assert show.sink.aborted
    assert exposed(show.sink) == []
    assert_control_is_found(show)
    assert show.source.all_gone()


@pytest.mark.parametrize(
    "name", ["find_regions", "frost", "blend"], ids=["outline", "effect", "blending"]
)
def test_an_effect_failing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from m2fp_stream.compositor import effects

    def broken(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(effects, name, broken)
    show = show_with("none")
    assert show.run().frames == FRAMES
    assert exposed(show.sink) == []
    assert_control_is_found(show)
    assert {frame.cover.level for frame in show.sink.frames} == {CoverLevel.FRAME}
