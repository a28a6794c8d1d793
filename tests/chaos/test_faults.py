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

from m2fp_stream.compositor.compose import Compositor
from m2fp_stream.core._mint import COMPOSED
from m2fp_stream.core.errors import ModelError, ParserError
from m2fp_stream.core.plan import CoverState, Parsed, Propagated, Unknown
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import CoverInfo, CoverLevel, SafeFrame
from m2fp_stream.pipeline.looks import LookWorker
from m2fp_stream.pipeline.workers import WorkerSpec
from tests.kit import faulty
from tests.kit.stage import HEIGHT, WIDTH, Footage, Kept, Picture, Show, backdrop
from tests.kit.texture import contains_marker, marker

SEED = 77
FRAMES = 30
FAULTY_FRAME = 12
OPTIONS = {"people_every": 1, "parts_every": 1}
TEXTURE = marker(SEED, 64, 48)
ROOM = backdrop(0)
ROOM[..., 0] = 0  # grey is the person


def scene(frame_id: int, *, light: float = 1.0, room: Picture = ROOM) -> Picture:
    """The room with the marked person in it, and a lamp that blinks: something always moves."""
    left, top, right, bottom = faulty.person_box(frame_id)
    picture = room.copy()
    picture[-8:, -60:] = (0, 40 + 160 * (frame_id % 2), 60)
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
    """A run whose real looker processes fail at one frame."""
    options = {
        "fault": fault,
        "kinds": settings.pop("kinds", None),
        "at": settings.pop("at", [FAULTY_FRAME]),
    }
    deadline_s = 2.0 if fault == "hanging" else 60.0  # the other looks take milliseconds
    spec = WorkerSpec("tests.kit.faulty:FaultyLooker", options, deadline_s=deadline_s)
    source = settings.pop("source", None) or Footage([scene(n) for n in range(FRAMES)])
    again = settings.pop("again", None)
    return Show(source, [LookWorker(spec)], options=OPTIONS | settings, again=again)


def unknown(show: Show) -> set[int]:
    return {n for n, state in show.witness.states.items() if isinstance(state, Unknown)}


def assert_nothing_exposed(show: Show) -> None:
    outcome = show.run()
    assert outcome.frames == len(show.sink.frames) == FRAMES
    assert exposed(show.sink) == []
    assert_control_is_found(show)
    assert show.all_gone()


def test_without_a_fault_the_marker_is_covered_and_the_room_is_not() -> None:
    show = show_with("none")
    assert_nothing_exposed(show)
    assert unknown(show) == set()
    for frame in show.sink.frames:
        np.testing.assert_array_equal(frame.pixels[:, 240:], scene(frame.frame_id)[:, 240:])


WHOLE_FRAME_LOOKS = ["faces", "people"]
HANGING = pytest.param("hanging", marks=pytest.mark.paced)
"""What hangs waits for its deadline."""
FAULTS = ["raising", HANGING, "killed", "nan", "stale", "forged_frame", "forged_places"]
"""tests/unit/test_looks.py has all of them: each is an error of its look."""


@pytest.mark.parametrize("kind", WHOLE_FRAME_LOOKS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_look_at_a_whole_frame_that_fails_covers_that_frame_alone(fault: str, kind: str) -> None:
    show = show_with(fault, kinds=[kind])
    assert_nothing_exposed(show)
    assert unknown(show) == {FAULTY_FRAME}


PART_FAULTS = ["raising", HANGING, "killed", "few_planes", "small_planes", "forged_size"]


@pytest.mark.parametrize("fault", PART_FAULTS)
def test_a_part_look_that_fails_leaves_the_head_covered(fault: str) -> None:
    show = show_with(fault, kinds=["parts"])
    assert_nothing_exposed(show)
    assert unknown(show) == set()


def test_part_looks_that_all_fail_leave_the_heads_ellipse() -> None:
    show = show_with("raising", kinds=["parts"], at=None, max_failures=1000)
    assert_nothing_exposed(show)
    assert unknown(show) == set()


@pytest.mark.parametrize("kind", WHOLE_FRAME_LOOKS)
def test_looks_that_see_nobody_for_a_while_expose_nobody(kind: str) -> None:
    """An honest mistake of one detector: the other and the frames around know better."""
    assert_nothing_exposed(show_with("empty", kinds=[kind], at=[10, 11, 12]))


def test_a_blink_of_both_detectors_exposes_nobody() -> None:
    assert_nothing_exposed(show_with("empty", kinds=WHOLE_FRAME_LOOKS, at=[12, 13]))


@pytest.mark.parametrize("kind", WHOLE_FRAME_LOOKS)
def test_a_look_failing_on_the_very_first_frame(kind: str) -> None:
    show = show_with("raising", kinds=[kind], at=[0])
    assert_nothing_exposed(show)
    assert unknown(show) == {0}  # until the first good look


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        *(("raising", "faces"), ("raising", "people"), ("raising", "parts")),
        ("killed", "faces"),
        pytest.param("hanging", "people", marks=pytest.mark.paced),
    ],
)
def test_looks_failing_for_good_end_the_run_without_an_output(fault: str, kind: str) -> None:
    show = show_with(fault, kinds=[kind], at=list(range(FAULTY_FRAME, FRAMES)), max_failures=2)
    with pytest.raises(ParserError, match=r"2 looks .* in a row failed, nothing was written"):
        show.run()
    assert show.sink.aborted
    assert not show.sink.finished
    assert exposed(show.sink) == []
    assert_control_is_found(show)
    assert show.all_gone()


def test_a_looker_that_cannot_be_loaded_ends_the_run_without_an_output() -> None:
    spec = WorkerSpec("tests.kit.faulty:broken_looker_factory")
    show = Show(Footage([scene(n) for n in range(FRAMES)]), [LookWorker(spec)])
    with pytest.raises(ModelError, match="cannot start"):
        show.run()
    assert show.sink.aborted
    assert exposed(show.sink) == []
    assert_control_is_found(show)
    assert show.all_gone()


@pytest.mark.parametrize("kind", WHOLE_FRAME_LOOKS)
def test_a_run_that_reads_twice_covers_a_frame_whose_look_failed(kind: str) -> None:
    again = Footage([scene(n) for n in range(FRAMES)])
    show = show_with("killed", kinds=[kind], quality="high", again=again)
    assert_nothing_exposed(show)
    assert unknown(show) == {FAULTY_FRAME}


def test_measuring_motion_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The frame is unknown, the next one starts a shot."""
    from m2fp_stream.tracking import motion

    genuine = motion.MotionFinder.feed
    calls = [0]

    def broken(self: motion.MotionFinder, small: motion.SmallGrey) -> motion.Motion:
        calls[0] += 1
        if calls[0] == FAULTY_FRAME + 1:
            raise cv2.error("out of luck")
        return genuine(self, small)

    monkeypatch.setattr(motion.MotionFinder, "feed", broken)
    show = show_with("none")
    assert_nothing_exposed(show)
    assert unknown(show) == {FAULTY_FRAME}


@pytest.mark.parametrize("said", [True, False], ids=["said", "unsaid"])
def test_source_changing_its_size(said: bool) -> None:
    change = FAULTY_FRAME + 1
    pictures = [scene(n) for n in range(FRAMES)]
    pictures[change:] = [picture[:, 40:280].copy() for picture in pictures[change:]]
    source = Footage(pictures, restarts=[change] if said else [])
    show = show_with("none", source=source)
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
    assert unknown(show) == set()


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
    other = backdrop(3)
    other[..., 0] = 0
    for frame_id in range(20, FRAMES):
        pictures[frame_id] = scene(frame_id, room=other)
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
