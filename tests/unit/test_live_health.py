"""How a live run is, in one word, and the health check that says so by its exit code."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from m2fp_stream import cli
from m2fp_stream.pipeline.live.health import Health, judge, judged, losses


def sink(up: bool = True, lost: int = 0, why: str = "") -> dict[str, Any]:
    return {"up": up, "written": 90, "dropped": lost, "lost": lost, "failures": 0, "why": why}


def facts(**more: Any) -> dict[str, Any]:
    return {
        "uptime_s": 100.0,
        "fps": 24.9,
        "frames": 2500,
        "covered_fraction": 0.1,
        "source": "up",
        "sinks": {"window": sink(), "recording": sink(), "virtual camera": sink()},
        **more,
    }


def sinks(**changed: dict[str, Any]) -> dict[str, Any]:
    return {"window": sink(), "recording": sink(), "virtual camera": sink(), **changed}


@pytest.mark.parametrize(
    ("measured", "health", "problems", "code"),
    [
        (facts(), "ok", (), 0),
        (facts(source="away"), "failing", ("source_away",), 3),
        (facts(fps=0), "failing", ("no_frames",), 3),
        (facts(fps=0.4), "ok", (), 0),
        (facts(frames=0, fps=0, uptime_s=5.0), "degraded", ("starting",), 0),
        (facts(frames=0, fps=0, uptime_s=99.0), "failing", ("no_frames",), 3),
        (facts(covered_fraction=1.0), "degraded", ("all_covered",), 0),
        (facts(covered_fraction=None), "ok", (), 0),
        (facts(sinks=sinks(window=sink(False))), "degraded", ("window_down",), 0),
        (facts(sinks=sinks(recording=sink(False))), "failing", ("recording_down",), 5),
        (
            facts(sinks=sinks(**{"virtual camera": sink(False)})),
            "degraded",
            ("virtual_camera_down",),
            0,
        ),
        (facts(sinks={"server": sink(False)}), "failing", ("server_down",), 5),
        (
            facts(sinks=sinks(recording=sink(lost=7, why="full"))),
            "degraded",
            ("recording_lost",),
            0,
        ),
        (
            facts(source="away", sinks=sinks(recording=sink(False, 7))),
            "failing",
            ("source_away", "recording_down", "recording_lost"),
            3,
        ),
        ({}, "ok", (), 0),
    ],
)
def test_health_is_one_word_with_reasons(
    measured: dict[str, Any], health: str, problems: tuple[str, ...], code: int
) -> None:
    found = judge(measured)
    assert (found.health.value, found.problems, found.exit_code) == (health, problems, code)


def test_a_run_that_is_over_says_so_and_whether_anything_was_lost() -> None:
    assert judge(facts(), running=False).health is Health.ENDED
    assert judge(facts(), running=False).problems == ()
    lost = facts(sinks=sinks(recording=sink(lost=3, why="the disk is full")))
    assert judge(lost, running=False).problems == ("recording_lost",)
    assert losses(lost) == ["recording: 3 frames are lost, 90 are kept (the disk is full)"]


def write(path: Path, health: dict[str, Any], age_s: float = 0.0) -> None:
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age_s)
    path.write_text(json.dumps({**health, "time": then.isoformat()}), encoding="utf-8")


@pytest.mark.parametrize(
    ("measured", "age_s", "code", "says"),
    [
        (judged(facts()), 1.0, 0, "ok\n"),
        (judged(facts(covered_fraction=1.0)), 1.0, 0, "degraded: all_covered\n"),
        (judged(facts(source="away")), 1.0, 3, "failing: source_away; see what the run says"),
        (judged(facts(sinks={"push": sink(False)})), 1.0, 5, "failing: push_down; see"),
        (judged(facts()), 40.0, 1, "40 seconds old, at most 30 are expected"),
        (judged(facts(), running=False), 1.0, 1, "ended: the run is over"),
    ],
)
def test_a_health_check_is_one_line_and_an_exit_code(
    measured: dict[str, Any],
    age_s: float,
    code: int,
    says: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "stats.json"
    write(path, measured, age_s)
    assert cli.main(["doctor", "--stats", str(path)]) == code
    out, errors = capfd.readouterr()
    assert says in (errors if code else out)
    assert len((out + errors).splitlines()) == 1


def test_a_health_check_may_be_more_patient(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "stats.json", judged(facts()), 40.0)
    arguments = ["doctor", "--stats", str(tmp_path / "stats.json"), "--max-age", "60"]
    assert cli.main(arguments) == 0


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (None, 1, "is not there; the run has not begun"),
        ("{", 2, "was not made by a live run"),
        ("[]", 2, "was not made by a live run"),
        ('{"health": "splendid", "time": "2026-01-01T00:00:00+00:00"}', 2, "was not made by"),
        ('{"health": "ok", "time": "2026-01-01T00:00:00"}', 2, "was not made by a live run"),
        ('{"health": "ok", "time": "2026-01-01T00:00:00Z", "sinks": 3}', 2, "was not made by"),
    ],
)
def test_a_health_check_of_something_else_is_no_health(
    text: str | None, code: int, says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "stats.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert cli.main(["doctor", "--stats", str(path)]) == code
    assert says in capfd.readouterr().err
