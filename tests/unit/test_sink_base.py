"""The sealed base class of all sinks."""

from __future__ import annotations

from typing import ClassVar

import pytest

from m2fp_stream.core.errors import SealError, SinkError
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import SafeFrame
from m2fp_stream.sinks.base import Sink
from tests.kit import media


class Listed(Sink[SafeFrame]):
    """Keeps what reached it."""

    accepts: ClassVar[type] = SafeFrame
    fails: ClassVar[type[BaseException] | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.got: list[SafeFrame] = []
        self.events: list[str] = []

    def _emit(self, item: SafeFrame) -> None:
        if self.fails is not None:
            raise self.fails
        self.got.append(item)

    def _finish(self) -> None:
        if self.fails is not None:
            raise self.fails
        self.events.append("finish")

    def _abort(self) -> None:
        self.events.append("abort")


class Broken(Listed):
    """Fails at everything."""

    fails: ClassVar[type[BaseException] | None] = KeyboardInterrupt


FRAME = media.composed(media.card())


@pytest.mark.parametrize("step", ["write", "finish"])
def test_a_sink_that_fails_is_aborted_and_closed(step: str) -> None:
    sink = Broken()
    with pytest.raises(KeyboardInterrupt):
        sink.write(FRAME) if step == "write" else sink.finish()
    assert sink.events == ["abort"]
    with pytest.raises(SinkError, match="Broken is closed"):
        sink.write(FRAME)


def test_accepts_bent_after_the_fact_lets_no_raw_frame_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sink = Listed()
    monkeypatch.setattr(Listed, "accepts", RawFrame)
    raw = RawFrame(media.card(), frame_id=0, pts=0, time_base=FRAME.time_base, captured_ns=0)
    with pytest.raises(SealError, match="refused a RawFrame"):
        sink.write(raw)  # type: ignore[arg-type]  # the point
    assert sink.got == []


def test_a_sink_without_accepts_is_no_class() -> None:
    with pytest.raises(SealError, match="accepts must be one of SafeFrame, LabelImage"):

        class Vague(Sink[SafeFrame]):
            """Names nothing."""


def test_the_hook_that_seals_cannot_be_overridden() -> None:
    with pytest.raises(SealError, match="may not override __init_subclass__"):

        class Unsealed(Listed):
            """Would let its subclasses do as they like."""

            def __init_subclass__(cls) -> None:
                """Checks nothing."""


@pytest.mark.parametrize(("ticks", "kept"), [(40, 40), (0, 1), (-3, 1)])
def test_the_last_duration_is_at_least_one_tick(ticks: int, kept: int) -> None:
    sink = Listed()
    sink.set_last_duration(ticks)
    assert sink._last_duration == kept
