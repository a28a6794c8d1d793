"""Live commands from end to end: the real program, a film of a person as if it were a camera."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from m2fp_stream import cli
from m2fp_stream.compositor.card import BACKGROUND_BGR, draw_card
from m2fp_stream.core.plan import Why
from tests.kit.film import (
    LOOKS_LIKE_HER,
    PATIENT,
    ROOT,
    Bgr,
    command,
    environment,
    likeness,
    pictures,
    run,
    shows_room,
    write_config,
)
from tests.kit.http_camera import HttpCamera
from tests.kit.pipes import write_paced
from tests.kit.virtual_camera_recorder import BACKEND, VARIABLE
from tests.kit.wait import PATIENCE_S, wait_until
from tests.kit.xvfb import screen, screenshot


def test_the_film_itself_shows_her(film: Path, portrait: Bgr) -> None:
    """The control of the tests below."""
    assert min(likeness(picture, portrait) for picture in pictures(film)) > 0.9


def is_card(picture: Bgr) -> bool:
    """Whether a picture, encoded since, is the cover card."""
    corner = picture[:60, :60].astype(float)
    return bool(np.abs(corner - BACKGROUND_BGR).max() < 12)


def test_the_card_is_told_from_the_film(film: Path, portrait: Bgr) -> None:
    """The control of the test below."""
    assert is_card(draw_card((400, 360), Why.NO_PARSE))
    assert not any(is_card(picture) for picture in pictures(film))


@pytest.mark.paced
@pytest.mark.parametrize("alignment", ["aligned", "low_latency"])
def test_a_run_records_pipes_and_measures_and_shows_her_nowhere(
    film: Path, portrait: Bgr, tmp_path: Path, alignment: str
) -> None:
    config = write_config(
        tmp_path / "run.yaml",
        capture={"input": str(film), "loop": True},
        live={"alignment": alignment, **PATIENT},
        record={"enabled": True, "folder": str(tmp_path), "segment_s": 3.0, "preset": "ultrafast"},
        pipe={"enabled": True, "fps": 15},
    )
    stats = tmp_path / "stats.json"

    def has_enough() -> bool:
        if not stats.exists():
            return False
        facts = json.loads(stats.read_text())
        sinks = facts["sinks"]
        return bool(
            sum(sinks[name]["written"] for name in ("recording", "pipe")) > 130
            and facts["frames"] - facts["frames_wholly_covered"] > 40
            and list(tmp_path.glob("m2fp-stream-*.mp4"))  # the first segment is complete
        )

    with (
        (tmp_path / "out.y4m").open("wb") as out,
        subprocess.Popen(
            command("run", config, "--stats", stats),
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        ) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or has_enough())
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    segments = sorted(tmp_path.glob("m2fp-stream-*.mp4"))
    assert len(segments) >= 2
    assert not list(tmp_path.glob(".*.part"))
    recorded = [picture for path in segments for picture in pictures(path)]
    shown = recorded + list(pictures(tmp_path / "out.y4m"))
    assert len(shown) > 100
    assert max(likeness(picture, portrait) for picture in shown) < LOOKS_LIKE_HER
    # Covering everything would pass as well.
    assert sum(shows_room(picture, portrait) for picture in shown) > 10
    facts = json.loads((tmp_path / "stats.json").read_text())
    # Every card is counted. A machine that parses the first frame within the delay shows none.
    cards = sum(is_card(picture) for picture in recorded)
    assert facts["frames"] > facts["frames_wholly_covered"] >= cards
    assert facts["frames_wholly_covered"] == sum(facts["reasons"].values())
    assert facts["sinks"]["recording"]["written"] > 0
    assert facts["cover_age_ms"]["p95"] <= 3000
    for key in ("fps", "dropped", "look_ms", "reconnects", "covered_fraction", "latency_ms"):
        assert facts[key] is not None


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_and_completes_the_recording(
    film: Path, tmp_path: Path, how: signal.Signals
) -> None:
    config = write_config(
        tmp_path / "run.yaml",
        capture={"input": str(film), "loop": True},
        record={"enabled": True, "folder": str(tmp_path), "preset": "ultrafast"},
    )
    process = subprocess.Popen(
        command("run", config, "--stats", tmp_path / "stats.json"),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        stats = tmp_path / "stats.json"
        wait_until(stats.exists)
        wait_until(lambda: json.loads(stats.read_text())["frames"] > 20)
        wait_until(lambda: json.loads(stats.read_text())["sinks"]["recording"]["written"] > 5)
        process.send_signal(how)
        _, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    (segment,) = tmp_path.glob("*.mp4")
    assert len(list(pictures(segment))) > 5
    assert not list(tmp_path.glob(".*.part"))


def test_a_virtual_camera_takes_the_rate_of_the_source(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    config = write_config(
        tmp_path / "run.yaml",
        capture={"input": "synthetic"},
        synthetic={"fps": 12, "width": 96, "height": 64},
        virtual_camera={"enabled": True, "backend": BACKEND},
    )
    done = run("run", config, "--seconds", "1", cwd=tmp_path, **{VARIABLE: str(notes)})
    assert done.returncode == 0, done.stderr
    assert json.loads(notes.read_text().splitlines()[0])["opened"] == [96, 64, 12]


def cut_short(film: Path, path: Path) -> None:
    """Writes the film with its index first and the last third of it gone."""
    whole = path.with_suffix(".whole.mp4")
    with av.open(film) as source, av.open(whole, "w", options={"movflags": "+faststart"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    content = whole.read_bytes()
    whole.unlink()
    path.write_bytes(content[: len(content) * 2 // 3])


def test_a_film_that_is_cut_short_leaves_its_recording(
    film: Path, portrait: Bgr, tmp_path: Path
) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    cut_short(film, tmp_path / "cut.mp4")
    config = write_config(
        tmp_path / "run.yaml",
        capture={"input": str(tmp_path / "cut.mp4")},
        live=PATIENT,
        record={"enabled": True, "folder": str(folder), "preset": "ultrafast"},
    )
    done = run("run", config, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "cut short" in done.stderr
    (segment,) = folder.iterdir()
    assert segment.suffix == ".mp4"
    shown = list(pictures(segment))
    assert len(shown) > 5
    assert max(likeness(picture, portrait) for picture in shown) < LOOKS_LIKE_HER


@pytest.mark.paced
@pytest.mark.parametrize("token", ["a-token-of-my-own", None])
def test_what_is_served_by_http_shows_the_room_and_not_her(
    token: str | None, film: Path, portrait: Bgr, tmp_path: Path
) -> None:
    config = write_config(
        tmp_path / "run.yaml",
        capture={"input": str(film), "loop": True},
        serve={"enabled": True, "port": 0, **({} if token is None else {"token": token})},
    )
    process = subprocess.Popen(
        command("run", config), stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stderr is not None
    try:
        address = ""
        for line in process.stderr:
            if "serving http://" in line:
                address = line.split("serving ")[1].split("/live.ts")[0]
                if token is not None:
                    break
            if "?token=" in line:  # the one made for this run is told, once
                token = line.rpartition("?token=")[2].strip()
                break
        url = f"{address}/live.ts?token={token}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            content = answer.read(300_000)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
    (tmp_path / "got.ts").write_bytes(content)
    shown = list(pictures(tmp_path / "got.ts"))
    assert len(shown) > 10
    assert max(likeness(picture, portrait) for picture in shown) < LOOKS_LIKE_HER


@pytest.mark.paced
def test_the_preview_window_shows_the_room_and_not_her(
    film: Path, portrait: Bgr, tmp_path: Path
) -> None:
    with screen() as name:
        process = subprocess.Popen(
            command("preview", "--source", film, "--config", tmp_path / "loop.yaml"),
            stderr=subprocess.PIPE,
            text=True,
            env=environment(DISPLAY=name),
            cwd=write_config(tmp_path / "loop.yaml", capture={"loop": True}, live=PATIENT).parent,
        )
        seen: list[Bgr] = []

        def shows_the_room() -> bool:
            assert process.poll() is None
            seen.append(screenshot(name))
            return shows_room(seen[-1], portrait)

        try:
            wait_until(shows_the_room)
            for _ in range(10):
                shows_the_room()
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, errors
    assert max(likeness(picture, portrait) for picture in seen) < LOOKS_LIKE_HER


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("preview", "--source", "synthetic", "--no-window"), 2, "switch a sink on"),
        (("preview", "--source", "synthetic"), 5, "DISPLAY"),
        (("preview", "--source", "nowhere.mp4"), 3, "nowhere.mp4"),
        (("preview", "--camera", "77"), 3, "camera 77"),
        (("preview", "--source", "rtsp://me:secret@127.0.0.1:1/x", "--record", "."), 3, "127.0.0"),
        (("preview", "--source", "srt://127.0.0.1:1"), 3, "SRT"),
        (("kiosk", "--camera", "-"), 2, "mkfifo"),
        (("kiosk", "--source", "-"), 2, "mkfifo"),
        (("preview", "--source", "me:secret@10.0.0.7/x"), 3, "begin it with rtsp://"),
        (("preview", "--source", "rtsp//me:sec/secret@10.0.0.7/x"), 3, "begin it with rtsp://"),
        (("preview", "--source", "rtsp://me:1/secret@10.0.0.7/x"), 3, "@ %40"),
        (("preview", "--camera", "me:secret@10.0.0.7/x"), 3, "camera named: is not connected"),
        (("preview", "--camera", "rtsp://me:secret@127.0.0.1:1/x"), 3, "connection refused"),
        (("preview", "--source", "rtsp://me:sec ret secret@127.0.0.1:1/x"), 3, "refused"),
        (("preview", "--camera", "0", "--source", "synthetic"), 2, "not allowed with"),
        (("preview", "--seconds", "0"), 2, "seconds above 0"),
        (("run",), 2, "configuration file"),
        (("run", "missing.yaml"), 2, "missing.yaml"),
        (("run", "a.yaml", "b.yaml"), 2, "one configuration"),
        (("bench", "sprint"), 2, "invalid choice"),
    ],
)
def test_what_cannot_work_is_one_line_and_its_code(
    arguments: tuple[str, ...],
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    returned = cli.main([*arguments])
    out, errors = capfd.readouterr()
    assert returned == code, errors
    lines = [line for line in errors.splitlines() if "error:" in line]
    assert len(lines) == 1
    assert says in lines[0]
    assert "secret" not in errors + out
    assert "Traceback" not in errors


def test_a_password_is_in_no_output_and_soon_in_no_list_of_processes(tmp_path: Path) -> None:
    """The address is the user's own argument, and the camera does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}/live"
        words = ("preview", "--no-window", "--record", tmp_path, "--debug")
        planted = "pl4nt/ed s3@cret"
        with subprocess.Popen(
            command(*words, "--source", f"rtsp://viewer:{planted}@{place}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(M2FP_STREAM_PUSH__URL="rtsp://x:pl4nted@127.0.0.1:1/"),
        ) as process:
            line = Path(f"/proc/{process.pid}/cmdline")
            try:
                wait_until(lambda: b"***@" in line.read_bytes())
                assert b"preview" in line.read_bytes()
                assert place.encode() in line.read_bytes()
                for piece in (b"pl4nt", b"s3@cret", b"cret", b"viewer"):
                    assert piece not in line.read_bytes()
                process.send_signal(signal.SIGTERM)
                said, _ = process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
    assert not any(piece in said for piece in (b"pl4nt", b"cret", b"viewer")), said


@pytest.mark.parametrize("how", ["--camera -", "named"])
def test_what_is_piped_in_is_covered_and_its_end_is_the_end(
    how: str, film: Path, portrait: Bgr, tmp_path: Path
) -> None:
    bare = tmp_path / "film.h264"
    count = 0
    with av.open(str(film)) as source, av.open(str(bare), "w", format="h264") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
                count += 1
    named = tmp_path / "pipe"
    os.mkfifo(named)
    target = how.split() if how != "named" else ["--source", str(named)]
    stats = tmp_path / "stats.json"
    config = write_config(
        tmp_path / "run.yaml", live=PATIENT, record={"segment_s": 60, "preset": "ultrafast"}
    )
    words = ("preview", "--no-window", "--record", tmp_path, "--stats", stats, "--config", config)

    def has_enough() -> bool:
        facts = json.loads(stats.read_text()) if stats.exists() else {}
        return bool(facts) and facts["frames"] - facts["frames_wholly_covered"] > 30

    to = named if how == "named" else None
    with (
        write_paced(bare, pieces=count, pause_s=0.1, times=1000, to=to) as writer,
        subprocess.Popen(
            command(*words, *target),
            stdin=writer.stdout or subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        ) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or has_enough())
            writer.kill()  # the end of the pipe
            _, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            writer.kill()
            process.kill()
    assert process.returncode == 0, errors
    shown = [picture for path in tmp_path.glob("m2fp-stream-*.mp4") for picture in pictures(path)]
    shown = shown[::3]  # looking takes longer than showing
    assert len(shown) > 10
    assert max(likeness(picture, portrait) for picture in shown) < LOOKS_LIKE_HER
    assert sum(shows_room(picture, portrait) for picture in shown) > 5


@pytest.mark.parametrize("raw", [False, True], ids=["encoded", "raw"])
def test_a_cameras_password_is_in_no_output_and_in_no_process(raw: bool, tmp_path: Path) -> None:
    stats = tmp_path / "stats.json"
    with HttpCamera(user="viewer", password="pl4nt/ed s3@cret", digest="MD5") as camera:
        address = camera.url("/motion", raw=raw)
        planted = re.compile(rb"pl4nt|s3@cret|s3%40cret|viewer")
        seen = set()
        with subprocess.Popen(
            command("preview", "--no-window", "--record", tmp_path, "--debug", "--stats", stats),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(M2FP_STREAM_CAPTURE__INPUT=address),
        ) as process:
            try:
                wait_until(lambda: process.poll() is not None or stats.exists())
                for child in psutil.Process(process.pid).children(recursive=True):
                    line = b"\0".join(os.fsencode(word) for word in child.cmdline())
                    assert not planted.search(line)
                    with suppress(PermissionError, psutil.AccessDenied):  # it is hardened
                        assert not planted.search(str(child.environ()).encode())
                    seen.add(child.pid)
                assert not planted.search(Path(f"/proc/{process.pid}/cmdline").read_bytes())
                camera.silent.set()  # the next connection is not answered: it says that it is away
                process.send_signal(signal.SIGTERM)
                said, _ = process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
        assert camera.authorizations, "nobody logged in"
    assert process.returncode == 130, said
    assert seen, "no child was there to look at"
    assert not planted.search(said), said
    assert not planted.search(stats.read_bytes())


def test_devices_are_listed(tmp_path: Path) -> None:
    done = run("devices", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.strip()


QUICK_BENCH = """
import functools, sys
from m2fp_stream import bench, cli

bench.bench_live = functools.partial(bench.bench_live, warm_up_s=3.0)
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.paced
def test_the_bench_prints_a_row_a_mode_and_writes_json(film: Path, tmp_path: Path) -> None:
    arguments = ("bench", "live", "--source", film, "--seconds", "4", "--json", "b.json")
    done = subprocess.run(
        [sys.executable, "-c", QUICK_BENCH, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment(),
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert [row["mode"] for row in rows] == ["low_latency", "aligned"]
    for row in rows:
        assert row["fps"] > 1
        assert row["cover_age_ms_p95"] is not None
        assert row["cpu_cores"] > 0
    assert "aligned" in done.stdout


CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_of_the_project_is_valid(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check-config", str(path)]) == 0, capsys.readouterr().err
