"""The exported network answers as the one in torch does, and says what it is."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.core.errors import ModelError
from m2fp_stream.parsers.m2fp.checkpoint import Checkpoint
from m2fp_stream.parsers.m2fp.export import to_onnx
from m2fp_stream.parsers.m2fp.labels import Kind
from m2fp_stream.parsers.m2fp.model import M2FP
from m2fp_stream.parsers.m2fp.runtime import FORMAT

SHAPE = (64, 96)
DIGEST = "0123456789abcdef" * 4


@pytest.fixture(name="torch", scope="module")
def torch_fixture() -> Any:
    torch = pytest.importorskip("torch", reason="the extra m2fp is not installed")
    pytest.importorskip("onnx", reason="the extra m2fp is not installed")
    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="module")
def network(torch: Any) -> Any:
    """Seeded, with masks of which each covers about half of the picture."""
    torch.manual_seed(5)
    network = M2FP(21, SHAPE).eval().requires_grad_(False)
    for name, value in network.state_dict().items():
        if "norm" in name and not name.endswith("running_var"):
            value.add_(torch.empty_like(value).uniform_(-0.2, 0.2))
    head, seen = network.sem_seg_head, {}
    last = head.predictor.mask_embed.layers[2]
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
        for name, module in (("features", head.pixel_decoder.mask_features), ("weights", last))
    ]
    for _ in range(2):
        network(torch.from_numpy(picture()))
        head.pixel_decoder.mask_features.bias -= seen["features"].mean((0, 2, 3))
        last.bias -= seen["weights"].mean(0)
        masks = network(torch.from_numpy(picture()))[1]
        for parameter in (last.weight, last.bias):
            parameter *= 5 / masks.std()
    for hook in hooks:
        hook.remove()
    return network


@pytest.fixture(scope="module")
def weights(network: Any) -> Checkpoint:
    return Checkpoint(Kind.CIHP, network.state_dict(), DIGEST)


@pytest.fixture(scope="module")
def exported(weights: Checkpoint) -> bytes:
    return to_onnx(weights, SHAPE)


@pytest.fixture(scope="module")
def session(exported: bytes) -> Any:
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return runtime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])


def picture(seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (1, 3, *SHAPE)).astype(np.float32)


def pictures() -> dict[str, NDArray[np.float32]]:
    ramp = np.linspace(0, 255, SHAPE[1], dtype=np.float32)
    mean = np.array([123.675, 116.28, 103.53], np.float32).reshape(1, 3, 1, 1)
    padded = picture(2)
    padded[:, :, 40:] = mean
    return {
        "noise": picture(0),
        "other noise": picture(1),
        "padded": padded,
        "a ramp": np.broadcast_to(ramp, (1, 3, *SHAPE)).copy(),
        "black": np.zeros((1, 3, *SHAPE), np.float32),
        "nothing but padding": np.broadcast_to(mean, (1, 3, *SHAPE)).copy(),
    }


@pytest.mark.parametrize("name", pictures())
def test_onnx_runtime_agrees_with_torch(session: Any, network: Any, torch: Any, name: str) -> None:
    image = pictures()[name]
    wanted_logits, wanted_masks = (value.numpy() for value in network(torch.from_numpy(image)))
    logits, masks = session.run(["logits", "masks"], {"image": image})
    assert logits.dtype == masks.dtype == np.float32
    assert logits.shape == wanted_logits.shape == (1, 100, 22)
    assert masks.shape == wanted_masks.shape == (1, 100, 16, 24)
    assert ((masks > 0) == (wanted_masks > 0)).mean() >= 0.999
    assert (logits.argmax(-1) == wanted_logits.argmax(-1)).mean() >= 0.99
    if "noise" in name:
        assert 0.2 < (masks > 0).mean() < 0.8, "the masks say nothing"
        assert len({mask.tobytes() for mask in masks[0] > 0}) > 50, "all queries are alike"


def test_another_picture_gives_another_answer(session: Any) -> None:
    (first,) = session.run(["masks"], {"image": picture(0)})
    (second,) = session.run(["masks"], {"image": picture(1)})
    assert ((first > 0) != (second > 0)).mean() > 0.05


def test_it_says_what_it_is_and_takes_one_shape(session: Any) -> None:
    assert session.get_modelmeta().custom_metadata_map == {
        "kind": "cihp",
        "sha256": DIGEST,
        "shape": "64x96",
        "format": FORMAT,
    }
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(float)", [1, 3, 64, 96])
    assert [(output.name, output.shape) for output in session.get_outputs()] == [
        ("logits", [1, 100, 22]),
        ("masks", [1, 100, 16, 24]),
    ]


def test_the_file_is_sound_and_holds_no_table_twice(exported: bytes) -> None:
    onnx = pytest.importorskip("onnx")
    onnx.checker.check_model(exported)
    graph = onnx.load_from_string(exported).graph
    types = {tensor.data_type for tensor in graph.initializer}
    assert onnx.TensorProto.DOUBLE not in types
    parameters = 63_124_118 * 4
    assert parameters < len(exported) < parameters * 1.01


def test_the_same_weights_give_the_same_bytes_and_nothing_is_printed(
    weights: Checkpoint, exported: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert to_onnx(weights, SHAPE) == exported
    assert capfd.readouterr() == ("", "")


def test_a_shape_that_the_network_cannot_take_is_refused(weights: Checkpoint) -> None:
    with pytest.raises(ModelError, match=r"multiples of 32, got 64x100"):
        to_onnx(weights, (64, 100))


def test_without_onnx_the_extra_is_named(
    weights: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"needs onnx; .*'m2fp-stream\[m2fp\]'"):
        to_onnx(weights, SHAPE)


def test_a_failure_of_the_exporter_is_one_line(
    weights: Checkpoint, torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("a page\nof graph")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(ModelError, match=r"^torch \S+ cannot export M2FP \(RuntimeError\)[^\n]*$"):
        to_onnx(weights, SHAPE)
