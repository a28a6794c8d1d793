"""What a detector's score is worth, as `scripts.bench.detectors` has measured it.

Nothing of the product asks this: its limits are of scores. It says how one detector's score
compares with another's, for whoever chooses between them.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from m2fp_stream.parsers.embedded.letterbox import logit

YUNET: Final = (
    (-2.64, -3.54),
    (-1.99, -3.17),
    (-1.58, -2.83),
    (-1.16, -2.6),
    (-0.64, -1.81),
    (-0.22, -1.72),
    (0.2, -1.07),
    (0.63, -0.18),
    (1.13, 0.89),
    (2.1, 4.14),
)
"""Logit of the score, and log-odds that such a box is a face, at 640 pixels.
Source: ``scripts/bench/detectors.py``, knots of `yunet 640`, tune half of the everyday photographs
(346 pictures with people, 343 without). A straight line in log-odds would make a score of 0.5
twice as likely as it is."""


def yunet_log_odds(score: float) -> float:
    """Returns the natural log-odds that a box of this score is a face, by `YUNET`.

    Between its ends in straight lines, beyond them as at the ends. What the setting makes likely is
    in it: half the pictures there showed people.
    """
    scores, odds = zip(*YUNET, strict=True)
    return float(np.interp(logit(min(max(score, 1e-6), 1 - 1e-6)), scores, odds))


EFFICIENTDET: Final = {384: (1.609, 2.378), 512: (1.550, 2.190), 640: (1.485, 1.931)}
"""Size of the input -> a and b: the log-odds that a box is a person are a * logit(score) + b.
Source: ``scripts/bench/detectors.py``, tune half of the everyday photographs (346 pictures with
people, 343 without); boxes on a part of somebody are left out."""


def efficientdet_log_odds(score: float, size: int) -> float:
    """Returns the natural log-odds that a box of this score is a person, by `EFFICIENTDET`.

    `size`: long side of the input in pixels; the nearest calibrated one is taken. What the setting
    makes likely is in it: half the pictures there showed people.
    """
    slope, shift = EFFICIENTDET[min(EFFICIENTDET, key=lambda known: abs(known - size))]
    return slope * logit(min(max(score, 1e-6), 1 - 1e-6)) + shift


CLOSER: Final = (0.581, 1.020, -0.021)
"""a, c, b: the log-odds that a box is a face are a * logit(YuNet's score) + c * logit(confidence of
the closer look) + b. Source: ``scripts/bench/detectors.py``, YuNet's boxes from 0.1 upwards at 640
pixels, tune half of the everyday photographs."""
LIMITS: Final = (0.005, 0.995)
"""Scores are cut to these before their logit is taken, as in the calibration."""


def closer_log_odds(yunet_score: float, confidence: float) -> float:
    """Returns the natural log-odds that a box is a face, after both looks, by `CLOSER`."""
    first, second = (logit(min(max(p, LIMITS[0]), LIMITS[1])) for p in (yunet_score, confidence))
    return CLOSER[0] * first + CLOSER[1] * second + CLOSER[2]
