"""Smoke test of an installed m2fp-stream: run it with that installation's Python.

python scripts/smoke.py PATH/TO/m2fp-stream

Works in the current folder: makes a small clip, anonymises it, counts the frames.
"""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FRAMES = 30


def make_clip(path: Path) -> None:
    """Writes FRAMES frames of a moving gradient."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30))
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        ramp = np.linspace(0, 255, 320, dtype=np.uint8)
        for index in range(FRAMES):
            picture = np.broadcast_to(np.roll(ramp, 4 * index)[None, :, None], (180, 320, 3))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def count_frames(path: Path) -> int:
    """Returns how many video frames decode."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def main(program: str) -> int:
    """Runs the commands; returns the exit code."""
    import m2fp_stream

    if Path(m2fp_stream.__file__).is_relative_to(Path(__file__).resolve().parent.parent):
        print("smoke: this is the checkout, not an installed wheel")
        return 1
    make_clip(Path("clip.mp4"))
    for arguments in (["doctor"], ["models", "verify"], ["anonymize", "clip.mp4"]):
        code = subprocess.run([program, *arguments], check=False).returncode
        print(f"smoke: m2fp-stream {' '.join(arguments)}: exit code {code}")
        if code != 0:
            return 1
    count = count_frames(Path("clip.anonymized.mp4"))
    print(f"smoke: {count} of {FRAMES} frames written")
    return int(count != FRAMES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
