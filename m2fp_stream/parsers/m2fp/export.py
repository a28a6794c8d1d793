"""Writes M2FP as ONNX for one shape of the picture; what runs it needs no torch.

One file holds the weights and the position tables of its shape, about 270 MB.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from typing import Any, Final

from m2fp_stream.core.errors import ModelError

from .checkpoint import Checkpoint
from .layers import require_torch
from .model import M2FP
from .runtime import FORMAT

__all__ = ["to_onnx"]

_OPSET: Final = 17
"""The first with both `GridSample` and `LayerNormalization`. Source: ONNX's list of operators."""


def to_onnx(checkpoint: Checkpoint, shape_hw: tuple[int, int]) -> bytes:
    """Returns the network as a serialised ONNX model; nothing is written to disk.

    Its input ``image`` is (1, 3, h, w) float32, RGB 0..255, padded with ImageNet's mean colour; its
    outputs are ``logits`` (1, 100, classes + 1) and ``masks`` (1, 100, h / 4, w / 4), float32, as
    `model.M2FP.forward` says. Its metadata are ``kind``, ``sha256`` (of the checkpoint), ``shape``
    (as ``HxW``) and ``format``. The network runs once meanwhile, on an empty picture: seconds at
    the reference's size. Whoever runs the file has to compare it with what it should be.

    Args:
        checkpoint: from `checkpoint.read_checkpoint`.
        shape_hw: height and width of the picture, multiples of 32.

    Raises:
        ModelError: torch or onnx is missing, the shape is not as above, or the export failed.
    """
    torch = require_torch()
    with torch.device("meta"):  # no memory for weights that are replaced at once
        network = M2FP(checkpoint.kind.classes, shape_hw)
    network.load_state_dict(checkpoint.state, assign=True)
    buffer = io.BytesIO()
    _export(torch, network.eval(), shape_hw, buffer)
    buffer.seek(0, io.SEEK_END)
    buffer.write(
        _properties(
            {
                "kind": str(checkpoint.kind),
                "sha256": checkpoint.sha256,
                "shape": _shape(shape_hw),
                "format": FORMAT,
            }
        )
    )
    return buffer.getvalue()


def _shape(shape_hw: tuple[int, int]) -> str:
    height, width = shape_hw
    return f"{height}x{width}"


def _export(torch: Any, network: Any, shape_hw: tuple[int, int], buffer: io.BytesIO) -> None:
    if importlib.util.find_spec("onnx") is None:  # torch would say so after all the work
        raise ModelError(
            "exporting M2FP needs onnx; install the extra: pip install 'm2fp-stream[m2fp]'"
        )
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # It warns that torch has a newer exporter; that one needs a library more and asks for
            # nothing that a fixed shape lacks here.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (torch.zeros(1, 3, *shape_hw),),
                buffer,
                dynamo=False,
                opset_version=_OPSET,
                do_constant_folding=True,
                input_names=["image"],
                output_names=["logits", "masks"],
            )
    except Exception as error:  # of many kinds
        raise ModelError(
            f"torch {torch.__version__} cannot export M2FP ({type(error).__name__}); try another "
            "version of torch"
        ) from None


def _properties(entries: dict[str, str]) -> bytes:
    """Returns `entries` as they stand in a serialised model.

    A repeated field of a message may stand anywhere in it, also behind the rest; so the weights
    need not be parsed again to add them. Source: onnx.proto (``ModelProto.metadata_props`` is field
    14, of ``StringStringEntryProto`` with ``key`` 1 and ``value`` 2); Protocol Buffers, "Encoding".
    """
    return b"".join(
        _field(14, _field(1, key.encode()) + _field(2, value.encode()))
        for key, value in entries.items()
    )


def _field(number: int, content: bytes) -> bytes:
    assert number < 16, "larger numbers take more than a byte"
    assert len(content) < 128, "longer contents do, too"
    return bytes((number << 3 | 2, len(content))) + content
