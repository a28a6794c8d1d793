"""Fetches M2FP's weights from ModelScope, trusts them on first use, and pins them from then on.

The only file of the package that reaches for a network, and only when somebody says
``models pull``. What it keeps, below the store (`store_folder`)::

    pins.json                    what was accepted and pinned; 0600; see `pull`
    m2fp/v1.0.1/                 configuration.json and pytorch_model.pt, whole and verified
    m2fp/.v1.0.1.part/           what an interrupted pull has so far; the next one goes on from it
    m2fp/.v1.0.1.rejected/       what came last and was not what is pinned, for inspection

Names that begin with a dot are never loaded.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Protocol, final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ..core.errors import ModelError, UsageError
from ..processes.child import child_environment
from .store import VerifyResult

__all__ = [
    "Hub",
    "HubModel",
    "ModelScopeHub",
    "Pulled",
    "hub_models",
    "pull",
    "pulled_folder",
    "store_folder",
    "verify_pulled",
]

CONFIGURATION: Final = "configuration.json"
WEIGHTS: Final = "pytorch_model.pt"
FILES: Final = (CONFIGURATION, WEIGHTS)
PINS: Final = "pins.json"

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, its bytes so far, and its size, None while that is unknown."""

Seal = Callable[[bytes, str], bytes]
"""Called with the weights and their file's name; returns what is stored (`vault.seal`)."""

_DISK_ERRORS: Final = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
)
_INSTALL: Final = "pip install 'm2fp-stream[m2fp]'"
_REVISION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SAY_EVERY_S: Final = 0.1
_TERMINATE_S: Final = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class HubModel:
    """Weights that somebody else publishes, under a licence of their own.

    Attributes:
        name: what `pull` takes.
        model_id: owner and name on ModelScope.
        revision: the branch or tag that is pulled unless another is named.
        kind: ``cihp`` or ``lip``, the labels that the weights know.
        licence: the licence's name.
        licence_url: where its text is.
        licence_note: one sentence of what it means here, and whose weights they are.
    """

    name: str
    model_id: str
    revision: str
    kind: str
    licence: str
    licence_url: str
    licence_note: str


_NOTE: Final = (
    "The weights are not part of this program: they are by the authors of M2FP (L. Yang et al., "
    "arXiv 2301.00394), published on ModelScope by DAMO Academy; non-commercial use only, with "
    "attribution."
)

# Source: the model cards on ModelScope; `v1.0.1` is the tag that published users of the first one
# name. Of the second no tag is known here: its branch may move, its pinned hashes do not.
_MODELS: Final = (
    HubModel(
        name="m2fp",
        model_id="damo/cv_resnet101_image-multiple-human-parsing",
        revision="v1.0.1",
        kind="cihp",
        licence="CC BY-NC 4.0",
        licence_url="https://creativecommons.org/licenses/by-nc/4.0/",
        licence_note=_NOTE,
    ),
    HubModel(
        name="m2fp-lip",
        model_id="damo/cv_resnet101_image-single-human-parsing",
        revision="master",
        kind="lip",
        licence="CC BY-NC 4.0",
        licence_url="https://creativecommons.org/licenses/by-nc/4.0/",
        licence_note=_NOTE,
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulled:
    """Weights that are in the store, whole, and as pinned.

    Attributes:
        folder: where they are.
        files: file name -> SHA-256 in lower-case hexadecimal of what the hub gave; of a sealed
            file, that is the hash of what it holds.
        first_time: they were trusted on first use just now.
    """

    folder: Path
    files: Mapping[str, str]
    first_time: bool


class Hub(Protocol):
    """Where files come from."""

    def fetch(
        self, model_id: str, revision: str, file: str, target: Path, progress: Progress | None
    ) -> None:
        """Puts one file of a model at `target`, whole, or raises.

        `target`'s folder is the hub's own to work in, and survives an interruption: whatever the
        hub left there, and a `target` of an earlier call, are what it may resume from.

        Raises:
            OSError: the disk is full or may not be written to; told by its `errno`.
            Exception: anything else means that the hub did not deliver.
        """
        ...


def hub_models() -> tuple[HubModel, ...]:
    """Returns every model that `pull` knows."""
    return _MODELS


def store_folder(environ: Mapping[str, str]) -> Path:
    """Returns the folder for what is pulled; it need not exist.

    Source: XDG Base Directory Specification 0.8, a relative ``XDG_DATA_HOME`` is ignored.
    """
    given = Path(environ.get("XDG_DATA_HOME", ""))
    base = given if given.is_absolute() else Path.home() / ".local" / "share"
    return base / "m2fp-stream" / "models"


def pull(
    name: str,
    store: Path,
    *,
    accept: Callable[[HubModel], bool],
    progress: Progress | None = None,
    hub: Hub | None = None,
    revision: str | None = None,
    seal: Seal | None = None,
) -> Pulled:
    """Fetches a model unless it is here as pinned; the first time, pins what came.

    Nothing is fetched where the store has every file with the pinned SHA-256. What is fetched
    appears under its final name only when whole, and only if it is what was pinned. It is the
    revision that is loaded from then on. Pins, and the acceptance of the licence, are kept in
    ``pins.json``, whose entries can be deleted with an editor.

    Args:
        name: one of `hub_models`.
        store: the folder to keep it in; made where missing. One pull at a time may use it.
        accept: shows the licence and returns whether it is accepted; asked once for a model.
        progress: see `Progress`.
        hub: ModelScope's, unless a test says otherwise.
        revision: another branch or tag than the model's own; trusted on first use like it.
        seal: what to store the weights through. Weights that are here unsealed are sealed, too.
            The plain file is deleted then; a solid-state disk may keep its old blocks for a while.

    Raises:
        UsageError: no such model or revision, the licence was not accepted, or what is pinned as
            sealed would be stored unsealed. Nothing was fetched.
        ModelError: the hub cannot be reached, or gave something else than what is pinned, or
            something broken; the store cannot be written; ``pins.json`` cannot be trusted; another
            pull is under way. Files that were here before are untouched.
        KeyboardInterrupt: what has come is kept for the next pull, under a name never loaded.
    """
    model = _model(name)
    place = _Place(store, model.name, _checked(model.revision if revision is None else revision))
    try:
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(store):
            return _pull(place, model, accept, progress, hub, seal)
    except OSError as error:
        raise _disk_error(store, error) from None


def pulled_folder(name: str, store: Path) -> tuple[Path, Mapping[str, str]]:
    """Returns where a pulled model is, and the SHA-256 of each of its files, to load it from.

    Presence, sizes and the configuration's hash are checked here. Whoever reads the weights checks
    their hash on the very bytes that are used; of sealed weights, on what they hold.

    Raises:
        UsageError: no such model.
        ModelError: it was not pulled, its licence not accepted, or what is here is not what was
            pinned; or ``pins.json`` cannot be trusted.
    """
    model = _model(name)
    remedy = f"run: m2fp-stream models pull {name}"
    pins = _read_pins(store)
    revision = pins.current.get(name)
    pin = None if revision is None else pins.models.get(f"{name}@{revision}")
    if revision is None or pin is None:
        raise ModelError(
            f"{name} is not here; {remedy}; or name a folder that has it with --model-dir"
        )
    if not _accepted(pins, model):
        raise ModelError(f"{name}: its licence, {model.licence}, was not accepted; {remedy}")
    place = _Place(store, name, revision)
    problem = _problem(place.final, pin, hashed=(CONFIGURATION,))
    if problem:
        raise ModelError(f"{name}: {problem}; {remedy}")
    return place.final, _hashes(pin)


def verify_pulled(store: Path) -> list[VerifyResult]:
    """Checks every file that was pinned; a bad one is a result, not an exception.

    Sealed weights are checked as they lie there: no key is needed.

    Raises:
        ModelError: ``pins.json`` cannot be trusted.
    """
    results = []
    for key, pin in _read_pins(store).models.items():
        name, _, revision = key.partition("@")
        problem = _problem(_Place(store, name, revision).final, pin)
        results.append(VerifyResult(name=key, ok=not problem, problem=problem))
    return results


# --------------------------------------------------------------------------------------------------
# The hub


@final
class ModelScopeHub:
    """ModelScope's own client, in a process of its own that lives for one file.

    The client reads its settings when it is imported, speaks on standard error, runs threads and
    keeps a folder at home with a number for every installation, which it sends along. In a process
    of its own it gets an empty home that is gone afterwards, no stored login, and no look-up of
    the cloud region it runs in; ``MODELSCOPE_ENDPOINT``, ``MODELSCOPE_API_TOKEN`` and the proxies
    of the environment hold. It compares size and SHA-256 with what the hub lists and resumes what
    was interrupted.

    Raises:
        ModelError: `modelscope` is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("modelscope") is None:
            raise ModelError(f"pulling needs ModelScope's client: {_INSTALL}")

    def fetch(
        self, model_id: str, revision: str, file: str, target: Path, progress: Progress | None
    ) -> None:
        """See `Hub`.

        Raises:
            ModelError: the client cannot be imported, or is too old.
            OSError: the disk is full or may not be written to.
            _ClientError: what the client raised.
        """
        home = target.parent / ".client"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(mode=0o700)
        try:
            self._run((model_id, revision, file, str(target.parent)), home, file, progress)
        finally:
            shutil.rmtree(home, ignore_errors=True)

    def _run(
        self, arguments: tuple[str, ...], home: Path, file: str, progress: Progress | None
    ) -> None:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"import {__name__} as pull; pull._child()", *arguments],
            env={
                "MODELSCOPE_API_TOKEN": "",
                **child_environment(),
                "HOME": str(home),
                "MODELSCOPE_HOME": str(home / "settings"),
                "MODELSCOPE_CACHE": str(home / "cache"),
                "MODELSCOPE_DOWNLOAD_INTRA_CLOUD": "false",
                "TQDM_DISABLE": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None  # asked for above
        outcome: dict[str, Any] = {"error": "ProcessDied"}
        try:
            with process.stdout as lines:
                for line in lines:
                    outcome = json.loads(line)
                    if "done" in outcome and progress is not None:
                        progress(file, outcome["done"], outcome["total"])
        finally:
            # One that has said its last word ends by itself, and what it had written stays.
            process.terminate()
            try:
                process.wait(_TERMINATE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if "missing" in outcome:
            raise ModelError(f"ModelScope's client cannot be used; update it: {_INSTALL}")
        if outcome.get("errno") in _DISK_ERRORS:
            raise OSError(outcome["errno"], os.strerror(outcome["errno"]))
        if not outcome.get("whole"):
            raise _ClientError(str(outcome.get("error", "ProcessDied")))


class _ClientError(Exception):
    """What the client raised, by its class's name alone: its text may hold a URL."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def _child() -> None:
    """Fetches one file, in the client's own process; says how it goes in lines of JSON."""
    model_id, revision, file, folder = sys.argv[1:]
    channel = os.dup(1)
    os.dup2(2, 1)  # what the client prints is not ours

    def say(**facts: object) -> None:
        try:
            os.write(channel, json.dumps(facts).encode() + b"\n")
        except BrokenPipeError:
            os._exit(1)  # nobody is there any more; the client would try again and again

    try:
        import inspect

        # Without this the client loads torch, which takes seconds and fetches nothing.
        sys.modules["torch"] = None  # type: ignore[assignment]  # says that there is none

        from modelscope.hub.snapshot_download import snapshot_download

        if "progress_callbacks" not in inspect.signature(snapshot_download).parameters:
            raise ImportError("too old")
    except ImportError:
        say(missing=True)
        return

    class Meter:
        """The client's protocol for progress: made for a file, told of bytes, then ended."""

        def __init__(self, _: str, size: int) -> None:
            self.done, self.total, self.said_s = 0, size or None, 0.0

        def update(self, size: int) -> None:
            self.done += size
            if time.monotonic() - self.said_s >= _SAY_EVERY_S:
                self.said_s = time.monotonic()
                say(done=self.done, total=self.total)

        def end(self) -> None:
            say(done=self.done, total=self.total)

    try:
        snapshot_download(
            model_id,
            revision=revision,
            local_dir=folder,
            allow_patterns=[file],
            max_workers=1,
            progress_callbacks=[Meter],
        )
    except Exception as error:
        # A failed file's error is wrapped, and the disk's may be the cause of the wrapped one.
        inner: BaseException = next(iter(getattr(error, "failed_files", {}).values()), error)
        cause: BaseException | None = inner
        while cause is not None and getattr(cause, "errno", None) not in _DISK_ERRORS:
            cause = cause.__cause__ or cause.__context__
        say(error=type(inner).__name__, errno=getattr(cause, "errno", None))
        return
    if (Path(folder) / file).is_file():
        say(whole=True)
    else:  # the hub's list of files has none of that name
        say(error="FileNotFoundError")


# --------------------------------------------------------------------------------------------------
# The store


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a revision of a model is kept."""

    store: Path
    name: str
    revision: str

    @property
    def key(self) -> str:
        return f"{self.name}@{self.revision}"

    @property
    def final(self) -> Path:
        return self.store / self.name / self.revision

    def beside(self, suffix: str) -> Path:
        return self.store / self.name / f".{self.revision}.{suffix}"


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)


_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Key = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+@[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class _Content(_Strict):
    sha256: _Sha256
    bytes: int = Field(gt=0)


class _FilePin(_Content):
    sealed: _Content | None = None  # what lies there, where it is not what the hub gave


class _Pin(_Strict):
    model_id: str
    pinned: str
    files: dict[Literal["configuration.json", "pytorch_model.pt"], _FilePin] = Field(
        min_length=len(FILES)
    )


class _Acceptance(_Strict):
    licence: str
    date: str


class _Pins(_Strict):
    format: Literal[1] = 1
    accepted: dict[str, _Acceptance] = {}
    current: dict[str, str] = {}
    models: dict[_Key, _Pin] = {}


def _model(name: str) -> HubModel:
    for model in _MODELS:
        if model.name == name:
            return model
    known = ", ".join(model.name for model in _MODELS)
    raise UsageError(f"no model named {name!r} to pull; there are: {known}")


def _checked(revision: str) -> str:
    if not _REVISION.fullmatch(revision):
        raise UsageError(
            f"{revision!r} is no revision that can be pulled; expected a tag or branch of letters, "
            "digits, dots, dashes and underscores, e.g. v1.0.1"
        )
    return revision


def _pull(
    place: _Place,
    model: HubModel,
    accept: Callable[[HubModel], bool],
    progress: Progress | None,
    hub: Hub | None,
    seal: Seal | None,
) -> Pulled:
    pins = _read_pins(place.store)
    pin = pins.models.get(place.key)
    here = pin is not None and not _problem(place.final, pin)
    if not here:
        if pin is not None and pin.files[WEIGHTS].sealed is not None and seal is None:
            raise UsageError(
                f"{place.name}: the weights were stored sealed and have to be fetched again; name "
                f"the key, or delete {place.key!r} from {place.store / PINS} to store them plain"
            )
        hub = ModelScopeHub() if hub is None else hub
    if not _accepted(pins, model):
        if not accept(model):
            raise UsageError(
                f"{place.name}: the licence, {model.licence}, was not accepted; nothing was fetched"
            )
        acceptance = _Acceptance(licence=model.licence, date=_today())
        pins = pins.model_copy(update={"accepted": {**pins.accepted, model.name: acceptance}})
        _write_pins(place.store, pins)
    if here:
        assert pin is not None  # or it would not be here
        if seal is not None and pin.files[WEIGHTS].sealed is None:
            pin = _publish(place, pins, pin, place.final, seal)
        elif pins.current.get(place.name) != place.revision:
            _write_pins(place.store, _with(pins, place, pin))
        return Pulled(folder=place.final, files=_hashes(pin), first_time=False)
    assert hub is not None  # made above
    part = place.beside("part")
    part.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = {}
    for file in FILES:
        _fetch(hub, place, model, file, progress)
        fresh[file] = _content(part / file)
        if progress is not None:
            progress(file, fresh[file].bytes, fresh[file].bytes)
    _refuse_other(place, model, fresh, pin)
    new = _Pin(
        model_id=model.model_id,
        pinned=_today() if pin is None else pin.pinned,
        files={
            CONFIGURATION: _FilePin(**fresh[CONFIGURATION].model_dump()),
            WEIGHTS: _FilePin(**fresh[WEIGHTS].model_dump()),
        },
    )
    new = _publish(place, pins, new, part, seal)
    for leftover in ("part", "rejected"):
        _remove(place.beside(leftover))
    return Pulled(folder=place.final, files=_hashes(new), first_time=pin is None)


def _fetch(hub: Hub, place: _Place, model: HubModel, file: str, progress: Progress | None) -> None:
    target = place.beside("part") / file
    try:
        hub.fetch(model.model_id, place.revision, file, target, progress)
        if stat.S_ISREG(target.lstat().st_mode):
            return
        kind = "no regular file"
    except ModelError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise
        kind = error.kind if isinstance(error, _ClientError) else type(error).__name__
    raise ModelError(
        f"{place.name}: the hub did not deliver {file} ({kind}); what has come is kept: pull again "
        "when it can be reached, or name a copy of the folder with --model-dir"
    )


def _refuse_other(
    place: _Place, model: HubModel, fresh: Mapping[str, _Content], pin: _Pin | None
) -> None:
    """Raises unless what came is what was pinned; the first time, unless it is not broken."""
    problem = ""
    if pin is None:
        broken = [file for file in FILES if not _is_whole(place.beside("part") / file)]
        if broken:
            problem = f"{broken[0]} is not what such a file looks like, or only a piece of it"
    else:
        for file, expected in pin.files.items():
            if fresh[file].sha256 != expected.sha256:
                problem = (
                    f"{file} has SHA-256 {fresh[file].sha256}, but {expected.sha256} was pinned on "
                    f"{pin.pinned}: what the hub gives has changed"
                )
                break
    if not problem:
        return
    rejected = place.beside("rejected")
    _remove(rejected)
    place.beside("part").rename(rejected)
    if pin is None:
        raise ModelError(
            f"{place.name}: {problem}; nothing was trusted, what came is in {rejected}; pull again"
        )
    raise ModelError(
        f"{place.name}: {problem}; what came is in {rejected}, compare it with "
        f"https://modelscope.cn/models/{model.model_id}/files; to trust it on purpose, delete "
        f"{place.key!r} from {place.store / PINS} and pull again"
    )


def _is_whole(path: Path) -> bool:
    """Says whether a file that nothing is known of is complete, as far as can be told unparsed.

    A checkpoint is a zip archive, with its directory at the end; before PyTorch 1.6 it was a bare
    pickle, which begins with 0x80 and whose end nothing tells.
    """
    if path.name == CONFIGURATION:
        try:
            return isinstance(json.loads(path.read_bytes()), dict)
        except (ValueError, RecursionError):
            return False
    with path.open("rb") as file:
        begin = file.read(4)
        if begin != b"PK\x03\x04":
            return begin[:1] == b"\x80"
        try:
            with zipfile.ZipFile(file) as archive:
                return bool(archive.namelist())
        except zipfile.BadZipFile:
            return False


def _publish(place: _Place, pins: _Pins, pin: _Pin, source: Path, seal: Seal | None) -> _Pin:
    """Pins, then puts the files of `source` under their final name; returns what was pinned.

    Where it is interrupted, the old files are there, or the new ones, or none; never a mixture.
    """
    ready, old = place.beside("ready"), place.beside("old")
    _remove(ready)
    ready.mkdir(mode=0o700)
    _write_new(ready / CONFIGURATION, (source / CONFIGURATION).read_bytes())
    if seal is None:
        (source / WEIGHTS).replace(ready / WEIGHTS)
        _sync(ready / WEIGHTS)
    else:
        plain = (source / WEIGHTS).read_bytes()
        if hashlib.sha256(plain).hexdigest() != pin.files[WEIGHTS].sha256:
            raise ModelError(f"{place.name}: {WEIGHTS} changed while it was sealed; pull again")
        _write_new(ready / WEIGHTS, seal(plain, WEIGHTS))
        lying = pin.files[WEIGHTS].model_copy(update={"sealed": _content(ready / WEIGHTS)})
        pin = pin.model_copy(update={"files": {**pin.files, WEIGHTS: lying}})
    _sync(ready)
    _write_pins(place.store, _with(pins, place, pin))
    _remove(old)
    if place.final.exists():
        place.final.rename(old)
    ready.rename(place.final)
    _sync(place.final.parent)
    _remove(old)
    return pin


def _problem(folder: Path, pin: _Pin, hashed: tuple[str, ...] = FILES) -> str:
    """Returns what is wrong with the files of `folder`, or nothing."""
    for file, pinned in pin.files.items():
        expected = pinned.sealed or pinned
        path = folder / file
        try:
            size = path.lstat().st_size
            if size != expected.bytes:
                return f"{path} has {size} bytes, {expected.bytes} were pinned"
            content = _content(path) if file in hashed else expected
        except OSError as error:
            return f"{path} cannot be read ({error.strerror}), but was pinned"
        if content.sha256 != expected.sha256:
            return f"{path} has SHA-256 {content.sha256}, {expected.sha256} was pinned"
    return ""


def _content(path: Path) -> _Content:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return _Content.model_construct(sha256=digest, bytes=file.tell())


def _hashes(pin: _Pin) -> Mapping[str, str]:
    return MappingProxyType({file: content.sha256 for file, content in pin.files.items()})


def _accepted(pins: _Pins, model: HubModel) -> bool:
    acceptance = pins.accepted.get(model.name)
    return acceptance is not None and acceptance.licence == model.licence


def _with(pins: _Pins, place: _Place, pin: _Pin) -> _Pins:
    return pins.model_copy(
        update={
            "current": {**pins.current, place.name: place.revision},
            "models": {**pins.models, place.key: pin},
        }
    )


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _read_pins(store: Path) -> _Pins:
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
        return _Pins()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check its rights") from None
    if mode & 0o022:
        raise ModelError(
            f"{path}: others may write it (rights {mode:04o}), so no pin in it can be trusted; "
            f"check it, then run: chmod 600 {path}"
        )
    try:
        return _Pins.model_validate_json(text)
    except ValidationError as error:
        where = ".".join(str(step) for step in error.errors(include_url=False)[0]["loc"]) or "it"
        raise ModelError(
            f"{path}: is garbled ({where}), so no pin in it can be trusted; restore it, or delete "
            "it and pull again to trust what comes then"
        ) from None


def _write_pins(store: Path, pins: _Pins) -> None:
    part = store / f".{PINS}.part"
    part.unlink(missing_ok=True)  # of a run that died; we are alone here
    _write_new(part, pins.model_dump_json(indent=2, exclude_none=True).encode() + b"\n")
    part.replace(store / PINS)
    _sync(store)


def _write_new(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC  # EXCL follows no link
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """Waits until a file's content, or a folder's names, are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    fd = os.open(store / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelError(
                f"another pull into {store} is under way; wait for it, or stop it"
            ) from None
        yield
    finally:
        os.close(fd)


def _disk_error(store: Path, error: OSError) -> ModelError:
    reason = error.strerror or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ModelError(
            f"{store}: no space left ({reason}); make room, or set XDG_DATA_HOME to a folder with "
            "some; what has come is kept: pull again"
        )
    return ModelError(
        f"{store}: cannot be used ({reason}); check its rights, or set XDG_DATA_HOME to another "
        "folder"
    )
