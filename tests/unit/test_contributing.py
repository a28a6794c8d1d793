"""The examples of CONTRIBUTING.md: they run, and they keep what the contracts ask for."""

from __future__ import annotations

import re
import types
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2fp_stream.compositor import compose
from m2fp_stream.compositor.effects import blend, find_regions
from m2fp_stream.core.errors import SourceError
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import Effect, Fill, Unknown, Why
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.records import LookKind

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()


def example(heading: str) -> types.ModuleType:
    """Returns the first Python block below a heading, as a module."""
    (block,) = re.findall(rf"^### {heading}\n.*?```python\n(.*?)```", TEXT, re.M | re.S)
    module = types.ModuleType("example")
    exec(compile(block, heading, "exec"), module.__dict__)  # our own document
    return module


def test_the_source_gives_its_frames_and_refuses_what_are_none() -> None:
    source_of: Any = example("A source").ArraySource
    frames = np.random.default_rng(1).integers(0, 256, (3, 20, 30, 3), np.uint8)
    with source_of(frames, Fraction(25)) as source:
        assert source.info.size_wh == (30, 20)
        for number, captured in enumerate(source.frames()):
            with captured.frame.analysis() as bgr:
                assert np.array_equal(bgr, frames[number])
            assert captured.frame.pts * captured.frame.time_base == Fraction(number, 25)
            captured.frame.release()
    assert number == 2
    assert frames.any()  # the program's own frames are not zeroed
    with pytest.raises(SourceError, match="expected"):
        source_of(frames[..., 0], Fraction(25))


def test_the_effect_reads_nothing_that_is_covered() -> None:
    stripes: Any = example("An effect").stripes
    cover = np.zeros((45, 80), np.uint8)
    cover[10:30, 20:40] = 1
    fills = [Fill(Effect.SOLID, Label.FACE, 1)]
    (region,) = find_regions(cover, fills, (320, 180), feather_px=4, grid_px=8)
    painted = stripes(region, (20, 20, 20), (200, 200, 200), 8)
    assert painted.shape == (*region.alpha.shape, 3)
    results = []
    for seed in (1, 2):
        target = np.random.default_rng(seed).integers(0, 256, painted.shape, np.uint8)
        blend(target, painted, region)
        results.append(target[region.inside > 0])
    assert np.array_equal(*results)
    assert {int(value) for value in np.unique(painted)} == {20, 200}


def test_the_sink_writes_when_frames_were_covered_whole(tmp_path: Path) -> None:
    sink_of: Any = example("A sink").CardTimes
    sink = sink_of(tmp_path / "cards.txt")
    raw = RawFrame(
        np.zeros((40, 60, 3), np.uint8),
        frame_id=5,
        pts=50,
        time_base=Fraction(1, 25),
        captured_ns=0,
    )
    sink.write(compose(raw, Unknown(Why.STALE)))
    assert not (tmp_path / "cards.txt").exists()
    sink.finish()
    assert (tmp_path / "cards.txt").read_text() == "2.000 the last look is too old\n"


def test_the_detector_answers_every_kind_of_look() -> None:
    looker = example("A detector").CenterFaceLooker()
    picture = np.random.default_rng(3).integers(0, 256, (96, 96, 3), np.uint8)
    for kind in LookKind:
        assert looker.asked(kind, picture, frame_id=7).frame_id == 7


def test_the_language_names_what_the_page_has() -> None:
    texts = Path(__file__).parents[2] / "m2fp_stream" / "web" / "page" / "texts.js"
    (block,) = re.findall(r"### A language.*?```js\n(.*?)```", TEXT, re.S)
    keys = re.findall(r"^  (\w+):", block, re.M)
    page = texts.read_text()
    assert "const EN = {" in page
    assert "const CARDS_EN = {" in page
    assert "export const LANGUAGES = { en: EN, zh: ZH };" in page
    assert keys == ["name", "locale", "title", "cards"]
    assert all(f"  {key}:" in page for key in keys)
