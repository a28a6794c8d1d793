"""Prints what is left when a run over a file is killed outright.

    python -m scripts.bench.kills [--kills N] [--seed N]

A small clip of noise, whose left half a zone covers, is anonymised again and again, and killed
(SIGKILL) at moments drawn over the length of a run, which is measured first: two times in three its
main process alone, as the system does that runs out of memory, else all of its processes at once.
After each kill nothing may stand under the final name, run on, or lie in the temporary folder or in
shared memory; what is left of the part file must be covered where it has to be. After every tenth,
and where something was left, a whole run has to succeed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

import av
import numpy as np
import psutil

from m2fp_stream.core.part_file import part_name
from tests.kit import media
from tests.kit.wait import wait_until

SIZE_WH: Final = (320, 192)
COUNT: Final = 50
ZONE: Final = "0,0,0.5,1"
MARGIN: Final = 48
"""Pixels at the zone's border that are not judged: its feather, and what the encoder smears."""
COVERED: Final = 8.0
"""The largest standard deviation of a covered half. Measured: 0 with the cover, 53 without."""


def write_clip(path: Path) -> Path:
    """Writes noise, a new picture each frame."""
    noise = np.random.default_rng(1)
    shape = (SIZE_WH[1], SIZE_WH[0], 3)
    # Cells of 8 pixels, so that the encoder keeps them.
    small = [
        noise.integers(0, 256, (shape[0] // 8, shape[1] // 8, 3), np.uint8) for _ in range(COUNT)
    ]
    frames = [one.repeat(8, axis=0).repeat(8, axis=1) for one in small]
    return media.write_video(path, frames=frames, size_wh=SIZE_WH)


def command(clip: Path, target: Path) -> list[str]:
    """Returns the run that is killed."""
    words = ["anonymize", "--progress=off", "--zone", ZONE, "--effect", "solid"]
    return [sys.executable, "-m", "m2fp_stream", *words, str(clip), "-o", str(target)]


def run_whole(clip: Path, target: Path) -> tuple[float, bytes]:
    """Runs to the end, and takes the output away; returns the seconds, and its codec's header."""
    began_s = time.monotonic()
    subprocess.run(command(clip, target), check=True, stdout=subprocess.DEVNULL)
    took_s = time.monotonic() - began_s
    with av.open(str(target)) as container:
        assert sum(1 for _ in container.decode(video=0)) == COUNT
        header = container.streams.video[0].codec_context.extradata or b""
    assert worst(target.read_bytes(), header) <= (COUNT, COVERED)
    target.unlink()
    return took_s, header


def worst(part: bytes, header: bytes) -> tuple[int, float]:
    """Returns how many pictures are in what is left, and the most that their left half varies.

    Args:
        part: of an MP4 whose index is not written yet.
        header: the codec's, of a whole one with the same settings.
    """
    at = part.find(b"mdat")
    if at < 0:
        return 0, 0.0
    data, at = part[at + 4 :], 0
    decoder = av.CodecContext.create("h264", "r")
    decoder.extradata = header
    pictures: list[bytes] = []
    while at + 6 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if not 0 < length <= len(data) - at - 4:
            break
        unit = data[at : at + 4 + length]
        at += 4 + length
        if unit[4] & 31 not in (1, 5):  # ITU-T H.264, 7.4.1: those are slices
            continue
        if unit[5] & 128 or not pictures:  # first_mb_in_slice is 0
            pictures.append(b"")
        pictures[-1] += unit
    found, most = 0, 0.0
    for packet in [*map(av.Packet, pictures), None]:
        try:
            frames = decoder.decode(packet)
        except av.error.FFmpegError:
            continue
        for frame in frames:
            picture = frame.to_ndarray(format="gray")
            most = max(most, float(picture[:, : SIZE_WH[0] // 2 - MARGIN].std()))
            found += 1
    return found, most


def _of_session(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def kill_once(clip: Path, target: Path, after_s: float, *, everything: bool) -> str:
    """Kills a run; returns what came of it: ``done`` where its output was complete before.

    Raises:
        AssertionError: something was left that must not be.
    """
    temporary = target.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    shared = set(os.listdir("/dev/shm"))  # noqa: PTH208
    process = subprocess.Popen(
        command(clip, target),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        if everything:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
    wait_until(lambda: not _of_session(process.pid))
    assert list(temporary.iterdir()) == []
    assert set(os.listdir("/dev/shm")) <= shared  # noqa: PTH208
    if target.exists():
        with av.open(str(target)) as container:
            assert sum(1 for _ in container.decode(video=0)) == COUNT, "it is not complete"
        target.unlink()
        return "done"
    assert process.returncode < 0, "it failed"
    return "killed"


def remnant(target: Path, header: bytes) -> str:
    """Returns what is left of the part file, in words.

    Raises:
        AssertionError: it shows what has to be covered.
    """
    part = part_name(target)
    if not part.exists():
        return "nothing"
    data = part.read_bytes()
    found, most = worst(data, header)
    assert most <= COVERED, f"{found} pictures, the covered half varies by {most:.1f}"
    if not data:
        return "an empty part file"
    return "covered pictures" if found else "bytes of a header"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=16)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    table: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip, target = write_clip(folder / "in.mp4"), folder / "out.mp4"
        took_s, header = run_whole(clip, target)
        print(f"a run takes {took_s:.1f} s", flush=True)
        try:
            for number in range(arguments.kills):
                everything = number % 3 == 2
                came = kill_once(clip, target, draw.uniform(0, took_s), everything=everything)
                left = remnant(target, header) if came == "killed" else ""
                who = "all processes" if everything else "main process"
                table[f"{who}: {came}, left: {left}" if left else f"{who}: {came}"] += 1
                if number % 10 == 9 or part_name(target).exists():
                    run_whole(clip, target)
        finally:
            for what, count in sorted(table.items()):
                print(f"| {what} | {count} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
