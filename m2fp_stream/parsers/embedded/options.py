"""Options of the embedded parser."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...options import Options

__all__ = ["EmbeddedOptions"]


class EmbeddedOptions(Options, title="embedded"):
    """What a user may change about the embedded parser; frozen, unknown keys are errors."""

    max_size: Annotated[
        int,
        Field(
            title="Largest picture",
            description="Long side, in pixels, that larger pictures are scaled down to first.",
            ge=64,
            le=4096,
        ),
    ] = 960
    map_size: Annotated[
        int,
        Field(
            title="Largest map",
            description=(
                "Long side of the label map in pixels, at most the picture's. Video takes the "
                "smaller size at which people are tracked."
            ),
            ge=32,
            le=4096,
        ),
    ] = 960
    face_size: Annotated[
        int,
        Field(
            title="Face detector size",
            description=(
                "Long side, in pixels, at which faces are looked for. Faces are found from "
                "about 9 pixels at this size upwards; time grows with its square."
            ),
            ge=128,
            le=2048,
        ),
    ] = 640
    person_size: Annotated[
        int,
        Field(
            title="Person detector size",
            description=(
                "Long side, in pixels, at which bodies are looked for; 416 is what the network "
                "was trained at."
            ),
            ge=128,
            le=2048,
        ),
    ] = 416
    far_person_size: Annotated[
        int,
        Field(
            title="Person detector size, far",
            description=(
                "Long side, in pixels, at which people far away are looked for, besides; not "
                "above person_size switches it off, which saves time and misses small people."
            ),
            ge=128,
            le=2048,
        ),
    ] = 640
    enlargement: Annotated[
        float,
        Field(
            title="Enlargement",
            description=(
                "Small pictures are enlarged for the detectors at most so much. Live, no more "
                "than the parse size asks for, so that smaller parses are cheaper."
            ),
            ge=1,
            le=4,
        ),
    ] = 2.0
    face_threshold: Annotated[
        float,
        Field(
            title="Face threshold",
            description="A face is covered from this confidence upwards. Lower covers more.",
            gt=0,
            lt=1,
        ),
    ] = 0.25
    person_threshold: Annotated[
        float,
        Field(
            title="Person threshold",
            description=(
                "A body without a face gets its head zone covered from this confidence upwards. "
                "Lower covers more."
            ),
            gt=0,
            lt=1,
        ),
    ] = 0.30
    evidence_threshold: Annotated[
        float,
        Field(
            title="Evidence threshold",
            description=(
                "Person boxes from this confidence upwards count as evidence that somebody may "
                "be there, and are covered where the edge of the picture cuts them."
            ),
            gt=0,
            lt=1,
        ),
    ] = 0.25
    doubt_threshold: Annotated[
        float,
        Field(
            title="Second opinion threshold",
            description=(
                "Person boxes between this confidence and the person threshold are looked at a "
                "second time, and covered where a person is confirmed."
            ),
            gt=0,
            lt=1,
        ),
    ] = 0.20
    mask_threshold: Annotated[
        float,
        Field(
            title="Person mask threshold",
            description="A pixel belongs to a person from this probability upwards.",
            gt=0,
            lt=1,
        ),
    ] = 0.30
    outlines: Annotated[
        Literal["faceless", "everybody"],
        Field(
            title="Outlines",
            description=(
                "Whose outline is computed besides the parts. Video and pictures that hide the "
                "whole person take everybody: slower, and fewer limbs are missed."
            ),
        ),
    ] = "faceless"
    max_regions: Annotated[
        int,
        Field(
            title="Regions a frame",
            description=(
                "People whose outline is computed per frame, most certain and largest first; "
                "whoever lies beyond is covered by a whole box."
            ),
            ge=1,
            le=64,
        ),
    ] = 6
    weights: Annotated[
        str | None,
        Field(
            title="Weights",
            description=(
                "Which part network looks: one that `models distill` made here, by its name; none "
                "takes the shipped one."
            ),
            pattern=r"^[a-z0-9][a-z0-9-]{0,31}$",
        ),
    ] = None
    threads: Annotated[
        int, Field(title="Threads", description="Threads of each network.", ge=1, le=64)
    ] = 1
    runtime: Annotated[
        Literal["opencv", "onnxruntime", "openvino"] | None,
        Field(
            title="Runtime",
            description="Library that runs the networks; none takes the measured choice.",
        ),
    ] = None
