"""Makes the films and pictures that tests read: every oddity a container can have, on purpose."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from numpy.typing import NDArray

from m2fp_stream.core._mint import COMPOSED, LOCATED
from m2fp_stream.core.labels import Label
from m2fp_stream.core.safe import (
    CoverInfo,
    CoverLevel,
    SafeFrame,
    TrackRow,
    TrackState,
    TrackTable,
)

BGR = NDArray[np.uint8]

QUADRANTS = {
    "top left": (40, 40, 220),
    "top right": (40, 200, 40),
    "bottom left": (220, 60, 40),
    "bottom right": (230, 230, 230),
}
"""BGR of each quarter of `card`, so that a turned picture shows."""


def card(size_wh: tuple[int, int] = (96, 64), number: int = 0) -> BGR:
    """Returns a test card: a colour a quarter, and in the middle a grey that counts frames."""
    width, height = size_wh
    picture = np.zeros((height, width, 3), np.uint8)
    middle_y, middle_x = (height + 1) // 2, (width + 1) // 2
    picture[:middle_y, :middle_x] = QUADRANTS["top left"]
    picture[:middle_y, middle_x:] = QUADRANTS["top right"]
    picture[middle_y:, :middle_x] = QUADRANTS["bottom left"]
    picture[middle_y:, middle_x:] = QUADRANTS["bottom right"]
    picture[height // 3 : height - height // 3, width // 3 : width - width // 3] = grey(number)
    return picture


def grey(number: int) -> int:
    """Returns the grey that `card` has in its middle, 8 levels apart."""
    return 16 + 8 * (number % 28)


def number_of(picture: BGR) -> int:
    """Reads back what `card` counts, modulo 28."""
    height, width = picture.shape[:2]
    level = picture[height * 2 // 5 : height * 3 // 5, width * 2 // 5 : width * 3 // 5].mean()
    return round((float(level) - 16) / 8)


def corners(picture: BGR) -> dict[str, tuple[int, int, int]]:
    """Returns the BGR in the middle of each corner's area, as `QUADRANTS` names them."""
    height, width = picture.shape[:2]
    y, x = max(1, height // 6), max(1, width // 6)
    parts = {
        "top left": picture[:y, :x],
        "top right": picture[:y, -x:],
        "bottom left": picture[-y:, :x],
        "bottom right": picture[-y:, -x:],
    }
    return {
        name: tuple(round(float(v)) for v in part.mean((0, 1)))  # type: ignore[misc]  # three
        for name, part in parts.items()
    }


def write_video(
    path: Path,
    *,
    size_wh: tuple[int, int] = (96, 64),
    count: int = 10,
    frames: Iterable[BGR] | None = None,
    rate: Fraction | int = 25,
    time_base: Fraction | None = None,
    pts: Sequence[int] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container_format: str | None = None,
    container_options: Mapping[str, str] | None = None,
    rotation: tuple[float, bool, bool] | None = None,
    sample_aspect_ratio: Fraction | None = None,
    tags: Mapping[str, int] | None = None,
    audio_s: float = 0.0,
    metadata: Mapping[str, str] | None = None,
    extras: bool = False,
    secret: str = "",
) -> Path:
    """Writes a film of `card`s; with `extras` also everything a container can hold beside it.

    `tags` are attributes of the codec context (colorspace...); `rotation` is counter-clockwise
    degrees and the two mirrors; `secret` goes into every extra and every metadata value. Equal
    arguments make equal bytes on one type of CPU, which tests that damage them rely on: x264's
    macroblock tree is left out, with it every other run differs (AMD EPYC with AVX-512: 7 results
    in 20 runs, without it 1).
    """
    chosen = dict(options or {})
    if codec.startswith("libx264"):
        chosen.setdefault("mbtree", "0")
    pictures = list(frames) if frames is not None else [card(size_wh, i) for i in range(count)]
    base = time_base or 1 / Fraction(rate)
    times = list(pts) if pts is not None else list(range(len(pictures)))
    with av.open(
        path, "w", format=container_format, options=dict(container_options or {})
    ) as container:
        container.metadata.update(metadata or {})
        stream: Any = container.add_stream(codec, rate=rate, options=chosen)
        context = stream.codec_context
        context.width, context.height = size_wh
        context.pix_fmt = pix_fmt
        context.time_base = base
        stream.time_base = base
        for name, value in (tags or {}).items():
            setattr(context, name, value)
        if sample_aspect_ratio is not None:
            context.sample_aspect_ratio = sample_aspect_ratio
        if rotation is not None:
            degrees, mirror_x, mirror_y = rotation
            stream.set_display_rotation(degrees, mirror_x, mirror_y)
        sound: Any = container.add_stream("aac", rate=48000) if audio_s else None
        notes = _add_extras(container, secret) if extras else None
        matrix = (tags or {}).get("colorspace", 6)
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(
                format=pix_fmt,
                dst_colorspace=matrix if pix_fmt.startswith("yuv") else None,
                dst_color_range=(tags or {}).get("color_range"),
                interpolation=_ACCURATE,
            )
            for name, value in (tags or {}).items():
                setattr(frame, name, value)
            frame.pts, frame.time_base = time, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            write_silence(container, sound, audio_s)
        if notes is not None:
            _write_notes(container, notes, secret)
    return path


_ACCURATE = int(
    av.video.reformatter.Interpolation.BILINEAR | av.video.reformatter.Interpolation.ACCURATE_RND
)


def write_silence(container: OutputContainer, sound: Any, audio_s: float) -> None:
    """Writes so many seconds of stereo silence into an open audio stream."""
    total, at = int(audio_s * 48000), 0
    while at < total:
        samples = np.zeros((2, min(1024, total - at)), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 48000, at
        frame.time_base = Fraction(1, 48000)
        container.mux(sound.encode(frame))
        at += samples.shape[1]
    container.mux(sound.encode(None))


def write_sound(path: Path, seconds: float = 1.0) -> Path:
    """Writes a file that holds sound and nothing else."""
    with av.open(path, "w") as container:
        write_silence(container, container.add_stream("aac", rate=48000), seconds)
    return path


def presentation_end(path: Path) -> Fraction:
    """Returns when the edit list says that the last frame ends, in seconds.

    What FFmpeg calls the duration of a stream follows decoding times, which B-frames shift.
    """
    data = path.read_bytes()
    at = data.index(b"elst") + 8
    (count,) = struct.unpack_from(">I", data, at)
    edits = [struct.unpack_from(">Iii", data, at + 4 + 12 * i) for i in range(count)]
    return Fraction(sum(duration for duration, _, _ in edits), 1000)


def write_changing_size(path: Path, sizes_wh: Sequence[tuple[int, int]], count: int = 6) -> Path:
    """Writes one MPEG-TS stream whose picture size changes every `count` frames."""
    with av.open(path, "w", format="mpegts") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.codec_context.width, stream.codec_context.height = sizes_wh[0]
        stream.codec_context.time_base = Fraction(1, 25)
        stream.codec_context.options = {"bf": "0"}
        number = 0
        for part, size_wh in enumerate(sizes_wh):
            encoder: Any = (
                stream.codec_context if part == 0 else av.CodecContext.create("h264", "w")
            )
            if part:
                encoder.width, encoder.height = size_wh
                encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
                encoder.framerate, encoder.options = Fraction(25), {"bf": "0"}
            packets = []
            for _ in range(count):
                frame = av.VideoFrame.from_ndarray(card(size_wh, number), format="bgr24")
                frame = frame.reformat(format="yuv420p", dst_colorspace=6, interpolation=_ACCURATE)
                frame.pts, frame.time_base = number, Fraction(1, 25)
                packets += encoder.encode(frame)
                number += 1
            for packet in [*packets, *encoder.encode(None)]:
                packet.stream = stream
                container.mux(packet)
    return path


def write_moving(path: Path, pictures: Sequence[BGR] | None = None, shown_ms: int = 40) -> Path:
    """Writes a moving picture of the kind that the suffix says, by OpenCV; ten `card`s."""
    animation = cv2.Animation()
    animation.frames = list(pictures or [card(number=number) for number in range(10)])
    animation.durations = [shown_ms] * len(animation.frames)
    path.write_bytes(cv2.imencodeanimation(path.suffix, animation)[1].tobytes())
    return path


def composed(
    pixels: BGR, number: int = 0, pts: int | None = None, time_base: Fraction = Fraction(1, 25)
) -> SafeFrame:
    """Makes a `SafeFrame` without a compositor, which only a test may."""
    return SafeFrame(
        pixels.copy(),
        frame_id=number,
        pts=number if pts is None else pts,
        time_base=time_base,
        captured_ns=0,
        cover=CoverInfo(0.0, CoverLevel.PARTS, "parsed"),
        key=COMPOSED,
    )


def located(people: int, number: int = 0, time_s: Fraction = Fraction(0)) -> TrackTable:
    """Makes the rows of a frame of 96x64 without their maker, which only a test may."""
    rows = (
        TrackRow(track, (0, 0, 96, 64), TrackState.PLACED, (Label.HAIR, Label.FACE))
        for track in range(1, people + 1)
    )
    return TrackTable(tuple(rows), frame=number, time_s=time_s, size_wh=(96, 64), key=LOCATED)


def _add_extras(container: OutputContainer, secret: str) -> dict[str, Any]:
    container.set_chapters(
        [
            {
                "id": 1,
                "start": 0,
                "end": 100,
                "time_base": Fraction(1, 1000),
                "metadata": {"title": f"chapter {secret}"},
            }
        ]
    )
    container.add_attachment("note.txt", "text/plain", f"attached {secret}".encode())
    subtitles = container.add_mux_stream("subrip")
    subtitles.time_base = Fraction(1, 1000)
    return {"subtitles": subtitles}


def _write_notes(container: OutputContainer, notes: dict[str, Any], secret: str) -> None:
    packet = Packet(f"said: {secret}".encode())
    packet.stream = notes["subtitles"]
    packet.time_base = Fraction(1, 1000)
    packet.pts = packet.dts = 0
    packet.duration = 100
    container.mux(packet)
