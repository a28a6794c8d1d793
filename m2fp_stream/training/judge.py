"""How far a student agrees with its teacher on pictures that it was not taught with.

Agreement with a teacher is no truth: who is taught by a bad one agrees, and is bad.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Final, final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ModelError
from ..parsers.embedded.classes import UNCALIBRATED, PartClass
from .samples import HEAD_CLASSES, IGNORE, Sample

__all__ = ["Agreement", "Student", "kept", "measure", "refusal"]

Student = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From a (h, w, 3) uint8 BGR crop to (16, h/2, w/2) probabilities."""

MOST_SPILL: Final = 0.005
"""By how much the share of the background that is taken for a head may rise. Chosen: a student may
not buy its recall with covers on what is nobody."""


SURE: Final = 0.7
"""From which the shipped network is sure of a head. Chosen: well above half."""
LEAST_KEPT: Final = 0.9
"""Share of those that a student has to hide. Chosen: teachers draw outlines, hats and scarves
otherwise; who has lost heads is far below."""
EDGE: Final = 3
"""Cells beside a head that are no spill: outlines of two networks never agree to the cell, and
covers have a margin there anyway (`policy.margin`). Chosen: the teacher's map has cells as large as
two or three of these."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What was measured, each 0..1.

    Attributes:
        miou: mean intersection over union, over the classes that the teacher saw.
        head_recall: share of the teacher's heads that the student hides.
        spill: share of the teacher's background, beside outlines of heads, that the student hides
            as a head.
        samples: crops that it was measured on.
    """

    miou: float
    head_recall: float
    spill: float
    samples: int

    def as_dict(self) -> dict[str, float | int]:
        """Returns it for a report, rounded."""
        return {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }


def measure(student: Student, samples: Iterable[Sample]) -> Agreement:
    """Returns how far the student agrees on `samples`.

    Raises:
        ModelError: there is nothing to measure on: no crop, or no head in any of them; or the
            student's answer is not finite.
    """
    classes = len(PartClass)
    confusion = np.zeros((classes, classes), np.int64)
    head = head_hidden = ground = ground_hidden = count = 0
    for one in samples:
        chances = student(one.bgr)
        if not np.isfinite(chances).all():
            raise ModelError("the student's answer is not finite; it is not used")
        known = one.classes != IGNORE
        truth, said = one.classes[known], chances.argmax(axis=0)[known]
        pairs = truth.astype(np.int64) * classes + said
        confusion += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        hidden = chances[list(HEAD_CLASSES)].sum(axis=0)[known] >= UNCALIBRATED
        heads = np.isin(truth, HEAD_CLASSES)
        empty = ((one.classes == PartClass.BACKGROUND) & ~_beside(one.classes))[known]
        head, head_hidden = head + int(heads.sum()), head_hidden + int(hidden[heads].sum())
        ground, ground_hidden = ground + int(empty.sum()), ground_hidden + int(hidden[empty].sum())
        count += 1
    if head == 0:
        raise ModelError(
            "the teacher sees no head in the pictures that are held back, so nothing can be "
            "judged; give more pictures of people"
        )
    both = np.diag(confusion)
    either = confusion.sum(axis=0) + confusion.sum(axis=1) - both
    present = confusion.sum(axis=1) > 0
    return Agreement(
        miou=float((both[present] / either[present]).mean()),
        head_recall=head_hidden / head,
        spill=ground_hidden / max(1, ground),
        samples=count,
    )


def _beside(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Returns where heads are, and the cells around them."""
    heads = np.isin(classes, HEAD_CLASSES).astype(np.uint8)
    around = np.ones((2 * EDGE + 1, 2 * EDGE + 1), np.uint8)
    return np.asarray(cv2.dilate(heads, around) > 0)


def kept(student: Student, shipped: Student, samples: Iterable[Sample]) -> float:
    """Returns the share of the heads that the shipped network is sure of that the student hides.

    The one thing that is asked besides the teacher: whoever was taught to look away from heads
    agrees with a teacher that does. 1 where the shipped network is sure of none.
    """
    heads = hidden = 0
    for one in samples:
        sure = shipped(one.bgr)[list(HEAD_CLASSES)].sum(axis=0) >= SURE
        sees = student(one.bgr)[list(HEAD_CLASSES)].sum(axis=0) >= UNCALIBRATED
        heads, hidden = heads + int(sure.sum()), hidden + int((sees & sure).sum())
    return hidden / heads if heads else 1.0


def refusal(before: Agreement, after: Agreement, kept_heads: float = 1.0) -> str:
    """Returns why a student may not replace what was measured before, or nothing.

    Args:
        before: of what it would replace.
        after: its own.
        kept_heads: see `kept`.
    """
    if not kept_heads >= LEAST_KEPT:
        return (
            f"it hides {kept_heads:.4f} of the heads that the shipped network is sure of, less "
            f"than {LEAST_KEPT}: what taught it does not know heads"
        )
    if not after.miou >= before.miou:
        return f"its mIoU is {after.miou:.4f}, that of what it replaces {before.miou:.4f}"
    if not after.head_recall >= before.head_recall:
        return (
            f"it hides {after.head_recall:.4f} of the heads, what it replaces "
            f"{before.head_recall:.4f}"
        )
    if not after.spill <= before.spill + MOST_SPILL:
        return (
            f"it takes {after.spill:.4f} of what is nobody for heads, what it replaces "
            f"{before.spill:.4f}"
        )
    return ""
