"""Sealed classes have no subclasses, sealed methods no overrides, sealed values no setters."""

from __future__ import annotations

import numpy as np

from m2fp_stream.core.audio import RawAudio
from m2fp_stream.core.plan import CoverPlan
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import LabelImage, SafeAudio, SafeFrame, TrackRow, TrackTable
from m2fp_stream.sinks.base import Sink


class MyFrame(SafeFrame): ...  # E: misc reportGeneralTypeIssues


class MyLabels(LabelImage): ...  # E: misc reportGeneralTypeIssues


class MyRaw(RawFrame): ...  # E: misc reportGeneralTypeIssues


class MySound(SafeAudio): ...  # E: misc reportGeneralTypeIssues


class MyTable(TrackTable): ...  # E: misc reportGeneralTypeIssues


class MyRow(TrackRow): ...  # E: misc reportGeneralTypeIssues


class MyRawSound(RawAudio): ...  # E: misc reportGeneralTypeIssues


class Leaky(Sink[SafeFrame]):
    def write(self, item: SafeFrame) -> None: ...  # E: misc reportIncompatibleMethodOverride
    def write_audio(self, item: SafeAudio) -> None: ...  # E: misc reportIncompatibleMethodOverride
    def prepare(self) -> None: ...  # E: misc reportIncompatibleMethodOverride


def bend(frame: SafeFrame, plan: CoverPlan, raw: RawFrame) -> None:
    frame.pixels = np.zeros((2, 2, 3), np.uint8)  # E: misc reportAttributeAccessIssue
    plan.frame_id = 7  # E: misc reportAttributeAccessIssue
    raw.pixels  # E: attr-defined reportAttributeAccessIssue


def bend_rows(table: TrackTable, row: TrackRow) -> None:
    table.rows = ()  # E: misc reportAttributeAccessIssue
    row.track = 2  # E: misc reportAttributeAccessIssue


def bend_sound(sound: SafeAudio, raw: RawAudio) -> None:
    sound.samples = np.zeros((2, 8), np.float32)  # E: misc reportAttributeAccessIssue
    raw.samples  # E: attr-defined reportAttributeAccessIssue
