"""What sinks take is not made without a key, and a key is not made of something else."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from m2fp_stream.core.audio import AudioFormat
from m2fp_stream.core.safe import CoverInfo, CoverLevel, SafeAudio, SafeFrame, TrackRow, TrackState, TrackTable

PIXELS = np.zeros((2, 2, 3), np.uint8)
COVER = CoverInfo(None, CoverLevel.FRAME, "none")
TIME = Fraction(1, 30)

SafeFrame(PIXELS, frame_id=0, pts=0, time_base=TIME, captured_ns=0, cover=COVER)  # E: call-arg reportCallIssue
SafeFrame(
    PIXELS,
    frame_id=0,
    pts=0,
    time_base=TIME,
    captured_ns=0,
    cover=COVER,
    key="composed",  # E: arg-type reportArgumentType
)

SAMPLES = np.zeros((2, 8), np.float32)
FORMAT = AudioFormat(48000, 2)

SafeAudio(SAMPLES, start=0, audio_format=FORMAT)  # E: call-arg reportCallIssue
SafeAudio(SAMPLES, start=0, audio_format=FORMAT, key="audible")  # E: arg-type reportArgumentType

TrackTable((), frame=0, time_s=TIME, size_wh=(2, 2))  # E: call-arg reportCallIssue
TrackTable((), frame=0, time_s=TIME, size_wh=(2, 2), key="located")  # E: arg-type reportArgumentType
TrackRow(1, PIXELS, TrackState.PLACED)  # E: arg-type reportArgumentType
