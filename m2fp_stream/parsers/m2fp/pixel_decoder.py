"""M2FP's pixel decoder: levels that look at each other by deformable attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .layers import (
    ENCODER_HIDDEN,
    ENCODER_LAYERS,
    GROUPS,
    HEADS,
    LEVELS,
    POINTS,
    WIDTH,
    Module,
    NormedConv,
    Shape,
    nn,
    numbers,
    resized,
    sine_table,
    torch,
    vectors,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PixelDecoder", "deformable_attention", "reference_points"]


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
        y = (numbers(0, rows) + 0.5) / rows
        x = (numbers(0, columns) + 0.5) / columns
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
        sampled = nn.functional.grid_sample(
            cells[level].reshape(heads, channels, rows, columns),
            offsets[:, :, level] * scale + middle,
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        total = total + (sampled * weights[:, None, :, level]).sum(-1)
    return total.reshape(heads * channels, queries).T


def _grouped(inputs: int, kernel: int) -> NormedConv:
    return NormedConv(inputs, WIDTH, kernel, nn.GroupNorm(GROUPS, WIDTH))


class _DeformableSelfAttention(Module):
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


class _EncoderLayer(Module):
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
        return self.norm2(cells + self.linear2(nn.functional.relu(self.linear1(cells))))


class _EncoderLayers(Module):
    """Holds the layers under the checkpoint's name."""

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_EncoderLayer(shapes) for _ in range(ENCODER_LAYERS))


class _Encoder(Module):
    """Deformable DETR's encoder over three levels. Source: arXiv 2010.04159, section 4.1."""

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        self.encoder = _EncoderLayers(shapes)
        self.level_embed = vectors(LEVELS)
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


class PixelDecoder(Module):
    """Makes mask features of stride 4 and three levels for the queries to look at.

    Source: Mask2Former (arXiv 2112.01527), sections 3.1 and 4.1 ("Pixel decoder").
    """

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, WIDTH, 1), nn.GroupNorm(GROUPS, WIDTH))
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
        x = self.adapter_1(fine) + resized(finest, (2 * rows, 2 * columns))
        return self.mask_features(nn.functional.relu(self.layer_1(x))), levels
