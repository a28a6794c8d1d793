"""The file pipeline hands over sound in step with the pictures, and ends with them."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from m2fp_stream.core._mint import AUDIBLE
from m2fp_stream.core.audio import AudioFormat
from m2fp_stream.core.errors import SealError, SourceError
from m2fp_stream.core.safe import SafeAudio
from tests.kit.stage import Footage, Kept, Show, backdrop

FORMAT = AudioFormat(1000, 1)
PICTURES = [backdrop()] * 20  # 25 a second


def stretch(start: int, count: int) -> SafeAudio:
    return SafeAudio(
        np.zeros((1, count), np.float32), start=start, audio_format=FORMAT, key=AUDIBLE
    )


class Film(Kept):
    """Keeps in which order pictures and sound came."""

    accepts_audio = True

    def __init__(self) -> None:
        super().__init__(lambda frame: self.order.append(("picture", frame.pts)))
        self.order: list[tuple[str, int]] = []

    def _emit_audio(self, item: SafeAudio) -> None:
        self.order.append(("sound", item.start))


class Ticking:
    """Sound in stretches of 100 ms."""

    def __init__(self, stretches: int) -> None:
        self.left = stretches
        self.at = 0

    def until(self, moment_s: Fraction | None) -> Iterator[SafeAudio]:
        while self.left and (moment_s is None or self.at < moment_s * 1000):
            self.left -= 1
            self.at += 100
            yield stretch(self.at - 100, 100)


@pytest.mark.parametrize("stretches", [3, 8, 40])
def test_sound_comes_before_the_picture_that_it_leads_to_and_none_is_lost(stretches: int) -> None:
    film = Film()
    Show(Footage(PICTURES), sink=film, sound=Ticking(stretches)).run()
    assert film.finished
    assert [at for kind, at in film.order if kind == "sound"] == list(
        range(0, stretches * 100, 100)
    )
    assert len(film.frames) == 20
    heard = 0
    for kind, at in film.order:
        if kind == "sound":
            heard = at + 100
        else:
            assert min(at, stretches * 100) <= heard


def test_a_film_is_not_ahead_of_its_pictures_by_more_than_a_stretch() -> None:
    film = Film()
    Show(Footage(PICTURES), sink=film, sound=Ticking(8)).run()
    seen = 0
    for kind, at in film.order:
        if kind == "picture":
            seen = at
        elif seen < 760:  # the last picture; what is left follows it
            assert at <= seen + 100


def test_an_error_of_the_sound_ends_the_run_and_leaves_nothing() -> None:
    class Torn(Ticking):
        def until(self, moment_s: Fraction | None) -> Iterator[SafeAudio]:
            yield from super().until(moment_s)
            if self.at >= 300:
                raise SourceError("its sound is damaged")

    show = Show(Footage(PICTURES), sink=Film(), sound=Torn(8))
    with pytest.raises(SourceError, match="sound is damaged"):
        show.run()
    assert show.sink.aborted
    assert show.all_gone()


def test_an_error_of_the_pictures_asks_for_no_more_sound() -> None:
    sound = Ticking(1000)
    show = Show(Footage(PICTURES, error=SourceError("torn")), sink=Film(), sound=sound)
    with pytest.raises(SourceError, match="torn"):
        show.run()
    assert show.sink.aborted
    assert sound.at <= 1000


def test_a_sink_of_pictures_alone_lets_no_sound_through() -> None:
    show = Show(Footage(PICTURES), sink=Kept(), sound=Ticking(3))
    with pytest.raises(SealError, match="refused a SafeAudio as sound"):
        show.run()
    assert show.sink.aborted
