"""How live pictures are processed."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from ...options import Options
from ..look_options import DEADLINE, DEADLINE_TITLE, PartsAFrame
from .follow import Rates

__all__ = ["LiveOptions"]


_IN_TIME: Final = 0.9
"""Of `person_after_s`: looks for people are to be answered a little before. Chosen."""


class LiveOptions(Options):
    """Delay, ages and rates of looks of a live picture."""

    alignment: Annotated[
        Literal["aligned", "low_latency"],
        Field(
            title="Alignment",
            description=(
                "aligned delays the picture a little (delay_s), so that whoever is found is "
                "covered some frames back, too; low_latency shows each frame as soon as faces were "
                "looked for in it, and covers what moves until people were looked for there."
            ),
        ),
    ] = "aligned"
    delay_s: Annotated[
        float,
        Field(
            title="Delay",
            description="How long (seconds) an aligned picture is held back.",
            ge=0.05,
            le=2,
        ),
    ] = 0.2
    max_delay_s: Annotated[
        float,
        Field(
            title="Longest delay",
            description="A frame that is not judged after so many seconds is covered whole.",
            gt=0,
            le=3,
        ),
    ] = 1.0
    person_after_s: Annotated[
        float,
        Field(
            title="Whole person after",
            description=(
                "When the oldest look that is due is so old (seconds), people are covered whole. "
                "More than 0.4 gives a warning."
            ),
            ge=0,
            le=10,
        ),
    ] = 0.4
    frame_after_s: Annotated[
        float,
        Field(
            title="Whole picture after",
            description=(
                "When the oldest look for faces or people that is due is so old (seconds), the "
                "picture is covered whole. More than 1 gives a warning."
            ),
            gt=0,
            le=10,
        ),
    ] = 1.0
    people_s: Annotated[
        float,
        Field(
            title="Looks for people, every",
            description=(
                "Seconds from one look for people to the next, at most; motion that nobody known "
                "explains, faces that appear and faces that are lost bring more."
            ),
            gt=0,
            le=0.3,
        ),
    ] = 0.25
    middle_s: Annotated[
        float,
        Field(
            title="Looks for people further away, every",
            description="The same of looks at the look size, where nobody known asks for them.",
            gt=0,
            le=10,
        ),
    ] = 1.0
    far_s: Annotated[
        float,
        Field(
            title="Looks for people far away, every",
            description=(
                "The same of looks at the size of the picture (1280 pixels at most), for people "
                "who are small in it and show no face."
            ),
            ge=0.5,
            le=10,
        ),
    ] = 2.0
    parts_s: Annotated[
        float,
        Field(
            title="Looks at parts, every",
            description="Seconds from one close look at a person to the next, at least.",
            gt=0,
            le=5,
        ),
    ] = 0.2
    parts_a_frame: PartsAFrame = 2
    look_size: Annotated[
        int,
        Field(
            title="Look size",
            description=(
                "Long side, in pixels, at which faces are looked for, or half of the picture's, up "
                "to 960, if that is more; smaller where the machine cannot keep up."
            ),
            ge=160,
            le=2048,
        ),
    ] = 640
    min_look_size: Annotated[
        int,
        Field(
            title="Smallest look size",
            description=(
                "It becomes no smaller than this where the machine cannot keep up: small faces are "
                "missed in small copies. Where even this is too slow, frames are left out."
            ),
            ge=160,
            le=2048,
        ),
    ] = 320
    look_deadline_s: Annotated[
        float,
        Field(title=DEADLINE_TITLE, description=DEADLINE, gt=0, le=60),
    ] = 5.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.person_after_s > self.frame_after_s:
            raise ValueError("person_after_s must not be above frame_after_s")
        if self.alignment == "aligned" and self.delay_s > self.max_delay_s:
            raise ValueError("delay_s must not be above max_delay_s")
        return self

    @property
    def judged_after_s(self) -> float:
        """How long after its capture a frame is judged; 0: when its look for faces is answered."""
        return self.delay_s if self.alignment == "aligned" else 0.0

    def rates(self) -> Rates:
        """Returns how often is looked where the machine keeps up."""
        return Rates(
            self.people_s,
            self.middle_s,
            self.far_s,
            self.parts_s,
            self.parts_a_frame,
            longest_s=_IN_TIME * self.person_after_s,
        )

    def warnings(self) -> list[str]:
        """Returns what is weaker than promised, one sentence each."""
        weaker = []
        if self.person_after_s > 0.4:
            weaker.append(f"live.person_after_s is {self.person_after_s:g}, promised is 0.4")
        if self.frame_after_s > 1.0:
            weaker.append(f"live.frame_after_s is {self.frame_after_s:g}, promised is 1.0")
        return weaker
