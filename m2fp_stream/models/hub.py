"""ModelScope, from where M2FP's weights come: what is there, and how a file of it is fetched.

It reaches for the network, and does so only when somebody says ``models pull``.
"""

from __future__ import annotations

import errno
import importlib.util
import inspect
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, final

from ..core.environment import child_environment
from ..core.errors import ModelError, UsageError

__all__ = [
    "DISK_ERRORS",
    "ClientError",
    "Hub",
    "HubModel",
    "ModelScopeHub",
    "Progress",
    "hub_model",
    "hub_models",
]

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, its bytes so far, and its size, None while that is unknown."""

DISK_ERRORS: Final = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
)
"""What a failed write says of the disk, not of the hub. Source: open(2), write(2)."""

_INSTALL: Final = "pip install 'm2fp-stream[m2fp]'"

_SAY_EVERY_S: Final = 0.1
"""Chosen: ten times a second is as often as a person sees a bar move."""

_TERMINATE_S: Final = 5.0
"""Chosen: the client has said its last word by then and only closes files."""


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


def hub_model(name: str) -> HubModel:
    """Returns the model that `pull` knows as `name`.

    Raises:
        UsageError: there is none.
    """
    for model in _MODELS:
        if model.name == name:
            return model
    known = ", ".join(model.name for model in _MODELS)
    raise UsageError(f"no model named {name!r} to pull; there are: {known}")


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
            ClientError: what the client raised.
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
        process = _start(arguments, home)
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
        if outcome.get("errno") in DISK_ERRORS:
            raise OSError(outcome["errno"], os.strerror(outcome["errno"]))
        if not outcome.get("whole"):
            raise ClientError(str(outcome.get("error", "ProcessDied")))


class ClientError(Exception):
    """What the client raised, by its class's name alone: its text may hold a URL."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def _start(arguments: tuple[str, ...], home: Path) -> subprocess.Popen[bytes]:
    """Starts the client's own process (`_child`), which says how it goes on standard output."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", f"import {__name__} as hub; hub._child()", *arguments],
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
        download = _client()
    except ImportError:
        say(missing=True)
        return
    try:
        download(
            model_id,
            revision=revision,
            local_dir=folder,
            allow_patterns=[file],
            max_workers=1,
            progress_callbacks=[_meter(say)],
        )
    except Exception as error:
        say(**_told(error))
        return
    if (Path(folder) / file).is_file():
        say(whole=True)
    else:  # the hub's list of files has none of that name
        say(error="FileNotFoundError")


def _client() -> Callable[..., object]:
    """Imports the client.

    Raises:
        ImportError: it is not there, or too old.
    """
    # Without this the client loads torch, which takes seconds and fetches nothing.
    sys.modules["torch"] = None  # type: ignore[assignment]  # says that there is none

    from modelscope.hub.snapshot_download import snapshot_download

    if "progress_callbacks" not in inspect.signature(snapshot_download).parameters:
        raise ImportError("too old")
    client: Callable[..., object] = snapshot_download
    return client


def _meter(say: Callable[..., None]) -> type:
    """Returns the class by which the client tells how far it is."""

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

    return Meter


def _told(error: Exception) -> dict[str, object]:
    """Returns what of the client's error is told: its class, and the disk's number if it has one.

    A failed file's error is wrapped, and the disk's may be the cause of the wrapped one.
    """
    inner: BaseException = next(iter(getattr(error, "failed_files", {}).values()), error)
    cause: BaseException | None = inner
    while cause is not None and getattr(cause, "errno", None) not in DISK_ERRORS:
        cause = cause.__cause__ or cause.__context__
    return {"error": type(inner).__name__, "errno": getattr(cause, "errno", None)}
