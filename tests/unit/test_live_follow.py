"""Every live frame gets one verdict, from parses of its own shot alone, and nothing before one."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2fp_stream.core.plan import Why
from m2fp_stream.core.records import Look
from m2fp_stream.pipeline.live.follow import Follower, Verdict
from m2fp_stream.policy import Findings
from m2fp_stream.tracking.flow import Analyser, Mask, Small
from m2fp_stream.tracking.options import TrackingOptions
from m2fp_stream.tracking.propagate import Tracker
from tests.chaos.stage import HEIGHT, WIDTH, Picture, backdrop

from .test_tracking_guard import place, with_blob

FACE = 13
GUARD = 20
FRAME_S = 0.04
TINY_WH = 48, 32
ALIGNMENTS = pytest.mark.parametrize("aligned", [True, False], ids=["aligned", "low_latency"])


@cache
def room(seed: int) -> Picture:
    """A small room; cheap to follow."""
    return backdrop(seed, *TINY_WH)


def found(*regions: Mask, label: int = FACE, thorough: bool = True, size: Mask) -> Findings:
    people = np.maximum.reduce([np.zeros_like(size), *regions])
    return Findings(
        tuple((region * label).astype(np.uint8) for region in regions), people, thorough
    )


NOBODY = np.zeros(TINY_WH[::-1], np.uint8)
LEFT, RIGHT = NOBODY.copy(), NOBODY.copy()
LEFT[10:20, 4:14] = 1
RIGHT[10:20, 32:42] = 1


def tiny(*regions: Mask, label: int = FACE, thorough: bool = True) -> Findings:
    return found(*regions, label=label, thorough=thorough, size=NOBODY)


class Stand:
    """A follower that is shown pictures as the live pipeline shows them."""

    def __init__(self, *, aligned: bool, full_interval_s: float = 2.0, history_s: float = 1.5):
        self._analyser = Analyser()
        self.follower = Follower(
            Tracker(TrackingOptions()),
            reverse=self._analyser.reverse,
            aligned=aligned,
            full_interval_s=full_interval_s,
            full_spacing_s=0.0,
            history_s=history_s,
        )
        self._aligned = aligned
        self.smalls: list[Small] = []
        self.time_s: dict[int, float] = {}
        self.now_s = 0.0
        self.next_id = 0
        self.verdicts: dict[int, Verdict] = {}
        self.given: Counter[int] = Counter()

    def add(
        self,
        picture: Picture | None = None,
        *,
        start: Why | None = None,
        seconds: float = FRAME_S,
        broken: bool = False,
    ) -> int:
        """Shows a frame; `broken`: its flow cannot be used."""
        picture = room(0) if picture is None else picture
        number, self.next_id = self.next_id, self.next_id + 1
        self.now_s += seconds
        self.time_s[number] = self.now_s
        small = Small.of(picture, (picture.shape[1], picture.shape[0]))
        self.smalls.append(small)
        if start is not None:
            self._analyser.restart()
        back = self._analyser.feed_back(small)
        ahead = None
        if back is not None and self._aligned and number % 2:  # others are measured when needed
            ahead = self._analyser.reverse(back)
        if broken:
            assert back is not None
            back.flow = back.flow[:-1]
        self.follower.add(number, self.now_s, small, back, ahead, start=start)
        return number

    def waits(self) -> bool:
        return self.follower.in_flight

    def frames(self, count: int, picture: Picture | None = None) -> list[int]:
        return [self.add(picture) for _ in range(count)]

    def unknown(self, why: Why = Why.UNIFORM) -> int:
        number, self.next_id = self.next_id, self.next_id + 1
        self.now_s += FRAME_S
        self.time_s[number] = self.now_s
        self._analyser.restart()
        self.follower.unknown(number, why)
        return number

    def order(self) -> tuple[int, Look]:
        ordered = self.follower.order()
        assert ordered is not None, "nothing to parse"
        return ordered

    def parse(self, findings: Findings | None) -> int:
        """Has what is due parsed at once."""
        number, _ = self.order()
        self.follower.answer(number, findings)
        return number

    def judged(self) -> dict[int, Verdict]:
        """All verdicts so far."""
        for verdict in self.follower.take():
            self.given[verdict.frame_id] += 1
            self.verdicts[verdict.frame_id] = verdict
        return self.verdicts

    def known(self) -> list[int]:
        return sorted(n for n, verdict in self.judged().items() if verdict.covered is not None)

    def whys(self) -> dict[int, Why]:
        return {n: one.why for n, one in sorted(self.judged().items()) if one.covered is None}


def covers(verdict: Verdict, area: Mask) -> float:
    """The share of `area` that a verdict covers."""
    assert verdict.covered is not None, verdict.why
    return float((verdict.covered.parts[area > 0] > 0).mean())


# --- low latency ---


def test_low_latency_judges_each_frame_when_it_is_added() -> None:
    stand = Stand(aligned=False)
    for number in range(3):
        stand.add()
        assert stand.whys() == dict.fromkeys(range(number + 1), Why.NO_PARSE)
    stand.parse(tiny(LEFT))
    assert stand.known() == []  # nobody is judged twice
    number = stand.add()
    verdict = stand.judged()[number]
    assert covers(verdict, LEFT) == 1.0
    assert covers(verdict, RIGHT) == 0.0
    assert verdict.age_s == pytest.approx(FRAME_S)
    assert not verdict.parsed


def test_low_latency_has_the_newest_frame_parsed() -> None:
    stand = Stand(aligned=False)
    numbers = stand.frames(3)
    assert stand.order() == (numbers[-1], Look.FRESH)
    assert stand.follower.order() is None
    assert stand.follower.in_flight


def test_a_late_answer_is_carried_to_where_the_person_is_now() -> None:
    stand = Stand(aligned=False)
    stand.add(with_blob(60))
    number, _ = stand.order()
    for left in range(64, 88, 4):
        stand.add(with_blob(left))
    size = np.zeros((HEIGHT, WIDTH), np.uint8)
    stand.follower.answer(number, found(place(60), size=size))
    now = stand.add(with_blob(88))
    verdict = stand.judged()[now]
    assert covers(verdict, place(88)) > 0.97
    assert verdict.covered is not None
    faces = np.nonzero((verdict.covered.parts == FACE).any(axis=0))[0]
    assert faces.max() > 60 + 40 + 18  # carried: it may not grow so far
    assert verdict.age_s == pytest.approx(7 * FRAME_S)


def test_without_a_further_answer_the_age_grows_with_every_frame() -> None:
    stand = Stand(aligned=False)
    stand.add()
    parsed = stand.parse(tiny(LEFT))
    for number in stand.frames(10):
        age_s = stand.time_s[number] - stand.time_s[parsed]
        assert stand.judged()[number].age_s == pytest.approx(age_s)
    stand.parse(None)  # a failed parse makes nothing younger
    number = stand.add()
    age_s = stand.time_s[number] - stand.time_s[parsed]
    assert stand.judged()[number].age_s == pytest.approx(age_s)


def test_a_cut_makes_low_latency_unknown_until_a_parse_of_the_new_shot() -> None:
    stand = Stand(aligned=False)
    stand.add()
    stand.parse(tiny(LEFT))
    stand.add()
    late, _ = stand.order()
    cut = stand.add(room(5), start=Why.CUT)
    stand.follower.answer(late, tiny(LEFT, RIGHT))
    after = stand.add(room(5))
    assert {n: stand.whys()[n] for n in (cut, after)} == {cut: Why.CUT, after: Why.CUT}
    assert stand.parse(tiny(RIGHT)) == after
    now = stand.add(room(5))
    assert stand.known() == [1, now]
    assert covers(stand.judged()[now], LEFT) == 0.0


@ALIGNMENTS
def test_a_frame_whose_tracking_fails_is_unknown_until_a_parse(aligned: bool) -> None:
    stand = Stand(aligned=aligned)
    stand.add()
    stand.parse(tiny(LEFT))
    good = stand.add()
    bad = stand.add(broken=True)
    after = stand.add()
    stand.follower.finish()
    assert stand.whys() == {
        **({} if aligned else {0: Why.NO_PARSE}),
        bad: Why.TRACKING_FAILED,
        after: Why.TRACKING_FAILED if not aligned else stand.whys()[after],
    }
    assert good in stand.known()


def test_a_late_answer_that_cannot_be_carried_to_now_leaves_now_unknown() -> None:
    stand = Stand(aligned=False)
    stand.add()
    number, _ = stand.order()
    stand.add()
    stand.add(broken=True)
    stand.add()
    stand.follower.answer(number, tiny(LEFT))
    now = stand.add()
    assert stand.whys()[now] is Why.TRACKING_FAILED


@ALIGNMENTS
def test_a_glance_is_no_first_parse(aligned: bool) -> None:
    """Who is not in it may be there, and what was known of them is lost."""
    stand = Stand(aligned=aligned)
    stand.add()
    stand.parse(tiny(LEFT, RIGHT))
    stand.add()
    stand.add(broken=True)
    number, _ = stand.order()
    stand.follower.answer(number, tiny(LEFT, thorough=False))
    for _ in range(3):
        stand.add()
    assert stand.order()[1] is not Look.GLANCE
    stand.follower.finish()
    for number in range(3, 6):
        verdict = stand.judged()[number]
        assert verdict.covered is None or covers(verdict, RIGHT) == 1.0


# --- aligned ---


def test_aligned_judges_a_gap_when_the_next_parse_has_come() -> None:
    stand = Stand(aligned=True)
    stand.frames(2)
    assert stand.parse(tiny(LEFT)) == 0
    stand.frames(3)
    assert stand.judged() == {}
    assert stand.parse(tiny(LEFT)) == 4
    assert stand.known() == [0, 1, 2, 3]  # the second parse's frame waits for the third
    ages = [stand.verdicts[n].age_s for n in range(4)]
    assert ages == pytest.approx([0, FRAME_S, 2 * FRAME_S, FRAME_S])
    assert [n for n in range(4) if stand.verdicts[n].parsed] == [0]
    stand.frames(2)
    assert stand.parse(tiny(LEFT)) == 6
    assert stand.known() == [0, 1, 2, 3, 4, 5]


def test_aligned_covers_a_gap_from_both_sides() -> None:
    stand = Stand(aligned=True)
    stand.frames(1)
    stand.parse(tiny(LEFT))
    stand.frames(4)
    stand.parse(tiny(RIGHT))
    for number in range(4):  # the first parse's own frame, too: what it missed the second found
        verdict = stand.judged()[number]
        assert covers(verdict, LEFT) == covers(verdict, RIGHT) == 1.0
        assert verdict.people is not None
        assert verdict.people[(LEFT | RIGHT) > 0].all()


def test_aligned_meets_a_moving_person_from_both_sides() -> None:
    stand = Stand(aligned=True)
    size = np.zeros((HEIGHT, WIDTH), np.uint8)
    lefts = list(range(60, 92, 4))
    stand.add(with_blob(lefts[0]))
    stand.parse(found(place(lefts[0]), size=size))
    for left in lefts[1:]:
        stand.add(with_blob(left))
    stand.parse(found(place(lefts[-1]), size=size))
    for number, left in enumerate(lefts[:-1]):
        assert covers(stand.judged()[number], place(left)) > 0.97


def test_aligned_covers_an_arrival_that_neither_parse_explains() -> None:
    stand = Stand(aligned=True)
    size = np.zeros((HEIGHT, WIDTH), np.uint8)
    lefts = list(range(-60, -14, 4))
    stand.add(with_blob(lefts[0]))
    stand.parse(found(size=size))
    for left in lefts[1:]:
        stand.add(with_blob(left))
    stand.parse(found(size=size))
    for number, left in enumerate(lefts[:-1]):
        if left > -30:
            assert covers(stand.judged()[number], place(left)) > 0.9


def test_the_outline_of_people_in_a_gap_is_that_of_either_side() -> None:
    first, second = NOBODY.copy(), NOBODY.copy()
    first[10:30, 4:14] = 1
    second[10:30, 32:42] = 1
    stand = Stand(aligned=True)
    stand.frames(1)
    stand.parse(Findings((), first))
    stand.frames(3)
    stand.parse(Findings((), second))
    for number in range(3):
        people = stand.judged()[number].people
        assert people is not None
        assert people[np.maximum(first, second) > 0].all()


def test_the_first_frame_of_a_shot_is_parsed_first_and_afresh() -> None:
    stand = Stand(aligned=True)
    stand.frames(5)
    assert stand.order() == (0, Look.FRESH)
    stand.follower.answer(0, tiny(LEFT))
    assert stand.order() == (4, Look.GLANCE)


def test_nothing_is_known_of_frames_before_the_first_parse() -> None:
    stand = Stand(aligned=True)
    stand.frames(3)
    assert stand.parse(None) == 0
    stand.frames(2)
    assert stand.order() == (4, Look.FRESH)  # the picture must not stay behind
    stand.follower.answer(4, tiny(LEFT))
    assert stand.whys() == dict.fromkeys(range(4), Why.NO_PARSE)
    stand.frames(1)
    stand.parse(tiny(LEFT))
    assert stand.known() == [4]


def test_a_cut_ends_the_gap_before_it_from_one_side() -> None:
    stand = Stand(aligned=True)
    stand.frames(1)
    stand.parse(tiny(LEFT))
    stand.frames(3)
    cut = stand.add(room(5), start=Why.CUT)
    assert stand.known() == [0, 1, 2, 3]
    assert all(covers(stand.verdicts[n], LEFT) == 1.0 for n in range(4))
    assert stand.order() == (cut, Look.FRESH)


def test_a_cut_while_a_parse_flies_leaves_the_gap_before_it_judged_from_both_sides() -> None:
    stand = Stand(aligned=True)
    stand.frames(1)
    stand.parse(tiny(LEFT))
    stand.frames(3)
    flying, _ = stand.order()
    assert flying == 3
    stand.frames(2)
    cut = stand.add(room(5), start=Why.CUT)
    assert stand.judged() == {}
    stand.follower.answer(flying, tiny(LEFT, RIGHT))
    assert stand.known() == [0, 1, 2, 3, 4, 5]
    for number in range(6):
        assert covers(stand.verdicts[number], np.maximum(LEFT, RIGHT)) == 1.0
    assert [stand.verdicts[n].age_s for n in range(6)] == pytest.approx(
        [0, FRAME_S, FRAME_S, 0, FRAME_S, 2 * FRAME_S]
    )
    assert stand.order() == (cut, Look.FRESH)
    stand.follower.answer(cut, tiny(RIGHT))
    stand.add(room(5))
    stand.follower.finish()
    assert covers(stand.judged()[cut], LEFT) == 0.0


def test_a_cut_while_the_first_parse_flies_judges_the_shot_from_it() -> None:
    stand = Stand(aligned=True)
    stand.frames(3)
    flying, _ = stand.order()
    stand.add(room(5), start=Why.CUT)
    stand.follower.answer(flying, tiny(LEFT))
    assert stand.known() == [0, 1, 2]


def test_a_parse_that_fails_after_the_cut_leaves_the_shot_to_what_was_known() -> None:
    stand = Stand(aligned=True)
    stand.frames(1)
    stand.parse(tiny(LEFT))
    stand.frames(3)
    flying, _ = stand.order()
    cut = stand.add(room(5), start=Why.CUT)
    stand.add(room(5))
    stand.follower.answer(flying, None)
    assert sorted(stand.judged()) == [0, 1, 2, 3]
    assert stand.order() == (cut, Look.FRESH)  # that parse was not this shot's


def test_of_two_cuts_while_a_parse_flies_the_shot_between_stays_unknown() -> None:
    stand = Stand(aligned=True)
    stand.frames(2)
    flying, _ = stand.order()
    between = [stand.add(room(5), start=Why.CUT), stand.add(room(5))]
    last = stand.add(room(7), start=Why.CUT)
    stand.follower.answer(flying, tiny(LEFT))
    assert stand.known() == [0, 1]
    assert stand.parse(tiny(RIGHT)) == last
    stand.add(room(7))
    stand.follower.finish()
    assert stand.whys() == dict.fromkeys(between, Why.CUT)
    assert covers(stand.judged()[last], LEFT) == 0.0


def test_an_unknown_frame_ends_the_shot_before_it() -> None:
    stand = Stand(aligned=True)
    stand.frames(1)
    stand.parse(tiny(LEFT))
    stand.frames(2)
    uniform = stand.unknown()
    assert stand.known() == [0, 1, 2]
    assert stand.whys() == {uniform: Why.UNIFORM}
    after = stand.add()
    stand.follower.finish()
    assert stand.whys() == {uniform: Why.UNIFORM, after: Why.NO_PARSE}


def test_a_shot_that_an_unknown_frame_ends_is_judged_when_its_parse_is_answered() -> None:
    """However long nothing else is to be followed, for example while the picture is black."""
    stand = Stand(aligned=True)
    stand.frames(3)
    flying, _ = stand.order()
    for _ in range(3):
        stand.unknown()
    stand.follower.answer(flying, tiny(LEFT))
    assert stand.known() == [0, 1, 2]
    assert stand.follower.order() is None


@ALIGNMENTS
def test_the_reason_of_a_start_holds_until_a_parse(aligned: bool) -> None:
    stand = Stand(aligned=aligned)
    stand.frames(1)
    stand.parse(tiny(LEFT))
    numbers = [stand.add(room(5), start=Why.RECONNECTED), stand.add(room(5))]
    stand.follower.finish()
    assert [stand.whys()[n] for n in numbers] == [Why.RECONNECTED] * 2


# --- both ---


@ALIGNMENTS
def test_what_was_known_is_forgotten_where_a_parse_takes_too_long(aligned: bool) -> None:
    stand = Stand(aligned=aligned, history_s=0.5)
    stand.frames(1)
    stand.parse(tiny(LEFT))
    stand.frames(1)
    flying, _ = stand.order()
    while stand.now_s < stand.time_s[flying] + 0.6:
        stand.add()
    assert stand.waits()
    stand.follower.answer(flying, tiny(LEFT))  # of no use any more
    assert not stand.waits()
    now = stand.add()
    number, look = stand.order()
    assert look is Look.FRESH
    assert number > flying
    stand.follower.finish()
    assert stand.judged()[now].covered is None
    assert stand.verdicts[now].why is Why.PARSER_SILENT


@ALIGNMENTS
def test_looks_are_fresh_then_glances_then_full_when_due(aligned: bool) -> None:
    stand = Stand(aligned=aligned, full_interval_s=0.3)
    looks = []
    for _ in range(10):
        stand.add()
        number, look = stand.order()
        looks.append(look)
        stand.follower.answer(number, tiny(LEFT, thorough=look is not Look.GLANCE))
    glances = [Look.GLANCE] * 7
    assert looks == [Look.FRESH, *glances, Look.FULL, Look.GLANCE]


def test_an_arrival_is_looked_for_everywhere_and_covered_meanwhile() -> None:
    stand = Stand(aligned=False, full_interval_s=10)
    size = np.zeros((HEIGHT, WIDTH), np.uint8)
    nobody = found(size=size)
    stand.add(with_blob(-60))
    stand.parse(nobody)
    for left in range(-50, -14, 4):
        stand.add(with_blob(left))
    number, look = stand.order()
    assert look is Look.FULL
    assert covers(stand.judged()[number], place(-18)) > 0.9
    stand.follower.answer(number, found(thorough=False, size=size))  # a glance clears nobody
    number = stand.add(with_blob(-14))
    assert covers(stand.judged()[number], place(-14)) > 0.9
    assert stand.order()[1] is Look.FULL


def test_a_glance_that_misses_somebody_known_is_followed_by_a_full_look() -> None:
    stand = Stand(aligned=True, full_interval_s=10)
    stand.frames(1)
    stand.parse(tiny(LEFT, RIGHT))
    stand.frames(2)
    stand.parse(tiny(LEFT, thorough=False))
    stand.frames(1)
    assert stand.order()[1] is Look.FULL


@ALIGNMENTS
def test_one_frame_is_not_parsed_twice(aligned: bool) -> None:
    stand = Stand(aligned=aligned)
    stand.frames(1)
    stand.parse(tiny(LEFT))
    assert stand.follower.order() is None
    assert Stand(aligned=aligned).follower.order() is None


@ALIGNMENTS
def test_people_are_remembered_beside_what_is_hidden_of_them(aligned: bool) -> None:
    stand = Stand(aligned=aligned)
    body = NOBODY.copy()
    body[10:30, 4:14] = 1
    findings = Findings(((LEFT * FACE).astype(np.uint8),), body)
    stand.frames(1)
    stand.parse(findings)
    stand.frames(2)
    if aligned:
        stand.parse(findings)
    verdict = stand.judged()[1]
    assert verdict.people is not None
    assert verdict.people[body > 0].all()
    assert covers(verdict, body) < 0.9


@ALIGNMENTS
def test_a_glance_takes_nobody_from_the_outline_of_people(aligned: bool) -> None:
    body = NOBODY.copy()
    body[10:30, 4:14] = 1
    stand = Stand(aligned=aligned)
    stand.frames(1)
    stand.parse(Findings((), body))
    stand.frames(2)
    stand.parse(tiny(thorough=False))
    number = stand.add()
    stand.follower.finish()
    people = stand.judged()[number].people
    assert people is not None
    assert people[body > 0].all()


@ALIGNMENTS
def test_finish_judges_everybody_once(aligned: bool) -> None:
    stand = Stand(aligned=aligned)
    stand.frames(2)
    stand.parse(tiny(LEFT))
    stand.frames(3)
    stand.order()  # never answered
    stand.follower.finish()
    stand.judged()
    assert stand.given == Counter(range(5))


@ALIGNMENTS
def test_finish_after_the_last_parse_shows_what_follows_it(aligned: bool) -> None:
    stand = Stand(aligned=aligned)
    stand.frames(2)
    stand.parse(tiny(LEFT))
    stand.frames(3)
    stand.follower.finish()
    assert stand.known() == ([0, 1, 2, 3, 4] if aligned else [2, 3, 4])


@ALIGNMENTS
def test_small_copies_are_wiped_as_soon_as_no_answer_needs_them(aligned: bool) -> None:
    stand = Stand(aligned=aligned)
    for _ in range(10):
        stand.frames(3)
        stand.parse(tiny(LEFT))
    kept = [small for small in stand.smalls if small.colour.any() or small.grey.any()]
    assert len(kept) <= 6
    stand.follower.close()
    assert not any(small.colour.any() or small.grey.any() for small in stand.smalls)


@ALIGNMENTS
def test_history_bounds_the_small_copies_kept_without_a_parse(aligned: bool) -> None:
    stand = Stand(aligned=aligned, history_s=0.4)
    stand.frames(100)
    kept = [small for small in stand.smalls if small.colour.any()]
    assert len(kept) <= 0.4 / FRAME_S + 3
    stand.follower.close()
    assert not any(small.colour.any() or small.grey.any() for small in stand.smalls)


STEPS = st.lists(
    st.sampled_from(
        ["add"] * 6
        + ["cut", "unknown", "order", "order", "answer", "answer", "glance", "fail"]
        + ["pause", "broken", "take"]
    ),
    max_size=60,
)


@ALIGNMENTS
@settings(max_examples=120)
@given(steps=STEPS)
def test_in_any_sequence_every_frame_gets_one_verdict_of_its_own_shot(
    aligned: bool, steps: list[str]
) -> None:
    """Each shot's people carry a label of their own, which no other shot's frame may show."""
    stand = Stand(aligned=aligned, history_s=0.5)
    shot_of: dict[int, int] = {}
    parsed_s: dict[int, list[float]] = {}
    known_since_s: dict[int, float] = {}
    follows = False  # the frame before can be followed
    flying: tuple[int, Look] | None = None
    shot = 0

    def label(of: int) -> int:
        return 1 + of % 19

    for step in steps:
        match step:
            case "add" | "pause" | "broken" | "cut":
                start = Why.CUT if step == "cut" else None
                if start is not None or not follows:
                    shot += 1
                number = stand.add(
                    room(shot % 4),
                    start=start or (None if follows else Why.NO_PARSE),
                    seconds=0.6 if step == "pause" else FRAME_S,
                    broken=step == "broken" and follows,
                )
                shot_of[number], follows = shot, True
            case "unknown":
                shot_of[stand.unknown()], follows = -1, False
            case "order":
                ordered = stand.follower.order()
                assert not (ordered and flying)
                flying = ordered or flying
            case "take":
                stand.judged()
            case _ if flying is not None:
                number, look = flying
                of, flying = shot_of[number], None
                if step == "fail":
                    stand.follower.answer(number, None)
                    continue
                thorough = step == "answer" or look is Look.FRESH
                stand.follower.answer(number, tiny(LEFT, label=label(of), thorough=thorough))
                parsed_s.setdefault(of, []).append(stand.time_s[number])
                since_s = stand.time_s[number] if aligned else stand.now_s + 1e-9
                known_since_s[of] = min(since_s, known_since_s.get(of, since_s))
            case _:
                pass
    stand.follower.finish()
    verdicts = stand.judged()
    assert stand.given == Counter(range(stand.next_id))
    for number, verdict in verdicts.items():
        if verdict.covered is None:
            continue
        of, time_s = shot_of[number], stand.time_s[number]
        assert of in known_since_s, "shown without a parse of its shot"
        assert time_s >= known_since_s[of], "shown before the first parse"
        assert set(np.unique(verdict.covered.parts)) <= {0, label(of), GUARD}
        assert covers(verdict, LEFT) == 1.0
        assert any(verdict.age_s == pytest.approx(abs(time_s - at_s)) for at_s in parsed_s[of])
        assert verdict.age_s <= 0.5 + 1e-6 or not aligned  # low latency: `FrameStates` looks at it
        assert verdict.people is not None
    stand.follower.close()
    assert not any(small.colour.any() or small.grey.any() for small in stand.smalls)
