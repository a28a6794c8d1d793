"""ModelScope, from where M2FP's weights come: what is there, and how a file of it is fetched.

It reaches for the network, and does so only when somebody says ``models pull``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, final

from ..core.errors import ModelError, UsageError
from ..processes.child import Child, Stream, start_module
from .hub_client import DISK_ERRORS

__all__ = [
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

_INSTALL: Final = "pip install 'm2fp-stream[m2fp]'"

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
        outcome: dict[str, Any] = {"error": "ProcessDied"}
        with _start(arguments, home) as client:
            try:
                for line in client.stdout:
                    outcome = json.loads(line)
                    if "done" in outcome and progress is not None:
                        progress(file, outcome["done"], outcome["total"])
            finally:
                # One that has said its last word ends by itself, and what it had written stays.
                client.terminate()
                client.wait(_TERMINATE_S)
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


def _start(arguments: tuple[str, ...], home: Path) -> Child:
    """Starts the client's own process, which says how it goes on standard output."""
    return start_module(
        f"{__package__}.hub_client",
        *arguments,
        stdout=Stream.PIPE,
        variables={
            "MODELSCOPE_API_TOKEN": os.environ.get("MODELSCOPE_API_TOKEN", ""),
            "HOME": str(home),
            "MODELSCOPE_HOME": str(home / "settings"),
            "MODELSCOPE_CACHE": str(home / "cache"),
            "MODELSCOPE_DOWNLOAD_INTRA_CLOUD": "false",
            "TQDM_DISABLE": "1",
        },
    )
