"""Outputs as people need them: other kinds of film, pipes, numbered pictures."""

from __future__ import annotations

import importlib
import io
import os
import select
import signal
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from m2fp_stream import cli
from tests.kit import media, sound
from tests.kit.cli import clean_environment, program
from tests.kit.wait import wait_until

Capture = pytest.CaptureFixture[str]

FACE = slice(50, 170), slice(175, 275)
"""By hand, in what `portrait` returns: Eileen Collins, NASA, public domain."""


@pytest.fixture(scope="module")
def portrait() -> media.BGR:
    folder = Path(str(importlib.import_module("skimage").__file__)).parent
    picture = cv2.imread(str(folder / "data" / "astronaut.png"))
    assert picture is not None
    return np.ascontiguousarray(picture[20:380, :400], np.uint8)


def likeness(one: media.BGR, other: media.BGR) -> float:
    """Correlation of fine structure, 1 for the same picture, about 0 for a cover."""
    edges = [cv2.Laplacian(cv2.GaussianBlur(p, (0, 0), 1.5), cv2.CV_32F) for p in (one, other)]
    flat = [np.asarray(e, np.float64).ravel() - float(np.mean(e)) for e in edges]
    return float(flat[0] @ flat[1] / (np.linalg.norm(flat[0]) * np.linalg.norm(flat[1]) + 1e-9))


def anonymize(capfd: Capture, *words: str | Path) -> tuple[int, str, str]:
    done = cli.main(["anonymize", "--progress=off", *map(str, words)])
    return done, *capfd.readouterr()


def test_a_film_goes_through_pipes_covered_and_alone(portrait: media.BGR, tmp_path: Path) -> None:
    times = [0, 40, 81, 300, 340, 341]
    film = media.write_video(
        tmp_path / "a.mp4",
        size_wh=(400, 360),
        frames=[portrait] * len(times),
        pts=times,
        time_base=Fraction(1, 1000),
    )
    done = subprocess.run(
        program("anonymize", "-", "-o", "-", "--container", "webm", "--quality", "high"),
        input=film.read_bytes(),
        capture_output=True,
        env=clean_environment(),
        cwd=tmp_path,
        check=False,
    )
    errors = done.stderr.decode()
    assert done.returncode == 0, errors
    assert errors.splitlines()[0] == (
        "m2fp-stream: what is piped in gets quality standard; name the file for high"
    )
    assert errors.splitlines()[-1].startswith("m2fp-stream: - -> -: 6 frames, ")
    with av.open(io.BytesIO(done.stdout), "r") as container:
        assert [one.type for one in container.streams] == ["video"]
        got = list(container.decode(video=0))
        assert [round((one.time or 0) * 1000) for one in got] == times
    for one in got:
        covered = np.asarray(one.to_ndarray(format="bgr24"), np.uint8)
        assert likeness(portrait[FACE], covered[FACE]) < 0.3
        assert likeness(portrait[:150, :150], covered[:150, :150]) > 0.5, "the control"
    assert [one.name for one in tmp_path.iterdir()] == ["a.mp4"]


def test_a_reader_that_goes_is_5_and_a_pipe_that_ends_too_early_3(tmp_path: Path) -> None:
    film = media.write_video(tmp_path / "a.mkv", count=40)
    reading, writing = os.pipe()
    os.close(reading)
    gone = subprocess.run(
        program("anonymize", str(film), "-o", "-"),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
        check=False,
    )
    os.close(writing)
    assert (gone.returncode, gone.stderr) == (
        5,
        "m2fp-stream: error: standard output: its reader has gone before the film was complete\n",
    )
    cut = subprocess.run(
        program("anonymize", "-", "-o", "x.mp4"),
        input=film.read_bytes()[:-1500],
        capture_output=True,
        env=clean_environment(),
        cwd=tmp_path,
        check=False,
    )
    assert (cut.returncode, cut.stdout) == (3, b"")
    assert cut.stderr.startswith(b"m2fp-stream: error: standard input: damaged or cut short")
    assert cut.stderr.count(b"\n") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["a.mkv"]


def test_an_interrupt_does_not_wait_for_a_reader_that_pauses(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    pictures = [random.integers(0, 256, (240, 320, 3), np.uint8) for _ in range(20)]
    film = media.write_video(tmp_path / "a.mkv", size_wh=(320, 240), frames=pictures * 3)
    reading, writing = os.pipe()
    process = subprocess.Popen(
        program("anonymize", str(film), "-o", "-", "--crf", "0", "--preset", "ultrafast"),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    with os.fdopen(reading, "rb"), os.fdopen(writing, "wb"):
        room = select.poll()
        room.register(writing, select.POLLOUT)
        wait_until(lambda: not room.poll(0))  # until it is full
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (
        130,
        "m2fp-stream: interrupted; nothing unfinished was kept\n",
    )


def test_other_kinds_of_film_keep_sound_and_times_and_nothing_else(
    tmp_path: Path, capfd: Capture
) -> None:
    secret = "N0T-F0R-Y0U"
    spoken = sound.voice(1, 44100)
    film = sound.write_film(
        tmp_path / "a.mkv",
        [spoken],
        rate=44100,
        start_s=0.2,
        video_pts=[0, 40, 41, 100, 600, 900],
        video_base=Fraction(1, 1000),
        metadata={"title": secret, "location": secret},
    )
    assert secret.encode() in film.read_bytes(), "the control"
    before = sound.heard(film)
    for name, more in {
        "x.webm": ["--audio", "disguise"],
        "y.mkv": ["--encoder", "x265", "--keep-quality"],
        "z.mp4": ["--encoder", "av1", "--bitrate", "300k"],
    }.items():
        path = tmp_path / name
        done, out, err = anonymize(capfd, film, "-o", path, "--audio", "keep", *more)
        assert done == 0, err
        assert secret.encode() not in path.read_bytes()
        with av.open(path) as container:
            assert [one.type for one in container.streams] == ["video", "audio"]
            got = [round((one.time or 0) * 1000) for one in container.decode(video=0)]
        assert got == [0, 40, 41, 100, 600, 900]
        if name == "x.webm":
            assert "sound of 44100 Hz becomes 48000 Hz" in err
            assert ", sound disguised, " in out
            continue
        lag, height = sound.lag_s(before, sound.heard(path))
        assert abs(lag) <= 0.002
        assert height > 0.9
        kinds = {"y.mkv": "HEVC at 0.", "z.mp4": "AV1 at 0.3 Mb/s, "}
        assert kinds[name] in out
        assert ("(the input's)" in out) == (name == "y.mkv")


def test_frames_become_numbered_pictures_and_these_a_film(
    portrait: media.BGR, tmp_path: Path, capfd: Capture
) -> None:
    film = media.write_video(tmp_path / "a.mp4", size_wh=(400, 360), frames=[portrait] * 4)
    pattern = tmp_path / "new" / "%03d.png"
    done, out, err = anonymize(capfd, film, "-o", pattern)
    assert (done, out.count("\n")) == (0, 1), err
    names = sorted(one.name for one in pattern.parent.iterdir())
    assert names == ["001.png", "002.png", "003.png", "004.png"]
    for name in names:
        picture = cv2.imread(str(pattern.parent / name))
        assert picture is not None
        assert likeness(portrait[FACE], np.asarray(picture[FACE], np.uint8)) < 0.3
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(3, 7):
        cv2.imwrite(str(raw / f"{number}.jpg"), portrait)
    again = tmp_path / "b.mkv"
    more = ("--fps", "30000/1001", "--keep-quality", "-o", again)
    done, out, err = anonymize(capfd, raw / "%d.jpg", *more)
    assert done == 0, err
    assert "the input's bit rate is unknown; CRF 20 was taken" in err
    assert "H.264, CRF 20" in out
    with av.open(again) as container:
        got = list(container.decode(video=0))
    assert [round((one.time or 0) * 1000) for one in got] == [0, 33, 67, 100]
    for one in got:
        covered = np.asarray(one.to_ndarray(format="bgr24"), np.uint8)
        assert likeness(portrait[FACE], covered[FACE]) < 0.3
