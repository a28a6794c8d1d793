"""Writes ONNX graphs, node by node; what converts published networks and what trains share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["GraphWriter"]

OPSET: Final = 13
"""Newest operator set in which all operators used here mean the same in every runtime tried."""
IR_VERSION: Final = 8
"""Source: ONNX, "Versioning": what belongs to operator set 13, and is read by all runtimes."""

Array = NDArray[Any]


class GraphWriter:
    """Collects nodes and weights of one ONNX graph in the order they are added.

    Args:
        name: the graph's name.
        half: store float weights of more than one dimension as float16 and widen them by a `Cast`
            that every runtime folds when it loads the graph.
    """

    def __init__(self, name: str, *, half: bool) -> None:
        self._name = name
        self._half = half
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._count = 0

    def weight(self, values: Array) -> str:
        """Adds a constant and returns its name; floats become float32 for the graph."""
        self._count += 1
        name = f"w{self._count}"
        if values.dtype.kind != "f":
            self._weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
            return name
        if not self._half or values.ndim < 2:
            full = np.ascontiguousarray(values, np.float32)
            self._weights.append(numpy_helper.from_array(full, name))
            return name
        stored = np.ascontiguousarray(values, np.float16)
        self._weights.append(numpy_helper.from_array(stored, f"{name}_half"))
        self._nodes.append(
            helper.make_node("Cast", [f"{name}_half"], [name], name=name, to=TensorProto.FLOAT)
        )
        return name

    def scaled(self, values: Array, scales: Array) -> str:
        """Adds int8 weights times one float32 scale a row and returns the product's name.

        Every runtime folds the two nodes when it loads the graph: smaller than float16, and exact.
        """
        stored = self.weight(values)
        whole = self.node("Cast", [stored], to=TensorProto.FLOAT)
        per_row = scales.reshape(-1, *[1] * (values.ndim - 1)).astype(np.float32)
        self._count += 1
        name = f"w{self._count}"
        self._weights.append(numpy_helper.from_array(per_row, name))
        return self.node("Mul", [whole, name])

    def node(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Adds one node and returns the name of its (only) output."""
        self._count += 1
        name = output or f"t{self._count}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=f"n_{name}", **attributes))
        return name

    def model(
        self, input_shape: Sequence[int | str], outputs: Mapping[str, Sequence[int | str]]
    ) -> bytes:
        """Returns the serialised graph with one float32 input ``image``."""
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, list(input_shape))],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
                for name, shape in outputs.items()
            ],
            initializer=self._weights,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="vendor_models",
        )
        onnx.checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString(deterministic=True)
        return data
