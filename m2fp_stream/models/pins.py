"""What of M2FP's weights was accepted and pinned: trust on first use, and the check ever after.

``pins.json`` stands in the store (`store_folder`), with rights 0600. Its entries can be deleted
with an editor. It is read as strictly as options are.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, ValidationError

from ..core.errors import ModelError
from ..core.home import own_folder
from ..core.part_file import replace_file
from ..options import Options
from .hub import HubModel, hub_model
from .store import VerifyResult

__all__ = [
    "CONFIGURATION",
    "FILES",
    "PINS",
    "WEIGHTS",
    "Acceptance",
    "Content",
    "FilePin",
    "Measured",
    "Pin",
    "Pins",
    "Place",
    "StudentPin",
    "content_of",
    "hashes",
    "is_accepted",
    "problem_of",
    "pulled_folder",
    "read_pins",
    "store_folder",
    "sync",
    "verify_pulled",
    "with_pin",
    "write_pins",
]

CONFIGURATION: Final = "configuration.json"
WEIGHTS: Final = "pytorch_model.pt"
FILES: Final = (CONFIGURATION, WEIGHTS)
PINS: Final = "pins.json"


def store_folder(environ: Mapping[str, str]) -> Path:
    """Returns the folder for what is pulled; it need not exist.

    Raises:
        ConfigError: see `own_folder`.
    """
    return own_folder("XDG_DATA_HOME", environ, ".local", "share") / "m2fp-stream" / "models"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a revision of a model is kept.

    Attributes:
        store: the folder of all that was pulled.
        name: the model's.
        revision: the branch or tag.
    """

    store: Path
    name: str
    revision: str

    @property
    def key(self) -> str:
        """Its name in ``pins.json``."""
        return f"{self.name}@{self.revision}"

    @property
    def final(self) -> Path:
        """The folder with its files, whole and verified, if there is one."""
        return self.store / self.name / self.revision

    def beside(self, suffix: str) -> Path:
        """Returns a folder beside the final one, which is never loaded."""
        return self.store / self.name / f".{self.revision}.{suffix}"


_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Key = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+@[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class Content(Options):
    """What is in a file."""

    sha256: _Sha256
    bytes: Annotated[int, Field(gt=0)]


class FilePin(Content):
    """What the hub gave; where it lies sealed, also what lies there."""

    sealed: Content | None = None


class Pin(Options):
    """A revision of a model as it came first, and when."""

    model_id: str
    pinned: str
    files: Annotated[
        dict[Literal["configuration.json", "pytorch_model.pt"], FilePin],
        Field(min_length=len(FILES)),
    ]


class Acceptance(Options):
    """Which licence was accepted, and when."""

    licence: str
    date: str


_Share = Annotated[float, Field(ge=0, le=1)]


class Measured(Options):
    """How far a network agrees with a teacher; see `training.judge.Agreement`."""

    miou: _Share
    head_recall: _Share
    spill: _Share
    samples: Annotated[int, Field(gt=0)]


class StudentPin(Content):
    """A part network that was distilled here: what it is, and whose licence it has.

    Attributes:
        origin: how it was made.
        started_from: SHA-256 of the weights that training began with.
        teacher: which model taught it.
        teacher_sha256: of that one's weights.
        licence: the teacher's, for what learns from it is made from it.
        made: the date.
        before, after: agreement with the teacher on what was held back.
    """

    origin: str
    started_from: _Sha256
    teacher: str
    teacher_sha256: _Sha256
    licence: str
    made: str
    before: Measured
    after: Measured


_StudentName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class Pins(Options):
    """All of ``pins.json``; of each model one revision is the current one, which is loaded."""

    format: Literal[1] = 1
    accepted: dict[str, Acceptance] = Field(default_factory=dict)
    current: dict[str, str] = Field(default_factory=dict)
    models: dict[_Key, Pin] = Field(default_factory=dict)
    students: dict[_StudentName, StudentPin] = Field(default_factory=dict)


def pulled_folder(name: str, store: Path) -> tuple[Path, Mapping[str, str]]:
    """Returns where a pulled model is, and the SHA-256 of each of its files, to load it from.

    Presence, sizes and the configuration's hash are checked here. Whoever reads the weights checks
    their hash on the very bytes that are used; of sealed weights, on what they hold.

    Raises:
        UsageError: no such model.
        ModelError: it was not pulled, its licence not accepted, or what is here is not what was
            pinned; or ``pins.json`` cannot be trusted.
    """
    model = hub_model(name)
    remedy = f"run: m2fp-stream models pull {name}"
    pins = read_pins(store)
    revision = pins.current.get(name)
    pin = None if revision is None else pins.models.get(f"{name}@{revision}")
    if revision is None or pin is None:
        raise ModelError(
            f"{name} is not here; {remedy}; or name a folder that has it with --model-dir"
        )
    if not is_accepted(pins, model):
        raise ModelError(f"{name}: its licence, {model.licence}, was not accepted; {remedy}")
    place = Place(store, name, revision)
    problem = problem_of(place.final, pin, hashed=(CONFIGURATION,))
    if problem:
        raise ModelError(f"{name}: {problem}; {remedy}")
    return place.final, hashes(pin)


def verify_pulled(store: Path) -> list[VerifyResult]:
    """Checks every file that was pinned; a bad one is a result, not an exception.

    Sealed weights are checked as they lie there: no key is needed.

    Raises:
        ModelError: ``pins.json`` cannot be trusted.
    """
    results = []
    for key, pin in read_pins(store).models.items():
        name, _, revision = key.partition("@")
        problem = problem_of(Place(store, name, revision).final, pin)
        results.append(VerifyResult(name=key, ok=not problem, problem=problem))
    return results


def problem_of(folder: Path, pin: Pin, hashed: tuple[str, ...] = FILES) -> str:
    """Returns what is wrong with the files of `folder`, or nothing."""
    for file, pinned in pin.files.items():
        expected = pinned.sealed or pinned
        path = folder / file
        try:
            size = path.lstat().st_size
            if size != expected.bytes:
                return f"{path} has {size} bytes, {expected.bytes} were pinned"
            content = content_of(path) if file in hashed else expected
        except OSError as error:
            return f"{path} cannot be read ({error.strerror}), but was pinned"
        if content.sha256 != expected.sha256:
            return f"{path} has SHA-256 {content.sha256}, {expected.sha256} was pinned"
    return ""


def content_of(path: Path) -> Content:
    """Reads a file to its end and returns what is in it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Content.model_construct(sha256=digest, bytes=file.tell())


def hashes(pin: Pin) -> Mapping[str, str]:
    """Returns file name -> SHA-256 of what the hub gave."""
    return MappingProxyType({file: content.sha256 for file, content in pin.files.items()})


def is_accepted(pins: Pins, model: HubModel) -> bool:
    """Says whether the licence that the model has today was accepted."""
    acceptance = pins.accepted.get(model.name)
    return acceptance is not None and acceptance.licence == model.licence


def with_pin(pins: Pins, place: Place, pin: Pin) -> Pins:
    """Returns the pins with this one in its place, as the current one of its model."""
    return pins.model_copy(
        update={
            "current": {**pins.current, place.name: place.revision},
            "models": {**pins.models, place.key: pin},
        }
    )


def read_pins(store: Path) -> Pins:
    """Returns the pins; none where there is no file yet.

    Raises:
        ModelError: the file cannot be read, is garbled, or others may write it: no pin in it can be
            trusted then, and taking it for empty would trust whatever comes next.
    """
    path = store / PINS
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read()
    except FileNotFoundError:
        return Pins()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check its rights") from None
    if mode & 0o022:
        raise ModelError(
            f"{path}: others may write it (rights {mode:04o}), so no pin in it can be trusted; "
            f"check it, then run: chmod 600 {path}"
        )
    try:
        return Pins.model_validate_json(text)
    except ValidationError as error:
        where = ".".join(str(step) for step in error.errors(include_url=False)[0]["loc"]) or "it"
        raise ModelError(
            f"{path}: is garbled ({where}), so no pin in it can be trusted; restore it, or delete "
            "it and pull again to trust what comes then"
        ) from None


def write_pins(store: Path, pins: Pins) -> None:
    """Replaces ``pins.json``; it is on the disk when this returns.

    Raises:
        OSError: it cannot be written.
    """
    data = pins.model_dump_json(indent=2, exclude_none=True).encode() + b"\n"
    replace_file(store / PINS, data, private=True)
    sync(store)


def sync(path: Path) -> None:
    """Waits until a file's content, or a folder's names, are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
