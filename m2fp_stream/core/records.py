"""What parsers and runs report: labels, probabilities and counts, never pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import final

import numpy as np
from numpy.typing import NDArray

from .labels import Label, LabelSet

__all__ = ["Detections", "LookKind", "ParseResult", "PartPlanes", "Progress", "RunReport"]


def _frozen(array: NDArray[np.generic]) -> None:
    array.setflags(write=False)


@unique
class LookKind(StrEnum):
    """What a look is for; each has a rate and a cost of its own."""

    FACES = "faces"
    """In every frame."""
    PEOPLE = "people"
    """Whole bodies, from any side: now and then, and where motion asks for it."""
    CLOSER = "closer"
    """Whether a weakly seen face is one, and how far it is turned."""
    PARTS = "parts"
    """Which pixel is hair, face, skin...: of one person, now and then."""


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Detections:
    """The faces or people that a look found in one picture, checked on construction.

    Attributes:
        frame_id: the frame that was looked at.
        kind: any but `LookKind.PARTS`.
        xyxy: (n, 4) float32, corners in pixels of the picture that was looked at.
        scores: (n,) float32, 0..1.
        rolls: (n,) float32, tilt of a face's eyes in radians, 0 where unknown.

    The arrays are made read-only.

    Raises:
        ValueError: a shape, dtype or value is not as above; no object exists then.
    """

    frame_id: int
    kind: LookKind
    xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    rolls: NDArray[np.float32]

    def __post_init__(self) -> None:
        count = len(self.scores)
        shapes = self.xyxy.shape, self.scores.shape, self.rolls.shape
        if shapes != ((count, 4), (count,), (count,)):
            raise ValueError(f"expected (n, 4), (n,) and (n,) arrays, got {shapes}")
        for array in (self.xyxy, self.scores, self.rolls):
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError("boxes, scores and tilts must be finite float32")
            _frozen(array)
        if count and (self.scores.min() < 0 or self.scores.max() > 1):
            raise ValueError("scores must lie in 0..1")
        if (self.xyxy[:, 2:] < self.xyxy[:, :2]).any():
            raise ValueError("a box ends before it begins")
        if self.kind is LookKind.PARTS:
            raise ValueError("parts are no boxes")


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PartPlanes:
    """What the part network saw in one crop.

    Attributes:
        frame_id: the frame the crop is of.
        planes: (n, h, w) uint8, probability times 255 of each part; made read-only.

    Raises:
        ValueError: a shape or dtype is not as above; no object exists then.
    """

    frame_id: int
    planes: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.planes.dtype != np.uint8 or self.planes.ndim != 3 or 0 in self.planes.shape:
            raise ValueError(
                f"expected (n, h, w) uint8, got {self.planes.dtype} {self.planes.shape}"
            )
        _frozen(self.planes)


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ParseResult:
    """One parser's findings on one frame, checked on construction.

    Attributes:
        frame_id: the frame that was parsed.
        label_map: (h, w) uint8 CIHP ids at the parser's own size.
        labels: which ids the parser can produce at all.
        groups: names of the first axis of `evidence`.
        evidence: (len(groups), h, w) uint8, probability times 255.
        must_cover: (h, w) bool, hidden under every policy (a box whose parts could not be
            resolved, or whatever lay beyond a cap).
        instances: (h, w) uint8 or None; 0 = nobody, k = person k of this frame.
        parser_id: name and version of parser and weights.
        doubts: names of the checks that this result did not pass; what they are about is in
            `must_cover` (see `parsers.plausibility`).

    The arrays are made read-only.

    Raises:
        ValueError: a shape, dtype or label id is not as above; no object exists then.
    """

    frame_id: int
    label_map: NDArray[np.uint8]
    labels: LabelSet
    groups: tuple[str, ...]
    evidence: NDArray[np.uint8]
    must_cover: NDArray[np.bool_]
    instances: NDArray[np.uint8] | None
    parser_id: str
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = self.label_map.shape
        if self.label_map.dtype != np.uint8 or len(shape) != 2 or 0 in shape:
            raise ValueError(
                f"label_map must be a non-empty (h, w) uint8 array, got {self.label_map.dtype} "
                f"{shape}"
            )
        if self.evidence.dtype != np.uint8 or self.evidence.shape != (len(self.groups), *shape):
            raise ValueError(
                f"evidence must be uint8 {(len(self.groups), *shape)}, got {self.evidence.dtype} "
                f"{self.evidence.shape}"
            )
        if self.must_cover.dtype != np.bool_ or self.must_cover.shape != shape:
            raise ValueError(f"must_cover must be bool {shape}, got {self.must_cover.shape}")
        if self.instances is not None and (
            self.instances.dtype != np.uint8 or self.instances.shape != shape
        ):
            raise ValueError(f"instances must be uint8 {shape}, got {self.instances.shape}")
        highest = int(self.label_map.max())
        if highest > max(Label):
            raise ValueError(f"label_map holds id {highest}; the highest known id is {max(Label)}")
        for array in (self.label_map, self.evidence, self.must_cover, self.instances):
            if array is not None:
                _frozen(array)

    def __repr__(self) -> str:
        size_wh = self.label_map.shape[::-1]
        return f"ParseResult(frame_id={self.frame_id}, size_wh={size_wh}, {self.parser_id})"


@final
@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        frames_done: frames written.
        frames_total: expected frames, or None where the source does not say.
        elapsed_s: seconds since the start.
    """

    frames_done: int
    frames_total: int | None
    elapsed_s: float


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """What one run did. Numbers only: nothing in it shows a person.

    Attributes:
        path_out: the finished output.
        frames: frames written.
        looks: how many of each kind were made (see `LookKind`; `fine` are those of a second
            parser).
        covered_fraction: mean share (0..1) of the picture that was covered.
        unknown_frames: frames that were covered whole because nothing was known about them.
        elapsed_s: wall-clock seconds.
        shortened_frames: frames that were covered before all that follows within the look-behind
            was known, for the frame buffer was full.
        whole_frames: frames in which somebody was covered whole, for his head was nowhere.
        requested_frames: frames that were covered whole, for the user named their time.
        left_alone_frames: frames in which people were not covered, for they were in a keep-zone.
        dropped: what the container held and the output does not (audio, subtitles, ...).
        warnings: what the user should know.
        encoded: how, where it was asked for: "HEVC at 2.1 Mb/s (the input's)".
        sound: what became of it where it was asked for: "kept", "disguised", "left out" (the
            output can have none), "none" (the input has none); nothing where it was not.
        tracks: how many people's ways through a shot are in the table of positions.
        tracks_out: the finished table; nothing where none was asked for.
    """

    path_out: str
    frames: int
    covered_fraction: float
    unknown_frames: int
    elapsed_s: float
    looks: Mapping[str, int] = field(default_factory=dict[str, int])
    shortened_frames: int = 0
    whole_frames: int = 0
    requested_frames: int = 0
    left_alone_frames: int = 0
    dropped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    encoded: str = ""
    sound: str = ""
    tracks: int = 0
    tracks_out: str = ""
