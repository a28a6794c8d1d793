"""Labels, label sets and presets: ids as in CIHP, hiding errs to the safe side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2fp_stream.core.labels import (
    CIHP,
    PALETTE_RGB,
    PRESETS,
    Label,
    LabelSet,
    nearest,
    parse_label_name,
)
from tests.kit.labelsets import HEAD_PARTS

# Gong et al., ECCV 2018, order of M2FP's CIHP model; written out again, not derived.
CIHP_TITLES = [
    *("background", "hat", "hair", "gloves", "sunglasses", "upper-clothes", "dress", "coat"),
    *("socks", "pants", "torso-skin", "scarf", "skirt", "face", "left-arm", "right-arm"),
    *("left-leg", "right-leg", "left-shoe", "right-shoe", "human"),
]


def test_the_ids_are_those_of_cihp() -> None:
    assert [label.title for label in sorted(Label)] == CIHP_TITLES
    assert [int(label) for label in sorted(Label)] == list(range(21))


def test_every_label_has_a_colour_of_its_own() -> None:
    assert len(PALETTE_RGB) == len(Label)
    assert len(set(PALETTE_RGB)) == len(Label)
    assert all(0 <= value <= 255 for colour in PALETTE_RGB for value in colour)


def test_the_presets_hide_what_they_are_named_after() -> None:
    titles = {name: {label.title for label in labels} for name, labels in PRESETS.items()}
    assert titles["face"] == {"face", "sunglasses"}
    assert titles["head"] == {"face", "hair", "hat", "sunglasses", "scarf"}
    assert titles["skin"] == {
        *("face", "sunglasses", "torso-skin"),
        *("left-arm", "right-arm", "left-leg", "right-leg"),
    }
    assert titles["person"] == set(CIHP_TITLES) - {"background"}


def test_no_preset_can_be_changed() -> None:
    with pytest.raises(TypeError):
        PRESETS["head"] = frozenset()  # type: ignore[index]  # the point


@pytest.mark.parametrize("written", ["left-arm", "LEFT_ARM", " Left arm "])
def test_a_label_is_found_however_it_is_written(written: str) -> None:
    assert parse_label_name(written) is Label.LEFT_ARM


def test_an_unknown_label_names_the_nearest_valid_one() -> None:
    with pytest.raises(ValueError, match=r"unknown label 'hiar'; did you mean hair\?"):
        parse_label_name("hiar")


def test_a_label_unlike_any_other_is_answered_with_the_list() -> None:
    with pytest.raises(ValueError, match="valid names: coat, dress, face"):
        parse_label_name("xyzzy")


def test_the_background_is_no_label_to_hide() -> None:
    with pytest.raises(ValueError, match="unknown label"):
        parse_label_name("background")


def test_two_near_names_are_both_offered() -> None:
    assert nearest("left-", ["left-arm", "left-leg"]) == "did you mean left-leg or left-arm?"


@given(st.sets(st.sampled_from(Label)))
def test_a_full_set_covers_each_label_with_itself(wanted: set[Label]) -> None:
    assert CIHP.covering(wanted) == wanted


@given(st.sets(st.sampled_from(Label)))
def test_a_small_set_covers_every_wanted_label_with_something_it_can_write(
    wanted: set[Label],
) -> None:
    covering = HEAD_PARTS.covering(wanted)
    assert covering <= HEAD_PARTS.ids
    for label in wanted:
        holder = HEAD_PARTS.contained_in.get(label, Label.HUMAN)
        assert label in covering or holder in covering


def test_a_part_that_is_not_told_apart_is_hidden_with_the_person() -> None:
    assert HEAD_PARTS.covering({Label.HAT}) == {Label.HAIR}
    assert HEAD_PARTS.covering({Label.LEFT_ARM}) == {Label.HUMAN}
    assert Label.HAT not in HEAD_PARTS
    assert Label.FACE in HEAD_PARTS


@pytest.mark.parametrize("missing", [Label.BACKGROUND, Label.HUMAN])
def test_a_set_without_background_or_last_resort_is_refused(missing: Label) -> None:
    with pytest.raises(ValueError, match=r"needs background \(0\) and human \(20\)"):
        LabelSet("holed", frozenset(Label) - {missing})


@pytest.mark.parametrize(
    ("label", "holder"),
    [(Label.FACE, Label.HAIR), (Label.HAT, Label.COAT)],
    ids=["a label that it writes itself", "a holder that it does not write"],
)
def test_a_containment_that_cannot_be_is_refused(label: Label, holder: Label) -> None:
    with pytest.raises(ValueError, match=f"{label.title} -> {holder.title}"):
        LabelSet("odd", HEAD_PARTS.ids, {label: holder})
