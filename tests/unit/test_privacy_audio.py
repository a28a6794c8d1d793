"""The only maker of SafeAudio: what it lets pass, and that it never fails open."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from pydantic import ValidationError

from m2fp_stream.core.audio import AudioFormat, RawAudio
from m2fp_stream.core.errors import PromiseError
from m2fp_stream.core.safe import SafeAudio
from m2fp_stream.core.timing import read_time
from m2fp_stream.privacy.audio import AudioGuard, AudioOptions, draw_shift
from tests.kit.sound import Samples, voice

MONO = AudioFormat(16000, 1)


def raw(samples: Samples, start: int = 0, audio_format: AudioFormat = MONO) -> RawAudio:
    return RawAudio(samples[None, :].copy(), start=start, audio_format=audio_format)


def guard(options: AudioOptions, zero_s: Fraction = Fraction(0), shift: float = 1.2) -> AudioGuard:
    return AudioGuard(options, MONO, zero_s=zero_s, shift=shift)


def through(one: AudioGuard, samples: Samples, piece: int = 1000) -> Samples:
    """Returns what comes out, having checked that it has no gap."""

    def out() -> Iterator[SafeAudio]:
        for at in range(0, len(samples), piece):
            yield from one.take(raw(samples[at : at + piece], at))
        yield from one.rest()

    got, follows = [np.zeros(0, np.float32)], 0
    for safe in out():
        assert safe.start == follows
        follows += safe.samples.shape[1]
        got.append(safe.samples[0])
    return np.concatenate(got)


def test_sound_that_is_to_be_left_out_has_no_guard() -> None:
    with pytest.raises(PromiseError, match="nothing of it may pass"):
        guard(AudioOptions())


def test_kept_sound_is_what_it_was() -> None:
    samples = voice(1, 16000)
    assert np.array_equal(through(guard(AudioOptions(mode="keep")), samples), samples)


def test_raw_sound_is_zeroed_also_where_it_is_refused() -> None:
    one = guard(AudioOptions(mode="keep"))
    fits, gap = raw(np.ones(10, np.float32)), raw(np.ones(10, np.float32), 11)
    other = raw(np.ones(10, np.float32), 10, AudioFormat(8000, 1))
    assert len(list(one.take(fits))) == 1
    for wrong in (gap, other):
        with pytest.raises(PromiseError, match="expected sound from sample 10 on"):
            list(one.take(wrong))
    for each in (fits, gap, other):
        with pytest.raises(Exception, match="released before"), each.analysis():
            pass


@pytest.mark.parametrize("mode", ["keep", "disguise"])
@pytest.mark.parametrize("piece", [7, 1000, 16000])
def test_muted_spans_are_silent_to_the_sample_and_never_less(mode: str, piece: int) -> None:
    options = AudioOptions.model_validate({"mode": mode, "mute": ("0.25-0.5",)})
    got = through(guard(options), np.full(16000, 0.5, np.float32), piece)
    ring = 0 if mode == "keep" else 1200  # what is beside it is smeared into it, by a window
    assert np.abs(got[4000 + ring : 8000 - ring]).max() < 1e-4
    if mode == "keep":
        assert np.array_equal(np.flatnonzero(got == 0), np.arange(4000, 8000))


@pytest.mark.parametrize("mode", ["keep", "disguise"])
def test_nothing_of_a_muted_span_is_in_what_comes_out(mode: str) -> None:
    options = AudioOptions.model_validate({"mode": mode, "mute": ("0.25-0.5",)})
    one, other = voice(1, 16000), voice(1, 16000)
    other[4000:8000] = np.random.default_rng(1).uniform(-1, 1, 4000)
    assert np.array_equal(through(guard(options), one), through(guard(options), other))
    other[8000] += 0.5  # what a sample beside it does, is seen
    assert not np.array_equal(through(guard(options), one), through(guard(options), other))


@pytest.mark.parametrize(
    ("zero_s", "silent"),
    [
        (Fraction(0), range(0, 4000)),
        (Fraction(1, 2), range(0, 12000)),  # the picture begins later, the span with the sound
        (Fraction(-1, 8), range(0, 2000)),  # the beginning is cut off
    ],
)
def test_a_span_from_0_begins_with_the_sound(zero_s: Fraction, silent: range) -> None:
    options = AudioOptions(mode="keep", mute=("0-0.25",))
    got = through(guard(options, zero_s), np.ones(16000, np.float32))
    assert np.array_equal(np.flatnonzero(got == 0), np.array(silent))


@pytest.mark.parametrize("shift", [0.75, 0.84, 1.19, 1.33])
@pytest.mark.parametrize("audio_format", [MONO, AudioFormat(48000, 1)])
def test_a_disguise_moves_pitch_by_its_factor_and_keeps_length(
    shift: float, audio_format: AudioFormat
) -> None:
    rate = audio_format.rate
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)).astype(np.float32)
    one = AudioGuard(AudioOptions(mode="disguise"), audio_format, zero_s=Fraction(0), shift=shift)
    safe = [*one.take(raw(tone, 0, audio_format)), *one.rest()]
    got = np.concatenate([each.samples[0] for each in safe])
    assert len(got) == len(tone)
    middle = got[rate // 2 : rate // 2 + rate] * np.hanning(rate)
    hz = int(np.argmax(np.abs(np.fft.rfft(middle))))
    assert hz == pytest.approx(440 * shift, abs=5)


def test_a_disguise_does_not_depend_on_how_sound_is_cut_up() -> None:
    options, samples = AudioOptions(mode="disguise"), voice(2, 16000)
    whole, pieces = (through(guard(options), samples, size) for size in (32000, 777))
    assert np.allclose(whole, pieces, atol=1e-6)


def test_the_shift_is_drawn_anew_and_never_small() -> None:
    drawn = {draw_shift() for _ in range(200)}
    assert len(drawn) == 200
    semitones = 12 * np.log2(sorted(drawn))
    assert (np.abs(semitones) >= 3).all()
    assert (np.abs(semitones) <= 5).all()
    assert (semitones < 0).any()
    assert (semitones > 0).any()


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("12.5", 12.5), ("1:05", 65), ("1:02:05.5", 3725.5)]
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert read_time(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "1:75", "-1", "1:2:3:4", "inf", "nan", ":5", "1:-2"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected seconds or H:MM:SS"):
        read_time(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("12", "BEGIN-END"),
        ("3-3", "ends where it begins"),
        ("5-3", "ends before it begins"),
        ("1-x", "H:MM:SS"),
    ],
)
def test_options_refuse_spans_in_which_nothing_can_be_silent(text: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        AudioOptions(mode="keep", mute=(text,))


def test_a_span_without_an_end_goes_on_to_the_end_and_one_without_sound_is_told() -> None:
    spans = ("0.5-", "2-9", "0:09-")
    made = guard(AudioOptions(mode="keep", mute=spans))
    got = through(made, np.ones(16000, np.float32))
    assert got[:8000].all()
    assert not got[8000:].any()
    assert made.unmet == ("2-9", "0:09-")
