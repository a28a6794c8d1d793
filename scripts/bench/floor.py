"""Decodes a video and encodes it again, nothing in between: the floor under every file command.

A program of its own, so that its memory and start-up are those of PyAV alone.

    python scripts/bench/floor.py IN OUT CRF PRESET THREADS
"""

from __future__ import annotations

import sys
from fractions import Fraction

import av
from av.video.frame import PictureType


def transcode(path_in: str, path_out: str, crf: str, preset: str, threads: str) -> None:
    """Writes `path_in`'s video stream to `path_out` as H.264, 8 bits, 4:2:0."""
    with av.open(path_in) as source, av.open(path_out, "w") as target:
        video = source.streams.video[0]
        video.thread_type = "AUTO"
        video.thread_count = int(threads)
        rate = video.average_rate or Fraction(25)
        stream = target.add_stream("libx264", rate=rate, options={"crf": crf, "preset": preset})
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        stream.codec_context.thread_count = int(threads)
        for frame in source.decode(video):
            frame.pict_type = PictureType.NONE  # else the encoder repeats the input's I frames
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


if __name__ == "__main__":
    transcode(*sys.argv[1:])
