"""What options, environment and files become."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2fp_stream.cli.show import live_summary
from m2fp_stream.config import Settings
from tests.kit.cli import FakeApp, run

ROOT = Path(__file__).resolve().parents[3]

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


def test_options_reach_the_settings(here: Path, app: FakeApp) -> None:
    words = "--hide face,left-arm --effect mosaic --effect Hair=solid --crf 18 --preset fast"
    words += " --threads 3 --start 1:02:03.5 --end 4000 --salvage --canvas 640x360"
    assert run("anonymize", "a.mp4", *words.split()) == 0
    policy, source, output = app.settings.policy, app.settings.source, app.settings.output
    assert (policy.hide, policy.effect) == (("face", "left-arm"), "mosaic")
    assert dict(policy.effects) == {"hair": "solid"}
    assert (source.start_s, source.end_s, source.salvage) == (3723.5, 4000.0, True)
    assert source.canvas == "640x360"
    assert (source.threads, output.threads) == (3, 3)
    assert (output.crf, output.preset) == (18, "fast")


def test_options_beat_environment_and_file(here: Path, app: FakeApp, monkeypatch: Patch) -> None:
    (here / "c.yaml").write_text("output: {crf: 1, preset: slow, threads: 4}", encoding="utf-8")
    monkeypatch.setenv("M2FP_STREAM_OUTPUT__CRF", "2")
    monkeypatch.setenv("M2FP_STREAM_OUTPUT__PRESET", "fast")
    assert run("anonymize", "a.mp4", "--config", "c.yaml", "--crf", "3") == 0
    output = app.settings.output
    assert (output.crf, output.preset, output.threads) == (3, "fast", 4)


def test_without_options_the_settings_are_the_defaults(here: Path, app: FakeApp) -> None:
    assert run("anonymize", "a.mp4") == 0
    assert app.settings == Settings()


def test_a_bare_effect_ends_what_the_file_says_about_single_labels(
    here: Path, app: FakeApp
) -> None:
    (here / "c.yaml").write_text("policy: {effects: {hair: mosaic}}", encoding="utf-8")
    assert run("anonymize", "a.mp4", "--config", "c.yaml", "--effect", "solid") == 0
    assert (app.settings.policy.effect, app.settings.policy.effects) == ("solid", {})


def test_options_of_m2fp_pass_where_a_file_switches_it_on(here: Path, app: FakeApp) -> None:
    (here / "c.yaml").write_text("m2fp: {enabled: true}", encoding="utf-8")
    assert run("anonymize", "a.mp4", "--config", "c.yaml", "--tiles", "2") == 0
    assert app.settings.m2fp.tiles == 2


def test_an_option_of_videos_passes_where_one_input_is_a_video(here: Path, app: FakeApp) -> None:
    assert run("anonymize", "d.jpg", "a.mp4", "--crf", "3") == 0
    assert run("anonymize", "d.jpg", "c.gif", "--start", "1", "--overwrite") == 0


def test_what_a_file_says_about_m2fp_in_vain_is_told_once(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    (here / "c.yaml").write_text("m2fp: {tiles: 2, threads: 2, kind: lip}", encoding="utf-8")
    assert run("anonymize", "a.mp4", "b.mkv", "--config", "c.yaml") == 0
    assert capsys.readouterr().err == (
        "m2fp-stream: m2fp.kind, m2fp.tiles: set in vain, for M2FP is off; m2fp.enabled or "
        "--parser m2fp switches it on\n"
    )
    for words in ("--parser embedded", "--parser m2fp"):
        command = f"anonymize a.mp4 --config c.yaml --overwrite {words}"
        assert run(*command.split()) == 0
        assert capsys.readouterr().err == ""


@pytest.fixture
def live(monkeypatch: Patch) -> list[Settings]:
    """The settings with which live runs were started; nothing runs."""
    started: list[Settings] = []
    names = ("frames", "frames_wholly_covered", "dropped", "reconnects", "uptime_s")

    def run_live(settings: Settings, **_: object) -> dict[str, object]:
        started.append(settings)
        return {**dict.fromkeys(names, 0), "looks": {"faces": 3}}

    monkeypatch.setattr("m2fp_stream.app.live.run_live", run_live)
    return started


@pytest.mark.parametrize(
    ("words", "file", "variable", "mirrored"),
    [
        ("", None, None, True),
        ("--camera 1", None, None, True),
        ("--source synthetic", None, None, False),
        ("--source synthetic --mirror", None, None, True),
        ("--no-mirror", None, None, False),
        ("", "false", None, False),
        ("", "true", None, True),
        ("--source synthetic", "true", None, True),
        ("", None, "false", False),
        ("", "true", "false", False),
        ("--mirror", "false", "false", True),
        ("--no-mirror", "true", "true", False),
    ],
)
def test_a_cameras_window_is_a_mirror_unless_somebody_said_otherwise(
    words: str,
    file: str | None,
    variable: str | None,
    mirrored: bool,
    here: Path,
    live: list[Settings],
    monkeypatch: Patch,
) -> None:
    if file is not None:
        (here / "c.yaml").write_text(f"window: {{mirror: {file}}}", encoding="utf-8")
        words += " --config c.yaml"
    if variable is not None:
        monkeypatch.setenv("M2FP_STREAM_WINDOW__MIRROR", variable)
    assert run("preview", *words.split()) == 0
    assert [settings.window.mirror for settings in live] == [mirrored]


def test_zones_reach_the_settings_in_their_order(here: Path, app: FakeApp) -> None:
    words = "--zone 0.1,0.2,0.3,0.4 --zone 10,10,90,10,50,40@0:12-0:30 --keep-zone 0,0,.5,.5"
    words += " --invert --cover-span 0:10-0:12 --cover-span 20- --effect zone=solid"
    assert run("anonymize", "a.mp4", *words.split()) == 0
    policy = app.settings.policy
    assert policy.zones == ("0.1,0.2,0.3,0.4", "10,10,90,10,50,40@0:12-0:30")
    assert (policy.keep_zones, policy.invert) == (("0,0,.5,.5",), True)
    assert policy.cover_spans == ("0:10-0:12", "20-")
    assert policy.effects == {"zone": "solid"}


def test_zones_of_the_command_line_replace_those_of_a_file(here: Path, app: FakeApp) -> None:
    (here / "c.yaml").write_text(
        "policy:\n  zones:\n    - 0,0,1,1\n    - 0,0,.5,.5\n  keep_zones: ['0,0,.1,.1']",
        encoding="utf-8",
    )
    assert run("anonymize", "a.mp4", "--config", "c.yaml") == 0
    before = app.settings.policy
    assert before.zones == ("0,0,1,1", "0,0,.5,.5")
    more = ["--zone", "0,0,.2,.2", "--overwrite"]
    assert run("anonymize", "a.mp4", "--config", "c.yaml", *more) == 0
    assert app.settings.policy.zones == ("0,0,.2,.2",)
    assert before.keep_zones == ("0,0,.1,.1",)
    assert app.settings.policy.keep_zones == ("0,0,.1,.1",)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--zone 0.3,0.2,0.1,0.4", "--zone: '0.3,0.2,0.1,0.4' has no area"),
        ("--zone nan,0,1,1", "--zone: expected x1,y1,x2,y2"),
        ("--zone=-0.1,0,1,1", "--zone: -0.1 lies outside the picture"),
        ("--zone 0,0,1,1,1,0,0,1", "--zone: the sides of"),
        ("--zone 0,0,1,1@0:30-0:12", "--zone: '0:30-0:12' ends before it begins"),
        ("--keep-zone 0,0,1", "--keep-zone: expected x1,y1,x2,y2"),
        ("--cover-span 0:10", "--cover-span: expected a time from BEGIN-END"),
        ("--cover-span 12-10", "--cover-span: '12-10' ends before it begins"),
        ("--invert", "invert covers all but the zones, and there is none"),
        ("--effect zones=solid", "--effect: unknown label 'zones'"),
    ],
)
def test_what_is_no_zone_is_one_line_and_exit_2(
    here: Path, app: FakeApp, capsys: Capture, words: str, expected: str
) -> None:
    assert run("anonymize", "a.mp4", *words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("zones: [0.1, 0.2, 0.3, 0.4]", "policy.zones: expected a list of texts"),
        ("zones: 0.1,0.2,0.3,0.4", "policy.zones: expected a list of texts"),
        ("keep_zones: ['0.1,0.2']", "policy.keep_zones: expected x1,y1,x2,y2"),
        ("cover_spans: ['9-1']", "policy.cover_spans: '9-1' ends before it begins"),
        ("invert: true", "policy: invert covers all but the zones"),
    ],
)
def test_a_file_with_what_is_no_zone_says_where(
    here: Path, app: FakeApp, capsys: Capture, text: str, expected: str
) -> None:
    (here / "c.yaml").write_text(f"policy: {{{text}}}", encoding="utf-8")
    if text.startswith("zones: 0"):
        (here / "c.yaml").write_text(f"policy:\n  {text}", encoding="utf-8")
    assert run("anonymize", "a.mp4", "--config", "c.yaml") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


@pytest.mark.parametrize("words", [["preview"], ["kiosk", "--no-browser"]])
def test_a_time_is_refused_for_live_pictures(
    here: Path, app: FakeApp, capsys: Capture, words: list[str]
) -> None:
    assert run(*words, "--zone", "0,0,1,1@0:12-0:30") == 2
    assert "are for files" in capsys.readouterr().err


def test_a_span_is_refused_for_pictures(here: Path, app: FakeApp, capsys: Capture) -> None:
    assert run("anonymize", "d.jpg", "--cover-span", "1-2") == 2
    assert "--cover-span: is for videos and GIFs; d.jpg is none" in capsys.readouterr().err


def test_a_live_summary_tells_that_people_were_left_alone() -> None:
    facts = {
        **dict.fromkeys(("frames", "frames_wholly_covered", "dropped", "reconnects"), 0),
        "uptime_s": 1.0,
        "looks": {},
    }
    assert "left alone" not in live_summary(facts)
    facts["frames_with_people_left_alone"] = 7
    assert "7 with people left alone in a keep-zone" in live_summary(facts)
