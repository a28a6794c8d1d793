"""Every bad input: one clear line, the right code, nothing left.

The program runs in this process where nothing is lost by that, which saves its start; each exit
code is seen from a process of its own, too.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import cv2
import numpy as np
import pytest

from m2fp_stream import cli
from tests.kit.cli import clean_environment, program

ROOT = Path(__file__).resolve().parents[2]

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2


def write_clip(path: Path, *, frames: int = 12, audio: bool = False) -> None:
    """A moving gradient of 96x64, 10 frames a second; `audio` adds a second track of tone."""
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream("aac", rate=8000, layout="mono") if audio else None
        ramp = np.linspace(0, 200, 96, dtype=np.uint8)
        for number in range(frames):
            picture = np.repeat(np.roll(ramp, 5 * number)[None, :, None], 64, axis=0)
            frame = av.VideoFrame.from_ndarray(np.repeat(picture, 3, axis=2), format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            write_tone(container, sound)


def write_tone(container: av.container.OutputContainer, sound: av.AudioStream) -> None:
    tone = (np.sin(np.arange(8000) / 5) * 9000).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(tone[None, :], format="s16", layout="mono")
    frame.sample_rate = 8000
    container.mux(sound.encode(frame))
    container.mux(sound.encode(None))


def write_audio_only(path: Path) -> None:
    with av.open(path, "w") as container:
        write_tone(container, container.add_stream("aac", rate=8000, layout="mono"))


def write_without_frames(path: Path) -> None:
    with av.open(path, "w", format="matroska") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        container.start_encoding()


def write_random(path: Path) -> None:
    path.write_bytes(random.Random(7).randbytes(100_000))


def write_text(path: Path) -> None:
    path.write_text("I am not a video.\n" * 500, encoding="utf-8")


def write_half_index_last(path: Path) -> None:
    write_clip(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_half_mkv(path: Path) -> None:
    write_clip(path, frames=60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_enormous_gif(path: Path) -> None:
    """A logical screen of 65535x65535 pixels, 12.9 GB as BGR, in 60 bytes."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    image = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\x00;"
    path.write_bytes(screen + image)


def write_enormous_png(path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + b"\0\0\0\0")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    write_clip(tmp_path / "good.mp4")
    return tmp_path


def snapshot(folder: Path) -> dict[str, str]:
    """Every path below `folder`, hidden ones too, with its content's hash."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        )
        for path in sorted(folder.rglob("*"))
    }


class Refuse(Protocol):
    """Runs a command that is to be refused."""

    def __call__(self, words: list[str], code: int, *expected: str) -> None:
        """Compares the exit code, and looks for the texts in the one line of the message."""


@pytest.fixture
def refused(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Refuse]:
    """Refusals in this process; what libraries print themselves is seen, too."""
    monkeypatch.chdir(here)
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    threads = cv2.getNumThreads()

    def refuse(words: list[str], code: int, *expected: str) -> None:
        capfd.readouterr()
        caplog.clear()
        returned = cli.main(program(*words)[3:])
        out, err = capfd.readouterr()
        assert (returned, out) == (code, ""), err
        check_line(err, expected)
        # A process of its own would print these.
        assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []

    yield refuse
    cv2.setNumThreads(threads)


def refused_by_a_process(
    here: Path,
    words: list[str],
    code: int,
    *expected: str,
    before_exec: Callable[[], None] | None = None,
) -> None:
    done = subprocess.run(
        program(*words),
        cwd=here,
        env=clean_environment() | {"XDG_DATA_HOME": str(here / "nothing was pulled")},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=before_exec,
    )
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    check_line(done.stderr, expected)


def check_line(err: str, expected: Sequence[str]) -> None:
    assert err.count("\n") == 1, err
    assert err.startswith("m2fp-stream: error: ")
    for text in expected:
        assert text in err


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--effect", "nose=solid"], 2, "unknown label 'nose'"),
        (["--start", "9"], 3, "good.mp4"),
        (["--parser", "m2fp"], 4, "models pull m2fp"),
        (["-o", "nope/x.mp4"], 5, "nope: no such output folder"),
    ],
)
def test_a_process_ends_with_the_code(
    words: list[str], code: int, expected: str, here: Path
) -> None:
    """Codes of failures in part and of interrupts are below; 1 and 6 are no fault of an input."""
    before = snapshot(here)
    refused_by_a_process(here, ["anonymize", "good.mp4", *words], code, expected)
    assert snapshot(here) == before


def test_a_good_input_passes_so_the_refusals_below_mean_something(here: Path) -> None:
    before = snapshot(here)
    done = subprocess.run(
        program("anonymize", "good.mp4"),
        cwd=here,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    after = snapshot(here)
    assert after.keys() - before.keys() == {"good.anonymized.mp4"}
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("empty.mp4", Path.touch),
        ("random.mp4", write_random),
        ("random.mkv", write_random),
        ("random.gif", write_random),
        ("random.jpg", write_random),
        ("random", write_random),
        ("text.mp4", write_text),
        ("text.png", write_text),
        ("sound.mp4", write_audio_only),
        ("frameless.mkv", write_without_frames),
        ("half.mp4", write_half_index_last),
        ("half.mkv", write_half_mkv),
        ("enormous.gif", write_enormous_gif),
        ("enormous.png", write_enormous_png),
        ("folder.mp4/inside.txt", write_text),
    ],
)
def test_an_input_that_is_no_video_is_3(
    name: str, write: Callable[[Path], None], here: Path, refused: Refuse
) -> None:
    (here / name).parent.mkdir(exist_ok=True)
    write(here / name)
    before = snapshot(here)
    shown = name.partition("/")[0]
    refused(["anonymize", shown], 3, shown)
    assert snapshot(here) == before


def test_a_missing_input_is_3(here: Path, refused: Refuse) -> None:
    before = snapshot(here)
    refused(["anonymize", "nope.mp4"], 3, "nope.mp4: no such file")
    refused(["parse", "nope.png", "-o", "out.png"], 3, "nope.png: no such file")
    assert snapshot(here) == before


def test_a_path_that_looks_like_a_url_is_a_missing_file(here: Path, refused: Refuse) -> None:
    before = snapshot(here)
    refused(["anonymize", "http://127.0.0.1:9/a.mp4"], 3, "no such file")
    assert snapshot(here) == before


def test_the_pixel_limit_can_be_configured(
    here: Path, refused: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(here)
    monkeypatch.setenv("M2FP_STREAM_SOURCE__MAX_PIXELS", "6143")  # 96x64 is 6144
    refused(["anonymize", "good.mp4"], 3, "good.mp4")
    assert snapshot(here) == before


def drop_privilege() -> None:
    """In the child: root without the capabilities that let it pass permissions."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "prctl")


@contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    before = path.stat().st_mode
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)


@pytest.fixture
def unprivileged() -> Callable[[], None]:
    """For `before_exec`; skips where this process may not give up its privilege."""
    try:
        subprocess.run([sys.executable, "-c", ""], preexec_fn=drop_privilege, check=True)
    except subprocess.SubprocessError:
        pytest.skip("cannot drop CAP_DAC_OVERRIDE here")
    return drop_privilege


def test_an_unreadable_input_is_3(here: Path, unprivileged: Callable[[], None]) -> None:
    (here / "secret").mkdir()
    write_clip(here / "secret/clip.mp4")
    before = snapshot(here)
    for closed, name in (
        ("good.mp4", "good.mp4"),
        ("secret", "secret/clip.mp4"),
        ("secret", "secret"),
    ):
        with mode(here / closed, 0):
            words = ["anonymize", name, "-o", "."]
            refused_by_a_process(here, words, 3, name, "ermission", before_exec=unprivileged)
    assert snapshot(here) == before


def test_an_unwritable_output_folder_is_5(here: Path, unprivileged: Callable[[], None]) -> None:
    (here / "out").mkdir()
    before = snapshot(here)
    with mode(here / "out", 0o555):
        for output in ("out", "out/x.mp4"):
            words = ["anonymize", "good.mp4", "-o", output]
            refused_by_a_process(here, words, 5, "out", "ermission", before_exec=unprivileged)
    assert snapshot(here) == before


def test_a_missing_output_folder_is_5(here: Path, refused: Refuse) -> None:
    before = snapshot(here)
    refused(["anonymize", "good.mp4", "-o", "nope/x.mp4"], 5, "nope: no such output folder")
    refused(["anonymize", ".", "-o", "nope/out"], 5, "nope: no such output folder")
    assert snapshot(here) == before


def test_an_output_that_is_the_input_is_2(here: Path, refused: Refuse) -> None:
    (here / "link.mp4").symlink_to("good.mp4")
    (here / "hard.mp4").hardlink_to(here / "good.mp4")
    before = snapshot(here)
    for output in ("good.mp4", "./good.mp4", "link.mp4", "hard.mp4", str(here / "good.mp4")):
        for more in ([], ["--overwrite"]):
            words = ["anonymize", "good.mp4", "-o", output, *more]
            refused(words, 2, "the output is the input")
    assert snapshot(here) == before


def test_an_existing_output_is_2_unless_it_may_be_replaced(here: Path, refused: Refuse) -> None:
    (here / "good.anonymized.mp4").write_bytes(b"precious")
    (here / "old.mp4").write_bytes(b"precious")
    before = snapshot(here)
    refused(["anonymize", "good.mp4"], 2, "good.anonymized.mp4: exists", "--overwrite")
    refused(["anonymize", "good.mp4", "-o", "old.mp4"], 2, "old.mp4: exists")
    assert snapshot(here) == before


def test_an_input_that_fails_leaves_the_existing_output(here: Path, refused: Refuse) -> None:
    write_half_mkv(here / "half.mkv")
    (here / "old.mp4").write_bytes(b"precious")
    before = snapshot(here)
    refused(["anonymize", "half.mkv", "-o", "old.mp4", "--overwrite"], 3, "half.mkv")
    assert snapshot(here) == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--hide", "fcae"], "did you mean face"),
        (["--effect", "nose=solid"], "unknown label 'nose'"),
        (["--hidee", "face"], "unknown option '--hidee'; did you mean --hide"),
        (["--crf", "77"], "--crf: expected less than or equal to 51"),
        (["--config", "bad.yaml"], "bad.yaml: policy.hid: unknown key; did you mean policy.hide?"),
        (["-o", "out.xyz"], "out.xyz"),
    ],
)
def test_wrong_options_are_2(words: list[str], expected: str, here: Path, refused: Refuse) -> None:
    (here / "bad.yaml").write_text("policy: {hid: face}", encoding="utf-8")
    before = snapshot(here)
    refused(["anonymize", "good.mp4", *words], 2, expected)
    assert snapshot(here) == before


def test_an_unknown_variable_is_2(
    here: Path, refused: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(here)
    monkeypatch.setenv("M2FP_STREAM_POLICY_HIDE", "person")
    refused(["anonymize", "good.mp4"], 2, "did you mean M2FP_STREAM_")
    assert snapshot(here) == before


def test_salvage_writes_what_a_truncated_input_holds(here: Path) -> None:
    write_half_mkv(here / "half.mkv")
    done = subprocess.run(
        program("anonymize", "half.mkv", "--salvage"),
        cwd=here,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("m2fp-stream: warning: half.mkv: ")
    with av.open(here / "half.anonymized.mp4") as container:
        assert 10 < sum(1 for _ in container.decode(video=0)) < 60


def test_strict_refuses_what_salvage_would_write_with_a_warning(
    here: Path, refused: Refuse
) -> None:
    write_half_mkv(here / "half.mkv")
    before = snapshot(here)
    refused(["anonymize", "half.mkv", "--salvage", "--strict"], 3, "--strict")
    assert snapshot(here) == before


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_batch_writes_the_good_ones_and_is_8(jobs: str, here: Path) -> None:
    write_text(here / "bad.mp4")
    write_clip(here / "sub.mkv", audio=True)
    before = snapshot(here)
    done = subprocess.run(
        program("anonymize", ".", "--jobs", jobs),
        cwd=here,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 8
    lines = sorted(done.stderr.splitlines())
    assert len(lines) == 3
    assert lines[0].startswith("m2fp-stream: error: 1 of 3 files failed")
    assert lines[1].startswith("m2fp-stream: error: ")
    assert "bad.mp4" in lines[1]
    assert lines[2].startswith("m2fp-stream: warning: sub.mkv: left out: audio")
    after = snapshot(here)
    assert after.keys() - before.keys() == {"good.anonymized.mp4", "sub.anonymized.mp4"}
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_130_and_leaves_nothing(number: signal.Signals, here: Path) -> None:
    write_clip(here / "long.mp4", frames=5000)
    before = snapshot(here)
    process = subprocess.Popen(
        program("anonymize", "long.mp4"), cwd=here, env=clean_environment(), stderr=subprocess.PIPE
    )
    while process.poll() is None and snapshot(here).keys() == before.keys():
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate()
    assert (process.returncode, err) == (
        130,
        b"m2fp-stream: interrupted; nothing unfinished was kept\n",
    )
    assert snapshot(here) == before
