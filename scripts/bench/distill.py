"""Measures distillation on pictures: agreement with the teacher before and after, time, memory.

    python -m scripts.bench.distill PICTURES [--model-dir FOLDER] [--steps 60] [--json FILE]

PICTURES is a folder; a fifth of its files is held back, as `models distill` does. Without
`--model-dir` the teacher has seeded weights of M2FP's shape (`scripts.golden.weights`): it sees
people where there are none, so that the figures show that the machinery works, and nothing of what
a student of the real one is worth. What is installed goes into a folder that is removed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from m2fp_stream.app.distill import Plan, distill
from m2fp_stream.config import load_settings
from m2fp_stream.core.errors import M2FPStreamError
from m2fp_stream.training.judge import Agreement
from scripts.golden.weights import configuration, read_table, seeded_state

from .leak import machine


def seeded_folder(folder: Path) -> Path:
    """Writes a checkpoint of M2FP with seeded weights, as ModelScope's hub would give it."""
    import torch

    folder.mkdir()
    (folder / "configuration.json").write_text(json.dumps(configuration("cihp")))
    tensors = {k: torch.from_numpy(v) for k, v in seeded_state("cihp", read_table()).items()}
    torch.save({"model": tensors}, folder / "pytorch_model.pt")
    return folder


def measured(pictures: Path, model_dir: Path, plan: Plan, short_side: int) -> dict[str, Any]:
    """Returns agreement, seconds and memory of one distillation, and how it ended."""
    settings = load_settings(
        None,
        environ={},
        overrides={"m2fp.model_dir": str(model_dir), "m2fp.short_side": short_side},
    )
    rows: dict[str, Any] = {}
    began: dict[str, float] = {}
    last: dict[str, float] = {}
    left_out: list[str] = []

    def tell(what: str, done: int, total: int, numbers: str) -> None:
        now = time.monotonic()
        began.setdefault(what, now)
        last[what] = now
        if done == total:
            print(f"{what}: {numbers}", file=sys.stderr)

    def judged(what: str, found: Agreement) -> None:
        rows[what] = found.as_dict()

    try:
        done = distill(
            pictures,
            plan,
            settings,
            on_progress=tell,
            on_judged=judged,
            on_warning=left_out.append,
            on_notice=lambda text: print(text, file=sys.stderr),
        )
        ended = f"installed, {done.pin.bytes} bytes, licence {done.pin.licence}"
    except M2FPStreamError as error:
        ended = f"refused: {error}"
    seconds = {what: round(last[what] - began[what], 1) for what in began}
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return {
        "agreement": rows,
        "seconds": seconds,
        "peak_mib": peak,
        "left_out": len(left_out),
        "ended": ended,
        "plan": {"steps": plan.steps, "batch": plan.batch, "seed": plan.seed},
        "short_side": short_side,
        "teacher_sha256": plan.teacher_sha256,
        "machine": machine(),
    }


def print_table(found: dict[str, Any]) -> None:
    """Prints the figures."""
    print("| | mIoU | heads | nobody taken for heads | crops |\n|---|---|---|---|---|")
    for what, row in found["agreement"].items():
        figures = " | ".join(f"{row[name]:.4f}" for name in ("miou", "head_recall", "spill"))
        print(f"| {what} | {figures} | {row['samples']} |")
    spent = ", ".join(f"{what} {seconds:.0f} s" for what, seconds in found["seconds"].items())
    print(f"\n{spent}; peak {found['peak_mib']} MiB; {found['ended']}")


def main() -> int:
    """Returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("pictures", type=Path)
    options.add_argument("--model-dir", type=Path, help="real weights of M2FP (CIHP)")
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--batch", type=int, default=4)
    options.add_argument("--short-side", type=int, default=320)
    options.add_argument("--json", type=Path)
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        os.environ |= {"XDG_DATA_HOME": str(home / "data"), "XDG_CACHE_HOME": str(home / "cache")}
        folder = args.model_dir or seeded_folder(home / "seeded")
        with (folder / "pytorch_model.pt").open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        plan = Plan(name="bench", steps=args.steps, batch=args.batch, teacher_sha256=sha256)
        found = measured(args.pictures, folder, plan, args.short_side)
    print_table(found)
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
