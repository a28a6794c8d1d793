"""Last step, by hand: puts the trained network into the package.

    python -m scripts.train.ship --work ../work

Copies `WORK/parts.onnx` to the assets and writes its entry, with the thresholds and the commit at
hand, into `manifest.yaml`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from scripts.vendor_models import ASSETS_DIR, MANIFEST, ROOT, manifest_text

from .recipe import COMMAND, ENCODER

__all__ = ["ship"]

NAME: Final = "parts"
DATA: Final = (
    "Clothing Co-Parsing (Yang, Luo, Lin, CVPR 2014; bearpaw/clothing-co-parsing, Apache-2.0): "
    "photographs whose id leaves 0 or 4 when divided by 5; thresholds on those that leave 1. "
    "Everyday pictures: COCO train2017 (annotations CC BY 4.0, COCO Consortium; photographs CC BY "
    "2.0 and without known restrictions), Open Images V4 (CC BY 2.0) and hands (Apache-2.0), one "
    "half by a hash of the file name"
)
NOTES: Final = (
    "Probabilities of 16 part classes at half the input's size (parsers/embedded/classes.py); "
    "EfficientNet-Lite0 encoder and a feature pyramid, trained by scripts/train. Batch "
    "normalisation folded; weights stored as float16."
)


def entry(work: Path, data: bytes) -> dict[str, Any]:
    """Returns what the manifest says about the network in `work`."""
    head = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(head, check=True, capture_output=True, text=True).stdout.strip()
    return {
        "name": NAME,
        "file": f"{NAME}.onnx",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "licence": "Apache-2.0",
        "origin": {
            "registry": ENCODER.registry,
            "package": ENCODER.package,
            "version": ENCODER.version,
            "files": dict(ENCODER.files),
        },
        "converted_by": "scripts/train/export.py",
        "runtime": "onnxruntime",
        "input": "NCHW float32, RGB -1..1, height and width multiples of 32",
        "notes": NOTES,
        "training": {
            "recipe": COMMAND,
            "commit": commit,
            "data": DATA,
            "thresholds": json.loads((work / "thresholds.json").read_text(encoding="utf-8")),
        },
    }


def ship(work: Path) -> None:
    """Writes asset and manifest.

    Raises:
        FileNotFoundError: the recipe has not finished in `work`.
    """
    data = (work / f"{NAME}.onnx").read_bytes()
    new = entry(work, data)
    models = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))["models"]
    kept = [model for model in models if model["name"] != NAME]
    (ASSETS_DIR / f"{NAME}.onnx").write_bytes(data)
    MANIFEST.write_text(manifest_text([*kept, new]), encoding="utf-8")


def main() -> int:
    """Returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--work", type=Path, required=True, help="folder the recipe wrote to")
    args = options.parse_args()
    try:
        ship(args.work)
    except FileNotFoundError as error:
        print(f"ship: {error}; run scripts.train.recipe first", file=sys.stderr)
        return 2
    print(f"ship: wrote {ASSETS_DIR}/{NAME}.onnx and {MANIFEST}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
