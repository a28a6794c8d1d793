"""The part network as an ONNX file, and back: batch normalisation is folded in.

Weights are stored in half precision and widened when the graph is loaded, as in the other shipped
files. The graph ends in a softmax: its output is (1, 16, h/2, w/2) probabilities of `PartClass`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from ..parsers.embedded.classes import PartClass
from .graph import GraphWriter
from .network import TAPS, PartNetwork

__all__ = ["convolutions", "load_onnx", "to_go_on_from", "to_onnx"]

_SIX: Final = np.array(6, np.float32)
_ZERO: Final = np.array(0, np.float32)


class _Exporter:
    """Walks the network and writes its nodes."""

    def __init__(self, network: PartNetwork) -> None:
        self._net = network.eval()
        self._writer = GraphWriter("parts", half=True)
        self._zero = self._writer.weight(_ZERO)
        self._six = self._writer.weight(_SIX)
        self._twice = self._writer.weight(np.array([1, 1, 2, 2], np.float32))

    def model(self) -> bytes:
        """Returns the serialised graph."""
        net = self._net
        f2, f4, f8, f16, f32 = self._encoder(net.encoder)
        mean = self._writer.node("GlobalAveragePool", [f32])
        context = self._convolution(mean, net.pool, None)
        x = self._add(self._unit(f32, net.in32), context)
        x = self._add(self._doubled(x), self._unit(f16, net.in16))
        x = self._sequence(x, net.mix16)
        x = self._add(self._doubled(x), self._unit(f8, net.in8))
        x = self._sequence(x, net.mix8)
        x = self._add(self._doubled(self._unit(x, net.down8)), self._unit(f4, net.in4))
        x = self._sequence(x, net.mix4)
        x = self._add(self._doubled(self._unit(x, net.down4)), self._unit(f2, net.in2))
        x = self._sequence(x, net.mix2)
        x = self._convolution(x, net.classify, None)
        # Softmax by hand: over channels, ONNX Runtime's own takes a seventh of the whole network.
        largest = self._writer.node("ReduceMax", [x], axes=[1], keepdims=1)
        powers = self._writer.node("Exp", [self._writer.node("Sub", [x, largest])])
        axis = self._writer.weight(np.array([1], np.int64))
        total = self._writer.node("ReduceSum", [powers, axis], keepdims=1)
        self._writer.node("Div", [powers, total], "parts")
        shape = (1, len(PartClass), "height_div_2", "width_div_2")
        return self._writer.model((1, 3, "height", "width"), {"parts": shape})

    def _encoder(self, encoder: Any) -> list[str]:
        x = self._clipped(self._convolution("image", encoder._conv_stem, encoder._bn0))
        taps = []
        wanted = {encoder._ends[stage - 1] for stage in TAPS}
        for number, block in enumerate(encoder._blocks, start=1):
            y = x
            if block.expands:
                y = self._clipped(self._convolution(y, block._expand_conv, block._bn0))
            y = self._clipped(self._convolution(y, block._depthwise_conv, block._bn1))
            y = self._convolution(y, block._project_conv, block._bn2)
            x = self._add(x, y) if block.adds else y
            if number in wanted:
                taps.append(x)
        return taps

    def _unit(self, x: str, unit: nn.Sequential) -> str:
        return self._sequence(x, unit)

    def _sequence(self, x: str, layers: nn.Sequential) -> str:
        """Writes a chain of convolution, normalisation and ReLU6, nested or not."""
        flat = [m for m in layers.modules() if not list(m.children())]
        for convolution, norm, _ in zip(flat[0::3], flat[1::3], flat[2::3], strict=True):
            x = self._clipped(self._convolution(x, convolution, norm))
        return x

    def _convolution(self, x: str, layer: Any, norm: Any) -> str:
        weight = layer.weight.detach().double()
        bias = torch.zeros(weight.shape[0]).double()
        if layer.bias is not None:
            bias = layer.bias.detach().double()
        if norm is not None:
            factor = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
            weight = weight * factor[:, None, None, None]
            bias = (bias - norm.running_mean.double()) * factor + norm.bias.double()
        return self._writer.node(
            "Conv",
            [
                x,
                self._writer.weight(weight.detach().numpy()),
                self._writer.weight(bias.detach().numpy()),
            ],
            kernel_shape=list(layer.kernel_size),
            strides=list(layer.stride),
            pads=[*layer.padding, *layer.padding],
            group=layer.groups,
        )

    def _clipped(self, x: str) -> str:
        return self._writer.node("Clip", [x, self._zero, self._six])

    def _add(self, x: str, y: str) -> str:
        return self._writer.node("Add", [x, y])

    def _doubled(self, x: str) -> str:
        return self._writer.node(
            "Resize",
            [x, "", self._twice],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )


def convolutions(network: PartNetwork) -> Iterator[tuple[Any, Any]]:
    """Yields every convolution and its normalisation (or None), in the order of the export."""
    encoder: Any = network.encoder
    yield encoder._conv_stem, encoder._bn0
    for block in encoder._blocks:
        if block.expands:
            yield block._expand_conv, block._bn0
        yield block._depthwise_conv, block._bn1
        yield block._project_conv, block._bn2
    yield network.pool, None
    net = network
    chains: tuple[nn.Sequential, ...] = (net.in32, net.in16, net.mix16, net.in8, net.mix8)
    chains += (net.down8, net.in4, net.mix4, net.down4, net.in2, net.mix2)
    for chain in chains:
        flat = [m for m in chain.modules() if not list(m.children())]
        yield from zip(flat[0::3], flat[1::3], strict=True)
    yield network.classify, None


def to_onnx(network: PartNetwork) -> bytes:
    """Returns the network as a serialised graph; it is in evaluation mode afterwards."""
    return _Exporter(network).model()


def load_onnx(network: PartNetwork, data: bytes) -> None:
    """Puts the weights of an exported network back; batch normalisation becomes a bias.

    Raises:
        ValueError: it is another network's, or no network at all.
    """
    try:
        graph = onnx.load_model_from_string(data).graph
    except Exception as error:  # of many kinds
        raise ValueError(f"no network ({type(error).__name__})") from None
    stored = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast":
            stored[node.output[0]] = stored[node.input[0]]
    found = [node for node in graph.node if node.op_type == "Conv"]
    wanted = list(convolutions(network))
    if len(found) != len(wanted):
        raise ValueError(f"it has {len(found)} convolutions, not {len(wanted)}")
    with torch.no_grad():
        for node, (layer, norm) in zip(found, wanted, strict=True):
            weight, bias = (np.asarray(stored[name], np.float32) for name in node.input[1:])
            if tuple(layer.weight.shape) != weight.shape:
                raise ValueError(f"{node.name} has the shape {weight.shape}")
            layer.weight.copy_(torch.from_numpy(weight.copy()))
            if norm is None:
                layer.bias.copy_(torch.from_numpy(bias.copy()))
            else:
                norm.running_mean.zero_()
                norm.running_var.fill_(1 - norm.eps)
                norm.weight.fill_(1.0)
                norm.bias.copy_(torch.from_numpy(bias.copy()))


def to_go_on_from(data: bytes) -> PartNetwork:
    """Returns an exported network, ready to be trained further.

    Raises:
        ValueError: see `load_onnx`.
    """
    network = PartNetwork()
    load_onnx(network, data)
    network.to(memory_format=torch.channels_last)
    network.train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()  # folded: its statistics are not known any more
    return network
