"""Steps 3 and 5 of the recipe: writes a trained network as ONNX, batch normalisation folded in.

    python -m scripts.train.export --work ../work

Weights are stored in half precision and widened when the graph is loaded, as in the other shipped
files. The graph ends in a softmax: its output is (1, 16, h/2, w/2) probabilities of `PartClass`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from m2fp_stream.training.exchange import to_onnx
from m2fp_stream.training.network import PartNetwork

__all__ = ["export"]


def export(weights: Path) -> bytes:
    """Returns the ONNX file of the weights that `fit` or `refit` wrote."""
    network = PartNetwork()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return to_onnx(network)


def main() -> int:
    """Returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--work", type=Path, required=True, help="folder that fit wrote to")
    options.add_argument(
        "--name", choices=("first", "parts"), default="parts", help="what fit made, or refit"
    )
    args = options.parse_args()
    try:
        data = export(args.work / f"{args.name}.pt")
    except FileNotFoundError as error:
        print(f"export: {error}; run scripts.train.fit or refit first", file=sys.stderr)
        return 2
    target = args.work / f"{args.name}.onnx"
    target.write_bytes(data)
    print(f"export: {target}, {len(data)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
