"""Fetches M2FP's weights, trusts them on first use, and pins them from then on (`pins`).

What it keeps, below the store (`store_folder`)::

    pins.json                    what was accepted and pinned; 0600
    m2fp/v1.0.1/                 configuration.json and pytorch_model.pt, whole and verified
    m2fp/.v1.0.1.part/           what an interrupted pull has so far; the next one goes on from it
    m2fp/.v1.0.1.rejected/       what came last and was not what is pinned, for inspection

Names that begin with a dot are never loaded.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ..core.errors import ModelError, UsageError
from .hub import ClientError, Hub, HubModel, ModelScopeHub, Progress, hub_model
from .hub_client import DISK_ERRORS
from .pins import (
    CONFIGURATION,
    FILES,
    PINS,
    WEIGHTS,
    Acceptance,
    Content,
    FilePin,
    Pin,
    Pins,
    Place,
    content_of,
    hashes,
    is_accepted,
    problem_of,
    read_pins,
    sync,
    with_pin,
    write_pins,
)

__all__ = ["Pulled", "Seal", "pull"]

Seal = Callable[[bytes, str], bytes]
"""Called with the weights and their file's name; returns what is stored (`vault.seal`)."""

_REVISION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


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
    model = hub_model(name)
    place = Place(store, model.name, _checked(model.revision if revision is None else revision))
    try:
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(store):
            return _pull(place, model, accept, progress, hub, seal)
    except OSError as error:
        raise _disk_error(store, error) from None


def _checked(revision: str) -> str:
    if not _REVISION.fullmatch(revision):
        raise UsageError(
            f"{revision!r} is no revision that can be pulled; expected a tag or branch of letters, "
            "digits, dots, dashes and underscores, e.g. v1.0.1"
        )
    return revision


def _pull(
    place: Place,
    model: HubModel,
    accept: Callable[[HubModel], bool],
    progress: Progress | None,
    hub: Hub | None,
    seal: Seal | None,
) -> Pulled:
    pins = read_pins(place.store)
    pin = pins.models.get(place.key)
    if pin is not None and not problem_of(place.final, pin):
        pins = _with_acceptance(place, pins, model, accept)
        return _kept(place, pins, pin, seal)
    if pin is not None and pin.files[WEIGHTS].sealed is not None and seal is None:
        raise UsageError(
            f"{place.name}: the weights were stored sealed and have to be fetched again; name "
            f"the key, or delete {place.key!r} from {place.store / PINS} to store them plain"
        )
    hub = ModelScopeHub() if hub is None else hub
    pins = _with_acceptance(place, pins, model, accept)
    fresh = _fetch_all(hub, place, model, progress)
    _refuse_other(place, model, fresh, pin)
    new = Pin(
        model_id=model.model_id,
        pinned=_today() if pin is None else pin.pinned,
        files={
            CONFIGURATION: FilePin(**fresh[CONFIGURATION].model_dump()),
            WEIGHTS: FilePin(**fresh[WEIGHTS].model_dump()),
        },
    )
    new = _publish(place, pins, new, place.beside("part"), seal)
    for leftover in ("part", "rejected"):
        _remove(place.beside(leftover))
    return Pulled(folder=place.final, files=hashes(new), first_time=pin is None)


def _with_acceptance(
    place: Place, pins: Pins, model: HubModel, accept: Callable[[HubModel], bool]
) -> Pins:
    """Returns the pins with the licence accepted: asked for once, then kept."""
    if is_accepted(pins, model):
        return pins
    if not accept(model):
        raise UsageError(
            f"{place.name}: the licence, {model.licence}, was not accepted; nothing was fetched"
        )
    acceptance = Acceptance(licence=model.licence, date=_today())
    pins = pins.model_copy(update={"accepted": {**pins.accepted, model.name: acceptance}})
    write_pins(place.store, pins)
    return pins


def _kept(place: Place, pins: Pins, pin: Pin, seal: Seal | None) -> Pulled:
    """Returns what is here as pinned; sealed from now on, or current, where it was not."""
    if seal is not None and pin.files[WEIGHTS].sealed is None:
        pin = _publish(place, pins, pin, place.final, seal)
    elif pins.current.get(place.name) != place.revision:
        write_pins(place.store, with_pin(pins, place, pin))
    return Pulled(folder=place.final, files=hashes(pin), first_time=False)


def _fetch_all(
    hub: Hub, place: Place, model: HubModel, progress: Progress | None
) -> dict[str, Content]:
    part = place.beside("part")
    part.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = {}
    for file in FILES:
        _fetch(hub, place, model, file, progress)
        fresh[file] = content_of(part / file)
        if progress is not None:
            progress(file, fresh[file].bytes, fresh[file].bytes)
    return fresh


def _fetch(hub: Hub, place: Place, model: HubModel, file: str, progress: Progress | None) -> None:
    target = place.beside("part") / file
    try:
        hub.fetch(model.model_id, place.revision, file, target, progress)
        if stat.S_ISREG(target.lstat().st_mode):
            return
        kind = "no regular file"
    except ModelError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        kind = error.kind if isinstance(error, ClientError) else type(error).__name__
    raise ModelError(
        f"{place.name}: the hub did not deliver {file} ({kind}); what has come is kept: pull again "
        "when it can be reached, or name a copy of the folder with --model-dir"
    )


def _refuse_other(
    place: Place, model: HubModel, fresh: Mapping[str, Content], pin: Pin | None
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


def _publish(place: Place, pins: Pins, pin: Pin, source: Path, seal: Seal | None) -> Pin:
    """Pins, then puts the files of `source` under their final name; returns what was pinned.

    Where it is interrupted, the old files are there, or the new ones, or none; never a mixture.
    """
    ready, old = place.beside("ready"), place.beside("old")
    _remove(ready)
    ready.mkdir(mode=0o700)
    _write_new(ready / CONFIGURATION, (source / CONFIGURATION).read_bytes())
    if seal is None:
        (source / WEIGHTS).replace(ready / WEIGHTS)
        sync(ready / WEIGHTS)
    else:
        plain = (source / WEIGHTS).read_bytes()
        if hashlib.sha256(plain).hexdigest() != pin.files[WEIGHTS].sha256:
            raise ModelError(f"{place.name}: {WEIGHTS} changed while it was sealed; pull again")
        _write_new(ready / WEIGHTS, seal(plain, WEIGHTS))
        lying = pin.files[WEIGHTS].model_copy(update={"sealed": content_of(ready / WEIGHTS)})
        pin = pin.model_copy(update={"files": {**pin.files, WEIGHTS: lying}})
    sync(ready)
    write_pins(place.store, with_pin(pins, place, pin))
    _remove(old)
    if place.final.exists():
        place.final.rename(old)
    ready.rename(place.final)
    sync(place.final.parent)
    _remove(old)
    return pin


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _write_new(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC  # EXCL follows no link
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


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
