"""Files and functions stay short enough to be read in one go."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "m2fp_stream"
MOST_LINES = 500
MOST_OF_A_FUNCTION = 50
"""Without its docstring."""

LONG_FILES = {
    "pipeline/live/follow.py",
    "pipeline/live/looking.py",
}
"""Files that are one thing, and longer. A new one is a decision: split it, or name it here."""


def long_functions(text: str) -> dict[str, int]:
    """Returns the lines of each function that has too many."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = (node.end_lineno or 0) - node.lineno + 1
        if ast.get_docstring(node, clean=False) is not None:
            lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
        if lines > MOST_OF_A_FUNCTION:
            found[node.name] = lines
    return found


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_function_is_longer_than_a_screen(path: Path) -> None:
    assert long_functions(path.read_text(encoding="utf-8")) == {}


def test_few_files_are_long_and_they_are_named() -> None:
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES
    }
    assert found == LONG_FILES


def test_the_search_sees_a_long_function() -> None:
    body = "\n".join(f"    x = {number}" for number in range(MOST_OF_A_FUNCTION))
    assert long_functions(f"def f():\n{body}") == {"f": MOST_OF_A_FUNCTION + 1}
    assert (
        long_functions(f'def f():\n    """What it does."""\n{body[: body.rindex(chr(10))]}') == {}
    )
