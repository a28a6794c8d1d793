"""Distils M2FP into the part network, on pictures and films of the user's own.

Frames are read, looked at and zeroed; crops of people are held in memory until the student has
learned from them, and zeroed. What is stored is weights, the optimiser's numbers and measurements.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from ..config import Settings
from ..core.errors import ModelError, SourceError, UsageError
from ..core.raw import RawFrame
from ..models.hub import hub_model
from ..models.pins import Measured, StudentPin, read_pins, store_folder
from ..models.store import load_verified
from ..models.students import (
    check_teacher,
    checked_name,
    install_student,
    make_folder,
    student_place,
    student_state,
)
from ..naming import IMAGE_SUFFIXES, VIDEO_SUFFIXES, find_media
from ..parsers.embedded.looker import part_chances
from ..parsers.embedded.runtime import Given, network_of
from ..parsers.m2fp.labels import Kind
from ..sources.base import Source, open_regular
from ..sources.file import FileSource
from ..sources.picture import open_picture
from ..training import require
from ..training.judge import Agreement, Student, kept, measure, refusal
from ..training.samples import Sample, samples_of
from .m2fp import HUB_NAMES, teacher_weights
from .teacher import M2FPTeacher, Teacher, on_canvas

if TYPE_CHECKING:
    from ..training.loop import Step

__all__ = ["Distilled", "Plan", "distill"]

HELD_BACK: Final = 0.2
"""Share of the files that the student is judged on and never learns from. Chosen."""
_HEAD_BYTES: Final = 1 << 20
"""Of a file, with its size, by which it is known. Chosen: films of gigabytes are not read twice."""
_FRAME_EVERY_S: Final = 2.0
"""Between two frames of a film, at least. Chosen: neighbours teach the same."""
_SHIPPED: Final = "parts"

Tell = Callable[[str, int, int, str], None]
"""What is done, how much of it, of how much, and figures."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is asked for.

    Attributes:
        name: what the student is called.
        steps, batch, seed: see `training.student.StudentSettings`.
        frames: of one film, at most.
        crops: held in memory, at most; each takes some 200 kB.
        teacher_sha256: of weights that were not pulled, said to be known.
        resume: go on from the state that an interrupted training left.
    """

    name: str
    steps: int = 400
    batch: int = 8
    seed: int = 1
    frames: int = 30
    crops: int = 2000
    teacher_sha256: str | None = None
    resume: bool = False


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Distilled:
    """What was installed.

    Attributes:
        path: the student's file.
        pin: what is known of it.
        files, held_back: how many files taught, and how many judged.
        crops: that were learned from.
    """

    path: Path
    pin: StudentPin
    files: int
    held_back: int
    crops: int


@final
@dataclass(slots=True)
class _Told:
    """Who is told of a run."""

    progress: Tell = field(default=lambda *_: None)
    warning: Callable[[str], None] = field(default=lambda _: None)
    notice: Callable[[str], None] = field(default=lambda _: None)
    judged: Callable[[str, Agreement], None] = field(default=lambda *_: None)


def distill(
    folder: Path,
    plan: Plan,
    settings: Settings,
    *,
    teacher: Teacher | None = None,
    on_progress: Tell | None = None,
    on_warning: Callable[[str], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
    on_judged: Callable[[str, Agreement], None] | None = None,
) -> Distilled:
    """Teaches a student what M2FP sees in a folder's pictures, judges it, and installs it.

    Args:
        folder: pictures and films; nothing in it is changed.
        plan: what is asked for.
        settings: of M2FP (`m2fp`), and of reading (`source`).
        teacher: M2FP, unless a test says otherwise.
        on_progress: see `Tell`.
        on_warning: told which files are left out, and why.
        on_notice: see `app.m2fp.fine_parser`.
        on_judged: told how far a network agrees: ``before``, ``after``; also of a refused one.

    Raises:
        UsageError: no such name, too few files, a state of another training.
        SourceError: the folder cannot be read.
        ModelError: an extra or the teacher's weights are missing, the weights were never pinned;
            or the student is worse than what it replaces. Nothing was installed then.
        ParserError: the teacher failed, or its answer is not finite. Likewise.
    """
    told = _Told()
    told.progress = on_progress or told.progress
    told.warning = on_warning or told.warning
    told.notice = on_notice or told.notice
    told.judged = on_judged or told.judged
    checked_name(plan.name)
    require()
    store = store_folder(os.environ)
    if settings.m2fp.kind != "cihp":
        raise UsageError("m2fp.kind: cihp teaches; lip does not tell people apart")
    sha256 = teacher_weights(settings.m2fp)
    check_teacher(HUB_NAMES[Kind.CIHP], sha256, store, plan.teacher_sha256)
    read_pins(store)  # what cannot be pinned is not trained
    known = _known_files(folder, told)
    make_folder(store)
    looks = teacher or M2FPTeacher(settings.m2fp, told.notice)
    run = _Distillation(plan, settings, store, sha256, known, looks, told)
    try:
        return run.run()
    finally:
        run.forget()
        looks.close()


@final
class _Distillation:
    """One distillation, once."""

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        store: Path,
        teacher_sha256: str,
        known: Sequence[tuple[str, Path]],
        teacher: Teacher,
        told: _Told,
    ) -> None:
        self._plan, self._settings, self._store = plan, settings, store
        self._teacher_sha256, self._teacher, self._told = teacher_sha256, teacher, told
        held = max(1, math.ceil(HELD_BACK * len(known)))
        self._held, self._taught = known[:held], known[held:]
        self._to_learn: list[Sample] = []
        self._to_judge: list[Sample] = []
        self._pictures = hashlib.sha256(
            "".join([f"{plan.frames} {plan.crops} ", *(digest for digest, _ in known)]).encode()
        ).hexdigest()

    def run(self) -> Distilled:
        """Looks, trains, judges, installs."""
        most = self._plan.crops
        self._look(self._held, self._to_judge, max(1, math.ceil(most * HELD_BACK)))
        start = load_verified(_SHIPPED)
        before = [self._judged("before", _student(start)), *self._replaced()]
        self._look(self._taught, self._to_learn, most)
        if not self._to_learn:
            raise ModelError("the teacher sees nobody in the pictures; give more of people")
        data = self._train(start)
        student = _student(data)
        after = self._judged("after", student)
        heads = kept(student, _student(start), self._to_judge)
        state = student_state(self._plan.name, self._store)
        state.unlink(missing_ok=True)
        for replaced in before:
            if why := refusal(replaced, after, heads):
                raise ModelError(
                    f"the student {self._plan.name} is worse than what it replaces: {why}; "
                    "nothing was installed; give more pictures, or more --steps"
                )
        pin = self._pin(start, data, before[0], after)
        path = install_student(self._plan.name, self._store, data, pin)
        return Distilled(
            path=path,
            pin=pin,
            files=len(self._taught),
            held_back=len(self._held),
            crops=len(self._to_learn),
        )

    def forget(self) -> None:
        """Zeroes every crop."""
        for one in (*self._to_learn, *self._to_judge):
            one.forget()

    def _replaced(self) -> Iterator[Agreement]:
        """Gives how far the student agrees that has this name now, if there is one."""
        if self._plan.name in read_pins(self._store).students:
            path, pin = student_place(self._plan.name, self._store)
            data = Given(str(path), pin.sha256).load(self._plan.name)
            yield self._judged(f"before ({self._plan.name})", _student(data))

    def _judged(self, what: str, student: Student) -> Agreement:
        found = measure(student, self._to_judge)
        self._told.judged(what, found)
        return found

    def _look(self, files: Sequence[tuple[str, Path]], into: list[Sample], most: int) -> None:
        """Adds what the teacher sees in `files`."""
        what = "looking" if into is self._to_learn else "looking (held back)"
        for done, (_, path) in enumerate(files):
            self._told.progress(what, done, len(files), f"{done}/{len(files)} files")
            room = most - len(into)
            if room <= 0:
                self._told.warning(
                    f"{len(files) - done} files are not looked at: there are {most} crops already"
                )
                break
            try:
                self._look_at(path, into, min(room, max(8, 4 * most // len(files))))
            except SourceError as error:
                self._told.warning(f"left out: {error}")
        self._told.progress(what, len(files), len(files), f"{len(into)} crops")

    def _look_at(self, path: Path, into: list[Sample], most: int) -> None:
        first = len(into)
        with (
            _open_source(path, self._settings) as source,
            closing(_spread(source, self._plan.frames)) as frames,
        ):
            for frame in frames:
                with frame.looking() as bgr, on_canvas(bgr) as canvas:
                    into.extend(samples_of(canvas, self._teacher.look(canvas)))
                if len(into) - first >= most:
                    return

    def _train(self, start: bytes) -> bytes:
        from ..training.student import StudentSettings, teach

        plan = self._plan
        state = student_state(plan.name, self._store)
        if not plan.resume:
            state.unlink(missing_ok=True)
        return teach(
            start,
            self._to_learn,
            StudentSettings(
                steps=plan.steps,
                batch=plan.batch,
                seed=plan.seed,
                started_from=hashlib.sha256(start).hexdigest(),
                teacher=self._teacher_sha256,
                pictures=self._pictures,
            ),
            state=state,
            threads=self._settings.m2fp.threads,
            on_step=self._tell_step,
        )

    def _tell_step(self, step: Step) -> None:
        total = self._plan.steps
        text = f"{step.done}/{total} steps"
        if math.isfinite(step.loss):
            text += f", loss {step.loss:.3f}"
        self._told.progress("training", step.done, total, text)

    def _pin(self, start: bytes, data: bytes, before: Agreement, after: Agreement) -> StudentPin:
        model = hub_model(HUB_NAMES[Kind.CIHP])
        return StudentPin(
            sha256=hashlib.sha256(data).hexdigest(),
            bytes=len(data),
            origin=(
                f"distilled on this machine from {_SHIPPED}, {self._plan.steps} steps, "
                f"{len(self._to_learn)} crops of {len(self._taught)} files"
            ),
            started_from=hashlib.sha256(start).hexdigest(),
            teacher=model.model_id,
            teacher_sha256=self._teacher_sha256,
            licence=model.licence,
            made=datetime.now(UTC).date().isoformat(),
            before=Measured.model_validate(before.as_dict()),
            after=Measured.model_validate(after.as_dict()),
        )


def _student(data: bytes) -> Student:
    network = network_of(_SHIPPED, data)
    return lambda bgr: part_chances(network, bgr)


def _known_files(folder: Path, told: _Told) -> list[tuple[str, Path]]:
    """Returns the files with what they are known by, in that order: alike wherever they lie.

    Files that begin alike and are as long are one.
    """
    try:
        media = find_media(folder, IMAGE_SUFFIXES | VIDEO_SUFFIXES)
    except OSError as error:
        raise SourceError(f"{folder}: cannot be read ({error.strerror}); name a folder") from None
    known: dict[str, Path] = {}
    for path in media.files:
        try:
            with open_regular(path) as file:
                head = file.read(_HEAD_BYTES)
                size = os.fstat(file.fileno()).st_size
        except (OSError, SourceError) as error:
            told.warning(f"left out: {error}")
            continue
        known.setdefault(hashlib.sha256(head + str(size).encode()).hexdigest(), path)
    if len(known) < 2:
        raise UsageError(
            f"{folder}: holds {len(known)} pictures or films that differ; two are needed at least, "
            "for one is held back to judge by"
        )
    return sorted(known.items())


def _open_source(path: Path, settings: Settings) -> Source:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return open_picture(path, settings.source)
    return FileSource(path, settings.source)


def _spread(source: Source, most: int) -> Generator[RawFrame]:
    """Gives up to `most` frames, spread over the source; each is released afterwards."""
    every_s = max(_FRAME_EVERY_S, (source.info.duration_s or 0.0) / most)
    due_s, given = 0.0, 0
    for captured in source.frames():
        frame = captured.frame
        try:
            at_s = float(frame.pts * frame.time_base)
            if at_s >= due_s:
                yield frame
                due_s, given = at_s + every_s, given + 1
        finally:
            frame.release()
        if given >= most:
            return
