"""The error tree: exit codes, builtin bases, one-line messages."""

from __future__ import annotations

import pytest

from m2fp_stream.core import errors

TREE = {
    "M2FPStreamError": (1, Exception),
    "UsageError": (2, ValueError),
    "ConfigError": (2, ValueError),
    "SourceError": (3, OSError),
    "TruncatedSourceError": (3, errors.SourceError),
    "ParserError": (4, RuntimeError),
    "ModelError": (4, RuntimeError),
    "SinkError": (5, OSError),
    "PromiseError": (6, errors.M2FPStreamError),
    "SealError": (6, TypeError),
    "LeaseError": (6, errors.PromiseError),
    "BatchError": (8, errors.M2FPStreamError),
}


def test_the_tree_above_is_the_whole_tree() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert defined == set(TREE)


@pytest.mark.parametrize("name", TREE)
def test_an_error_has_its_exit_code_and_its_builtin_base(name: str) -> None:
    code, base = TREE[name]
    kind = getattr(errors, name)
    assert kind.exit_code == code
    assert issubclass(kind, base)
    assert issubclass(kind, errors.M2FPStreamError)


@pytest.mark.parametrize("name", TREE)
def test_the_message_is_the_text_it_was_raised_with(name: str) -> None:
    kind = getattr(errors, name)
    assert str(kind("clip.mp4: no video stream")) == "clip.mp4: no video stream"


@pytest.mark.parametrize("kind", [errors.SourceError, errors.SinkError])
def test_an_operating_system_error_keeps_its_message_whatever_its_arguments(
    kind: type[errors.SourceError | errors.SinkError],
) -> None:
    # OSError alone would print "[Errno clip.mp4: unreadable] 13".
    assert str(kind("clip.mp4: unreadable", 13)) == "clip.mp4: unreadable"
    assert str(kind()) == kind.__name__


def test_the_codes_outside_the_tree_are_those_of_the_design() -> None:
    assert (errors.EXIT_DONE, errors.EXIT_INTERNAL, errors.EXIT_INTERRUPTED) == (0, 1, 130)
