"""One input: where its output goes, and what is said of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from m2fp_stream.app.stills import ParseSummary
from m2fp_stream.config import Settings
from m2fp_stream.privacy.audio import AudioOptions
from tests.kit.cli import FakeApp, one_error, run

ROOT = Path(__file__).resolve().parents[3]

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("a.mp4", "a.anonymized.mp4"),
        ("b.mkv", "b.anonymized.mp4"),
        ("c.gif", "c.anonymized.gif"),
        ("d.jpg", "d.anonymized.jpg"),
    ],
)
def test_the_output_stands_beside_the_input(
    name: str, output: str, here: Path, app: FakeApp, capsys: Capture
) -> None:
    assert run("anonymize", name) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out == (
        f"{name} -> {output}: 120 frames, 2 wholly covered, looks: 120 faces, 17 people, "
        "9 parts; 3.1% covered on average, 4.0 s (30.0 fps)\n"
    )


def test_the_output_may_be_a_file_or_a_folder(here: Path, app: FakeApp) -> None:
    (here / "out").mkdir()
    assert run("anonymize", "a.mp4", "-o", "out") == 0
    assert run("anonymize", "a.mp4", "-o", "out/x.mp4") == 0
    assert app.outputs == [Path("out/a.anonymized.mp4"), Path("out/x.mp4")]


def test_the_kind_of_file_is_that_of_its_suffix_or_what_is_asked_for(
    here: Path, app: FakeApp
) -> None:
    assert run("anonymize", "a.mp4", "-o", "x.WEBM", "--crf", "60") == 0
    assert (app.settings.output.container, app.settings.output.encoder_name) == ("webm", "av1")
    assert run("anonymize", "a.mp4", "c.gif", "--container", "mkv") == 0
    assert app.outputs[1:] == [Path("a.anonymized.mkv"), Path("c.anonymized.gif")]
    (here / "c.yaml").write_text("output: {container: webm, crf: 9}", encoding="utf-8")
    assert run("anonymize", "a.mp4", "--config", "c.yaml") == 0
    assert app.outputs[-1] == Path("a.anonymized.webm")
    # One way to say how large is the end of another one in a file.
    assert run("anonymize", "a.mp4", "-o", "y.mp4", "--config", "c.yaml", "--bitrate", "2M") == 0
    output = app.settings.output
    assert (output.container, output.crf, output.bitrate) == ("mp4", None, 2_000_000)


def test_pipes_and_numbered_pictures_have_no_file_to_look_for(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    assert run("anonymize", "-", "-o", "x.mp4") == 0
    assert run("anonymize", "in/%03d.png", "-o", "x.mkv", "--fps", "30000/1001") == 0
    assert app.settings.source.fps == pytest.approx(29.97003)
    assert run("anonymize", "a.mp4", "-o", "new/%03d.png") == 0
    assert [call[:2] for call in app.calls] == [
        (Path("-"), Path("x.mp4")),
        (Path("in/%03d.png"), Path("x.mkv")),
        (Path("a.mp4"), Path("new/%03d.png")),
    ]
    assert (here / "new").is_dir()
    (here / "new" / "%03d.png").unlink()  # as the stand-in calls it
    (here / "new" / "007.png").touch()
    capsys.readouterr()
    assert run("anonymize", "a.mp4", "-o", "new/%03d.png") == 2
    assert one_error(capsys) == "new/007.png: exists; use --overwrite or another -o"


def test_of_a_film_on_standard_output_the_summary_is_told_elsewhere(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    assert run("anonymize", "a.mp4", "-o", "-", "--container", "mkv") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("m2fp-stream: a.mp4 -> -: 120 frames, ")


def test_overwrite_reaches_app_and_allows_an_existing_output(here: Path, app: FakeApp) -> None:
    assert run("anonymize", "a.mp4", "-o", "d.jpg", "--overwrite") == 0
    assert app.calls[-1][3] is True


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_overwrite_never_replaces_the_input(
    link: Callable[[str, str], None], here: Path, app: FakeApp, capsys: Capture
) -> None:
    link("a.mp4", "same.mp4")
    assert run("anonymize", "a.mp4", "-o", "same.mp4", "--overwrite") == 2
    assert "the output is the input" in one_error(capsys)
    assert app.calls == []


def test_a_missing_input_is_3_and_a_missing_output_folder_5(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    assert run("anonymize", "nope.mp4") == 3
    assert one_error(capsys) == "nope.mp4: no such file"
    assert run("anonymize", "a.mp4", "-o", "nope/x.mp4") == 5
    assert one_error(capsys) == "nope: no such output folder; create it first (mkdir -p)"
    assert run("anonymize", "x" * 300) == 3
    assert "File name too long" in one_error(capsys)
    for output in ("x" * 300, f"{'x' * 300}/x.mp4"):
        assert run("anonymize", "a.mp4", "-o", output) == 5
        assert "File name too long" in one_error(capsys)


def test_warnings_and_what_was_left_out_are_told(here: Path, app: FakeApp, capsys: Capture) -> None:
    app.warnings = ["HDR became SDR"]
    app.dropped = ("audio", "metadata (encoder)", "subtitles")
    assert run("anonymize", "a.mp4") == 0
    assert capsys.readouterr().err == (
        "m2fp-stream: warning: a.mp4: HDR became SDR\n"
        "m2fp-stream: warning: a.mp4: left out: audio, subtitles\n"
    )


def test_strict_makes_a_warning_an_error_but_not_what_is_left_out_as_asked(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    app.dropped = ("audio",)
    assert run("anonymize", "a.mp4", "--strict") == 0
    capsys.readouterr()
    app.warnings = ["HDR became SDR"]
    assert run("anonymize", "b.mkv", "--strict") == 3
    assert one_error(capsys) == "b.mkv: HDR became SDR (an error because of --strict)"
    assert not (here / "b.anonymized.mp4").exists()


def test_sound_is_left_out_unless_asked_for(here: Path, app: FakeApp) -> None:
    assert run("anonymize", "a.mp4") == 0
    assert app.settings.audio == AudioOptions()
    assert AudioOptions().mode == "drop"
    assert (
        run("anonymize", "b.mkv", "--audio", "disguise", "--mute", "0-2", "--mute", "3-1:00") == 0
    )
    disguised = AudioOptions(mode="disguise", mute=("0-2", "3-1:00"))
    assert app.settings.audio == disguised


def test_a_picture_has_no_use_for_sound_and_that_is_no_error(here: Path, app: FakeApp) -> None:
    assert run("anonymize", "d.jpg", "--audio", "keep") == 0


@pytest.mark.parametrize(
    ("sound", "told"),
    [
        ("kept", "120 frames, sound kept, 2"),
        ("disguised", "120 frames, sound disguised, 2"),
        ("left out", "120 frames, sound left out, 2"),
        ("none", "120 frames, no sound, 2"),
        ("", "120 frames, 2"),
    ],
)
def test_the_summary_says_what_became_of_the_sound(
    sound: str, told: str, here: Path, app: FakeApp, capsys: Capture
) -> None:
    app.sound = sound
    assert run("anonymize", "a.mp4", "--audio", "keep") == 0
    assert told in capsys.readouterr().out


def test_parse_writes_png_and_prints_the_labels(
    here: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    calls = []

    def parse_image(
        path_in: Path, path_out: Path, config: Settings, **options: object
    ) -> ParseSummary:
        calls.append((path_in, path_out, options["format"], options["overwrite"]))
        return ParseSummary(str(path_out), {"hair": 20, "background": 60, "face": 20}, (10, 10))

    monkeypatch.setattr("m2fp_stream.app.stills.parse_image", parse_image)
    assert run("parse", "d.jpg", "-o", "x.png", "--format", "palette", "--overwrite") == 0
    assert calls == [(Path("d.jpg"), Path("x.png"), "palette", True)]
    assert capsys.readouterr().out == (
        "d.jpg -> x.png: 10x10; 0 background 60.0%, 2 hair 20.0%, 13 face 20.0%\n"
    )
    (here / "out").mkdir()
    (here / "d.bmp").touch()
    calls.clear()
    assert run("parse", here, "-o", "out") == 0
    assert [call[1] for call in calls] == [Path("out/d.png"), Path("out/d.jpg.png")]


def test_parse_refuses_to_write_labels_over_another_picture(
    here: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    (here / "d.png").write_bytes(b"a photo")
    assert run("parse", "d.jpg", "d.png", "-o", ".", "--overwrite") == 2
    assert "d.png is another input" in one_error(capsys)
