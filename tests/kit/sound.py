"""Films with known sound, and by how much two films' sounds lie apart."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from . import media

Samples = NDArray[np.float32]

_COARSE_S = 0.005


def voice(seconds: float, rate: int, *, seed: int = 1, pitch_hz: float = 140.0) -> Samples:
    """Returns (N,) something like speech: syllables of a buzz with formants, and pauses."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    pitch = pitch_hz * (1 + 0.08 * np.sin(2 * np.pi * 0.7 * time) + 0.03 * np.sin(11 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    buzz = np.zeros_like(time)
    for harmonic in range(1, int(min(3500, rate / 2.2) / pitch_hz)):
        hz = harmonic * pitch_hz
        gain = sum(np.exp(-(((hz - at) / 150) ** 2)) for at in (600, 1200, 2500)) + 0.02
        buzz += gain * np.sin(harmonic * phase)
    buzz += 0.3 * random.standard_normal(len(time))
    loud = np.repeat(random.random(int(seconds * 9) + 1) ** 2, rate // 9 + 1)[: len(time)]
    smooth = np.convolve(loud, np.hanning(rate // 50), "same") / (rate / 100)
    samples = buzz * smooth
    return np.asarray(0.5 * samples / np.abs(samples).max(), np.float32)


def write_film(
    path: Path,
    sounds: Sequence[Samples],
    *,
    rate: int = 48000,
    start_s: float = 0.0,
    codec: str = "aac",
    sample_format: str = "fltp",
    layout: str = "stereo",
    video_pts: Sequence[int] = range(50),
    video_base: Fraction = Fraction(1, 25),
    container_format: str | None = None,
    options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    gaps: Sequence[tuple[float, float]] = (),
    default: int = 0,
) -> Path:
    """Writes cards at `video_pts` and, from `start_s` on, each of the sounds as a track.

    `gaps` are spans of the file's time whose packets of sound are left out.
    """
    with av.open(path, "w", format=container_format, options=options or {}) as container:
        container.metadata.update(metadata or {})
        stream: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.codec_context.width, stream.codec_context.height = 96, 64
        stream.codec_context.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = video_base
        tracks: list[Any] = []
        for _ in sounds:
            track: Any = container.add_stream(codec, rate=rate, layout=layout)
            if codec.startswith("pcm"):
                track.codec_context.format = sample_format
            track.codec_context.time_base = track.time_base = Fraction(1, rate)
            track.metadata.update(metadata or {})
            tracks.append(track)
        for number, track in enumerate(tracks):
            track.disposition = int(number == default)
        packets: list[Any] = []
        for number, pts in enumerate(video_pts):
            frame = av.VideoFrame.from_ndarray(media.card((96, 64), number), format="bgr24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = pts, video_base
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for track, samples in zip(tracks, sounds, strict=True):
            packets += _encoded(track, samples, rate, start_s, layout, sample_format, gaps)
        packets.sort(key=lambda one: (one.dts or 0) * one.time_base)
        for packet in packets:
            container.mux(packet)
    return path


def _encoded(
    track: Any,
    samples: Samples,
    rate: int,
    start_s: float,
    layout: str,
    sample_format: str,
    gaps: Sequence[tuple[float, float]],
) -> list[Any]:
    channels = av.AudioLayout(layout).nb_channels
    packets = []
    begin = round(start_s * rate)
    for at in range(0, len(samples), 1024):
        piece = np.tile(samples[at : at + 1024], (channels, 1))
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, begin + at, Fraction(1, rate)
        for ready in av.AudioResampler(sample_format, layout, rate).resample(frame):
            packets += track.encode(ready)
    packets += track.encode(None)
    kept = []
    for packet in packets:
        time = float((packet.pts or 0) * packet.time_base)
        if not any(begin_s <= time < end_s for begin_s, end_s in gaps):
            kept.append(packet)
    return kept


def patch_edit(path: Path, track: int, media_time: int) -> Path:
    """Lets the edit list of a track (counted from 0) begin at another tick of its media."""
    data = bytearray(path.read_bytes())
    at = -1
    for _ in range(track + 1):
        at = data.index(b"elst", at + 1)
    assert struct.unpack_from(">I", data, at + 8)[0] == 1, "expected one edit"
    struct.pack_into(">i", data, at + 16, media_time)
    path.write_bytes(data)
    return path


def heard(path: Path, *, rate: int = 48000, track: int = 0) -> Samples:
    """Returns (N,) the sound of a film from its first picture on, by FFmpeg's own timestamps."""
    with av.open(path) as container:
        first = next(container.decode(video=0))
        assert first.pts is not None
        first_s = first.pts * first.time_base  # type: ignore[operator]  # a decoded one has it
    resampler = av.AudioResampler("fltp", "mono", rate)
    placed: list[tuple[int, Samples]] = []
    with av.open(path) as container:
        for frame in container.decode(audio=track):
            assert frame.pts is not None
            assert frame.time_base is not None
            begin_s = frame.pts * frame.time_base - first_s
            frame.pts = None
            samples = [one.to_ndarray()[0] for one in resampler.resample(frame)]
            placed += [(round(begin_s * rate), one) for one in samples]
    line = np.zeros(max(at + len(one) for at, one in placed), np.float32)
    follows = placed[0][0]
    for begin, one in placed:
        # Containers that count milliseconds round.
        at = follows if abs(begin - follows) < _COARSE_S * rate else begin
        follows = at + len(one)
        piece = one[max(0, -at) :]
        line[max(0, at) : max(0, at) + len(piece)] = piece[: len(line) - max(0, at)]
    return line


def envelope(samples: Samples, rate: int = 48000) -> Samples:
    """Returns how loud it is, 1 000 values a second: what a disguise keeps."""
    step = rate // 1000
    whole = samples[: len(samples) // step * step].reshape(-1, step)
    loud = np.sqrt((whole**2).mean(1))
    return np.asarray(np.convolve(loud, np.hanning(30), "same"), np.float32)


def lag_s(first: Samples, second: Samples, *, rate: int = 48000) -> tuple[float, float]:
    """Returns by how many seconds the second is later, by cross-correlation, and its height."""
    size = 1 << (len(first) + len(second)).bit_length()
    a, b = first - first.mean(), second - second.mean()
    product = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)
    best = int(np.argmax(product))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b)) or 1.0
    return (best if best < size // 2 else best - size) / rate, float(product[best]) / norm
