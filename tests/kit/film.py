"""A film of a known face, and whether it is to be seen; how the real program is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Bgr = NDArray[np.uint8]

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENT = {"max_delay_s": 3.0, "person_after_s": 3.0, "frame_after_s": 3.0}
"""A slow machine shows something, too."""
FACE_XYXY = (175, 70, 275, 190)  # Eileen Collins, NASA, public domain; by hand
LOOKS_LIKE_HER = 0.6
"""Correlation of the face with itself in the film: above .95; under frost: below .4 (measured)."""


def load_portrait() -> Bgr:
    """The photograph."""
    folder = Path(str(import_module("skimage").__file__)).parent
    picture = cv2.imread(str(folder / "data" / "astronaut.png"))
    assert picture is not None
    return np.asarray(picture, np.uint8)


def write_film(path: Path, portrait: Bgr) -> None:
    """Four seconds at 15 frames a second; the picture sways."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=15, options={"crf": "12", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = 400, 360, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 15)
        for number in range(60):
            left = 24 + round(20 * np.sin(number * 2 * np.pi / 60))
            view = np.ascontiguousarray(portrait[:360, left : left + 400])
            frame = av.VideoFrame.from_ndarray(view, "bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 15)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def likeness(picture: Bgr, portrait: Bgr) -> float:
    """How much the likest place of a picture looks like her face."""
    left, top, right, bottom = FACE_XYXY
    face = portrait[top:bottom, left:right]
    return float(cv2.matchTemplate(picture, face, cv2.TM_CCOEFF_NORMED).max())


def shows_room(picture: Bgr, portrait: Bgr) -> bool:
    """Whether a part of the shuttle model behind her is to be seen; a patch may be covered."""
    patches = portrait[10:110, 335:395], portrait[120:220, 335:395], portrait[250:330, 330:400]
    return any(
        float(cv2.matchTemplate(picture, patch, cv2.TM_CCOEFF_NORMED).max()) > 0.8
        for patch in patches
    )


def pictures(path: Path) -> Iterator[Bgr]:
    with av.open(str(path), "r") as container:
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", "m2fp_stream", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY",)}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def run(*arguments: object, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment(**more),
        timeout=120,
    )


def write_config(path: Path, **sections: Any) -> Path:
    path.write_text(json.dumps(sections), encoding="utf-8")  # JSON is YAML
    return path
