"""`anonymize` with sound: asked for, and not."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from m2fp_stream import cli
from tests.kit import media, sound

Capture = pytest.CaptureFixture[str]


def anonymize(capsys: Capture, *words: str | Path) -> tuple[int, str, str]:
    done = cli.main(["anonymize", "--progress=off", *map(str, words)])
    return done, *capsys.readouterr()


def kinds(path: Path) -> list[str]:
    with av.open(path) as container:
        return [one.type for one in container.streams]


def film(path: Path) -> Path:
    return sound.write_film(
        path, [sound.voice(2, 48000), sound.voice(2, 48000, seed=2)], start_s=0.25, default=1
    )


def test_sound_is_left_out_kept_or_disguised_as_asked(tmp_path: Path, capsys: Capture) -> None:
    path = film(tmp_path / "a.mkv")
    done, out, err = anonymize(capsys, path, "-o", tmp_path / "drop.mp4")
    assert (done, kinds(tmp_path / "drop.mp4")) == (0, ["video"])
    assert "left out: audio, audio" in err
    assert ", sound " not in out
    # `high` reads the pictures twice; the sound once.
    keep = ("--audio", "keep", "--quality", "high", "-o", tmp_path / "keep.mp4")
    done, out, err = anonymize(capsys, path, *keep)
    assert (done, kinds(tmp_path / "keep.mp4")) == (0, ["video", "audio"])
    assert "left out: audio track 1" in err
    assert ", sound kept, " in out
    before = sound.heard(path, track=1)
    lag_s, height = sound.lag_s(before, sound.heard(tmp_path / "keep.mp4"))
    assert abs(lag_s) <= 0.002
    assert height > 0.95
    out_path = tmp_path / "disguise.mp4"
    done, out, _ = anonymize(
        capsys, path, "--audio", "disguise", "--mute", "0:01-9", "-o", out_path
    )
    assert (done, kinds(out_path)) == (0, ["video", "audio"])
    assert ", sound disguised, " in out
    after = sound.heard(out_path)
    assert abs(after[24000:48000]).max() > 0.05
    assert abs(after[48000 + 4096 :]).max() < 1e-3


def test_a_batch_hands_on_what_is_asked_of_sound(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.mp4", "b.mkv"):
        film(tmp_path / name)
    options = ("--audio", "keep", "--mute", "0-1", "--mute", "1.5-9", "--jobs", "2")
    done, out, _ = anonymize(capfd, tmp_path, *options)
    assert done == 0
    assert out.count(", sound kept, ") == 2
    for name in ("a", "b"):
        after = sound.heard(tmp_path / f"{name}.anonymized.mp4")
        assert abs(after[2048 : 48000 - 2048]).max() < 1e-3
        assert abs(after[48000:72000]).max() > 0.05


def test_where_there_is_no_sound_or_no_place_for_it_that_is_said(
    tmp_path: Path, capsys: Capture
) -> None:
    silent = media.write_video(tmp_path / "silent.mp4")
    done, out, _ = anonymize(capsys, silent, "--audio", "keep")
    assert (done, kinds(tmp_path / "silent.anonymized.mp4")) == (0, ["video"])
    assert ", no sound, " in out
    path = film(tmp_path / "a.mkv")
    done, out, err = anonymize(capsys, path, "--audio", "keep", "-o", tmp_path / "a.gif")
    assert done == 0
    assert ", sound left out, " in out
    assert "left out: audio, audio" in err


def test_sound_that_cannot_be_read_is_an_error_and_leaves_nothing(
    tmp_path: Path, capsys: Capture
) -> None:
    path = sound.write_film(
        tmp_path / "a.mov", [sound.voice(1, 48000)], codec="pcm_s16le", sample_format="s16"
    )
    path.write_bytes(path.read_bytes().replace(b"sowt", b"zzzz"))
    done, out, err = anonymize(capsys, path, "--audio", "keep")
    assert (done, out) == (3, "")
    assert "no decoder for its sound; " in err
    assert "--audio drop" in err
    assert [one.name for one in tmp_path.iterdir()] == ["a.mov"]
    assert anonymize(capsys, path, "--audio", "drop")[0] == 0
