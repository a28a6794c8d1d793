"""Plans of covers: every pixel has the fill of its own part and track, whatever lies where."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import Effect
from m2fp_stream.policy import Policy, PolicyOptions

U8 = NDArray[np.uint8]
POLICY = Policy(PolicyOptions(effect="mosaic", effects={"hair": "solid"}))
FILLS = 254
"""More pairs of part and track than that are told apart by part alone."""


@st.composite
def maps(draw: st.DrawFn) -> tuple[U8, U8]:
    """Boxes and specks of parts, at the borders too; tracks are drawn for every pixel."""
    rows, columns = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = np.zeros((rows, columns), np.uint8)
    for _ in range(draw(st.integers(0, 5))):
        y, x = rng.integers(0, rows), rng.integers(0, columns)
        h, w = rng.integers(1, rows + 1), rng.integers(1, columns + 1)
        parts[y : y + h, x : x + w] = rng.integers(0, len(Label))
    specks = rng.random((rows, columns)) < draw(st.sampled_from([0.0, 0.01, 0.5]))
    parts[specks] = rng.integers(0, len(Label), (rows, columns))[specks]
    tracks = rng.integers(0, draw(st.sampled_from([1, 3, 256])), (rows, columns))
    return parts, tracks.astype(np.uint8)


@given(maps(), st.booleans())
def test_the_plan_of_a_part_of_the_map_is_that_of_the_whole(
    drawn: tuple[U8, U8], silhouette: bool
) -> None:
    parts, tracks = drawn
    plan = POLICY.plan(
        frame_id=7, size_wh=(640, 360), parts=parts, tracks=tracks, silhouette=silhouette
    )
    pairs = sorted({(int(p), int(t)) for p, t in zip(parts.flat, tracks.flat, strict=True) if p})
    if len(pairs) > FILLS:
        pairs = sorted({(part, 0) for part, _ in pairs})
        tracks = np.zeros_like(tracks)
    assert [(int(fill.part), fill.track_id) for fill in plan.fills] == pairs
    for fill in plan.fills:
        assert (fill.effect is Effect.SOLID) == (fill.part is Label.HAIR)
        assert (fill.effect is Effect.SILHOUETTE) == (silhouette and fill.part is not Label.HAIR)
    legend = np.array([(0, 0), *pairs])
    assert plan.cover.shape == parts.shape
    np.testing.assert_array_equal(legend[plan.cover, 0], parts)
    np.testing.assert_array_equal(legend[plan.cover, 1], np.where(parts > 0, tracks, 0))
