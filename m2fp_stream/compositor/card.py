"""The opaque card that stands for a whole frame of which nothing is known."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.plan import Why

__all__ = ["BACKGROUND_BGR", "draw_age", "draw_card", "flat_card", "plain_card", "uniform_colour"]

BACKGROUND_BGR: Final = (48, 42, 38)
_INK_BGR: Final = (150, 140, 132)
"""Chosen by eye: dark, and legible on it."""

_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX

_LEAST_SYMBOL_PX: Final = 24
"""Below this the symbol is a smudge (seen at 16 to 64 pixels)."""

_LEAST_TEXT_SCALE: Final = 0.35
"""Below this Hershey letters cannot be read (seen; capital letters are 8 pixels high)."""

_UNIFORM_RANGE: Final = 16
"""Most a near-uniform picture's means over 1/64 of each side differ, in levels of 255. Chosen:
noise and a vignette stay below it."""

_STEP: Final = 8
"""The mean colour is rounded to multiples of this, about 5 bits a channel: all it lets through.
Chosen: too coarse to carry a picture, fine enough that a fade stays smooth."""


@lru_cache(maxsize=1)
def draw_card(size_wh: tuple[int, int], why: Why) -> NDArray[np.uint8]:
    """Returns an (H, W, 3) uint8 BGR picture: a calm dark field, a closed eye, the reason.

    It depends on nothing but the arguments. Symbol and text are left out where they do not fit.
    The last one is kept, for it is shown again and again, and read-only: it has many owners.
    """
    width, height = size_wh
    card = plain_card(size_wh, BACKGROUND_BGR)
    radius = min(width, height) // 8
    if radius * 2 >= _LEAST_SYMBOL_PX:
        _closed_eye(card, (width // 2, height * 9 // 20), radius)
    (text_width, _), _ = cv2.getTextSize(why.value, _FONT, 1.0, 1)
    scale = min(0.8 * width / text_width, height / 600)
    if scale >= _LEAST_TEXT_SCALE:
        at = (round((width - scale * text_width) / 2), height * 7 // 10)
        cv2.putText(card, why.value, at, _FONT, scale, _INK_BGR, 1 + round(scale), cv2.LINE_AA)
    card.setflags(write=False)
    return card


def draw_age(picture: NDArray[np.uint8], age_s: float) -> None:
    """Writes whole seconds into the lower left corner of a picture, where they fit."""
    height, width = picture.shape[:2]
    scale = height / 600
    text = f"{age_s:.0f} s"
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, scale, 1 + round(scale))
    pad = max(2, text_height // 2)
    if scale < _LEAST_TEXT_SCALE or text_width + 4 * pad > width:
        return
    left, bottom = 2 * pad, height - 2 * pad
    corner = (left - pad, bottom - text_height - pad)
    cv2.rectangle(picture, corner, (left + text_width + pad, bottom + pad), BACKGROUND_BGR, -1)
    cv2.putText(
        picture, text, (left, bottom), _FONT, scale, _INK_BGR, 1 + round(scale), cv2.LINE_AA
    )


def _closed_eye(card: NDArray[np.uint8], centre: tuple[int, int], radius: int) -> None:
    """Draws a lid and five lashes."""
    x, y = centre
    stroke = max(1, radius // 12)
    cv2.ellipse(card, centre, (radius, radius // 2), 0, 0, 180, _INK_BGR, stroke, cv2.LINE_AA)
    for degrees in (25, 57, 90, 123, 155):
        direction = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
        start = np.array([x, y]) + direction * (radius, radius / 2)
        end = start + direction * (radius * 0.28)
        cv2.line(
            card,
            (round(float(start[0])), round(float(start[1]))),
            (round(float(end[0])), round(float(end[1]))),
            _INK_BGR,
            stroke,
            cv2.LINE_AA,
        )


def plain_card(size_wh: tuple[int, int], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Returns one colour as a new (H, W, 3) uint8 BGR picture."""
    width, height = size_wh
    return np.repeat(np.full((1, width, 3), colour, np.uint8), height, axis=0)


def flat_card(size_wh: tuple[int, int], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Returns one colour as a read-only (H, W, 3) uint8 view of three bytes: needs no memory."""
    width, height = size_wh
    return np.broadcast_to(np.array(colour, np.uint8), (height, width, 3))


def uniform_colour(bgr: NDArray[np.uint8]) -> tuple[int, int, int] | None:
    """Returns the mean colour of a near-uniform picture, coarsely rounded; None for any other.

    Black stays black, so that a fade to black ends there. Small noise does not count: the picture
    is reduced to at most 64x64 means first.
    """
    height, width = bgr.shape[:2]
    small_wh = (min(width, 64), min(height, 64))
    means = cv2.resize(bgr, small_wh, interpolation=cv2.INTER_AREA).reshape(-1, 3)
    if int((means.max(axis=0) - means.min(axis=0)).max()) > _UNIFORM_RANGE:
        return None
    blue, green, red = (min(255, round(float(c) / _STEP) * _STEP) for c in means.mean(axis=0))
    return blue, green, red
