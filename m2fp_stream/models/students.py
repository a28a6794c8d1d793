"""Part networks that were distilled here: where they are kept, and the pins that they must match.

``students/NAME.onnx`` stands in the store (`pins.store_folder`), its entry in ``pins.json``. What
is pinned is what was judged when it was installed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from ..core.errors import ModelError, SinkError, UsageError
from ..core.part_file import replace_file
from .pins import WEIGHTS, StudentPin, content_of, read_pins, write_pins
from .store import VerifyResult, read_manifest

__all__ = [
    "check_teacher",
    "checked_name",
    "install_student",
    "make_folder",
    "student_pins",
    "student_place",
    "student_state",
    "verify_students",
]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_TAKEN: Final = ("m2fp", "m2fp-lip")


def checked_name(name: str) -> str:
    """Returns `name`, if a student may be called so.

    Raises:
        UsageError: it has other characters than small letters, digits and dashes, or is that of
            something else.
    """
    taken = {entry.name for entry in read_manifest()}.union(_TAKEN)
    if not _NAME.fullmatch(name) or name in taken:
        raise UsageError(
            f"{name!r} is no name for weights of your own; expected small letters, digits and "
            "dashes, and not the name of other weights"
        )
    return name


def student_state(name: str, store: Path) -> Path:
    """Returns the file of a training that is under way: weights and the optimiser's numbers."""
    return store / "students" / f".{name}.state.pt"


def student_place(name: str, store: Path) -> tuple[Path, StudentPin]:
    """Returns where a student is, and its pin; whoever loads it compares its hash with that.

    Raises:
        ModelError: there is none of that name, or ``pins.json`` cannot be trusted.
    """
    students = read_pins(store).students
    if name not in students:
        known = f"; there are: {', '.join(sorted(students))}" if students else ""
        raise ModelError(
            f"no weights {name!r} were pinned here{known}; make them with: m2fp-stream models "
            "distill FOLDER --weights NAME"
        )
    return _file(name, store), students[name]


def student_pins(store: Path) -> dict[str, StudentPin]:
    """Returns every student by name.

    Raises:
        ModelError: ``pins.json`` cannot be trusted.
    """
    return dict(read_pins(store).students)


def install_student(name: str, store: Path, data: bytes, pin: StudentPin) -> Path:
    """Puts a student into the store, and pins it; returns its file.

    Between the two writes the file is not what is pinned, and is refused: never the other way.

    Raises:
        ModelError: the pin is of other bytes, or ``pins.json`` cannot be trusted.
        SinkError: the store cannot be written; what was there before may be refused until it is
            made again.
    """
    if hashlib.sha256(data).hexdigest() != pin.sha256 or len(data) != pin.bytes:
        raise ModelError(f"{name}: its pin is of other weights; nothing was installed")
    path = _file(name, store)
    pins = read_pins(store)
    replace_file(path, data, private=True)
    try:
        write_pins(store, pins.model_copy(update={"students": {**pins.students, name: pin}}))
    except OSError as error:
        raise SinkError(f"{store}: cannot be written ({error.strerror}); make room") from None
    return path


def verify_students(store: Path) -> list[VerifyResult]:
    """Checks every student; a bad one is a result, not an exception.

    Raises:
        ModelError: ``pins.json`` cannot be trusted.
    """
    results = []
    for name, pin in read_pins(store).students.items():
        path, problem = _file(name, store), ""
        try:
            found = content_of(path)
        except OSError as error:
            problem = f"{path} cannot be read ({error.strerror}), but was pinned"
        else:
            if found.sha256 != pin.sha256:
                problem = f"{path} has SHA-256 {found.sha256}, {pin.sha256} was pinned"
        results.append(VerifyResult(name=name, ok=not problem, problem=problem))
    return results


def check_teacher(name: str, sha256: str, store: Path, named: str | None) -> None:
    """Makes sure that a teacher's weights are known: pinned when they were pulled, or named.

    Args:
        name: the model's.
        sha256: of the weights at hand.
        store: the folder of all that was pulled.
        named: the SHA-256 that the user said they have.

    Raises:
        ModelError: they are neither, or others than named.
    """
    if named is not None:
        if named.lower() != sha256:
            raise ModelError(
                f"the teacher's weights have SHA-256 {sha256}, not the one that --teacher-sha256 "
                "names"
            )
        return
    for key, pin in read_pins(store).models.items():
        if key.startswith(f"{name}@") and pin.files[WEIGHTS].sha256 == sha256:
            return
    raise ModelError(
        f"the teacher's weights have SHA-256 {sha256}, which was never pinned: pull them with "
        f"m2fp-stream models pull {name}, or say that you know them: --teacher-sha256 {sha256}"
    )


def make_folder(store: Path) -> None:
    """Makes the folder of students.

    Raises:
        SinkError: it cannot be made.
    """
    try:
        (store / "students").mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{store}: cannot be made ({error.strerror}); check its rights") from None


def _file(name: str, store: Path) -> Path:
    return store / "students" / f"{name}.onnx"
