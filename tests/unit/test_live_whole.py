"""Whoever chooses "whole people" while a picture runs hides no less than `--hide person` would."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.core.plan import Unknown
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import CoverLevel
from m2fp_stream.pipeline.copies import hidden_by
from m2fp_stream.pipeline.live.control import PrivacyRequest
from m2fp_stream.pipeline.live.present import Ages, FrameStates
from m2fp_stream.policy import Policy, PolicyOptions
from m2fp_stream.tracking.sightings import Face

from .test_live_follow import Stand
from .test_solver import HEIGHT, WIDTH, body_of, box_mask, face_at

HIDES = ("face", "head", "skin", ("hair", "left-shoe"))
PERSON = PrivacyRequest(CoverLevel.PERSON)
AGES = Ages(person_s=0.4, frame_s=100.0)

people = st.lists(
    st.builds(
        face_at,
        st.floats(0, WIDTH),
        st.floats(20, HEIGHT),
        st.floats(0.2, 1.0),
        st.floats(12, 90),
    ),
    min_size=1,
    max_size=3,
)


def hidden(
    faces: list[Face],
    hide: object,
    *,
    request: PrivacyRequest = PrivacyRequest(),  # noqa: B008 - frozen
    late_s: float = 0.0,
) -> list[NDArray[np.bool_]]:
    """What is hidden in frames in which these people stand, by the live pipeline's parts.

    Args:
        faces: the people; every other shows a body besides.
        hide: what is configured.
        request: what is chosen.
        late_s: looks for people are answered no more, so long before the last frame.
    """
    policy = Policy(PolicyOptions.model_validate({"hide": hide}))
    stand = Stand()
    stand.follower.hide(hidden_by(policy, whole=request.level is CoverLevel.PERSON))
    bodies = [body_of(face) for face in faces[::2]]
    stand.add(*faces)
    stand.first(*bodies)
    states, masks = FrameStates(policy, AGES), []
    for n in range(4 + round(late_s * 25)):
        number = stand.add(*faces)
        order = stand.order()
        if order is not None and order.reach is not None and n < 4:
            stand.follower.people(number, bodies, order.reach)
        raw = RawFrame(
            np.zeros((HEIGHT, WIDTH, 3), np.uint8),
            frame_id=number,
            pts=number,
            time_base=Fraction(1, 25),
            captured_ns=number,
        )
        state = states.of(raw, stand.verdict(number), request)
        raw.release()
        assert not isinstance(state, Unknown)
        masks.append(np.asarray(state.plan.cover > 0))
    return masks


@given(faces=people, hide=st.sampled_from(HIDES))
@settings(max_examples=25, deadline=None)
def test_on_request_no_less_is_hidden_than_where_people_are_configured(
    faces: list[Face], hide: object
) -> None:
    chosen, configured = hidden(faces, hide, request=PERSON), hidden(faces, "person")
    for one, least in zip(chosen, configured, strict=True):
        assert not (least & ~one).any()


@given(faces=people, hide=st.sampled_from(HIDES))
@settings(max_examples=25, deadline=None)
def test_on_request_no_less_is_hidden_than_without_it(faces: list[Face], hide: object) -> None:
    for one, least in zip(hidden(faces, hide, request=PERSON), hidden(faces, hide), strict=True):
        assert not (least & ~one).any()


@pytest.mark.parametrize("hide", ["face", "head"])
def test_when_looks_are_late_the_bodies_are_hidden_whole(hide: str) -> None:
    faces = [face_at(200, 120), face_at(450, 140)]
    young, old = (masks[-1] for masks in (hidden(faces, hide), hidden(faces, hide, late_s=0.6)))
    for face in faces:
        box = body_of(face).box
        below = box_mask(box)
        below[: int(face.box.y2 + 30)] = False
        assert not young[below].any()
        assert old[below].mean() > 0.95
