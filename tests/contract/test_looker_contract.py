"""What every looker keeps; the embedded one and the one that tests draw for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream import models
from m2fp_stream.core.errors import ParserError
from m2fp_stream.core.records import Detections, LookKind, PartPlanes
from m2fp_stream.parsers.base import Looker
from m2fp_stream.parsers.embedded import runtime
from m2fp_stream.parsers.embedded.looker import (
    PART_LABELS,
    EmbeddedLooker,
    crop_for_closer,
    crop_for_parts,
    from_options,
)
from tests.kit.faulty import DrawnLooker
from tests.kit.stage import backdrop

Picture = NDArray[np.uint8]

LOOKERS: dict[str, Callable[[], Looker]] = {"embedded": EmbeddedLooker, "drawn": DrawnLooker}
SIZES_WH = [(1, 1), (3, 200), (64, 36), (321, 181), (640, 360), (1280, 720)]


@pytest.fixture(scope="module", params=sorted(LOOKERS))
def looker(request: pytest.FixtureRequest) -> Looker:
    return LOOKERS[request.param]()


def picture_of(kind: LookKind, size_wh: tuple[int, int]) -> Picture:
    """A picture such as a look of that kind gets."""
    picture = backdrop(3, *size_wh)
    width, height = size_wh
    if kind is LookKind.CLOSER:
        return crop_for_closer(picture, (0.4 * width, -0.1 * height, 0.6 * width, 0.2 * height))
    if kind is not LookKind.PARTS:
        return picture
    return crop_for_parts(picture, (-0.1 * width, 0, 1.0 * width, 1.1 * height), 32_000)[0]


def content(seen: Detections | PartPlanes) -> list[bytes]:
    if isinstance(seen, PartPlanes):
        return [seen.planes.tobytes()]
    return [seen.xyxy.tobytes(), seen.scores.tobytes(), seen.rolls.tobytes()]


@pytest.mark.parametrize("kind", list(LookKind))
class TestLooker:
    @pytest.mark.parametrize("size_wh", SIZES_WH, ids=str)
    def test_it_answers_about_a_picture_of_any_size(
        self, looker: Looker, kind: LookKind, size_wh: tuple[int, int]
    ) -> None:
        picture = picture_of(kind, size_wh)
        seen = looker.asked(kind, picture, frame_id=17)
        assert seen.frame_id == 17
        height, width = picture.shape[:2]
        if isinstance(seen, PartPlanes):
            assert kind is LookKind.PARTS
            assert seen.planes.shape == (len(PART_LABELS), height // 2, width // 2)
        else:
            assert seen.kind is kind
            side = max(width, height)
            over = (seen.xyxy < -side) | (seen.xyxy > 2 * side)
            assert not over.any()

    def test_same_picture_same_answer_whatever_was_seen_between(
        self, looker: Looker, kind: LookKind
    ) -> None:
        picture = picture_of(kind, (320, 180))
        first = looker.asked(kind, picture)
        for other in LookKind:
            looker.asked(other, picture_of(other, (640, 360)))
        assert content(looker.asked(kind, picture)) == content(first)

    def test_it_leaves_the_picture_as_it_was(self, looker: Looker, kind: LookKind) -> None:
        for light in (1.0, 0.1):  # dark pictures are lightened, elsewhere
            picture = (picture_of(kind, (320, 180)) * light).astype(np.uint8)
            before = picture.copy()
            looker.asked(kind, picture)
            assert np.array_equal(picture, before)

    @pytest.mark.parametrize("level", [0, 17, 255])
    def test_a_flat_picture_shows_nobody(self, looker: Looker, kind: LookKind, level: int) -> None:
        if looker.name == "drawn":
            pytest.skip("sees a person in whatever is grey")
        flat = np.full_like(picture_of(kind, (320, 180)), level)
        seen = looker.asked(kind, flat)
        if isinstance(seen, Detections):
            assert (seen.scores < 0.3).all()
        else:
            assert float(seen.planes[1:].mean()) < 0.25 * 255

    @pytest.mark.parametrize(
        "picture",
        [
            None,
            np.zeros((0, 5, 3), np.uint8),
            np.zeros((5, 5), np.uint8),
            np.zeros((5, 5, 4), np.uint8),
            np.zeros((5, 5, 3), np.float32),
        ],
        ids=["none", "empty", "grey", "alpha", "float"],
    )
    def test_what_is_no_picture_is_an_error_and_the_looker_goes_on(
        self, looker: Looker, kind: LookKind, picture: Picture
    ) -> None:
        with pytest.raises(ParserError, match="expected a non-empty"):
            looker.asked(kind, picture)
        looker.asked(kind, picture_of(kind, (64, 36)))


def test_an_error_inside_a_looker_is_a_parser_error_without_its_text() -> None:
    class Broken(DrawnLooker):
        def _faces(self, bgr: Picture, frame_id: int) -> Detections:
            raise cv2.error("secret")

    with pytest.raises(ParserError, match="looker drawn failed on frame 4") as caught:
        Broken().faces(np.zeros((9, 9, 3), np.uint8), frame_id=4)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


NETWORKS = {
    LookKind.FACES: {"yunet_s"},
    LookKind.PEOPLE: {"efficientdet_person"},
    LookKind.CLOSER: {"centerface"},
    LookKind.PARTS: {"parts"},
}


@pytest.mark.parametrize(
    "kinds",
    [
        (LookKind.FACES,),
        (LookKind.PEOPLE,),
        (LookKind.CLOSER, LookKind.PARTS),
        (LookKind.FACES, LookKind.PEOPLE),
        tuple(LookKind),
        (),
    ],
    ids=lambda kinds: "+".join(kinds) or "none",
)
def test_a_looker_loads_what_it_is_asked_to_look_for_and_refuses_the_rest(
    kinds: tuple[LookKind, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: set[str] = set()
    load = models.load_verified

    def recorded(name: str, *args: Any, **more: Any) -> bytes:
        loaded.add(name)
        return load(name, *args, **more)

    monkeypatch.setattr(runtime, "load_verified", recorded)
    one = from_options(kinds=[str(kind) for kind in kinds])
    for kind in LookKind:
        picture = picture_of(kind, (64, 36))
        if kind in kinds:
            one.asked(kind, picture)
        else:
            with pytest.raises(ParserError, match=f"not made for looks of kind {kind}"):
                one.asked(kind, picture)
    assert loaded == set().union(*(NETWORKS[kind] for kind in kinds))


def test_a_kind_of_look_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="feet"):
        from_options(kinds=["feet"])


@pytest.mark.parametrize("kind", list(LookKind))
def test_a_looker_of_one_kind_sees_what_one_of_all_kinds_sees(kind: LookKind) -> None:
    picture = picture_of(kind, (320, 180))
    assert content(EmbeddedLooker(kinds=[kind]).asked(kind, picture)) == content(
        EmbeddedLooker().asked(kind, picture)
    )


@pytest.mark.parametrize(
    "region", [(0.0, 0.0, 320.0, 180.0), (-80.5, -60.0, 61.0, 200.3), (100.2, 50.7, 131.9, 90.1)]
)
def test_the_planes_of_a_crop_lie_where_the_crop_was_taken(
    region: tuple[float, float, float, float],
) -> None:
    """A blob that is in the crop's plane is found where it is in the picture."""
    blob_x, blob_y = 40.0, 75.0
    if region[0] > 60:
        blob_x = 116.0
    rows, columns = np.mgrid[0:180, 0:320]
    blob = np.exp(-((columns - blob_x) ** 2 + (rows - blob_y) ** 2) / (2 * 5.0**2))
    picture = np.repeat((250 * blob).round().astype(np.uint8)[..., None], 3, 2)
    crop, matrix = crop_for_parts(picture, region, 32_000)
    size_wh = crop.shape[1] // 2, crop.shape[0] // 2
    plane = cv2.resize(crop[..., 0].astype(np.float32), size_wh, interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[0 : size_wh[1], 0 : size_wh[0]]
    centre = float((plane * x).sum() / plane.sum()), float((plane * y).sum() / plane.sum())
    place = matrix @ (*centre, 1.0)
    assert place == pytest.approx((blob_x, blob_y), abs=0.15)
