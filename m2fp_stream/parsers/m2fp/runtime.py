"""An exported M2FP network, run by ONNX Runtime on the CPU; nothing here needs torch."""

from __future__ import annotations

import importlib
import re
from typing import Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.errors import ModelError, ParserError
from m2fp_stream.privacy.hardening import silence_libraries

from .labels import Kind
from .picture import MULTIPLE, Size

__all__ = ["M2FPNetwork", "Network"]

FORMAT: Final = "1"
"""Version of what `export` writes and is read here, as the metadata say it; it changes whenever the
graph or the metadata do. Ours."""
QUERIES: Final = 100
STRIDE: Final = 4
"""Input pixels in a pixel of the masks. Source, as of `QUERIES`: the network (`layers`)."""
INPUT: Final = "image"
OUTPUTS: Final = ["logits", "masks"]

FloatArray = NDArray[np.float32]

_AGAIN: Final = "delete the exported file; it is made again from the checkpoint"


class Network(Protocol):
    """What the parser needs of a network. Not thread-safe."""

    @property
    def kind(self) -> Kind:
        """What its checkpoint was trained on."""
        ...

    @property
    def shape_hw(self) -> Size:
        """(height, width) of its input."""
        ...

    @property
    def weights_sha256(self) -> str:
        """Of the checkpoint that it was exported from, in lower-case hexadecimal."""
        ...

    def __call__(self, image: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Returns (1, queries, classes + 1) logits and (1, queries, H/4, W/4) mask logits.

        Args:
            image: (1, 3, H, W) float32, RGB 0..255, padded with ImageNet's mean.

        Raises:
            ParserError: it failed, or the answer is not finite; it may be used again.
        """
        ...


class M2FPNetwork:
    """A network from the bytes that `export.to_onnx` wrote.

    Args:
        onnx_bytes: the file's; who wrote it is the caller's to check.
        threads: of ONNX Runtime.

    Attributes:
        kind, shape_hw, weights_sha256: see `Network`.

    Raises:
        ModelError: not an export of M2FP, or one that is damaged.
    """

    def __init__(self, onnx_bytes: bytes, threads: int) -> None:
        silence_libraries()  # before the import, which opens a log
        try:
            ort = cast(Any, importlib.import_module("onnxruntime"))
        except ImportError:
            raise ModelError(
                "m2fp needs onnxruntime, one of the package's own dependencies; install the "
                "package again"
            ) from None
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.use_deterministic_compute = True
        try:
            self._session = ort.InferenceSession(
                onnx_bytes, options, providers=["CPUExecutionProvider"]
            )
            properties = dict(self._session.get_modelmeta().custom_metadata_map)
        except Exception as error:  # its exceptions have no public base class
            raise ModelError(
                f"m2fp: ONNX Runtime cannot load the exported network ({type(error).__name__}); "
                f"{_AGAIN}"
            ) from None
        self.kind, self.shape_hw, self.weights_sha256 = _described(properties)
        self._check_signature()

    def __call__(self, image: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `Network`; an `image` of another shape or dtype is a ParserError, too."""
        if image.shape != (1, 3, *self.shape_hw) or image.dtype != np.float32:
            raise ParserError(
                f"m2fp: expected a float32 image of shape {(1, 3, *self.shape_hw)}, got "
                f"{image.dtype} {image.shape}"
            )
        try:
            outputs = self._session.run(OUTPUTS, {INPUT: np.ascontiguousarray(image)})
        except Exception as error:  # its exceptions have no public base class
            # The class only: a library's text is not ours and could quote data.
            raise ParserError(f"m2fp: ONNX Runtime failed ({type(error).__name__})") from None
        for name, output, shape in zip(OUTPUTS, outputs, self._output_shapes(), strict=True):
            if output.shape != shape or output.dtype != np.float32:
                raise ParserError(
                    f"m2fp: {name} came as {output.dtype} {output.shape}, expected float32 {shape}"
                )
            # NaN compares false with every threshold and would mean "nobody".
            if not np.isfinite(output).all():
                raise ParserError(f"m2fp: {name} is not finite")
        logits, masks = outputs
        return logits, masks

    def _output_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        height, width = self.shape_hw
        return (
            (1, QUERIES, self.kind.classes + 1),
            (1, QUERIES, height // STRIDE, width // STRIDE),
        )

    def _check_signature(self) -> None:
        values = (*self._session.get_inputs(), *self._session.get_outputs())
        shapes = ((1, 3, *self.shape_hw), *self._output_shapes())
        expected = dict(zip((INPUT, *OUTPUTS), shapes, strict=True))
        got = {value.name: tuple(value.shape) for value in values}
        if got != expected or {value.type for value in values} != {"tensor(float)"}:
            raise ModelError(
                f"m2fp: the exported network has {_listed(got)}, expected {_listed(expected)}, all "
                f"float32; {_AGAIN}"
            )


def _described(properties: dict[str, str]) -> tuple[Kind, Size, str]:
    """Returns kind, shape and checkpoint that an export's metadata name.

    Raises:
        ModelError: one of them is missing or cannot be.
    """
    if properties.get("format") != FORMAT:
        raise ModelError(
            f"m2fp: the exported network is of format {properties.get('format', 'unknown')!r:.20}, "
            f"expected {FORMAT!r}; {_AGAIN}"
        )
    kind, shape, digest = (properties.get(name, "") for name in ("kind", "shape", "sha256"))
    sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", shape)
    if kind not in list(Kind) or sides is None or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ModelError(
            f"m2fp: the exported network does not say which checkpoint and shape it is of; {_AGAIN}"
        )
    height, width = (int(side) for side in sides.groups())
    if height % MULTIPLE or width % MULTIPLE or not height or not width:
        raise ModelError(
            f"m2fp: the exported network is of {width}x{height}, expected multiples of "
            f"{MULTIPLE}; {_AGAIN}"
        )
    return Kind(kind), (height, width), digest


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
