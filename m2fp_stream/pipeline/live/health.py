"""Whether a live run does what it is there for, in one word, from what it measured."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any, Final, final

__all__ = ["Health", "Judgement", "judge", "judged", "losses"]

_STARTS_S: Final = 60.0
"""How long a run may take to its first frame, as `pipeline.workers` gives a worker."""

_ALL_COVERED: Final = 0.98
"""Share of the picture, over ten seconds, from which nothing of it is to be seen any more."""

_KEEPS: Final = "recording"
"""The sink whose output is to be kept; see `app.live_sinks`."""


@final
@unique
class Health(StrEnum):
    """How a run is.

    OK: everything that is switched on works. DEGRADED: something gets out, but not all, or not as
    wanted. FAILING: nobody gets what the run is for. ENDED: it is over.
    """

    OK = "ok"
    DEGRADED = "degraded"
    FAILING = "failing"
    ENDED = "ended"


@final
@dataclass(frozen=True, slots=True)
class Judgement:
    """What `judge` found.

    Attributes:
        health: in one word.
        problems: what is wrong, the worst first: ``source_away``, ``no_frames``,
            ``SINK_down`` (spaces are underscores), ``all_covered``, ``recording_lost``,
            ``starting``. Names stay; more may come.
        exit_code: of a health check: 0 for OK and DEGRADED, 3 where the source fails, 5 where an
            output does, 1 for ENDED.
    """

    health: Health
    problems: tuple[str, ...]
    exit_code: int


def judge(facts: Mapping[str, Any], *, running: bool = True) -> Judgement:
    """Judges what `LiveRun.facts` returned.

    Args:
        facts: of them ``source``, ``frames``, ``fps``, ``uptime_s``, ``covered_fraction`` and
            ``sinks`` are looked at; one that is not there says nothing.
        running: False for the last facts of a run.
    """
    lost = ("recording_lost",) if losses(facts) else ()
    if not running:
        return Judgement(Health.ENDED, lost, 1)
    sinks = facts.get("sinks") or {}
    down = [name for name, one in sinks.items() if not one["up"]]
    downs = tuple(f"{name.replace(' ', '_')}_down" for name in down)
    starting = facts.get("frames") == 0 and facts.get("uptime_s", 0.0) < _STARTS_S
    covered = facts.get("covered_fraction") or 0.0
    if facts.get("source") == "away":
        return Judgement(Health.FAILING, ("source_away", *downs, *lost), 3)
    if starting:
        return Judgement(Health.DEGRADED, (*downs, *lost, "starting"), 0)
    if facts.get("fps") == 0:
        return Judgement(Health.FAILING, ("no_frames", *downs, *lost), 3)
    if down and (len(down) == len(sinks) or _KEEPS in down):
        return Judgement(Health.FAILING, (*downs, *lost), 5)
    problems = (*downs, *(("all_covered",) if covered >= _ALL_COVERED else ()), *lost)
    return Judgement(Health.DEGRADED if problems else Health.OK, problems, 0)


def judged(facts: Mapping[str, Any], *, running: bool = True) -> dict[str, Any]:
    """Returns `facts` with ``time`` (now, UTC, ISO 8601), ``health`` and ``problems`` in front."""
    judgement = judge(facts, running=running)
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "health": judgement.health.value,
        "problems": list(judgement.problems),
        **facts,
    }


def losses(facts: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each output that is to be kept and that a failure took frames from."""
    return [
        f"{name}: {one['lost']} frames are lost, {one['written']} are kept ({one['why']})"
        for name, one in (facts.get("sinks") or {}).items()
        if one.get("lost")
    ]
