"""The network computes what the papers say, under the names that the checkpoint has."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the extra m2fp is not installed")

from m2fp_stream.core.errors import ModelError  # noqa: E402
from m2fp_stream.parsers.m2fp.labels import Kind  # noqa: E402
from m2fp_stream.parsers.m2fp.layers import require_torch, sine_table  # noqa: E402
from m2fp_stream.parsers.m2fp.model import M2FP  # noqa: E402
from m2fp_stream.parsers.m2fp.pixel_decoder import (  # noqa: E402
    deformable_attention,
    reference_points,
)
from m2fp_stream.parsers.m2fp.predictor import attention_bias  # noqa: E402

SHAPE = (64, 96)
LEVEL_SHAPES = ((2, 3), (4, 6), (8, 12))
MEAN = (123.675, 116.28, 103.53)

FloatArray = NDArray[np.float64]


@pytest.fixture(scope="module")
def network() -> Any:
    """Seeded, in float64, with masks of which each covers a part of the picture."""
    torch.set_num_threads(1)
    torch.manual_seed(11)
    network = M2FP(21, SHAPE).eval().requires_grad_(False)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif "norm" in name or name.endswith(("running_mean", "proj_bias")):
            value.add_(torch.empty_like(value).uniform_(-0.2, 0.2))
    network.double()
    head = network.sem_seg_head
    last = head.predictor.mask_embed.layers[2]
    seen: dict[str, Any] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
        for name, module in (("features", head.pixel_decoder.mask_features), ("weights", last))
    ]
    for _ in range(3):  # what a mask is feeds back into where its query looks
        network(picture())
        head.pixel_decoder.mask_features.bias -= seen["features"].mean((0, 2, 3))
        last.bias -= seen["weights"].mean(0)
        masks = network(picture())[1]
        for parameter in (last.weight, last.bias):
            parameter *= 5 / masks.std()
    for hook in hooks:
        hook.remove()
    return network


def picture(seed: int = 0, dtype: Any = torch.float64) -> Any:
    rgb = np.random.default_rng(seed).integers(0, 256, (1, 3, *SHAPE))
    return torch.from_numpy(rgb).to(dtype)


def listing(kind: Kind) -> str:
    with torch.device("meta"):
        state = M2FP(kind.classes, (32, 32)).state_dict()
    return "".join(f"{name} {tuple(value.shape)}\n" for name, value in sorted(state.items()))


@pytest.mark.parametrize(
    ("kind", "numbers", "digest"),
    [
        (Kind.CIHP, 63_124_118, "6d49ab56088145b4c9e1e80e751dc0526690ad6036ab5527846f8a4e4e014533"),
        (Kind.LIP, 63_123_861, "4b051e73208d40fd9f3d6aface402dc9c5765b87378c03a6ca601d55c25c372b"),
    ],
)
def test_names_and_shapes_are_those_of_the_published_network(
    kind: Kind, numbers: int, digest: str
) -> None:
    """The digests were made with ModelScope 1.9.5's own classes, less `num_batches_tracked`."""
    lines = listing(kind)
    assert lines.startswith("backbone.res2.0.conv1.norm.bias (64,)\n")
    with torch.device("meta"):
        parameters = list(M2FP(kind.classes, (32, 32)).parameters())
    assert sum(parameter.numel() for parameter in parameters) == numbers
    assert hashlib.sha256(lines.encode()).hexdigest() == digest


def test_the_shape_changes_no_name_and_no_parameter() -> None:
    with torch.device("meta"):
        small, large = M2FP(21, (32, 32)).state_dict(), M2FP(21, (64, 320)).state_dict()
    assert [(name, value.shape) for name, value in small.items()] == [
        (name, value.shape) for name, value in large.items()
    ]


def test_outputs_have_a_fourth_of_the_pictures_sides(network: Any) -> None:
    logits, masks = network(picture())
    assert logits.shape == (1, 100, 22)
    assert masks.shape == (1, 100, 16, 24)
    assert len({row.numpy().tobytes() for row in masks[0] > 0}) > 50, "all queries are alike"
    assert 0.05 < (masks > 0).double().mean() < 0.95


@pytest.mark.parametrize("shape", [(0, 32), (32, -32), (33, 32), (64, 40)])
def test_another_shape_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ModelError, match=rf"multiples of 32, got {shape[0]}x{shape[1]}"):
        M2FP(21, shape)


# ------------------------------------------------------------------ tables


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([4, 8, 12]))
def test_the_sine_table_is_the_papers(rows: int, columns: int, width: int) -> None:
    table = sine_table((rows, columns), width)
    assert table.dtype == torch.float64
    half = width // 2
    for row in range(rows):
        for column in range(columns):
            for channel in range(width):
                place, count = (row, rows) if channel < half else (column, columns)
                at = channel % half
                angle = (place + 1) / (count + 1e-6) * 2 * math.pi
                angle /= 10000 ** (2 * (at // 2) / half)
                wanted = math.cos(angle) if at % 2 else math.sin(angle)
                got = table[row * columns + column, channel].item()
                assert got == pytest.approx(wanted, abs=1e-12)


def test_reference_points_are_the_centres_of_cells() -> None:
    points = reference_points(((1, 2), (2, 4)))
    assert points.tolist() == [
        *([0.25, 0.5], [0.75, 0.5]),
        *([0.125, 0.25], [0.375, 0.25], [0.625, 0.25], [0.875, 0.25]),
        *([0.125, 0.75], [0.375, 0.75], [0.625, 0.75], [0.875, 0.75]),
    ]


def test_tables_keep_their_precision_and_stay_out_of_the_checkpoint(network: Any) -> None:
    decoder = network.sem_seg_head.pixel_decoder.transformer
    assert torch.equal(decoder._positions_1, sine_table((4, 6)))
    tables = {name for name, _ in network.named_buffers() if not name.endswith(("_mean", "_var"))}
    assert tables
    assert not any(name in network.state_dict() for name in tables)
    with torch.device("meta"):
        empty = M2FP(21, SHAPE)
    assert empty.sem_seg_head.predictor._positions_2.device.type == "cpu"
    assert empty.pixel_mean.device.type == "cpu"


# ------------------------------------------------------------------ attention


def slow_deformable_attention(
    values: FloatArray,
    offsets: FloatArray,
    weights: FloatArray,
    centres: FloatArray,
    shapes: tuple[tuple[int, int], ...],
) -> FloatArray:
    """Equation 3 of Deformable DETR, one number at a time."""
    heads, channels, _ = values.shape
    queries, points = len(centres), offsets.shape[3]
    result = np.zeros((queries, heads, channels))
    for query in range(queries):
        for head in range(heads):
            start = 0
            for level, (rows, columns) in enumerate(shapes):
                for point in range(points):
                    dx, dy = offsets[head, query, level, point]
                    x = centres[query, 0] * columns + dx - 0.5
                    y = centres[query, 1] * rows + dy - 0.5
                    left, top = math.floor(x), math.floor(y)
                    for row, column, share in (
                        (top, left, (1 - (y - top)) * (1 - (x - left))),
                        (top, left + 1, (1 - (y - top)) * (x - left)),
                        (top + 1, left, (y - top) * (1 - (x - left))),
                        (top + 1, left + 1, (y - top) * (x - left)),
                    ):
                        if 0 <= row < rows and 0 <= column < columns:
                            cell = values[head, :, start + row * columns + column]
                            weight = weights[head, query, level, point]
                            result[query, head] += weight * share * cell
                start += rows * columns
    return result.reshape(queries, heads * channels)


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=3),
    reach=st.sampled_from([0.0, 0.7, 6.0]),
)
def test_deformable_attention_is_the_papers(
    seed: int, sizes: list[tuple[int, int]], reach: float
) -> None:
    rng = np.random.default_rng(seed)
    shapes, heads, points = tuple(sizes), 2, 3
    cells = sum(rows * columns for rows, columns in shapes)
    values = rng.normal(size=(heads, 4, cells))
    offsets = rng.normal(size=(heads, 5, len(shapes), points, 2)) * reach
    weights = rng.random((heads, 5, len(shapes), points))
    centres = rng.random((5, 2))
    wanted = slow_deformable_attention(values, offsets, weights, centres, shapes)
    got = deformable_attention(
        torch.from_numpy(values),
        torch.from_numpy(offsets),
        torch.from_numpy(weights),
        torch.from_numpy(centres),
        shapes,
    )
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-12)


def test_a_query_looks_where_its_mask_is_and_nowhere_else() -> None:
    bias = attention_bias(torch.tensor([[-2.0, 0.0, 3.0, -1e-6]]))
    assert bias.tolist() == [[-1e9, 0, 0, -1e9]]
    scores = torch.tensor([[80.0, -80.0, -80.0, 80.0]]) + bias
    assert scores.softmax(-1).tolist() == [[0, 0.5, 0.5, 0]], "exactly nothing from outside"


def test_a_query_without_a_mask_looks_everywhere() -> None:
    bias = attention_bias(torch.tensor([[-1.0, -2.0], [-1.0, 2.0]]))
    assert bias.tolist() == [[0, 0], [-1e9, 0]]


def published_attention(own: Any) -> Any:
    """torch's own module with the same parameters, whose names it shares."""
    reference = torch.nn.MultiheadAttention(256, 8).double().eval()
    reference.load_state_dict(own.state_dict())
    return reference


def slow_predictor(predictor: Any, mask_features: Any, levels: list[Any]) -> tuple[Any, Any]:
    """Section 3.2 of Mask2Former to the letter: whole masks are resized, attention is forbidden."""
    x = predictor.query_feat.weight
    places = predictor.query_embed.weight

    def masks(x: Any) -> Any:
        weights = predictor.mask_embed(predictor.decoder_norm(x))
        return torch.einsum("qc,chw->qhw", weights, mask_features[0])

    for layer in range(9):
        level = layer % 3
        cells = levels[level] + predictor.level_embed.weight[level]
        small = torch.nn.functional.interpolate(
            masks(x)[None], size=LEVEL_SHAPES[level], mode="bilinear", align_corners=False
        )
        forbidden = small[0].flatten(1).sigmoid() < 0.5
        assert 0.2 < forbidden.double().mean() < 0.8, "hardly anything is masked"
        for query in range(100):
            if forbidden[query].all():
                forbidden[query] = False
        cross = predictor.transformer_cross_attention_layers[layer]
        keys = cells + sine_table(LEVEL_SHAPES[level])
        found, _ = published_attention(cross.multihead_attn)(
            x + places, keys, cells, attn_mask=forbidden
        )
        x = cross.norm(x + found)
        among = predictor.transformer_self_attention_layers[layer]
        found, _ = published_attention(among.self_attn)(x + places, x + places, x)
        x = among.norm(x + found)
        linear = predictor.transformer_ffn_layers[layer]
        x = linear.norm(x + linear.linear2(linear.linear1(x).relu()))
    return predictor.class_embed(predictor.decoder_norm(x)), masks(x)


def test_the_decoder_gives_what_the_formula_gives(network: Any) -> None:
    seen: list[Any] = []
    predictor = network.sem_seg_head.predictor
    handle = predictor.register_forward_hook(
        lambda _, inputs, output: seen.extend((inputs, output))
    )
    network(picture(3))
    handle.remove()
    (mask_features, levels), (logits, masks) = seen
    wanted_logits, wanted_masks = slow_predictor(predictor, mask_features, levels)
    assert (logits[0] - wanted_logits).abs().max() < 1e-9
    assert (masks[0] - wanted_masks).abs().max() < 1e-9


# ------------------------------------------------------------------ the whole


def test_padding_with_the_mean_colour_is_padding_with_0_after_normalising(network: Any) -> None:
    seen: list[Any] = []
    handle = network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    padded = picture(dtype=torch.float32)
    padded[:, :, 40:] = padded[:, :, :, 70:] = torch.tensor(MEAN).reshape(1, 3, 1, 1)
    network(padded.double())
    handle.remove()
    (normalised,) = seen
    assert (normalised[:, :, 40:] == 0).all()
    assert (normalised[:, :, :, 70:] == 0).all()
    red = padded[0, 0, 5, 5].double()
    assert normalised[0, 0, 5, 5].item() == pytest.approx((red.item() - MEAN[0]) / 58.395, abs=1e-6)


def test_single_precision_agrees_with_double(network: Any) -> None:
    state = {name: value.float() for name, value in network.state_dict().items()}
    single = M2FP(21, SHAPE).eval()
    single.load_state_dict(state)
    for seed in range(3):
        logits, masks = network(picture(seed))
        rough_logits, rough_masks = single(picture(seed, torch.float32))
        assert rough_masks.dtype == rough_logits.dtype == torch.float32
        assert ((masks > 0) == (rough_masks > 0)).double().mean() >= 0.999
        assert (logits.argmax(-1) == rough_logits.argmax(-1)).double().mean() >= 0.98
        assert not torch.equal(masks, rough_masks.double()), "nothing was computed in double"


def test_it_knows_no_training(network: Any) -> None:
    before = network(picture())[1]
    statistics = network.backbone.stem.conv1.norm.running_mean.clone()
    try:
        assert torch.equal(network.train()(picture())[1], before)
        assert torch.equal(network.backbone.stem.conv1.norm.running_mean, statistics)
    finally:
        network.eval()


# ------------------------------------------------------------------ torch itself


@pytest.mark.parametrize("version", ["1.13.1", "2.9.1+cpu", "unknown"])
def test_a_torch_that_may_run_a_checkpoints_code_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    assert require_torch() is torch
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(
        ModelError, match=r"needs torch 2\.10 or later, found .*install 'torch>=2\.10'"
    ):
        require_torch()


def test_a_later_torch_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "3.0.0a0+git123")
    assert require_torch() is torch
