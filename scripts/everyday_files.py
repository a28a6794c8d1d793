"""Odd files as people have them, through the real program: what came of each, as a table.

    python -m scripts.everyday_files --data ../shared/data -o docs/everyday.md [--sheets FOLDER]

Every input is made anew (`everyday_cases`), or is one of the small files in `reports` of the data.
With `--sheets`, six pictures of each output are written, to be looked at. `--only WORD` runs the
cases whose name holds it, and prints their rows.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from scripts.everyday_cases import CASES, Case, Stage

_HEAD: Final = """\
# Odd files

What `m2fp-stream anonymize` does with files as people have them, case by case: made and run by
`python -m scripts.everyday_files --data ../shared/data -o docs/everyday.md`. "Before" is what the
first version did, as far as it was reported; "covered" the mean share of the picture. Each output
was looked at as a contact sheet (`--sheets`); what that showed stands below the table.

| Case | Before | Exit | Output | Told |
|---|---|---|---|---|
"""
_PATIENCE_S: Final = 600
"""For one run. Chosen: 8K on a busy machine takes a minute."""
_TOLD: Final = 160
"""Letters of a message that the table has room for."""


@dataclass(frozen=True)
class Outcome:
    """What came of a case: exit code, outputs in words, and what the program said."""

    code: int
    outputs: str
    told: str


def main() -> None:
    """Runs the cases; see above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    rows = []
    for case in CASES:
        if args.only not in case.name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            outcome = run(case, Stage(args.data, Path(folder)), args.sheets)
        cells = (case.name, case.before, str(outcome.code), outcome.outputs, outcome.told)
        rows.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
        print(rows[-1], flush=True)
    if args.output is not None:
        old = args.output.read_text(encoding="utf-8") if args.output.exists() else ""
        rest = old.partition("\n\n## ")
        below = rest[1] + rest[2] if rest[1] else "\n"
        args.output.write_text(_HEAD + "\n".join(rows) + below, encoding="utf-8")


def run(case: Case, stage: Stage, sheets: Path | None) -> Outcome:
    """Makes a case's files and runs the program on them."""
    words = case.build(stage)
    out = stage.folder / "out"
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "m2fp_stream", "anonymize", *map(str, words), "-o", str(out)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_S,
    )
    files = sorted(out.iterdir())
    shares = re.findall(r"([\d.]+)% covered", done.stdout)
    described = [_described(path) for path in files]
    if len(files) == 1 and shares:
        described[0] += f"; {shares[0]} % covered"
    if sheets is not None and files:
        sheets.mkdir(exist_ok=True)
        sheet = np.vstack([_sheet(path) for path in files[:10]])
        cv2.imwrite(str(sheets / f"{re.sub('[^a-z0-9]+', '_', case.name.lower())}.png"), sheet)
    return Outcome(done.returncode, "; ".join(described) or "none", _told(done.stderr, stage))


def _told(text: str, stage: Stage) -> str:
    """Returns what was said, without folders and the program's name."""
    lines = []
    for line in text.replace("m2fp-stream: ", "").splitlines():
        if re.search(r"\d frames, [\d.]+ fps", line):  # progress
            continue
        plain = line.replace(f"{stage.folder}/", "").strip()
        lines.append(plain if len(plain) <= _TOLD else f"{plain[:_TOLD]}...")
    return "<br>".join(line for line in lines if line) or "nothing"


def _described(path: Path) -> str:
    """Says what an output is: its kind, size, pictures and times."""
    name = path.suffix[1:].upper()
    if path.suffix.lower() in (".jpg", ".jpeg", ".jfif", ".avif", ".png", ".webp"):
        ok, pictures = cv2.imreadmulti(str(path))
        if path.suffix == ".webp" or (ok and path.suffix == ".png"):
            ok, animation = cv2.imreadanimation(str(path))
            pictures = animation.frames if ok else pictures
        height, width = pictures[0].shape[:2]
        return f"{name}, {width}x{height}" + (f", {len(pictures)} pictures" * (len(pictures) > 1))
    times, size_wh = [], (0, 0)
    with av.open(path) as container:
        kinds = ", ".join(sorted({one.type for one in container.streams} - {"video"}))
        for frame in container.decode(video=0):
            times.append(frame.time or 0.0)
            size_wh = frame.width, frame.height
    begin = f"from {times[0]:.2f} s, " if times[0] else ""
    more = f", {kinds}" if kinds else ""
    return f"{name}, {size_wh[0]}x{size_wh[1]}, {begin}{len(times)} frames{more}"


def _sheet(path: Path) -> NDArray[np.uint8]:
    """Returns six pictures of an output in a row, 320 pixels wide each."""
    pictures = list(_pictures(path))
    picked = [pictures[round(at)] for at in np.linspace(0, len(pictures) - 1, 6)]
    row = np.full((240, 6 * 320, 3), 90, np.uint8)
    for number, picture in enumerate(picked):
        height, width = picture.shape[:2]
        scale = min(316 / width, 236 / height)
        wh = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(picture, wh, interpolation=cv2.INTER_AREA)
        row[: small.shape[0], 320 * number : 320 * number + small.shape[1]] = small
    return row


def _pictures(path: Path) -> Iterator[NDArray[np.uint8]]:
    if path.suffix in (".webp", ".png", ".avif"):
        ok, animation = cv2.imreadanimation(str(path))
        yield from (np.asarray(one[:, :, :3], np.uint8) for one in animation.frames if ok)
        return
    with av.open(path) as container:
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


if __name__ == "__main__":
    main()
