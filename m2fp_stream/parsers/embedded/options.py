"""Options of the embedded parser."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EmbeddedOptions"]


class EmbeddedOptions(BaseModel):
    """What a user may change about the embedded parser; frozen, unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, title="embedded"
    )

    max_size: int = Field(
        960,
        ge=64,
        le=4096,
        title="Largest picture",
        description="Long side, in pixels, that larger pictures are scaled down to first.",
    )
    map_size: int = Field(
        960,
        ge=32,
        le=4096,
        title="Largest map",
        description="Long side of the label map in pixels, at most the picture's. Video takes the "
        "smaller size at which people are tracked.",
    )
    face_size: int = Field(
        640,
        ge=128,
        le=2048,
        title="Face detector size",
        description="Long side, in pixels, at which faces are looked for. Faces are found from "
        "about 9 pixels at this size upwards; time grows with its square.",
    )
    person_size: int = Field(
        416,
        ge=128,
        le=2048,
        title="Person detector size",
        description="Long side, in pixels, at which bodies are looked for; 416 is what the "
        "network was trained at.",
    )
    far_person_size: int = Field(
        640,
        ge=128,
        le=2048,
        title="Person detector size, far",
        description="Long side, in pixels, at which people far away are looked for, besides; "
        "not above person_size switches it off, which saves time and misses small people.",
    )
    enlargement: float = Field(
        2.0,
        ge=1,
        le=4,
        title="Enlargement",
        description="Small pictures are enlarged for the detectors at most so much. Live, no more "
        "than the parse size asks for, so that smaller parses are cheaper.",
    )
    face_threshold: float = Field(
        0.25,
        gt=0,
        lt=1,
        title="Face threshold",
        description="A face is covered from this confidence upwards. Lower covers more.",
    )
    person_threshold: float = Field(
        0.30,
        gt=0,
        lt=1,
        title="Person threshold",
        description="A body without a face gets its head zone covered from this confidence "
        "upwards. Lower covers more.",
    )
    evidence_threshold: float = Field(
        0.25,
        gt=0,
        lt=1,
        title="Evidence threshold",
        description="Person boxes from this confidence upwards count as evidence that somebody "
        "may be there, and are covered where the edge of the picture cuts them.",
    )
    doubt_threshold: float = Field(
        0.20,
        gt=0,
        lt=1,
        title="Second opinion threshold",
        description="Person boxes between this confidence and the person threshold are looked at "
        "a second time, and covered where a person is confirmed.",
    )
    mask_threshold: float = Field(
        0.30,
        gt=0,
        lt=1,
        title="Person mask threshold",
        description="A pixel belongs to a person from this probability upwards.",
    )
    outlines: Literal["faceless", "everybody"] = Field(
        "faceless",
        title="Outlines",
        description="Whose outline is computed besides the parts. Video and pictures that hide the "
        "whole person take everybody: slower, and fewer limbs are missed.",
    )
    max_regions: int = Field(
        6,
        ge=1,
        le=64,
        title="Regions a frame",
        description="People whose outline is computed per frame, most certain and largest "
        "first; whoever lies beyond is covered by a whole box.",
    )
    threads: int = Field(1, ge=1, le=64, title="Threads", description="Threads of each network.")
    runtime: Literal["opencv", "onnxruntime", "openvino"] | None = Field(
        None,
        title="Runtime",
        description="Library that runs the networks; none takes the measured choice.",
    )
