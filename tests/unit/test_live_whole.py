"""Whoever chooses "whole people" while a picture runs hides no less than `--hide person` would."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.core.labels import BODY_PARTS, Label
from m2fp_stream.core.plan import Unknown
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.records import Look, ParseResult
from m2fp_stream.core.safe import CoverLevel
from m2fp_stream.parsers.embedded.options import EmbeddedOptions
from m2fp_stream.parsers.embedded.parser import GROUPS, EmbeddedParser
from m2fp_stream.pipeline.live.control import Wish
from m2fp_stream.pipeline.live.present import Ages, FrameStates
from m2fp_stream.policy import Findings, Policy, PolicyOptions
from tests.chaos import faulty
from tests.chaos.live_stage import Performance

from .test_live_follow import ALIGNMENTS, LEFT, NOBODY, RIGHT, TINY_WH, Stand
from .test_live_present import TIME_BASE

Map = NDArray[np.uint8]
AGES = Ages(person_s=0.5, frame_s=100.0)
HIDES = ("face", "head", "skin", ("hair", "left-shoe"))
IDS = sorted(int(label) for label in BODY_PARTS.ids)


@st.composite
def results(draw: st.DrawFn) -> ParseResult:
    """Any findings that the embedded parser's shape of a result can hold."""
    across, along = draw(st.sampled_from([(48, 32), (96, 64), (70, 47)]))
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def painted(shape: tuple[int, ...], values: list[int], strokes: int) -> Map:
        plane = np.zeros(shape, np.uint8)
        for _ in range(strokes):
            y, x = noise.integers(0, along), noise.integers(0, across)
            tall, wide = noise.integers(1, along // 2, 2)
            plane[..., y : y + tall, x : x + wide] = noise.choice(values)
        return plane

    strokes = draw(st.integers(0, 4))
    evidence = np.stack(
        [painted((along, across), [0, 40, 90, 255], draw(st.integers(0, 1))) for _ in GROUPS]
    )
    return ParseResult(
        frame_id=0,
        label_map=painted((along, across), IDS, strokes),
        labels=BODY_PARTS,
        groups=GROUPS,
        evidence=evidence,
        must_cover=painted((along, across), [0, 1], draw(st.integers(0, 1))) > 0,
        instances=draw(
            st.sampled_from([None, painted((along, across), [1, 2, 255], strokes)]),
        ),
        parser_id="drawn",
        thorough=True,
    )


def hidden(
    results: list[ParseResult],
    options: PolicyOptions,
    wish: Wish,
    *,
    aligned: bool,
    late_s: float = 0.0,
) -> list[Map]:
    """What is hidden in every frame judged while these parses come, by the live pipeline's parts.

    Args:
        results: one a parse, three frames apart.
        options: what is configured.
        wish: what is chosen.
        aligned: see `Follower`.
        late_s: how much later than it is the presenter takes every parse to be.
    """
    policy = Policy(options)
    states = FrameStates(policy, Ages(AGES.person_s - late_s, AGES.frame_s))
    stand = Stand(aligned=aligned)
    for result in results:
        stand.frames(3)
        stand.parse(policy.findings(result, whole=True))
    stand.frames(3)
    stand.follower.finish()
    masks = []
    for number in stand.known():
        raw = RawFrame(
            np.zeros((TINY_WH[1], TINY_WH[0], 3), np.uint8),
            frame_id=number,
            pts=number,
            time_base=TIME_BASE,
            captured_ns=number,
        )
        state = states.of(raw, stand.verdicts[number], wish)
        raw.release()
        assert not isinstance(state, Unknown)
        masks.append((state.plan.cover > 0).astype(np.uint8))
    return masks


def assert_no_less(
    results: list[ParseResult], hide: object, *, aligned: bool, margin: float, late_s: float = 0.0
) -> None:
    chosen = PolicyOptions.model_validate({"hide": hide, "margin": margin})
    person = chosen.model_copy(update={"hide": "person"})
    wish = Wish() if late_s else Wish(CoverLevel.PERSON)
    more = hidden(results, chosen, wish, aligned=aligned, late_s=late_s)
    least = hidden(results, person, Wish(), aligned=aligned)
    assert len(more) == len(least) > 0
    for one, other in zip(more, least, strict=True):
        assert not (other & (1 - one)).any()


@ALIGNMENTS
@given(
    result=results(),
    hide=st.sampled_from(HIDES),
    margin=st.sampled_from([0.0, 0.12, 0.5]),
)
@settings(max_examples=40)
def test_on_request_no_less_is_hidden_than_where_people_are_configured(
    aligned: bool, result: ParseResult, hide: object, margin: float
) -> None:
    assert_no_less([result], hide, aligned=aligned, margin=margin)


@given(result=results(), hide=st.sampled_from(HIDES))
@settings(max_examples=20)
def test_when_parses_are_late_no_less_is_hidden_than_where_people_are_configured(
    result: ParseResult, hide: object
) -> None:
    assert_no_less([result], hide, aligned=False, margin=0.12, late_s=AGES.person_s)


@cache
def crowd() -> ParseResult:
    """Three people of whom the parser may look closely at one: the others' bodies are presumed."""
    picture = cv2.imread(str(Path(skimage.__file__).parent / "data" / "astronaut.png"))
    assert picture is not None
    three = np.concatenate([np.asarray(picture, np.uint8)[:, 60:380]] * 3, axis=1)
    with EmbeddedParser(EmbeddedOptions(max_regions=1, map_size=240)) as parser:
        return parser.parse(np.ascontiguousarray(three))


@ALIGNMENTS
@pytest.mark.parametrize("hide", ["face", "head"])
def test_people_beyond_the_cap_are_hidden_whole_on_request(hide: str, aligned: bool) -> None:
    assert_no_less([crowd()] * 2, hide, aligned=aligned, margin=0.12)


def test_a_presumed_body_is_hidden_on_request_and_explains_no_motion() -> None:
    policy = Policy(PolicyOptions())
    findings, alone = policy.findings(crowd(), whole=True), policy.findings(crowd())
    assert findings.whole is not None
    assert alone.whole is None
    np.testing.assert_array_equal(findings.people, alone.people)
    assert findings.whole[int(0.75 * len(findings.whole)) :].mean() > 0.9  # three jackets
    assert (findings.whole & (1 - findings.people)).mean() > 0.1


def outline_after(parses: list[Findings], aligned: bool) -> Map:
    """Where people may be in the frame after these parses, each of a frame of its own."""
    stand = Stand(aligned=aligned)
    for findings in parses:
        stand.add()
        stand.parse(findings)
    number = stand.add()
    stand.follower.finish()
    people = stand.judged()[number].people
    assert people is not None
    return people


def whole(*people: Map) -> Findings:
    """People of whom nothing was recognised: they are presumed."""
    return Findings((), NOBODY, whole=np.maximum.reduce([NOBODY, *people]))


@ALIGNMENTS
def test_an_outline_that_one_full_parse_misses_is_held_for_one_more(aligned: bool) -> None:
    """As the tracks of configured people are: one parse that finds nobody is not enough."""
    both, one = whole(LEFT, RIGHT), whole(RIGHT)
    assert outline_after([both], aligned)[LEFT > 0].all()
    assert outline_after([both, one], aligned)[(LEFT | RIGHT) > 0].all()
    left = outline_after([both, one, one], aligned)
    assert not left[LEFT > 0].any()
    assert left[RIGHT > 0].all()
    assert outline_after([both, one, both, one], aligned)[LEFT > 0].all()


def test_a_glance_neither_drops_an_outline_nor_renews_it() -> None:
    both, one = whole(LEFT, RIGHT), whole(RIGHT)
    glance = replace(one, thorough=False)
    assert outline_after([both, glance, glance], aligned=False)[LEFT > 0].all()
    assert outline_after([both, one, glance], aligned=False)[LEFT > 0].all()
    assert not outline_after([both, one, glance, one], aligned=False)[LEFT > 0].any()


class Presuming:
    """Sees a face and presumes the body below it, as the embedded parser does in a crowd."""

    def parse(
        self, bgr: NDArray[np.uint8], *, frame_id: int, look: Look = Look.FULL
    ) -> ParseResult:
        height, width = bgr.shape[:2]
        left, top, right, bottom = faulty.person_box(frame_id)
        face, body = np.zeros((2, height, width), np.uint8)
        face[top : top + 16, left:right] = 255
        body[top:bottom, left:right] = 255
        return ParseResult(
            frame_id=frame_id,
            label_map=np.where(face > 0, np.uint8(Label.FACE), np.uint8(0)),
            labels=BODY_PARTS,
            groups=("torso-skin", "person"),
            evidence=np.stack([body, face]),
            must_cover=np.zeros((height, width), np.bool_),
            instances=None,
            parser_id="presuming",
            thorough=look is not Look.GLANCE,
        )

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize("alignment", ["aligned", "low_latency"])
def test_a_run_hides_presumed_bodies_on_request(alignment: str) -> None:
    with Performance(Presuming(), live={"alignment": alignment}) as stage:
        stage.wait_for(lambda one: one.level is CoverLevel.PARTS and one.raw)  # the control
        stage.dial.turn(CoverLevel.PERSON)
        first = stage.wait_for(lambda one: one.level is CoverLevel.PERSON, time.monotonic())
        settled = first.frame_id + 10  # more than may be on their way to the sink
        stage.wait_for(lambda one: one.frame_id > settled + 15)
        later = [one for one in list(stage.seen) if one.frame_id > settled]
    assert CoverLevel.PERSON in {one.level for one in later}
    assert [one.frame_id for one in later if one.raw] == []
