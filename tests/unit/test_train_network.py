"""The part network in the training framework and as ONNX; needs scripts/train/requirements.txt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="scripts/train/requirements.txt is not installed")
pytest.importorskip("onnx", reason="scripts/train/requirements.txt is not installed")
pytest.importorskip("tflite", reason="scripts/train/requirements.txt is not installed")

from m2fp_stream.parsers.embedded.classes import PartClass  # noqa: E402
from m2fp_stream.training.exchange import load_onnx  # noqa: E402
from m2fp_stream.training.loop import LEAST_RATE, WARM_UP, cosine  # noqa: E402
from m2fp_stream.training.loss import loss_of  # noqa: E402
from m2fp_stream.training.network import PartNetwork  # noqa: E402
from m2fp_stream.training.samples import IGNORE  # noqa: E402
from scripts.train.evaluate import open_onnx  # noqa: E402
from scripts.train.everyday import WeakClass  # noqa: E402
from scripts.train.export import export  # noqa: E402
from scripts.train.loop import train  # noqa: E402
from scripts.train.refit import Settings, label_tables, partial_loss  # noqa: E402


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


def test_an_exported_network_is_read_back_to_go_on_from(tmp_path: Path) -> None:
    torch.manual_seed(4)
    first, second = PartNetwork(), PartNetwork()
    torch.save(first.state_dict(), tmp_path / "parts.pt")
    (tmp_path / "first.onnx").write_bytes(export(tmp_path / "parts.pt"))
    load_onnx(second, (tmp_path / "first.onnx").read_bytes())
    torch.save(second.state_dict(), tmp_path / "parts.pt")
    assert export(tmp_path / "parts.pt") == (tmp_path / "first.onnx").read_bytes()


def one_pixel(*likely: int) -> Any:
    """Logits of one pixel that shares out all its probability among `likely`."""
    logits = torch.full((1, 16, 1, 1), -50.0)
    logits[0, list(likely)] = 0.0
    return logits


def test_a_set_of_classes_is_met_by_any_of_them_and_by_none_else() -> None:
    weights, allowed = label_tables()
    behind = torch.tensor([[[WeakClass.BEHIND]]], dtype=torch.uint8)

    def loss(*likely: int) -> float:
        return float(partial_loss(one_pixel(*likely), behind, weights, allowed))

    hair, hat, face = PartClass.HAIR, PartClass.HAT, PartClass.FACE
    assert loss(hair) == pytest.approx(0, abs=1e-5)
    assert loss(hair, hat) == pytest.approx(0, abs=1e-5)
    assert loss(hair, face) == pytest.approx(np.log(2), abs=1e-4)
    assert loss(face) > 10


def test_one_class_is_learned_as_before_and_what_is_unknown_not_at_all() -> None:
    weights, allowed = label_tables()
    torch.manual_seed(5)
    logits = torch.randn(2, 16, 6, 6)
    classes = torch.randint(0, 16, (2, 6, 6), dtype=torch.uint8)
    wanted = loss_of(logits, classes, weights[:16])
    assert float(partial_loss(logits, classes, weights, allowed)) == pytest.approx(float(wanted))
    classes[0] = IGNORE
    changed = logits.clone()
    changed[0] = torch.randn(16, 6, 6)
    first, second = (
        float(partial_loss(some, classes, weights, allowed)) for some in (logits, changed)
    )
    assert first == pytest.approx(second)


def test_a_run_goes_on_where_its_checkpoint_is_and_refuses_one_of_other_settings(
    tmp_path: Path,
) -> None:
    asked: list[int] = []

    def go(settings: Settings) -> Path:
        torch.manual_seed(1)
        network = PartNetwork().eval()
        picture = torch.zeros((1, 3, 64, 64), dtype=torch.uint8)

        def batches(start: int) -> Any:
            asked.append(start)
            return iter([(picture, picture[:, 0, ::2, ::2])] * (settings.steps - start))

        return train(
            network,
            batches,
            lambda _, rgb, classes: network(rgb).mean() + 0 * classes.sum(),
            lambda step: cosine(step, settings.steps),
            settings=settings,
            name="run",
            work=tmp_path,
            target=tmp_path / "weights.pt",
            averaging=0.9,
            weight_decay=0.0,
        )

    assert go(Settings(steps=2)).is_file()
    first = (tmp_path / "weights.pt").read_bytes()
    go(Settings(steps=2))
    assert asked == [0, 2]
    assert (tmp_path / "weights.pt").read_bytes() == first
    with pytest.raises(ValueError, match="take another --work"):
        go(Settings(steps=3))


def test_the_learning_rate_rises_and_falls_to_its_least() -> None:
    rates = [cosine(step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / WARM_UP)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(LEAST_RATE, abs=1e-4)
    assert rates[WARM_UP:] == sorted(rates[WARM_UP:], reverse=True)
