"""The M2FP parser: the reference's parts and people, as evidence for the pipeline.

It runs a network that was exported for one shape, so for pictures of one aspect. A source has one;
for another, export again and make another parser.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.errors import ModelError
from m2fp_stream.core.labels import PRESETS, Label
from m2fp_stream.core.records import ParseResult
from m2fp_stream.models.vault import is_sealed, open_key, unseal
from m2fp_stream.parsers.base import Parser

from .labels import LABEL_SETS, LABELS_OF, Kind, mirrored
from .options import M2FPOptions
from .outcome import PERSON, Canvas, evidence, groups, instances, people, semantic
from .picture import Size, fitted, prepared, tile_share, tiles
from .runtime import STRIDE, M2FPNetwork, Network

__all__ = ["M2FPParser", "from_options"]

FINEST_MAP: Final = 1280
"""Long side of maps that tiles make finer; parser processes hand over no larger ones. Source:
`pipeline.wire.MAX_SIDE`."""
DISAGREEMENT: Final = 128
"""Evidence times 255 by which two looks must differ to disagree: one of them finds it likely, the
other does not. Chosen, not measured: there were no trained weights to measure with."""
_HEAD: Final = frozenset(label.title for label in PRESETS["head"])
_SKIN: Final = frozenset(label.title for label in PRESETS["skin"]) - _HEAD
TOLD_APART: Final = (_HEAD, _SKIN, frozenset({PERSON}))
"""What two looks can disagree on; which clothes somebody wears is not worth a cover."""


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What one look at a window found, at that window's size on the map.

    Attributes:
        strokes: label, score (of each pixel, or of all) and mask.
        evidence: (groups, h, w) uint8.
        people: (h, w) uint8 numbers, or None where the checkpoint knows one person only.
    """

    strokes: list[tuple[Label, float | NDArray[np.float32], NDArray[np.bool_]]]
    evidence: NDArray[np.uint8]
    people: NDArray[np.uint8] | None

    def mirrored(self, order: list[int]) -> _Seen:
        """Returns it the other way round; `order` exchanges left and right groups."""
        strokes = [
            (
                mirrored(label),
                score if isinstance(score, float) else score[:, ::-1],
                mask[:, ::-1],
            )
            for label, score, mask in self.strokes
        ]
        numbers = None if self.people is None else self.people[:, ::-1]
        return _Seen(strokes, self.evidence[order, :, ::-1], numbers)


class M2FPParser(Parser):
    """Finds people and their parts with an exported M2FP network.

    Every look is a full one: it knows no cheaper way. Same pictures, options, network and library
    versions: same result. Writes no file, uses no connection.

    Args:
        network: made for the shape that `picture.inner_size` and `picture.network_shape` give for
            the pictures to come and `options.short_side`.
        options: the defaults where None.
    """

    name = "m2fp"

    def __init__(self, network: Network, options: M2FPOptions | None = None) -> None:
        self._network = network
        self._options = options if options is not None else M2FPOptions()
        self.labels = LABEL_SETS[network.kind]
        self._groups = groups(network.kind)
        self._mirrored_groups = [self._groups.index(_mirrored_group(name)) for name in self._groups]
        height, width = network.shape_hw
        self._parser_id = f"m2fp-1 ({network.kind}, {network.weights_sha256[:8]}, {width}x{height})"

    @property
    def options(self) -> M2FPOptions:
        """The options in force."""
        return self._options

    def _parse(self, bgr: NDArray[np.uint8], frame_id: int) -> ParseResult:
        picture_hw = bgr.shape[0], bgr.shape[1]
        inner_hw = fitted(picture_hw, self._options.short_side, self._network.shape_hw)
        map_hw = self._map_size(picture_hw, inner_hw)
        canvas = Canvas(map_hw)
        layers = np.zeros((len(self._groups), *map_hw), np.uint8)
        must_cover = np.zeros(map_hw, np.bool_)
        numbers: NDArray[np.uint8] | None = None
        for index, window in enumerate(self._windows(map_hw)):
            rows, columns = window
            out_hw = rows.stop - rows.start, columns.stop - columns.start
            crop = bgr[_in_picture(rows, map_hw[0], picture_hw[0])]
            crop = crop[:, _in_picture(columns, map_hw[1], picture_hw[1])]
            looks = [self._look(crop, inner_hw, out_hw)]
            if self._options.agreement:
                other = self._look(crop[:, ::-1], inner_hw, out_hw)
                looks.append(other.mirrored(self._mirrored_groups))
                must_cover[window] |= self._disagreement(looks[0].evidence, looks[1].evidence)
            for seen in looks:
                for label, score, mask in seen.strokes:
                    canvas.paint(label, score, mask, window)
                layer = layers[:, rows, columns]
                np.maximum(layer, seen.evidence, out=layer)
            if index == 0:  # tiles cut people in pieces, which are nobody's
                numbers = looks[0].people
        return ParseResult(
            frame_id=frame_id,
            label_map=canvas.labels(),
            labels=self.labels,
            groups=self._groups,
            evidence=layers,
            must_cover=must_cover,
            instances=numbers,
            parser_id=self._parser_id,
            doubts=("agreement",) if must_cover.any() else (),
        )

    def _look(self, bgr: NDArray[np.uint8], inner_hw: Size, out_hw: Size) -> _Seen:
        """Returns what the network sees in one window."""
        kind, padded_hw = self._network.kind, self._network.shape_hw
        logits, masks = self._network(prepared(bgr, inner_hw, padded_hw))
        layers = evidence(kind, logits, masks, padded_hw, inner_hw, out_hw)
        if kind is Kind.LIP:
            planes = semantic(logits, masks, padded_hw, inner_hw, out_hw)
            likeliest = planes.argmax(axis=0)
            strokes = [
                (LABELS_OF[kind][category], planes[category], likeliest == category)
                for category in range(1, kind.classes)
            ]
            return _Seen(list(strokes), layers, None)
        lowest = self._options.score_threshold
        found = instances(logits, masks, padded_hw, inner_hw, out_hw, lowest=lowest)
        painted = [(LABELS_OF[kind][one.category], one.score, one.mask) for one in found]
        return _Seen(list(painted), layers, people(found, out_hw))

    def _disagreement(self, one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Returns (h, w) bool: where two looks tell different things apart."""
        differs = np.zeros(one.shape[1:], np.bool_)
        for names in TOLD_APART:
            chosen = [index for index, name in enumerate(self._groups) if name in names]
            sums = [
                np.minimum(layers[chosen].sum(axis=0, dtype=np.int32), 255)
                for layers in (one, other)
            ]
            differs |= np.abs(sums[0] - sums[1]) >= DISAGREEMENT
        return differs

    def _windows(self, map_hw: Size) -> list[tuple[slice, slice]]:
        """Returns the rows and columns of the map to look at: all of it, then every tile."""
        whole = slice(0, map_hw[0]), slice(0, map_hw[1])
        count = self._options.tiles
        return [whole, *(tiles(map_hw, count) if count > 1 else ())]

    def _map_size(self, picture_hw: Size, inner_hw: Size) -> Size:
        """Returns (height, width): as fine as the masks, with the picture's aspect."""
        finest = max(inner_hw) / STRIDE / tile_share(self._options.tiles)
        natural = min(FINEST_MAP, math.ceil(finest))
        scale = min(1.0, max(natural, self._options.map_size) / max(picture_hw))
        height, width = (max(1, round(side * scale)) for side in picture_hw)
        return height, width


def from_options(*, onnx: str, sha256: str, **options: object) -> M2FPParser:
    """Makes the parser from JSON values; what a parser process calls.

    Args:
        onnx: path of the exported network, which may be sealed.
        sha256: of the network, not sealed, in lower-case hexadecimal.
        options: those of `M2FPOptions`.

    Raises:
        pydantic.ValidationError: an option is unknown or out of bounds.
        ModelError: the file is missing, changed, sealed under another key, no export, or one of
            the other kind of checkpoint.
    """
    chosen = M2FPOptions.model_validate(options)
    data = _verified(Path(onnx), sha256, chosen.key)
    network = M2FPNetwork(data, chosen.threads)
    if network.kind != chosen.kind:
        raise ModelError(
            f"m2fp: the exported network {Path(onnx).name} is of the kind {network.kind}, expected "
            f"{chosen.kind}; start again to export that one, or change m2fp.kind"
        )
    return M2FPParser(network, chosen)


def _verified(path: Path, sha256: str, key: str | None) -> bytes:
    """Returns the network's bytes, which are what `sha256` says; a sealed file is opened here."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"m2fp: cannot read the exported network {path.name} ({type(error).__name__}); start "
            "again to export it again"
        ) from None
    if is_sealed(data):
        if key is None:
            raise ModelError(
                f"m2fp: {path.name} is sealed; name its key: m2fp.key, a file or keyring"
            )
        data = unseal(data, open_key(key), path.name)
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise ModelError(
            f"m2fp: the exported network {path.name} has SHA-256 {digest}, expected {sha256}; "
            "delete it, and it is made again from the checkpoint"
        )
    return data


def _in_picture(span: slice, cells: int, pixels: int) -> slice:
    """Returns the pixels under cells of the map."""
    return slice(span.start * pixels // cells, -(-span.stop * pixels // cells))


def _mirrored_group(name: str) -> str:
    return next((mirrored(label).title for label in Label if label.title == name), name)
