"""What is final is final, and every module says exactly what it offers."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from enum import Enum
from pathlib import Path
from types import ModuleType, new_class

import pytest

import m2fp_stream
from m2fp_stream.core import _mint, audio, plan, raw, records, ring, safe

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(m2fp_stream.__path__, "m2fp_stream.")
    if not info.name.endswith("__main__")
)

SEALED_MODULES = (_mint, audio, plan, raw, records, ring, safe)
"""Every public class here is final, and says so to the checkers."""

REFUSES_SUBCLASS = {
    *(_mint.Key, audio.RawAudio, raw.RawFrame, ring.BufferPool),
    *(safe.LabelImage, safe.SafeAudio, safe.SafeFrame, safe.TrackTable),
}
"""What Python itself refuses to subclass, because a subclass would be a way round the seal."""


def public_classes(module: ModuleType) -> list[type]:
    return [
        value
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and name[0] != "_"
    ]


CLASSES = [kind for module in SEALED_MODULES for kind in public_classes(module)]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_class_of_the_sealed_modules_is_final(kind: type) -> None:
    if issubclass(kind, Enum):
        with pytest.raises(TypeError):  # one with members is final by itself
            new_class("Mine", (kind,))
    else:
        assert getattr(kind, "__final__", False), f"{kind.__name__} is not marked @final"


@pytest.mark.parametrize("kind", sorted(REFUSES_SUBCLASS, key=repr), ids=lambda kind: kind.__name__)
def test_a_class_of_the_seal_refuses_to_be_subclassed(kind: type) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__} is final"):
        type("Mine", (kind,), {})


def test_every_class_that_holds_pixels_sound_or_a_key_is_among_them() -> None:
    """A new class of these modules that says it is final at run time has to be listed above."""
    refusing = {kind for kind in CLASSES if "__init_subclass__" in vars(kind)}
    assert refusing == REFUSES_SUBCLASS


def defined_names(module: ModuleType) -> set[str]:
    """Returns the public classes and functions that `module` itself defines.

    Constants and type aliases may be shared inside a room without being offered to others.
    """
    tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds) and node.name[0] != "_"}


@pytest.mark.parametrize("name", MODULES)
def test_all_is_exact(name: str) -> None:
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    assert len(listed) == len(set(listed)), "listed twice"
    missing = [one for one in listed if not hasattr(module, one)]
    assert not missing, f"listed but not there: {missing}"
    unlisted = defined_names(module) - set(listed)
    assert not unlisted, f"public but not listed: {sorted(unlisted)}"


def test_the_package_offers_what_it_lists() -> None:
    assert sorted(dir(m2fp_stream)) == sorted(m2fp_stream.__all__)
    for name in m2fp_stream.__all__:
        assert getattr(m2fp_stream, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'anonymise'"):
        m2fp_stream.anonymise  # noqa: B018  # the point


def test_every_room_says_what_it_is_for() -> None:
    for name in MODULES:
        assert (importlib.import_module(name).__doc__ or "").strip(), f"{name} has no docstring"
