"""What must_fail does wrong, done right: no checker may complain."""

from __future__ import annotations

from typing import assert_never

from m2fp_stream.core.plan import CoverState, Parsed, Propagated, Unknown
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import SafeAudio, SafeFrame, TrackTable
from m2fp_stream.sinks.base import Sink


def show(sink: Sink[SafeFrame], frame: SafeFrame) -> None:
    sink.write(frame)


def play(sink: Sink[SafeFrame], sound: SafeAudio) -> None:
    sink.write_audio(sound)


def tell(sink: Sink[TrackTable], rows: TrackTable) -> None:
    sink.write(rows)


def measure(raw: RawFrame) -> float:
    with raw.analysis() as bgr:
        return float(bgr.mean())


def is_known(state: CoverState) -> bool:
    match state:
        case Parsed() | Propagated():
            return True
        case Unknown():
            return False
        case _:
            assert_never(state)
