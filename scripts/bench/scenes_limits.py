"""Scenes on both sides of what a look can be trusted with: too dark, too blurred, too small.

Nobody is to be seen through because looks found nobody there, and nothing else is to be covered. So
beside each scene with somebody there is one in which *things* move alike. Sizes in pixels at
1280x720; the light is the share that is left of a photograph's, before the sensor's noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from scripts.bench.scenes import Actor, Place, Shot, Stage, View, panel

GLOOM: Final = 0.06
"""A sixteenth: docs/parsers.md, `gain16`, has a recall of .80 for people of 50 pixels and more."""
DUSK: Final = 0.12
"""An eighth: .91 there."""
NIGHT: Final = 0.03
STEP: Final = 0.033
"""Body heights a frame that somebody walks: 1.4 m/s at 25 frames a second, 1.7 m high."""


def _walk(
    stage: Stage, x: float, speed: float, feet: float, height: float
) -> Callable[[float], Place]:
    phase = stage.rng.uniform(0, 2 * np.pi)
    return lambda time: Place(
        x + speed * time, feet + 0.006 * height * np.sin(0.7 * time + phase), height
    )


def _passer(stage: Stage, gain: float, speed: float = 16) -> tuple[Shot, ...]:
    """Somebody walks through the picture, another one back."""
    actors = (
        Actor(stage.person(), _walk(stage, -200, speed, 690, 460)),
        Actor(stage.person(), _walk(stage, 1500, -speed, 660, 380)),
    )
    return (Shot(stage.room("room"), 90, actors, gain=gain),)


def _gloom(stage: Stage) -> tuple[Shot, ...]:
    return _passer(stage, GLOOM)


def _night(stage: Stage) -> tuple[Shot, ...]:
    return _passer(stage, NIGHT)


def _dusk(stage: Stage) -> tuple[Shot, ...]:
    return _passer(stage, DUSK)


def _rush(stage: Stage) -> tuple[Shot, ...]:
    """Somebody is in the picture for five frames, by his own speed, three times."""
    room = stage.room("room")
    return tuple(
        Shot(room, 20, (Actor(stage.person(), _walk(stage, -300 - 5 * speed, speed, 700, 500)),))
        for speed in (220, 280, 340)
    )


def _tiny_walk(stage: Stage) -> tuple[Shot, ...]:
    """People of these heights walk along a street."""
    actors = tuple(
        Actor(
            stage.person(), _walk(stage, 160 + 260 * rank, STEP * height, 400 + 50 * rank, height)
        )
        for rank, height in enumerate((28.0, 40.0, 56.0, 80.0))
    )
    return (Shot(stage.room("hall"), 60, actors),)


def _things(stage: Stage, gain: float) -> tuple[Shot, ...]:
    """Boards large and small cross a room at several speeds, one sways as a curtain does."""
    actors = [Actor(panel((180, 300), stage.rng), _curtain)]
    for rank, (width, height, speed) in enumerate(
        ((90, 220, 5), (260, 160, 14), (60, 60, 9), (24, 40, 3), (320, 240, 90))
    ):
        board = panel((width, height), stage.rng)
        path = _walk(stage, -150 + 90 * rank, speed, 330 + 80 * rank, height)
        actors.append(Actor(board, path))
    return (Shot(stage.room("room"), 75, tuple(actors), gain=gain),)


def _curtain(time: float) -> Place:
    return Place(1100 + 9 * np.sin(0.5 * time), 420, 300)


def _things_by_day(stage: Stage) -> tuple[Shot, ...]:
    return _things(stage, 1.0)


def _things_at_dusk(stage: Stage) -> tuple[Shot, ...]:
    return _things(stage, DUSK)


def _things_in_the_gloom(stage: Stage) -> tuple[Shot, ...]:
    return _things(stage, GLOOM)


def _swung(stage: Stage) -> tuple[Shot, ...]:
    """A camera swings through three rooms in the gloom; nobody is there, nothing moves."""

    def camera(time: float) -> View:
        return View(640 + 200 * np.sin(0.15 * time), 360 + 40 * np.sin(0.1 * time), 1.3)

    rooms = stage.room("room"), stage.room("hall"), stage.room("street")
    return tuple(Shot(room, 25, camera=camera, gain=GLOOM) for room in rooms)


LIMITS: Final[dict[str, Callable[[Stage], tuple[Shot, ...]]]] = {
    "dusk": _dusk,
    "gloom": _gloom,
    "night": _night,
    "rush": _rush,
    "tiny-walk": _tiny_walk,
    "things": _things_by_day,
    "things-dusk": _things_at_dusk,
    "things-gloom": _things_in_the_gloom,
    "swung-gloom": _swung,
}
"""Beside the scenes of `scenes_everyday`; the last four show nobody."""
