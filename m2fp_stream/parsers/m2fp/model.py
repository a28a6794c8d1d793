"""M2FP's network in plain torch, under the parameter names of ModelScope's checkpoint.

Written from the papers: M2FP (Yang et al., arXiv 2301.00394) is Mask2Former (Cheng et al.,
arXiv 2112.01527) for human parsing: a residual network of 101 layers, a pixel decoder with
deformable attention (Zhu et al., arXiv 2010.04159) and a decoder of 100 queries with masked
attention. Sizes as published: see the constants below. The names of parameters and buffers are
facts about the checkpoint; `M2FP.state_dict()` is the list of them, and costs nothing on torch's
``meta`` device.

The input's shape is fixed when the network is built, so that position tables are constants and
the whole can be exported. Three things are computed differently from the papers' formulas, with
the same result: masked attention adds -1e9 where it must not look; between the decoder's layers,
mask features are resized once instead of the masks of 100 queries after each; deformable attention
samples level by level.

The module can be imported without torch, to be looked at; `require_torch` says what is missing.
"""

from __future__ import annotations

import math
import re
from types import SimpleNamespace
from typing import Any, Final

from m2fp_stream.core.errors import ModelError

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional
except ImportError:  # `require_torch` tells whoever wants to use it
    torch = None
    nn = SimpleNamespace(Module=object)

__all__ = [
    "M2FP",
    "attention_bias",
    "deformable_attention",
    "reference_points",
    "require_torch",
    "sine_table",
]

Shape = tuple[int, int]

# Sizes of the published network. Source: its configuration (ModelScope 1.9.5, image_human_parsing)
# and Mask2Former, section 4.1.
QUERIES: Final = 100
WIDTH: Final = 256
HEADS: Final = 8
ENCODER_LAYERS: Final = 6
ENCODER_HIDDEN: Final = 1024
DECODER_LAYERS: Final = 9
DECODER_HIDDEN: Final = 2048
POINTS: Final = 4
"""Places that a head of deformable attention samples in each level. Source: as above."""
LEVELS: Final = 3
"""Levels that attention reads: strides 32, 16 and 8, in this order. Source: as above."""
STRIDE: Final = 32
"""Both sides of the input are multiples of it. Source: `LEVELS`."""

_BLOCKS: Final = (3, 4, 23, 3)
"""Blocks of a stage. Source: He et al., arXiv 1512.03385, table 1, 101 layers."""
_GROUPS: Final = 32
"""Groups of group normalisation. Source: Wu and He, arXiv 1803.08494."""
_EPSILON: Final = 1e-5
"""Of batch normalisation; torch's other norms have the same by default."""
_NEVER: Final = -1e9
"""What masked attention adds where a query must not look: its weight there is exactly 0. Chosen:
`exp` of it is 0 in single precision."""

# Of ImageNet's pictures, RGB, on a scale of 0..255. Source: the configuration of the published
# network (ModelScope 1.9.5, image_human_parsing).
_PIXEL_MEAN: Final = (123.675, 116.28, 103.53)
_PIXEL_STD: Final = (58.395, 57.12, 57.375)
"""The picture's numbers are normalised with these."""

_OLDEST_TORCH: Final = (2, 10)
"""Earlier ones could run code of a checkpoint made to harm (CVE-2025-32434, CVE-2026-24747).
Source: both advisories."""


def require_torch() -> Any:
    """Returns the module `torch`.

    Raises:
        ModelError: torch is not installed, or too old to read a checkpoint safely.
    """
    if torch is None:
        raise ModelError("M2FP needs torch; install the extra: pip install 'm2fp-stream[m2fp]'")
    version = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if version is None or tuple(map(int, version.groups())) < _OLDEST_TORCH:
        oldest = ".".join(map(str, _OLDEST_TORCH))
        raise ModelError(
            f"M2FP needs torch {oldest} or later, found {torch.__version__}: older ones may run "
            f"code hidden in a checkpoint; pip install 'torch>={oldest}'"
        )
    return torch


def _numbers(start: int, end: int, step: int = 1) -> Tensor:
    # On the CPU also where parameters are made on the `meta` device.
    return torch.arange(start, end, step, dtype=torch.float64, device="cpu")


def sine_table(shape_hw: Shape, width: int = WIDTH) -> Tensor:
    """Returns where each cell of a grid is, as sines and cosines.

    The first half of the channels tells the row, the second the column: with the cell's number
    counted from 1 and scaled to 2 pi for the last, channels 2i and 2i+1 of a half hold the sine and
    the cosine of number / 10000 ** (2i / half).

    Args:
        shape_hw: rows and columns of the grid.
        width: channels, a multiple of 4.

    Returns:
        (rows * columns, width) float64, row by row.

    Source: Vaswani et al., arXiv 1706.03762, section 3.5; for pictures, Carion et al., arXiv
    2005.12872, appendix A.4.
    """
    half = width // 2
    rates = 10000.0 ** (_numbers(0, half, 2) / half)

    def axis(count: int) -> Tensor:
        angles = _numbers(1, count + 1)[:, None] / (count + 1e-6) * 2 * math.pi / rates
        return torch.stack((angles.sin(), angles.cos()), 2).flatten(1)

    rows, columns = shape_hw
    along = axis(rows)[:, None].expand(rows, columns, half)
    across = axis(columns)[None].expand(rows, columns, half)
    return torch.cat((along, across), 2).reshape(rows * columns, width)


def reference_points(shapes: tuple[Shape, ...]) -> Tensor:
    """Returns the centre of every cell of every level, as (x, y) from 0 to 1 across the picture.

    Args:
        shapes: rows and columns of each level.

    Returns:
        (cells of all levels, 2) float64, level by level, row by row.

    Source: Deformable DETR (arXiv 2010.04159), section 4.1, "Deformable Transformer Encoder".
    """
    levels = []
    for rows, columns in shapes:
        y = (_numbers(0, rows) + 0.5) / rows
        x = (_numbers(0, columns) + 0.5) / columns
        centres = torch.stack((x.expand(rows, columns), y[:, None].expand(rows, columns)), 2)
        levels.append(centres.reshape(rows * columns, 2))
    return torch.cat(levels)


def deformable_attention(
    values: Tensor, offsets: Tensor, weights: Tensor, centres: Tensor, shapes: tuple[Shape, ...]
) -> Tensor:
    """Returns, for each query, the weighted sum of what its heads sampled around its centre.

    Between cells, values are interpolated bilinearly; outside the picture they are 0.

    Args:
        values: (heads, channels, cells of all levels), level by level, row by row.
        offsets: (heads, queries, levels, points, 2): (x, y) from the centre, in cells of the level.
        weights: (heads, queries, levels, points): sum to 1 over levels and points of a query.
        centres: (queries, 2): (x, y) from 0 to 1 across the picture.
        shapes: rows and columns of each level.

    Returns:
        (queries, heads * channels).

    Source: Deformable DETR (arXiv 2010.04159), equation 3.
    """
    heads, channels, _ = values.shape
    queries = centres.shape[0]
    total: Any = 0
    cells = values.split([rows * columns for rows, columns in shapes], 2)
    # torch's grid runs from -1 to 1 across the picture.
    middle = (centres * 2 - 1)[None, :, None]
    for level, (rows, columns) in enumerate(shapes):
        scale = torch.tensor((2 / columns, 2 / rows), dtype=values.dtype)
        sampled = functional.grid_sample(
            cells[level].reshape(heads, channels, rows, columns),
            offsets[:, :, level] * scale + middle,
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        total = total + (sampled * weights[:, None, :, level]).sum(-1)
    return total.reshape(heads * channels, queries).T


def attention_bias(mask_logits: Tensor) -> Tensor:
    """Returns what masked attention adds to its scores: 0 where a query may look, else -1e9.

    A query looks where its mask of the layer before says that it belongs (a logit of 0 or more);
    one whose mask is empty looks everywhere.

    Args:
        mask_logits: (queries, cells).

    Source: Mask2Former (arXiv 2112.01527), equations 2 and 3, with -1e9 for minus infinity; the
    empty mask: its published implementation.
    """
    hidden = mask_logits < 0
    sees_nothing = hidden.all(-1, keepdim=True)
    return (hidden & ~sees_nothing).to(mask_logits.dtype) * _NEVER


class _Module(nn.Module):  # type: ignore[misc]  # mypy does not look into torch (pyproject.toml)
    """The one place where torch's untyped base class is named."""


class _FixedNorm(_Module):
    """Batch normalisation by the statistics of the training, which it never changes.

    Source: Ioffe and Szegedy, arXiv 1502.03167, algorithm 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=_EPSILON
        )


class _NormedConv(_Module):
    """A convolution without bias and the norm after it, which the checkpoint keeps inside it."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, norm: _Module, stride: int = 1
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        self.norm = norm
        self._stride = stride
        self._padding = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(
            functional.conv2d(x, self.weight, stride=self._stride, padding=self._padding)
        )


def _fixed(inputs: int, outputs: int, kernel: int, stride: int = 1) -> _NormedConv:
    return _NormedConv(inputs, outputs, kernel, _FixedNorm(outputs), stride)


def _grouped(inputs: int, kernel: int) -> _NormedConv:
    return _NormedConv(inputs, WIDTH, kernel, nn.GroupNorm(_GROUPS, WIDTH))


class _Stem(_Module):
    """Three small convolutions in place of one large one; the result has stride 4.

    Source: He et al., arXiv 1812.01187, section 4.1 (ResNet-C), as DeepLab uses it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _fixed(3, 64, 3, 2)
        self.conv2 = _fixed(64, 64, 3)
        self.conv3 = _fixed(64, 128, 3)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = functional.relu(conv(x))
        return functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class _Bottleneck(_Module):
    """1x1, 3x3 and 1x1 around a shortcut; the 3x3 has the stride.

    Source: He et al., arXiv 1512.03385, figure 5.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut = _fixed(inputs, outputs, 1, stride) if inputs != outputs else None
        self.conv1 = _fixed(inputs, middle, 1)
        self.conv2 = _fixed(middle, middle, 3, stride)
        self.conv3 = _fixed(middle, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.conv1(x))
        y = self.conv3(functional.relu(self.conv2(y)))
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x)))


def _stage(inputs: int, middle: int, blocks: int, stride: int) -> Any:
    outputs = 4 * middle
    first = _Bottleneck(inputs, middle, outputs, stride)
    return nn.Sequential(
        first, *(_Bottleneck(outputs, middle, outputs, 1) for _ in range(blocks - 1))
    )


class _Backbone(_Module):
    """The residual network: features of strides 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Stem()
        self.res2 = _stage(128, 64, _BLOCKS[0], 1)
        self.res3 = _stage(256, 128, _BLOCKS[1], 2)
        self.res4 = _stage(512, 256, _BLOCKS[2], 2)
        self.res5 = _stage(1024, 512, _BLOCKS[3], 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        features = []
        for stage in (self.res2, self.res3, self.res4, self.res5):
            x = stage(x)
            features.append(x)
        return features


class _DeformableSelfAttention(_Module):
    """Every cell of every level looks at a few places that it chooses itself."""

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        self.sampling_offsets = nn.Linear(WIDTH, HEADS * LEVELS * POINTS * 2)
        self.attention_weights = nn.Linear(WIDTH, HEADS * LEVELS * POINTS)
        self.value_proj = nn.Linear(WIDTH, WIDTH)
        self.output_proj = nn.Linear(WIDTH, WIDTH)
        self._shapes = shapes

    def forward(self, cells: Tensor, positions: Tensor, centres: Tensor) -> Tensor:
        count = sum(rows * columns for rows, columns in self._shapes)
        queries = cells + positions
        values = self.value_proj(cells).reshape(count, HEADS, WIDTH // HEADS).permute(1, 2, 0)
        offsets = self.sampling_offsets(queries).reshape(count, HEADS, LEVELS, POINTS, 2)
        weights = self.attention_weights(queries).reshape(count, HEADS, LEVELS * POINTS)
        weights = weights.softmax(-1).reshape(count, HEADS, LEVELS, POINTS)
        found = deformable_attention(
            values,
            offsets.transpose(0, 1),
            weights.transpose(0, 1),
            centres,
            self._shapes,
        )
        return self.output_proj(found)


class _EncoderLayer(_Module):
    """Deformable attention and two linear layers, each normalised after its sum."""

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        self.self_attn = _DeformableSelfAttention(shapes)
        self.norm1 = nn.LayerNorm(WIDTH)
        self.linear1 = nn.Linear(WIDTH, ENCODER_HIDDEN)
        self.linear2 = nn.Linear(ENCODER_HIDDEN, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)

    def forward(self, cells: Tensor, positions: Tensor, centres: Tensor) -> Tensor:
        cells = self.norm1(cells + self.self_attn(cells, positions, centres))
        return self.norm2(cells + self.linear2(functional.relu(self.linear1(cells))))


class _EncoderLayers(_Module):
    """Holds the layers under the checkpoint's name."""

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_EncoderLayer(shapes) for _ in range(ENCODER_LAYERS))


class _Encoder(_Module):
    """Deformable DETR's encoder over three levels. Source: arXiv 2010.04159, section 4.1."""

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        self.encoder = _EncoderLayers(shapes)
        self.level_embed = _vectors(LEVELS)
        self._shapes = shapes
        for level, shape in enumerate(shapes):
            self.register_buffer(f"_positions_{level}", sine_table(shape), persistent=False)
        self.register_buffer("_centres", reference_points(shapes), persistent=False)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Takes and returns (cells, 256) of each level."""
        cells = torch.cat(levels)
        positions = torch.cat(
            [
                getattr(self, f"_positions_{level}").to(cells.dtype) + self.level_embed[level]
                for level in range(LEVELS)
            ]
        )
        centres = self._centres.to(cells.dtype)
        for layer in self.encoder.layers:
            cells = layer(cells, positions, centres)
        return list(cells.split([rows * columns for rows, columns in self._shapes]))


class _PixelDecoder(_Module):
    """Makes mask features of stride 4 and three levels for the queries to look at.

    Source: Mask2Former (arXiv 2112.01527), sections 3.1 and 4.1 ("Pixel decoder").
    """

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, WIDTH, 1), nn.GroupNorm(_GROUPS, WIDTH))
            for inputs in (2048, 1024, 512)
        )
        self.transformer = _Encoder(shapes)
        self.mask_features = nn.Conv2d(WIDTH, WIDTH, 1)
        self.adapter_1 = _grouped(256, 1)
        self.layer_1 = _grouped(WIDTH, 3)
        self._shapes = shapes

    def forward(self, features: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Takes features of strides 4 to 32; returns (1, 256, h, w) and the levels' cells."""
        fine, *coarse = features
        levels = [
            project(feature)[0].flatten(1).T
            for project, feature in zip(self.input_proj, reversed(coarse), strict=True)
        ]
        levels = self.transformer(levels)
        rows, columns = self._shapes[-1]
        finest = levels[-1].T.reshape(1, WIDTH, rows, columns)
        x = self.adapter_1(fine) + _resized(finest, (2 * rows, 2 * columns))
        return self.mask_features(functional.relu(self.layer_1(x))), levels


def _resized(x: Tensor, shape_hw: Shape) -> Tensor:
    return functional.interpolate(x, size=shape_hw, mode="bilinear", align_corners=False)


class _Attention(_Module):
    """Attention of several heads, written out. Source: arXiv 1706.03762, section 3.2."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * WIDTH, WIDTH))
        nn.init.xavier_uniform_(self.in_proj_weight)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * WIDTH))
        self.out_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """Takes (n, 256) queries, (m, 256) keys and values, and an (n, m) bias of the scores."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            functional.linear(x, weight, offset).reshape(-1, HEADS, WIDTH // HEADS).transpose(0, 1)
            for x, weight, offset in zip((query, key, value), weights, biases, strict=True)
        )
        scores = (q * (WIDTH // HEADS) ** -0.5) @ k.transpose(1, 2)
        if bias is not None:
            scores = scores + bias
        return self.out_proj((scores.softmax(-1) @ v).transpose(0, 1).reshape(-1, WIDTH))


class _CrossAttentionLayer(_Module):
    """Queries look at the cells of one level."""

    def __init__(self) -> None:
        super().__init__()
        self.multihead_attn = _Attention()
        self.norm = nn.LayerNorm(WIDTH)

    def forward(
        self, x: Tensor, places: Tensor, cells: Tensor, positions: Tensor, bias: Tensor
    ) -> Tensor:
        return self.norm(x + self.multihead_attn(x + places, cells + positions, cells, bias))


class _SelfAttentionLayer(_Module):
    """Queries look at each other."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = _Attention()
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        return self.norm(x + self.self_attn(x + places, x + places, x, None))


class _LinearLayers(_Module):
    """Two linear layers around a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(WIDTH, DECODER_HIDDEN)
        self.linear2 = nn.Linear(DECODER_HIDDEN, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.linear2(functional.relu(self.linear1(x))))


class _MaskEmbed(_Module):
    """Three linear layers from a query to the weights of its mask."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.layers
        return third(functional.relu(second(functional.relu(first(x)))))


def _vectors(count: int) -> Any:
    # Uniform, not normal as elsewhere: on the `meta` device that imports torch's compiler (4 s).
    return nn.Parameter(nn.init.uniform_(torch.empty(count, WIDTH), -1, 1))


class _Vectors(_Module):
    """Learned vectors, one for each query or level."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight = _vectors(count)


class _Predictor(_Module):
    """100 queries look at one level after another, each where its last mask was.

    Source: Mask2Former (arXiv 2112.01527), section 3.2 and figure 2.
    """

    def __init__(self, classes: int, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        layers = range(DECODER_LAYERS)
        self.transformer_self_attention_layers = nn.ModuleList(
            _SelfAttentionLayer() for _ in layers
        )
        self.transformer_cross_attention_layers = nn.ModuleList(
            _CrossAttentionLayer() for _ in layers
        )
        self.transformer_ffn_layers = nn.ModuleList(_LinearLayers() for _ in layers)
        self.decoder_norm = nn.LayerNorm(WIDTH)
        self.query_feat = _Vectors(QUERIES)
        self.query_embed = _Vectors(QUERIES)
        self.level_embed = _Vectors(LEVELS)
        self.class_embed = nn.Linear(WIDTH, classes + 1)
        self.mask_embed = _MaskEmbed()
        self._shapes = shapes
        for level, shape in enumerate(shapes):
            self.register_buffer(f"_positions_{level}", sine_table(shape), persistent=False)

    def forward(self, mask_features: Tensor, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        dtype = mask_features.dtype
        cells = [cells + self.level_embed.weight[level] for level, cells in enumerate(levels)]
        positions = [getattr(self, f"_positions_{level}").to(dtype) for level in range(LEVELS)]
        # A mask is a weighted sum of the features, so resizing them first gives the same.
        features = [_resized(mask_features, shape)[0].flatten(1) for shape in self._shapes]
        x, places = self.query_feat.weight, self.query_embed.weight
        layers = zip(
            self.transformer_cross_attention_layers,
            self.transformer_self_attention_layers,
            self.transformer_ffn_layers,
            strict=True,
        )
        for number, (cross, among, linear) in enumerate(layers):
            level = number % LEVELS
            bias = attention_bias(self.mask_embed(self.decoder_norm(x)) @ features[level])
            x = cross(x, places, cells[level], positions[level], bias)
            x = linear(among(x, places))
        x = self.decoder_norm(x)
        rows, columns = self._shapes[-1]
        masks = self.mask_embed(x) @ mask_features[0].flatten(1)
        return self.class_embed(x)[None], masks.reshape(1, QUERIES, 2 * rows, 2 * columns)


class _Head(_Module):
    """Pixel decoder and predictor, under the checkpoint's names."""

    def __init__(self, classes: int, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        self.pixel_decoder = _PixelDecoder(shapes)
        self.predictor = _Predictor(classes, shapes)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits, masks = self.predictor(*self.pixel_decoder(features))
        return logits, masks


class M2FP(_Module):
    """M2FP for pictures of one shape, one at a time; it knows no training.

    Position tables are kept in float64 whatever the parameters are, and used in the picture's
    type: `.double()` gives float64 throughout, for comparisons. On torch's ``meta`` device the
    parameters hold nothing until a state is assigned; the tables are there.

    Args:
        classes: labels that the checkpoint tells apart, background included; its class head has
            one output more, for "nothing".
        shape_hw: rows and columns of the picture, multiples of 32.

    Raises:
        ModelError: torch is missing or too old, or the shape is not as above.
    """

    def __init__(self, classes: int, shape_hw: Shape) -> None:
        require_torch()
        if any(side < STRIDE or side % STRIDE for side in shape_hw):
            raise ModelError(
                f"M2FP takes pictures whose sides are multiples of {STRIDE}, got "
                f"{shape_hw[0]}x{shape_hw[1]}; round them up"
            )
        super().__init__()
        height, width = shape_hw
        shapes = tuple((height // stride, width // stride) for stride in (32, 16, 8))
        self.backbone = _Backbone()
        self.sem_seg_head = _Head(classes, shapes)
        for name, values in (("pixel_mean", _PIXEL_MEAN), ("pixel_std", _PIXEL_STD)):
            # Of the precision that the published network has them in.
            table = torch.tensor(values, dtype=torch.float32, device="cpu")
            self.register_buffer(name, table.double().reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what the 100 queries found.

        Args:
            image: (1, 3, h, w), RGB 0..255; padding has the mean colour, so that it is 0 once
                normalised.

        Returns:
            (1, 100, classes + 1) logits of the classes, the last one "nothing", and
            (1, 100, h / 4, w / 4) logits of the masks.

        Source: M2FP (arXiv 2301.00394), its transformer-based baseline.
        """
        mean, std = self.pixel_mean.to(image.dtype), self.pixel_std.to(image.dtype)
        logits, masks = self.sem_seg_head(self.backbone((image - mean) / std))
        return logits, masks
