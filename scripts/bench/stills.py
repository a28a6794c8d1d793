"""How much of labelled people the embedded parser hides on photographs, and how much else.

    python scripts/bench/stills.py --data ../shared/data --photos 60

Over photographs of Clothing Co-Parsing (Yang, Luo, Lin, CVPR 2014) whose id leaves 1 when divided
by 5: the share of pixels labelled hair that `--hide head` covers, of those labelled as any part of
a person that `--hide person` covers, and of the background that either covers. Bystanders are not
labelled: they count as background. The margin of the default policy is included.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

import cv2
import numpy as np

from m2fp_stream.app import load_parser
from m2fp_stream.policy import Policy, PolicyOptions


def main() -> int:
    """Prints the table; returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--photos", type=int, default=60)
    options.add_argument("--json", type=Path)
    args = options.parse_args()
    folder = args.data / "ccp"
    if not folder.is_dir():
        print(f"stills: no photographs in {folder}; name their folder with --data", file=sys.stderr)
        return 2
    hair = (folder / "labels.txt").read_text(encoding="utf-8").split().index("hair")
    found = sorted((folder / "photos").glob("*.jpg"))
    photos = [path for path in found if int(path.stem) % 5 == 1][: args.photos]
    policies = {
        hide: Policy(PolicyOptions.model_validate({"hide": hide})) for hide in ("head", "person")
    }
    # covered and all pixels of: hair, person, background; for each preset
    counts = {hide: np.zeros((3, 2)) for hide in policies}
    with load_parser("embedded") as parser:
        for path in photos:
            picture = cv2.imread(str(path))
            label = cv2.imread(str(folder / "labels" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
            if picture is None or label is None:
                print(f"stills: {path.name} or its labels cannot be read", file=sys.stderr)
                return 3
            result = parser.parse(np.asarray(picture, np.uint8))
            size = (label.shape[1], label.shape[0])
            for hide, policy in policies.items():
                small = np.zeros(result.label_map.shape, np.uint8)
                for region in policy.findings(result).regions:
                    small |= (region > 0).astype(np.uint8)
                covered = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_NEAREST)) > 0
                for row, wanted in enumerate((label == hair, label > 0, label == 0)):
                    counts[hide][row] += (covered & wanted).sum(), wanted.sum()
    shares = {hide: rows[:, 0] / rows[:, 1] for hide, rows in counts.items()}
    figures = {
        "photos": len(photos),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "hair covered by head": round(float(shares["head"][0]), 3),
        "person covered by person": round(float(shares["person"][1]), 3),
        "background covered by head": round(float(shares["head"][2]), 3),
        "background covered by person": round(float(shares["person"][2]), 3),
    }
    for name, value in figures.items():
        print(f"{name:30} {value}")
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
