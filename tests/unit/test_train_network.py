"""The part network in the training framework and as ONNX; needs scripts/train/requirements.txt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="scripts/train/requirements.txt is not installed")
pytest.importorskip("onnx", reason="scripts/train/requirements.txt is not installed")
pytest.importorskip("tflite", reason="scripts/train/requirements.txt is not installed")

from scripts.train.evaluate import open_onnx  # noqa: E402
from scripts.train.export import export  # noqa: E402
from scripts.train.network import PartNetwork  # noqa: E402


def test_the_exported_network_gives_the_trained_ones_answers(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = PartNetwork()
    for value in network.state_dict().values():  # as if trained: statistics that matter
        if value.dtype.is_floating_point and value.ndim == 1:
            value.mul_(torch.rand_like(value) * 0.2 + 0.9)
    torch.save(network.state_dict(), tmp_path / "parts.pt")
    (tmp_path / "parts.onnx").write_bytes(export(tmp_path / "parts.pt"))
    rgb = np.random.default_rng(2).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    with torch.inference_mode():
        image = torch.from_numpy(rgb.transpose(2, 0, 1)[None].astype(np.float32) / 255)
        wanted = network.eval()(image).softmax(1)[0].numpy()
    got = open_onnx(tmp_path / "parts.onnx")(rgb)
    assert got.shape == wanted.shape == (16, 48, 64)
    assert np.abs(got - wanted).max() < 0.02
