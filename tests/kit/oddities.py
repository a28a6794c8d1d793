"""Writes films as recorders, browsers and damage make them, and draws what is nobody."""

from __future__ import annotations

import struct
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from tests.kit import media


def write_two(path: Path) -> Path:
    """Writes a film with two videos: the second is larger, and counts from 10 on."""
    with av.open(path, "w") as container:
        streams: list[Any] = []
        for codec, size_wh in (("libx264", (96, 64)), ("libx265", (192, 128))):
            options = {"crf": "5"}
            if codec == "libx265":
                options["x265-params"] = "log-level=none"
            stream: Any = container.add_stream(codec, rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = *size_wh, "yuv420p"
            streams.append(stream)
        for number in range(5):
            for shift, stream in enumerate(streams):
                picture = media.card((stream.width, stream.height), number + 10 * shift)
                frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def write_dav(path: Path) -> Path:
    """Writes DHAV, as recorders do: a head and a tail around each H.264 picture."""
    source = media.write_video(
        path.with_suffix(".h264"), options={"bf": "0", "g": "5"}, container_format="h264"
    )
    content = b""
    with av.open(source) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for number, packet in enumerate(packets):
        data = bytes(packet)
        more = bytes([0x81, 0, 2, 25, 0x82, 0, 0, 0, 96, 0, 64, 0])  # H.264, 25 fps; the size
        length = 24 + len(more) + len(data) + 8
        kind = 0xFD if packet.is_keyframe else 0xFC
        head = struct.pack("<4sBBBBII", b"DHAV", kind, 0, 0, 0, number, length)
        head += struct.pack("<IHBB", 0x5A210000, 40 * number, len(more), 0)
        content += head + more + data + b"dhav" + struct.pack("<I", length)
    path.write_bytes(content)
    return path


def write_ramp(path: Path, *, small_s: float, large_s: float) -> Path:
    """Writes what browsers record of a call: VP8 that begins small."""
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libvpx", rate=25)
        number = 0
        for size_wh, length_s in (((96, 54), small_s), ((480, 270), large_s)):
            encoder: Any = av.CodecContext.create("libvpx", "w")
            encoder.width, encoder.height, encoder.pix_fmt = *size_wh, "yuv420p"
            encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
            encoder.options = {"deadline": "realtime", "cpu-used": "8"}
            encoder.bit_rate = 2_000_000
            if not number:
                stream.width, stream.height = size_wh
            packets = []
            for _ in range(round(length_s * 25)):
                frame = av.VideoFrame.from_ndarray(media.card(size_wh, number), format="bgr24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                packets += encoder.encode(frame.reformat(format="yuv420p"))
                number += 1
            for packet in [*packets, *encoder.encode(None)]:
                packet.stream = stream
                container.mux(packet)
    return path


def without(path: Path, target: Path, lost: Collection[int]) -> Path:
    """Copies a film's packets but those of these numbers, in the order of decoding."""
    with av.open(path) as source, av.open(target, "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            if number not in lost:
                packet.stream = stream
                copy.mux(packet)
    return target


def draw_leaves(picture: media.BGR, number: int) -> None:
    """Leaves in the wind, over the upper half of a picture of 480x360."""
    rng = np.random.default_rng(4)
    for x, y, phase in rng.random((250, 3)):
        sway = 8 * np.sin(number / 4 + 6 * phase)
        at = round(float(480 * x + sway)), round(float(160 * y))
        cv2.ellipse(picture, at, (9, 4), 180 * phase + 3 * sway, 0, 360, (40, 110, 60), -1)


def draw_headlights(picture: media.BGR, number: int) -> None:
    """Two lamps that come by."""
    for side in (0, 46):
        glow = np.zeros(picture.shape[:2], np.float32)
        cv2.circle(glow, (20 + 13 * number + side, 250), 16, 1.0, -1)
        glow = cv2.GaussianBlur(glow, (0, 0), 9) + glow
        np.copyto(picture, np.minimum(picture + 255 * glow[..., None], 255).astype(np.uint8))


def draw_snow(picture: media.BGR, number: int) -> None:
    """Flakes that fall."""
    rng = np.random.default_rng(5)
    for x, y, size in rng.random((300, 3)):
        at = round(480 * float(x)), round(float(360 * y + 9 * number * (0.5 + size))) % 360
        cv2.circle(picture, at, 1 + round(2 * float(size)), (245, 245, 245), -1)
