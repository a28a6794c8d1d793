"""Raw sound: read inside a lease, zeroed at its end."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from m2fp_stream.core.audio import AudioFormat, RawAudio
from m2fp_stream.core.errors import LeaseError

STEREO = AudioFormat(48000, 2)


def raw(samples: Any = None, *, start: int = 0) -> RawAudio:
    given = np.ones((2, 8), np.float32) if samples is None else samples
    return RawAudio(given, start=start, audio_format=STEREO)


def test_samples_are_lent_read_only_and_zeroed_when_released() -> None:
    samples = np.ones((2, 8), np.float32)
    sound = raw(samples, start=3)
    with sound.analysis() as lent:
        assert lent.sum() == 16
        with pytest.raises(ValueError, match="read-only"):
            lent[0, 0] = 2
    sound.release()
    sound.release()
    assert not samples.any()
    with pytest.raises(LeaseError, match="released before"), sound.analysis():
        pass


REFUSED: list[Callable[[Any], object]] = [
    np.asarray,
    bytes,
    list,
    len,
    copy.copy,
    copy.deepcopy,
    pickle.dumps,
    memoryview,
    lambda sound: sound[0],
    lambda sound: sound.__reduce__(),
]


@pytest.mark.parametrize("use", REFUSED)
def test_it_becomes_nothing_else(use: Callable[[Any], object]) -> None:
    with pytest.raises((LeaseError, TypeError, ValueError)):  # NumPy has words of its own
        use(raw())


def test_its_repr_shows_no_sample() -> None:
    assert repr(raw()) == "RawAudio(start=0, count=8, format=AudioFormat(rate=48000, channels=2))"


@pytest.mark.parametrize(
    ("samples", "start"),
    [
        (np.zeros((1, 8), np.float32), 0),
        (np.zeros((2, 8)), 0),
        (np.zeros(8, np.float32), 0),
        (np.zeros((2, 8), np.float32), -1),
    ],
    ids=["one channel", "float64", "flat", "before 0"],
)
def test_what_it_is_not_is_refused(samples: Any, start: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        raw(samples, start=start)


@pytest.mark.parametrize(("rate", "channels"), [(0, 1), (48000, 3), (48000, 0)])
def test_a_format_is_a_rate_and_one_channel_or_two(rate: int, channels: int) -> None:
    with pytest.raises(ValueError, match="1 or 2 channels"):
        AudioFormat(rate, channels)
