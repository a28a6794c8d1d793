"""Step 1 of the recipe: derives part labels for every photograph, once.

python -m scripts.train.prepare --data ../shared/data --work ../work
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.progress import Progress

from .photos import REPORT, TRAINING, VALIDATION, Deriver, photo_ids, write_photo

__all__ = ["prepare"]


def prepare(data: Path, work: Path) -> int:
    """Writes every photograph that is not there yet below `work`; returns how many there are."""
    names = photo_ids(data, (*TRAINING, VALIDATION, REPORT))
    missing = [name for name in names if not (work / "photos" / f"{name}.npz").exists()]
    halves = [missing[0::2], missing[1::2]]
    skipped: list[str] = []
    with Progress(disable=not sys.stderr.isatty()) as progress, ThreadPoolExecutor(2) as pool:
        task = progress.add_task("labels", total=len(missing))

        def derive(some: list[str]) -> None:
            deriver = Deriver(data) if some else None
            for name in some:
                photo = deriver(name) if deriver is not None else None
                if photo is None:
                    skipped.append(name)
                else:
                    write_photo(work, photo)
                progress.advance(task)

        list(pool.map(derive, halves))
    if skipped:
        print(f"prepare: without a labelled person, left out: {', '.join(sorted(skipped))}")
    return len(names) - len(skipped)


def main() -> int:
    """Returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--work", type=Path, required=True, help="folder for everything written")
    args = options.parse_args()
    try:
        count = prepare(args.data, args.work)
    except (FileNotFoundError, ValueError) as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 2
    print(f"prepare: {count} photographs in {args.work}/photos")
    return 0


if __name__ == "__main__":
    sys.exit(main())
