"""What all option models have in common, and how their fields are written."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from pydantic import ValidationError

from m2fp_stream.options import Options

PACKAGE = Path(__file__).resolve().parents[2] / "m2fp_stream"


class Lamp(Options):
    """Stands for any component's options."""

    width: float = 1.0
    token: str | None = None


def option_classes() -> list[tuple[str, ast.ClassDef]]:
    """Every class of the package that is written as a subclass of `Options`."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and "Options" in map(ast.unparse, node.bases):
                found.append((f"{file.relative_to(PACKAGE)}: {node.name}", node))
    return found


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"widht": 1.0}, "extra_forbidden"),
        ({"width": "1"}, "float_type"),
        ({"width": float("nan")}, "finite_number"),
        ({"width": float("inf")}, "finite_number"),
    ],
)
def test_what_is_not_meant_is_refused(values: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Lamp.model_validate(values)
    assert [error["type"] for error in refused.value.errors()] == [problem]


def test_an_error_does_not_quote_what_it_was_given() -> None:
    with pytest.raises(ValidationError) as refused:
        Lamp.model_validate({"token": ["s3cret"]})
    assert "s3cret" not in str(refused.value)


def test_options_do_not_change() -> None:
    lamp = Lamp()
    with pytest.raises(ValidationError):
        setattr(lamp, "width", 2.0)  # noqa: B010  # a type checker would refuse the plain form


def test_a_field_says_its_default_behind_the_equals_sign() -> None:
    """One way to write a field: ``name: Annotated[type, Field(...)] = default``."""
    classes = option_classes()
    assert len(classes) >= 20
    odd = [
        f"{where}.{ast.unparse(field.target)}"
        for where, node in classes
        for field in node.body
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.value, ast.Call)
        and (field.value.args or any(word.arg == "default" for word in field.value.keywords))
        and ast.unparse(field.value.func) == "Field"
    ]
    assert odd == []


def test_no_option_model_has_a_configuration_of_its_own() -> None:
    own = [
        where
        for where, node in option_classes()
        for line in node.body
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "model_config"
    ]
    assert own == []
