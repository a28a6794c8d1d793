"""What the texts after options mean; each raises a ValueError whose text the user reads."""

from __future__ import annotations

from fractions import Fraction

from ..core.labels import nearest, parse_label_name
from ..core.timing import Span

__all__ = [
    "read_canvas",
    "read_effect",
    "read_fps",
    "read_hide",
    "read_parser",
    "read_rate_text",
    "read_span",
    "read_whole",
    "read_zone",
]


def read_hide(text: str) -> object:
    """Returns what is hidden."""
    from ..policy import PolicyOptions

    return PolicyOptions.hide_from_text(text)


def read_effect(text: str) -> object:
    """Returns a label, or None for all, and an effect."""
    from ..core.plan import Effect

    label, equals, effect = text.rpartition("=")
    names = [item.value for item in Effect]
    if effect not in names:
        raise ValueError(f"unknown effect {effect!r}; {nearest(effect, names)}")
    if label.strip().lower() == "zone":
        return "zone", effect
    return parse_label_name(label).title if equals else None, effect


def read_zone(text: str) -> str:
    """Returns a zone as it is written."""
    from ..zones import Zone

    return Zone.parse(text).text


def read_span(text: str) -> str:
    """Returns a span of time as it is written."""
    return Span.parse(text).text


def read_canvas(text: str) -> str:
    """Returns a size in pixels as it is written."""
    from ..sources.options import read_size

    read_size(text)
    return text


def read_parser(text: str) -> bool:
    """Says whether the parser is M2FP."""
    if text not in ("embedded", "m2fp"):
        raise ValueError(f"expected embedded or m2fp, got {text!r}")
    return text == "m2fp"


def read_whole(text: str) -> int:
    """Returns a whole number."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number, got {text!r}") from None


def read_rate_text(text: str) -> int:
    """Returns bits a second."""
    from ..sinks.encoders import read_rate

    return read_rate(text)


def read_fps(text: str) -> float:
    """Returns pictures a second."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"expected a rate such as 25 or 30000/1001, got {text!r}") from None
