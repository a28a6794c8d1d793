"""Writes a 720p film of people without a cut, for `m2fp-stream bench live`.

    python -m scripts.bench.people_clip OUT.mp4 [--scene crossing | --film CLIP] [--seconds 60]

A composed scene (`scripts/bench/scenes.py`) or a real clip, played forwards and backwards over and
over, as a camera would see it: a cut would be a start of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from scripts.bench.scenes import SIZE_WH, build

U8 = NDArray[np.uint8]


def of_film(path: Path) -> Iterator[U8]:
    """Gives every frame of a clip, cut to 16:9 and scaled to 720p."""
    with av.open(str(path), "r") as container:
        for frame in container.decode(video=0):
            bgr = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
            height = min(bgr.shape[0], bgr.shape[1] * SIZE_WH[1] // SIZE_WH[0])
            yield np.asarray(cv2.resize(bgr[:height], SIZE_WH), np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--scene", default="crossing")
    parser.add_argument("--film", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=int, default=30)
    arguments = parser.parse_args()
    if arguments.film is not None:
        pictures = list(of_film(arguments.film))
    else:
        scene = build(arguments.scene, data=arguments.data, half="report", seed=1)
        pictures = [scene.render(index).bgr for index in range(scene.frames)]
    there_and_back = cycle([*pictures, *pictures[-2:0:-1]])
    with av.open(str(arguments.out), "w") as container:
        options = {"crf": "18", "preset": "veryfast"}
        stream = container.add_stream("libx264", rate=arguments.rate, options=options)
        stream.width, stream.height = SIZE_WH
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, arguments.rate)
        count = round(arguments.seconds * arguments.rate)
        for number, picture in enumerate(islice(there_and_back, count)):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    print(f"{arguments.out}: {count} frames, {arguments.seconds:g} s")


if __name__ == "__main__":
    main()
