"""A parser's label set that tells little apart, for tests of what that means."""

from __future__ import annotations

from m2fp_stream.core.labels import Label, LabelSet

HEAD_PARTS = LabelSet(
    "head-parts",
    frozenset({Label.BACKGROUND, Label.HAIR, Label.FACE, Label.HUMAN}),
    {Label.HAT: Label.HAIR, Label.SCARF: Label.HAIR, Label.SUNGLASSES: Label.FACE},
)
"""`hair` is the whole head region but the face."""
