"""Which part network looks: the shipped one, or one that was distilled here (`parser.weights`)."""

from __future__ import annotations

import os

from ..config import Settings
from ..models.pins import store_folder
from ..models.students import student_place
from ..parsers.embedded.runtime import Given

__all__ = ["chosen_parts", "parts_option"]


def chosen_parts(settings: Settings) -> Given | None:
    """Returns the weights that `parser.weights` names, and the hash that they must have.

    Raises:
        ModelError: nothing of that name was pinned here.
    """
    name = settings.parser.weights
    if name is None:
        return None
    path, pin = student_place(name, store_folder(os.environ))
    return Given(str(path), pin.sha256)


def parts_option(settings: Settings) -> dict[str, dict[str, str]]:
    """Returns the same for a process of looks: JSON, nothing where the shipped ones look."""
    given = chosen_parts(settings)
    return {} if given is None else {"parts": {"path": given.path, "sha256": given.sha256}}
