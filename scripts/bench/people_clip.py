"""Writes a 720p film of people for `m2fp-stream bench live`.

    python -m scripts.bench.people_clip OUT.mp4 [--data DIR] [--scenes enter,crossing] [--rate 30]

Composed scenes (`scripts/bench/scenes.py`) one after the other: people come in, cross, stand.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import av

from scripts.bench.scenes import SIZE_WH, build


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--scenes", default="enter,crossing,re-enter,lean-in")
    parser.add_argument("--rate", type=int, default=30)
    arguments = parser.parse_args()
    with av.open(arguments.out, "w") as container:
        stream = container.add_stream("libx264", rate=arguments.rate, options={"crf": "20"})
        stream.width, stream.height = SIZE_WH
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, arguments.rate)
        count = 0
        for name in arguments.scenes.split(","):
            scene = build(name, data=arguments.data, half="report", seed=1)
            for index in range(scene.frames):
                frame = av.VideoFrame.from_ndarray(scene.render(index).bgr, format="bgr24")
                frame.pts = count
                count += 1
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    print(f"{arguments.out}: {count} frames, {count / arguments.rate:.1f} s")


if __name__ == "__main__":
    main()
