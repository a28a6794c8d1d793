"""M2FP's decoder: a hundred queries that look where their masks are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .layers import (
    DECODER_HIDDEN,
    DECODER_LAYERS,
    HEADS,
    LEVELS,
    QUERIES,
    WIDTH,
    Module,
    Shape,
    nn,
    resized,
    sine_table,
    torch,
    vectors,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Predictor", "attention_bias"]

_NEVER: Final = -1e9
"""What masked attention adds where a query must not look: its weight there is exactly 0. Chosen:
`exp` of it is 0 in single precision."""


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


class _Attention(Module):
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
            nn.functional.linear(x, weight, offset)
            .reshape(-1, HEADS, WIDTH // HEADS)
            .transpose(0, 1)
            for x, weight, offset in zip((query, key, value), weights, biases, strict=True)
        )
        scores = (q * (WIDTH // HEADS) ** -0.5) @ k.transpose(1, 2)
        if bias is not None:
            scores = scores + bias
        return self.out_proj((scores.softmax(-1) @ v).transpose(0, 1).reshape(-1, WIDTH))


class _CrossAttentionLayer(Module):
    """Queries look at the cells of one level."""

    def __init__(self) -> None:
        super().__init__()
        self.multihead_attn = _Attention()
        self.norm = nn.LayerNorm(WIDTH)

    def forward(
        self, x: Tensor, places: Tensor, cells: Tensor, positions: Tensor, bias: Tensor
    ) -> Tensor:
        return self.norm(x + self.multihead_attn(x + places, cells + positions, cells, bias))


class _SelfAttentionLayer(Module):
    """Queries look at each other."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = _Attention()
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        return self.norm(x + self.self_attn(x + places, x + places, x, None))


class _LinearLayers(Module):
    """Two linear layers around a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(WIDTH, DECODER_HIDDEN)
        self.linear2 = nn.Linear(DECODER_HIDDEN, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.linear2(nn.functional.relu(self.linear1(x))))


class _MaskEmbed(Module):
    """Three linear layers from a query to the weights of its mask."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.layers
        return third(nn.functional.relu(second(nn.functional.relu(first(x)))))


class _Vectors(Module):
    """Learned vectors, one for each query or level."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight = vectors(count)


class Predictor(Module):
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
        """Takes what `PixelDecoder` returns; returns logits of classes and of masks."""
        dtype = mask_features.dtype
        cells = [cells + self.level_embed.weight[level] for level, cells in enumerate(levels)]
        positions = [getattr(self, f"_positions_{level}").to(dtype) for level in range(LEVELS)]
        # A mask is a weighted sum of the features, so resizing them first gives the same.
        features = [resized(mask_features, shape)[0].flatten(1) for shape in self._shapes]
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
