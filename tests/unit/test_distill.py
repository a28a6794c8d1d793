"""Distillation from end to end, by a teacher that sees colours; M2FP's weights are not here."""

from __future__ import annotations

import hashlib
import importlib.util
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.app import distill as module
from m2fp_stream.app.distill import Distilled, Plan, distill
from m2fp_stream.config import Settings, load_settings
from m2fp_stream.core.errors import ModelError, ParserError, SourceError, UsageError
from m2fp_stream.core.labels import CIHP, Label
from m2fp_stream.core.records import ParseResult
from m2fp_stream.models.pins import read_pins, store_folder
from m2fp_stream.models.students import student_state
from m2fp_stream.training.judge import Agreement
from m2fp_stream.training.samples import Sample, samples_of
from tests.kit.cli import run
from tests.kit.texture import marker

torch = pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("onnx", reason="the extra train is not installed")

from m2fp_stream.training import student  # noqa: E402

Picture = NDArray[np.uint8]
RED, GREEN, GREY = (40, 40, 230), (40, 200, 40), (90, 90, 90)


class ColourTeacher:
    """Sees red as a face and green as a coat, each half of the picture as somebody."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails, self.closed, self.looks = fails, False, 0
        self.lent: list[Picture] = []

    def look(self, bgr: Picture) -> ParseResult:
        self.looks += 1
        self.lent.append(bgr)
        if self.fails:
            raise ParserError("m2fp: masks is not finite")
        small = bgr[::8, ::8].astype(int)
        red = small[..., 2] - small[..., 1] > 100
        green = small[..., 1] - small[..., 2] > 100
        labels = np.where(red, Label.FACE, np.where(green, Label.COAT, 0)).astype(np.uint8)
        return ParseResult(
            frame_id=0,
            label_map=labels,
            labels=CIHP,
            groups=("person",),
            evidence=np.zeros((1, *labels.shape), np.uint8),
            must_cover=np.zeros(labels.shape, np.bool_),
            instances=(labels > 0).astype(np.uint8),
            parser_id="colours",
        )

    def close(self) -> None:
        self.closed = True


def picture(number: int) -> Picture:
    """Somebody: a red head above a green coat that has the marker texture on it."""
    bgr = np.full((360, 480, 3), GREY, np.uint8)
    left = 60 + 40 * number
    bgr[40:140, left + 30 : left + 110] = RED
    bgr[140:340, left : left + 140] = GREEN
    bgr[200:264, left + 38 : left + 102] = marker(7, 64, 64)
    return bgr


KNOWN = hashlib.sha256(b"a teacher").hexdigest()
PLAN = Plan(name="mine", steps=16, batch=2, teacher_sha256=KNOWN)


@dataclass
class Place:
    """A home, pictures in it, and a teacher's weights."""

    home: Path

    @property
    def pictures(self) -> Path:
        return self.home / "pictures"

    @property
    def store(self) -> Path:
        return store_folder({"XDG_DATA_HOME": str(self.home / "data")})

    @property
    def settings(self) -> Settings:
        chosen = {"m2fp.model_dir": str(self.home / "weights"), "m2fp.threads": 1}
        return load_settings(None, environ={}, overrides=chosen)

    def distil(self, plan: Plan = PLAN, **more: Any) -> Distilled:
        more.setdefault("teacher", ColourTeacher())
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_DATA_HOME", str(self.home / "data"))
            return distill(self.pictures, plan, self.settings, **more)

    def stored(self) -> dict[str, bytes]:
        """Returns what lies in the store.."""
        found = {}
        for path in (self.home / "data").rglob("*"):
            if path.is_file():
                found[str(path)] = path.read_bytes()
        return found


def place_in(home: Path) -> Place:
    place = Place(home)
    place.pictures.mkdir()
    for number in range(5):
        cv2.imwrite(str(place.pictures / f"{number}.png"), picture(number))
    (home / "weights").mkdir()
    (home / "weights" / "pytorch_model.pt").write_bytes(b"a teacher")
    return place


@pytest.fixture(name="place")
def place_fixture(tmp_path: Path) -> Place:
    return place_in(tmp_path)


class Seen:
    """Copies of all crops, and the crops, which are to be zero at the end."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.copies: list[Picture] = []
        self.lent: list[Sample] = []
        taken = samples_of

        def noted(bgr: Picture, seen: ParseResult) -> Iterator[Sample]:
            for one in taken(bgr, seen):
                self.copies.append(one.bgr.copy())
                self.lent.append(one)
                yield one

        patch.setattr(module, "samples_of", noted)

    def rows_in(self, data: bytes) -> int:
        """Returns how many crops have a textured row in `data`, as bytes or as numbers 0..1."""
        found = 0
        for crop in self.copies:
            texture = crop.std(axis=(1, 2)).argmax()
            rows = crop[texture], crop[texture, :, ::-1], *crop[texture].T
            forms = [np.ascontiguousarray(row)[8:40] for row in rows]
            forms += [row.astype(np.float32) / 255 for row in forms]
            found += any(form.tobytes() in data for form in forms)
        return found


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One student that was interrupted at its tenth step and gone on with, and what lay about."""
    with pytest.MonkeyPatch.context() as patch:
        place = place_in(tmp_path_factory.mktemp("taught"))
        patch.setattr(student, "EVERY", 4)
        seen = Seen(patch)

        def interrupted(what: str, done: int, *_: object) -> None:
            if what == "training" and done == 10:
                raise KeyboardInterrupt

        teacher = ColourTeacher()
        with pytest.raises(KeyboardInterrupt):
            place.distil(on_progress=interrupted, teacher=teacher)
        between = place.stored()
        steps: list[int] = []
        done = place.distil(
            replace(PLAN, resume=True),
            on_progress=lambda what, done, *_: steps.append(done) if what == "training" else None,
        )
        yield {
            **{"place": place, "seen": seen, "between": between, "steps": steps, "done": done},
            "teacher": teacher,
        }


def test_it_goes_on_where_it_was_interrupted(taught: dict[str, Any]) -> None:
    assert taught["steps"][0] == 8
    assert taught["steps"][-1] == PLAN.steps
    assert not any(name.endswith(".onnx") for name in taught["between"]), "installed unfinished"
    assert not student_state("mine", taught["place"].store).exists()


def test_interrupted_or_not_the_same_student_comes_out(
    taught: dict[str, Any], place: Place
) -> None:
    done = place.distil()
    assert done.pin.sha256 == taught["done"].pin.sha256
    assert done.path.read_bytes() == taught["done"].path.read_bytes()


def test_the_student_agrees_more_than_before_and_is_pinned_with_its_teacher_and_licence(
    taught: dict[str, Any],
) -> None:
    done: Distilled = taught["done"]
    assert done.pin.after.miou > done.pin.before.miou
    assert done.pin.after.head_recall >= done.pin.before.head_recall
    assert (done.files, done.held_back) == (4, 1)
    pin = read_pins(taught["place"].store).students["mine"]
    assert pin == done.pin
    assert pin.teacher_sha256 == KNOWN
    assert "human-parsing" in pin.teacher
    assert pin.licence == "CC BY-NC 4.0"
    assert hashlib.sha256(done.path.read_bytes()).hexdigest() == pin.sha256


def test_no_picture_is_stored_on_the_way_or_at_the_end_and_none_stays_in_memory(
    taught: dict[str, Any],
) -> None:
    seen: Seen = taught["seen"]
    place: Place = taught["place"]
    assert len(seen.copies) >= 20
    between, after = taught["between"], place.stored()
    assert any(name.endswith(".state.pt") for name in between)
    for data in (*between.values(), *after.values()):
        assert seen.rows_in(data) == 0
    control = io.BytesIO()
    torch.save({"crops": [torch.from_numpy(one) for one in seen.copies]}, control)
    assert seen.rows_in(control.getvalue()) == len(seen.copies), "the search finds nothing"
    for one in seen.lent:
        assert not one.bgr.any()
    assert taught["teacher"].closed
    assert not any(lent.any() for lent in taught["teacher"].lent)


def test_a_state_of_other_pictures_is_not_gone_on_from(
    taught: dict[str, Any], place: Place
) -> None:
    state = student_state("mine", place.store)
    state.parent.mkdir(parents=True)
    (old,) = [data for name, data in taught["between"].items() if name.endswith(".state.pt")]
    for data in (old, b"garbage"):
        state.write_bytes(data)
        with pytest.raises(UsageError, match="leave --resume out"):
            place.distil(replace(PLAN, resume=True, seed=2))


def test_a_student_that_is_worse_is_refused_and_what_was_there_stays(
    taught: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place: Place = taught["place"]
    before = place.stored()
    poor = Agreement(miou=0.1, head_recall=0.1, spill=0.0, samples=2)
    good = Agreement(miou=0.2, head_recall=0.1, spill=0.0, samples=2)
    for measured in ([poor, good, poor], [good, poor, poor]):  # shipped, of that name, student
        answers = iter(measured)
        monkeypatch.setattr(module, "measure", lambda *_, answers=answers: next(answers))
        monkeypatch.setattr(student, "teach", lambda start, *_, **__: start)
        with pytest.raises(ModelError, match=r"mine is worse than what it replaces: its mIoU"):
            place.distil()
    assert place.stored() == before


def test_a_teacher_that_answers_no_number_installs_nothing(place: Place) -> None:
    teacher = ColourTeacher(fails=True)
    with pytest.raises(ParserError, match="not finite"):
        place.distil(teacher=teacher)
    assert teacher.closed
    assert read_pins(place.store).students == {}
    assert not student_state("mine", place.store).exists()


def test_weights_that_were_never_pinned_do_not_teach(place: Place) -> None:
    teacher = ColourTeacher()
    with pytest.raises(ModelError, match="never pinned"):
        place.distil(replace(PLAN, teacher_sha256=None), teacher=teacher)
    with pytest.raises(ModelError, match="not the one that"):
        place.distil(replace(PLAN, teacher_sha256="0" * 64), teacher=teacher)
    assert teacher.looks == 0


def test_hostile_files_are_left_out_and_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (place.pictures / "0.png").read_bytes()
    (place.pictures / "cut.png").write_bytes(whole[: len(whole) // 2])
    (place.pictures / "huge.png").write_bytes(whole[:16] + b"\x7f\xff\xff\xff" * 2 + whole[24:])
    (place.pictures / "no.mp4").write_bytes(b"no film")
    (place.pictures / "empty.jpg").write_bytes(b"")
    (place.pictures / "again.png").write_bytes(whole)
    monkeypatch.setattr(student, "teach", lambda start, *_, **__: start)
    said: list[str] = []
    teacher = ColourTeacher()
    done = place.distil(on_warning=said.append, teacher=teacher)
    assert done.files + done.held_back == 8  # five, and three that show what they are when opened
    assert teacher.looks == 5
    for name in ("cut.png", "huge.png", "no.mp4", "empty.jpg"):
        assert sum(name in line for line in said) == 1, (name, said)


def test_too_few_files_and_no_folder_are_said(place: Place) -> None:
    for path in sorted(place.pictures.iterdir())[1:]:
        path.unlink()
    with pytest.raises(UsageError, match="two are needed"):
        place.distil()
    (place.pictures / "0.png").unlink()
    place.pictures.rmdir()
    with pytest.raises(SourceError, match="cannot be read"):
        place.distil()


def test_without_the_extra_the_error_names_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"m2fp-stream\[train\]"):
        place.distil()


def test_the_command_says_what_is_missing(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(place.home / "data"))
    pictures, weights = str(place.pictures), str(place.home / "weights")
    for words, code, said in (
        ((), 2, "name a folder"),
        ((pictures,), 2, "--weights NAME"),
        ((pictures, "--weights", "parts"), 2, "no name for weights"),
        ((pictures, "--weights", "mine"), 4, "models pull m2fp"),
        ((pictures, "--weights", "mine", "--model-dir", weights), 4, "--teacher-sha256"),
    ):
        assert run("models", "distill", *words) == code
        assert said in capsys.readouterr().err


def test_an_interrupted_command_says_that_it_can_go_on(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(place.home / "data"))
    state = student_state("mine", place.store)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "distill", interrupted)
    words = ("models", "distill", str(place.pictures), "--weights", "mine")
    assert run(*words) == 130
    assert "--resume" not in capsys.readouterr().err
    state.parent.mkdir(parents=True)
    state.write_bytes(b"weights")
    assert run(*words) == 130
    assert "the training so far is kept, for --resume" in capsys.readouterr().err


def test_the_command_tells_agreement_and_licence(
    taught: dict[str, Any],
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[Plan] = []

    def done(folder: Path, plan: Plan, settings: Settings, **told: Any) -> Distilled:
        asked.append(plan)
        told["on_judged"]("after", Agreement(miou=0.51, head_recall=0.9, spill=0, samples=2))
        done: Distilled = taught["done"]
        return done

    monkeypatch.setattr(module, "distill", done)
    assert run("models", "distill", str(place.pictures), "--weights", "mine", "--resume") == 0
    out, err = capsys.readouterr()
    assert "agreement after: mIoU 0.510, heads 0.900" in err
    assert asked == [Plan(name="mine", resume=True)]
    assert "licence: CC BY-NC 4.0" in out
