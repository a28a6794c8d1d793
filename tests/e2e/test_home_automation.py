"""The examples for Frigate and Home Assistant, run: their readers get a picture without the person.

go2rtc and Frigate are in no registry that is used here. A GStreamer server stands for go2rtc, and
FFmpeg reads with the arguments that Frigate gives it; Home Assistant reads with PyAV, as here.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import av
import numpy as np
import pytest
import yaml

from m2fp_stream import cli
from tests.kit.film import (
    LOOKS_LIKE_HER,
    PATIENT,
    ROOT,
    Bgr,
    command,
    environment,
    likeness,
    shows_room,
)
from tests.kit.rtsp_relay import Relay
from tests.kit.wait import PATIENCE_S, wait_until

EXAMPLES = ROOT / "integrations"
SIZE_WH = 400, 360
"""Of the film."""

PRESETS: Final = {
    "preset-rtsp-generic": (
        *("-avoid_negative_ts", "make_zero", "-fflags", "+genpts+discardcorrupt"),
        *("-rtsp_transport", "tcp", "-timeout", "10000000"),
        *("-use_wallclock_as_timestamps", "1"),
    ),
    "preset-rtsp-restream": ("-rtsp_transport", "tcp", "-timeout", "10000000"),
}
"""What Frigate's presets stand for. Source: frigate/ffmpeg_presets.py of Frigate 0.15 to 0.17, with
its names for FFmpeg 5 and later."""

BY_HTTP: Final = ("-fflags", "+genpts+discardcorrupt", "-rw_timeout", "10000000")
"""What docs/home-automation.md says for http. Frigate's `preset-http-reolink` lets FFmpeg look at
the stream for 1000 seconds before it shows anything, and a live stream never fixes its rate."""

TOKEN = "a-token-of-my-own"


@contextmanager
def running(example: str, film: Path, stats: Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    """Runs an example's own configuration, with the film as its camera."""
    process = subprocess.Popen(
        command("run", EXAMPLES / example, "--stats", stats),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(
            M2FP_STREAM_CAPTURE__INPUT=str(film),
            M2FP_STREAM_CAPTURE__LOOP="true",
            **{f"M2FP_STREAM_LIVE__{name.upper()}": str(value) for name, value in PATIENT.items()},
            **more,
        ),
    )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, errors
    assert TOKEN not in errors


def health(stats: Path) -> Any:
    return json.loads(stats.read_text()).get("health") if stats.exists() else None


def check(seen: list[Bgr], portrait: Bgr) -> None:
    assert shows_room(seen[-1], portrait)
    assert max(likeness(picture, portrait) for picture in seen) < LOOKS_LIKE_HER


def detected(arguments: Sequence[str], url: str, portrait: Bgr) -> list[Bgr]:
    """Reads as Frigate's detector does: raw pictures at five a second; until the room is seen.

    As Frigate does, it starts FFmpeg again when it ends: a stream that is just being announced may
    have nothing yet.
    """
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg; apt-get install ffmpeg")
    seen: list[Bgr] = []
    said = ""

    def watched() -> bool:
        nonlocal said
        said = watch(arguments, url, seen, portrait)
        return not said

    wait_until(watched)
    assert len(seen) >= 10, said
    return seen


def watch(arguments: Sequence[str], url: str, seen: list[Bgr], portrait: Bgr) -> str:
    """Adds the pictures that one FFmpeg gives; returns why it ended, or nothing at the room."""
    width, height = SIZE_WH
    reader = subprocess.Popen(
        [
            *("ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-threads", "2"),
            *arguments,
            *("-i", url, "-r", "5", "-vf", f"fps=5,scale={width}:{height}"),
            *("-threads", "2", "-f", "rawvideo", "-pix_fmt", "yuv420p", "pipe:"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert reader.stdout is not None
    patience = threading.Timer(PATIENCE_S, reader.kill)
    patience.start()
    size = width * height * 3 // 2
    try:
        while len(data := reader.stdout.read(size)) == size:
            planes = np.frombuffer(data, np.uint8).reshape(height * 3 // 2, width)
            frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
            seen.append(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8))
            if len(seen) >= 10 and shows_room(seen[-1], portrait):
                return ""
        assert reader.stderr is not None
        return reader.stderr.read().decode() or "FFmpeg ended"
    finally:
        patience.cancel()
        reader.kill()
        reader.communicate()


@pytest.mark.parametrize("preset", ["preset-rtsp-restream", "preset-rtsp-generic"])
def test_frigate_gets_the_room_and_not_her(
    preset: str, film: Path, portrait: Bgr, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stats = tmp_path / "door.json"
    with (
        Relay() as relay,
        running("frigate/door.yaml", film, stats, M2FP_STREAM_PUSH__URL=relay.push_url),
    ):
        wait_until(lambda: health(stats) in ("ok", "degraded"))
        check(detected(PRESETS[preset], relay.play_url, portrait), portrait)
        wait_until(lambda: cli.main(["doctor", "--stats", str(stats)]) == 0)
    assert cli.main(["doctor", "--stats", str(stats)]) == 1
    assert "the run is over" in capfd.readouterr().err


def test_frigate_that_is_away_is_told_by_the_health_check(film: Path, tmp_path: Path) -> None:
    stats = tmp_path / "door.json"
    nobody = "rtsp://127.0.0.1:1/door"
    with running("frigate/door.yaml", film, stats, M2FP_STREAM_PUSH__URL=nobody):
        wait_until(lambda: health(stats) == "failing")
        wait_until(lambda: cli.main(["doctor", "--stats", str(stats)]) == 5)
    assert json.loads(stats.read_text())["sinks"]["push"]["lost"] == 0  # nothing was to be kept


@contextmanager
def served(film: Path, tmp_path: Path) -> Iterator[str]:
    """Runs the example for Home Assistant; gives its address, http://127.0.0.1:PORT."""
    stats = tmp_path / "door.json"
    more = {"M2FP_STREAM_SERVE__TOKEN": TOKEN, "M2FP_STREAM_SERVE__PORT": "0"}
    with running("home_assistant/door.yaml", film, stats, **more) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "serving http://" in line)
        wait_until(lambda: health(stats) in ("ok", "degraded"))
        yield line.split("serving ")[1].split("/live.ts")[0]


def test_home_assistant_gets_the_room_and_not_her(
    film: Path, portrait: Bgr, tmp_path: Path
) -> None:
    with served(film, tmp_path) as address:
        for name in ("live.m3u8", "live.ts"):
            seen: list[Bgr] = []
            # As Home Assistant's stream integration opens a URL.
            options = {"fflags": "nobuffer", "timeout": "10000000"}
            url = f"{address}/{name}?token={TOKEN}"
            with av.open(url, options=options, timeout=PATIENCE_S) as container:
                for number, frame in enumerate(container.decode(video=0)):
                    if number % 5:  # to look at each takes longer than until the next comes
                        continue
                    seen.append(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8))
                    if len(seen) > 5 and shows_room(seen[-1], portrait):
                        break
            check(seen, portrait)


def test_frigate_may_pull_by_http_as_well(film: Path, portrait: Bgr, tmp_path: Path) -> None:
    with served(film, tmp_path) as address:
        url = f"{address}/live.ts?token={TOKEN}"
        check(detected(BY_HTTP, url, portrait), portrait)


def test_the_frigate_example_reads_what_is_pushed_with_what_is_tested_here() -> None:
    page = (ROOT / "docs/home-automation.md").read_text(encoding="utf-8")
    assert " ".join(BY_HTTP) in page
    config = yaml.safe_load((EXAMPLES / "frigate/config.yml").read_text(encoding="utf-8"))
    pushed = yaml.safe_load((EXAMPLES / "frigate/door.yaml").read_text(encoding="utf-8"))
    (read,) = config["cameras"]["door"]["ffmpeg"]["inputs"]
    assert read["path"] == pushed["push"]["url"]
    assert urlsplit(read["path"]).path.strip("/") in config["go2rtc"]["streams"]
    assert read["input_args"] in PRESETS
    assert set(read["roles"]) == {"detect", "record"}
