"""Gate 5: the searches of the tests find what is raw and got past all the other gates."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.compositor.compose import Compositor
from m2fp_stream.core._mint import AUDIBLE, COMPOSED
from m2fp_stream.core.audio import AudioFormat, RawAudio
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import CoverPlan, Effect, Fill, Parsed
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import CoverInfo, CoverLevel, SafeAudio, SafeFrame
from m2fp_stream.privacy.audio import AudioGuard, AudioOptions
from tests.kit.texture import contains_marker, marker

from .test_seal import Film, Kept

HEIGHT, WIDTH = 96, 128
HEAD = slice(32, 64), slice(40, 88)
TEXTURE = marker(5, 32, 48)


def raw_frame() -> RawFrame:
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    pixels[HEAD] = TEXTURE
    return RawFrame(pixels, frame_id=0, pts=0, time_base=Fraction(1, 30), captured_ns=0)


def composed(effect: Effect) -> SafeFrame:
    cover = np.zeros((HEIGHT, WIDTH), np.uint8)
    cover[HEAD] = 1
    fills = (Fill(effect, Label.FACE, 0),)
    plan = CoverPlan(frame_id=0, size_wh=(WIDTH, HEIGHT), cover=cover, fills=fills)
    return Compositor().compose(raw_frame(), Parsed(plan))


def forged(pixels: NDArray[np.uint8]) -> SafeFrame:
    """A frame as a bug in the compositor would make it: the right key, the wrong pixels."""
    cover = CoverInfo(0.0, CoverLevel.PARTS, "parsed")
    time = {"frame_id": 0, "pts": 0, "captured_ns": 0}
    return SafeFrame(pixels, time_base=Fraction(1, 30), cover=cover, key=COMPOSED, **time)


def reached(sink: Kept) -> bool:
    """Whether the texture is in anything that reached the sink."""
    frames = [frame for frame in sink.got if isinstance(frame, SafeFrame)]
    assert len(frames) == 1
    return contains_marker(frames[0].pixels, TEXTURE)


@pytest.mark.parametrize("effect", Effect)
def test_a_composed_frame_passes_the_search(effect: Effect) -> None:
    sink = Kept()
    sink.write(composed(effect))
    assert not reached(sink)


def test_a_raw_picture_forged_with_the_key_is_found() -> None:
    sink = Kept()
    with raw_frame().analysis() as bgr:
        sink.write(forged(bgr.copy()))
    assert reached(sink)


def test_a_hole_in_the_cover_is_found() -> None:
    pixels = composed(Effect.FROST).pixels.copy()
    pixels[40:48, 48:56] = TEXTURE[8:16, 8:16]
    sink = Kept()
    sink.write(forged(pixels))
    assert reached(sink)


SPAN = slice(4000, 8000)
NOISE = np.random.default_rng(5).uniform(-0.5, 0.5, 4000).astype(np.float32)
"""What is said in the span that must be silent."""
FORMAT = AudioFormat(16000, 1)


def said() -> NDArray[np.float32]:
    samples = np.full((1, 16000), 0.1, np.float32)
    samples[0, SPAN] = NOISE
    return samples


def heard(film: Film) -> bool:
    """Whether the noise is in anything that reached the film, wherever, however loud."""
    parts = [one.samples[0] for one in film.got if isinstance(one, SafeAudio)]
    line = np.concatenate(parts)
    assert len(line) == 16000
    found = np.correlate(line - line.mean(), NOISE, "valid")
    return bool(np.abs(found).max() > 0.1 * float(NOISE @ NOISE))


@pytest.mark.parametrize("mode", ["keep", "disguise"])
def test_muted_sound_passes_the_search(mode: str) -> None:
    film = Film()
    options = AudioOptions.model_validate({"mode": mode, "mute": ("0.25-0.5",)})
    guard = AudioGuard(options, FORMAT, zero_s=Fraction(0), shift=1.25)
    raw = RawAudio(said(), start=0, audio_format=FORMAT)
    for stretch in [*guard.take(raw), *guard.rest()]:
        film.write_audio(stretch)
    assert not heard(film)


def test_raw_sound_forged_with_the_key_is_found() -> None:
    film = Film()
    film.write_audio(SafeAudio(said(), start=0, audio_format=FORMAT, key=AUDIBLE))
    assert heard(film)


def test_a_muted_span_that_is_a_tenth_short_is_found() -> None:
    film = Film()
    samples = said()
    samples[0, 4000:7200] = 0
    film.write_audio(SafeAudio(samples, start=0, audio_format=FORMAT, key=AUDIBLE))
    assert heard(film)
