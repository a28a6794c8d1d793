"""What the media process says (`sinks.page_link`), checked as if a stranger had sent it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard, final

from ..core.plan import Effect, Why
from ..processes.memory import FRAMES
from .frames import LEVELS, Frame, Level

__all__ = [
    "DELAY_S",
    "JPEG",
    "Facts",
    "Handover",
    "Hello",
    "card_number_of",
    "facts_of",
    "handover_of",
    "hello_of",
]

JPEG: Final = b"\xff\xd8\xff"
"""How each begins. Source: ITU-T T.81, B.1.1.3 (SOI, and the first byte of the next marker)."""

DELAY_S: Final = 3.0
"""What `live.max_delay_s` may be at most; for a media process that does not say its own."""

_FILLS: Final = frozenset(effect.value for effect in Effect)
_EFFECTS: Final = ("configured", "silhouette")
_REASONS: Final = frozenset(why.name.lower() for why in Why)
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9 _-]{0,39}")
"""Names of labels and presets: of all ours (`core.labels`, `policy.PRESETS`) none has half of 40
letters."""

_MOST_LABELS: Final = 32
"""More than there are labels (`core.labels`). Chosen: room for some more."""

_AHEAD_NS: Final = 50_000_000
"""How far a time of the other process may lie ahead: both read one clock. Chosen."""

_LONGEST_DELAY_NS: Final = 60_000_000_000
"""From capture to being handed over; chosen as what no pipeline can mean (`live.max_delay_s` is 3
at most)."""


@final
@dataclass(frozen=True, slots=True)
class Hello:
    """What the media process says of itself; see `sinks.page.PageHello`."""

    hide: str | list[str]
    floor: Level
    level: Level
    silhouette: bool
    stored: bool
    delay_s: float
    fill: str
    keep_zones: bool


@final
@dataclass(frozen=True, slots=True)
class Facts:
    """What a live run measured, of `LiveRun.facts`.

    Attributes:
        fps: frames a second; None: not known.
        latency_ms: the median; None: not known.
        level: what is hidden now; None: it does not say.
        away: whether the camera is.
        person_s_ago: seconds since somebody was seen; None: not known.
    """

    fps: float | None
    latency_ms: float | None
    level: Level | None
    away: bool
    person_s_ago: float | None


@final
@dataclass(frozen=True, slots=True)
class Handover:
    """A frame that lies in the memory.

    Attributes:
        slot: where.
        number: under which.
        frame: what is said of it, without picture and sequence.
    """

    slot: int
    number: int
    frame: Frame


def hello_of(message: Mapping[str, Any]) -> Hello | None:
    """Returns what a ``hello`` says; None where it makes no sense."""
    floor, level = message.get("floor"), message.get("level")
    effect, stored = message.get("effect", "configured"), message.get("stored")
    hide, delay_s = message.get("hide"), message.get("delay_s", DELAY_S)
    keep_zones = message.get("keep_zones")
    names, fill = hide if isinstance(hide, list) else [hide], message.get("fill", "frost")
    if (
        floor not in LEVELS
        or level not in LEVELS
        or effect not in _EFFECTS
        or fill not in _FILLS
        or not isinstance(stored, bool)
        or not isinstance(keep_zones, bool)
        or not _is_number(delay_s)
        or not 0 < len(names) <= _MOST_LABELS
        or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names)
    ):
        return None
    return Hello(
        hide=[str(name) for name in names] if isinstance(hide, list) else str(hide),
        floor=floor,
        level=max(level, floor, key=LEVELS.index),
        silhouette=effect == "silhouette",
        stored=stored,
        delay_s=delay_s,
        fill=fill,
        keep_zones=keep_zones,
    )


def card_number_of(message: Mapping[str, Any]) -> int | None:
    """Returns the number that a ``card`` says; None where it makes no sense."""
    number = message.get("number")
    return number if _is_count(number) else None


def handover_of(message: Mapping[str, Any], now_ns: int) -> Handover | None:
    """Returns what a ``frame`` says; None where it makes no sense."""
    slot, number = message.get("slot"), message.get("number")
    sent_ns, captured_ns = message.get("sent_ns"), message.get("captured_ns")
    level, why = message.get("level"), message.get("why")
    requested, effect = message.get("requested", "parts"), message.get("effect", "configured")
    mirrored = message.get("mirrored", False)
    if not (_is_count(number) and _is_count(sent_ns) and _is_count(captured_ns)):
        return None
    if (
        type(slot) is not int
        or slot not in FRAMES
        or level not in LEVELS
        or requested not in LEVELS
        or effect not in _EFFECTS
        or not isinstance(mirrored, bool)
        or not (why is None or (isinstance(why, str) and why in _REASONS))
        or sent_ns > now_ns + _AHEAD_NS
        or not 0 <= sent_ns - captured_ns <= _LONGEST_DELAY_NS
    ):
        return None
    frame = Frame(
        jpeg=b"",
        sequence=0,
        sent_ns=sent_ns,
        captured_ns=captured_ns,
        covered=level == "frame",
        why=why,
        requested=requested,
        silhouette=effect == "silhouette",
        mirrored=mirrored,
    )
    return Handover(slot, number, frame)


def facts_of(message: Mapping[str, Any]) -> Facts | None:
    """Returns what ``facts`` say; None where they make no sense."""
    facts = message.get("facts")
    if not isinstance(facts, dict):
        return None
    latency = facts.get("latency_ms")
    middle = latency.get("p50") if isinstance(latency, dict) else latency
    level, source = facts.get("level"), facts.get("source")
    person_s_ago = facts.get("person_s_ago")
    fps = facts.get("fps")
    if (
        not all(value is None or _is_number(value) for value in (middle, fps, person_s_ago))
        or level not in (None, *LEVELS)
        or source not in (None, "up", "away")
    ):
        return None
    return Facts(fps, middle, level, source == "away", person_s_ago)


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 < value < 1 << 63


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and type(value) is not bool and 0 <= value < 1e9
