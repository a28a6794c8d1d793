"""A sink takes its one sealed type: no raw frame, no array, no other sealed type."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.audio import RawAudio
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import LabelImage, SafeAudio, SafeFrame, TrackRow, TrackTable
from m2fp_stream.sinks.base import Sink


def show(
    sink: Sink[SafeFrame], raw: RawFrame, pixels: NDArray[np.uint8], labels: LabelImage
) -> None:
    sink.write(raw)  # E: arg-type reportArgumentType
    sink.write(pixels)  # E: arg-type reportArgumentType
    sink.write(labels)  # E: arg-type reportArgumentType


def play(
    sink: Sink[SafeFrame], raw: RawAudio, samples: NDArray[np.float32], safe: SafeAudio
) -> None:
    sink.write_audio(raw)  # E: arg-type reportArgumentType
    sink.write_audio(samples)  # E: arg-type reportArgumentType
    sink.write(safe)  # E: arg-type reportArgumentType


def tell(
    sink: Sink[TrackTable], raw: RawFrame, pixels: NDArray[np.uint8], row: TrackRow, safe: SafeFrame
) -> None:
    sink.write(raw)  # E: arg-type reportArgumentType
    sink.write(pixels)  # E: arg-type reportArgumentType
    sink.write(row)  # E: arg-type reportArgumentType
    sink.write(safe)  # E: arg-type reportArgumentType


def show_rows(sink: Sink[SafeFrame], rows: TrackTable) -> None:
    sink.write(rows)  # E: arg-type reportArgumentType


def open_for_raw(sink: Sink[RawFrame]) -> None:  # E: type-var reportInvalidTypeArguments
    del sink
