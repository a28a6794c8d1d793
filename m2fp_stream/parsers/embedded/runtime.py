"""One small interface over the libraries that can run the shipped ONNX files.

Which library a model uses by default is written in the manifest, by measurement
(``scripts/bench/runtimes.py``). Nothing falls back to another library on its own.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.errors import ModelError, ParserError
from m2fp_stream.models import load_verified, model_entry
from m2fp_stream.privacy.hardening import silence_libraries

__all__ = ["RUNTIMES", "Given", "Network", "network_of", "open_network"]

RUNTIMES: Final = ("opencv", "onnxruntime", "openvino")

FloatArray = NDArray[np.float32]

_EXTRAS: Final = {
    "cv2": "install the package again: OpenCV 5 is one of its own dependencies",
    "onnxruntime": "install the package again: ONNX Runtime is one of its own dependencies",
    "openvino": "install the extra: pip install 'm2fp-stream[openvino]'",
}


class Network(Protocol):
    """A loaded network with one input and a fixed order of outputs.

    Not thread-safe: one thread at a time may call `run`.
    """

    def run(self, blob: FloatArray) -> tuple[FloatArray, ...]:
        """Returns the outputs, in the order of the ONNX file, as float32 copies.

        Args:
            blob: (1, channels, h, w) float32, C-contiguous; colour order and range as the
                manifest's ``input`` says.

        Raises:
            ParserError: the runtime failed; the network may be used again.
        """
        ...


@dataclass(frozen=True, slots=True)
class Given:
    """Weights that stand in for those of a shipped model, of the same input and outputs.

    Attributes:
        path: the file's.
        sha256: what was pinned of it, in lower-case hexadecimal.
    """

    path: str
    sha256: str

    def load(self, name: str) -> bytes:
        """Returns the bytes, whose hash is the pinned one.

        Raises:
            ModelError: they cannot be read, or are others.
        """
        try:
            data = Path(self.path).read_bytes()
        except OSError as error:
            raise ModelError(
                f"model {name}: cannot read {self.path} ({type(error).__name__}), which "
                "parser.weights names"
            ) from None
        digest = hashlib.sha256(data).hexdigest()
        if digest != self.sha256:
            raise ModelError(
                f"model {name}: {self.path} has SHA-256 {digest}, {self.sha256} was pinned; make "
                "it again with models distill, or leave parser.weights out"
            )
        return data


def open_network(
    name: str,
    *,
    threads: int = 1,
    runtime: str | None = None,
    arena: bool = False,
    given: Given | None = None,
) -> Network:
    """Loads the shipped model `name` from bytes that were verified.

    Args:
        name: a name of the manifest.
        threads: worker threads of the runtime. OpenCV's is a setting of the whole process.
        runtime: one of `RUNTIMES`; None takes the manifest's choice.
        arena: keep the memory of a run for the next one: for networks that see few sizes, again
            and again. Known to ONNX Runtime alone.
        given: weights to take instead of the shipped ones.

    Raises:
        ModelError: weights are missing or changed, the runtime is unknown, not installed, or
            cannot read the model.
    """
    data = load_verified(name) if given is None else given.load(name)
    return network_of(name, data, threads=threads, runtime=runtime, arena=arena)


def network_of(
    name: str, data: bytes, *, threads: int = 1, runtime: str | None = None, arena: bool = False
) -> Network:
    """Loads a network of the same kind as the shipped model `name`; see `open_network`.

    Args:
        name: as there.
        data: the ONNX file's bytes; who wrote them is the caller's to check.
        threads: as there.
        runtime: as there.
        arena: as there.
    """
    chosen = model_entry(name).runtime if runtime is None else runtime
    kinds: dict[str, Callable[[str, bytes, int], Network]]
    kinds = {
        "opencv": _OpenCVNetwork,
        "onnxruntime": partial(_OrtNetwork, arena=arena),
        "openvino": _OpenVinoNetwork,
    }
    if chosen not in kinds:
        raise ModelError(f"unknown runtime {chosen!r}; expected one of {', '.join(RUNTIMES)}")
    return kinds[chosen](name, data, threads)


def _library(module: str, model: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ModelError(f"model {model} needs {module}; {_EXTRAS[module]}") from None


def _unreadable(model: str, runtime: str, error: Exception) -> ModelError:
    return ModelError(f"model {model}: {runtime} cannot load it ({type(error).__name__})")


class _OpenCVNetwork:
    """OpenCV's own dnn module, graph engine."""

    def __init__(self, name: str, data: bytes, threads: int) -> None:
        cv2 = cast(Any, _library("cv2", name))
        self._name = name
        cv2.setNumThreads(threads)
        try:
            self._net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8), cv2.dnn.ENGINE_NEW)
            self._outputs = list(self._net.getUnconnectedOutLayersNames())
        except (AttributeError, cv2.error) as error:
            raise _unreadable(name, "OpenCV (version 5 is needed)", error) from None
        self._error: type[Exception] = cv2.error

    def run(self, blob: FloatArray) -> tuple[FloatArray, ...]:
        try:
            self._net.setInput(blob)
            outputs = self._net.forward(self._outputs)
        except self._error as error:
            raise _failed(self._name, "OpenCV", error) from None
        return _copies(self._name, outputs)


class _OrtNetwork:
    """ONNX Runtime on the CPU."""

    def __init__(self, name: str, data: bytes, threads: int, *, arena: bool) -> None:
        silence_libraries()  # here too: `load_parser` runs in processes we did not harden
        ort = cast(Any, _library("onnxruntime", name))
        self._name = name
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.use_deterministic_compute = True
        # For inputs of many sizes, no arena keeps 22 MB less and takes as long
        # (scripts/bench/runtimes.py). With one YuNet at 640x384 takes 4.7 instead of 5.6 ms, and
        # EfficientDet at 1280x736 220 instead of 300.
        options.enable_cpu_mem_arena = arena
        # A plan by the input's size keeps a block a size: EfficientDet at 384, 640 and 1280 holds
        # 218 MB with it and 182 without, in the same time.
        options.enable_mem_pattern = False
        try:
            self._session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no public base class
            raise _unreadable(name, "ONNX Runtime", error) from None
        self._input = self._session.get_inputs()[0].name

    def run(self, blob: FloatArray) -> tuple[FloatArray, ...]:
        try:
            outputs = self._session.run(None, {self._input: blob})
        except Exception as error:  # its exceptions have no public base class
            raise _failed(self._name, "ONNX Runtime", error) from None
        return _copies(self._name, outputs)


class _OpenVinoNetwork:
    """OpenVINO on the CPU, in float32; only where somebody asked for it."""

    def __init__(self, name: str, data: bytes, threads: int) -> None:
        openvino = cast(Any, _library("openvino", name))
        self._name = name
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            core = openvino.Core()
            self._model = core.compile_model(core.read_model(data), "CPU", settings)
        except Exception as error:  # its exceptions have no public base class
            raise _unreadable(name, "OpenVINO", error) from None

    def run(self, blob: FloatArray) -> tuple[FloatArray, ...]:
        try:
            result = self._model({0: blob})
            outputs = [result[index] for index in range(len(self._model.outputs))]
        except Exception as error:  # its exceptions have no public base class
            raise _failed(self._name, "OpenVINO", error) from None
        return _copies(self._name, outputs)


def _failed(model: str, runtime: str, error: Exception) -> ParserError:
    # The class only: a library's text is not ours and could quote data.
    return ParserError(f"model {model}: {runtime} failed ({type(error).__name__})")


def _copies(model: str, outputs: Any) -> tuple[FloatArray, ...]:
    """Copies the outputs; NaN compares false with every threshold and would mean "nobody"."""
    copies = tuple(np.array(output, dtype=np.float32, copy=True) for output in outputs)
    if not all(np.isfinite(output).all() for output in copies):
        raise ParserError(f"model {model}: its output is not finite")
    return copies
