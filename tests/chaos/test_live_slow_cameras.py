"""Cameras that give a picture a second, or one in two: what is covered stays until the next one is.

A real HTTP server, the real stream reader, lookers in their processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import pytest

from m2fp_stream.core.safe import CoverLevel
from m2fp_stream.sources.stream import StreamSource
from tests.kit.http_camera import HttpCamera
from tests.kit.live_stage import Performance, Seen

pytestmark = pytest.mark.paced

PICTURES = 4


@pytest.mark.parametrize(("fps", "alignment"), [(0.5, "low_latency"), (0.8, "aligned")])
def test_the_covered_picture_of_a_slow_camera_stays_with_its_age_until_the_next(
    fps: float, alignment: str
) -> None:
    with (
        HttpCamera(fps=fps) as camera,
        Performance(
            open_source=lambda first, size_wh: StreamSource(
                camera.url("/motion"), first_frame_id=first, size_wh=size_wh
            ),
            live={"alignment": alignment},
            capture={"away_s": 1.0},
            look=lambda *_: False,
        ) as stage,
    ):
        # The first ones tell the camera's rate, with which what counts in frames begins anew; and
        # on a busy machine a look may come too late for its frame.
        stage.until(lambda: longest_run(stage.seen) >= PICTURES)
    assert stage.capture.away is None


def longest_run(seen: Sequence[Seen]) -> int:
    """Returns how many frames in a row were pictures, shown again with their age, and no card."""
    longest = run = 0
    for _, shown in groupby(list(seen), lambda one: one.frame_id):
        ages = [one.age_s for one in shown if one.level is not CoverLevel.FRAME]
        whole = bool(ages) and None not in ages
        run = run + 1 if whole and max(age for age in ages if age is not None) >= 1.0 else 0
        longest = max(longest, run)
    return longest
