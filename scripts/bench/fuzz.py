"""Prints what becomes of damaged and hostile media files.

    python -m scripts.bench.fuzz [--files N] [--whole N] [--seed N] [--only NUMBER] [--keep DIR]

Small files of every container that is read are changed by a seeded generator: flipped bits, bytes
cut off, left out or doubled, pieces of other files put in, fields of headers set to extremes. Each
goes through the source that the product would choose, to its last frame, every other one with
`--salvage`, and its sound likewise; every N-th (`--whole`) through `m2fp-stream anonymize` as well.
The readers are processes with limits of time and memory.

What may come of it: every frame, or one of our errors (exit 3). All else is a finding: another
exception, a signal, a hang, more memory. Findings are kept in DIR, by the number that made them;
the same seed, number and build of FFmpeg make the same file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import cv2

from m2fp_stream.core.errors import M2FPStreamError, SourceError
from m2fp_stream.naming import IMAGE_SUFFIXES
from m2fp_stream.sources.base import Source
from m2fp_stream.sources.file import FileSource
from m2fp_stream.sources.options import FileOptions
from m2fp_stream.sources.picture import open_picture
from m2fp_stream.sources.sound import SoundSource
from tests.kit import heif, media

LIMIT_S: Final = 60.0
"""For one file of a second, on a busy machine; whole files of the kind take well below one."""
LIMIT_BYTES: Final = 3 << 30
"""Of private memory (RLIMIT_DATA); `MAX_PIXELS` keep files of the kind far below."""
MAX_PIXELS: Final = 1280 * 1024
"""Chosen: larger than the files that are made; what claims more is refused by the limit."""
EXTREMES: Final = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Where widths of numbers and signs change."""
HEADER_BYTES: Final = 1024
"""Where fields of headers are looked for, at both ends: all of them in files this small."""

# name: codec, pixel format, options of `media.write_video`
VIDEOS: Final[Mapping[str, tuple[str, str, dict[str, Any]]]] = {
    "h264.mp4": ("libx264", "yuv420p", {"audio_s": 0.4, "extras": False}),
    "pieces.mp4": (
        "libx264",
        "yuv420p",
        {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "audio_s": 0.4},
    ),
    "turned.mov": ("libx264", "yuv422p10le", {"rotation": (90, True, False)}),
    "hevc.mp4": ("libx265", "yuv420p", {"options": heif.QUIET}),
    "av1.mp4": ("libsvtav1", "yuv420p", {"options": {"preset": "12"}}),
    "prores.mov": ("prores_ks", "yuv422p10le", {}),
    "h264.mkv": ("libx264", "yuv420p", {"extras": True, "secret": "x", "audio_s": 0.4}),
    "vp8.webm": ("libvpx", "yuv420p", {}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {}),
    "ffv1.mkv": ("ffv1", "yuv444p", {}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", {}),
    "h264.ts": ("libx264", "yuv420p", {"audio_s": 0.4}),
    "mpeg2.ts": ("mpeg2video", "yuv420p", {"options": {"flags": "+ildct+ilme"}}),
    "mpeg1.mpg": ("mpeg1video", "yuv420p", {}),
    "flv1.flv": ("flv", "yuv420p", {}),
    "wmv2.asf": ("wmv2", "yuv420p", {}),
    "vp8.ogv": ("libvpx", "yuv420p", {}),
    "av1.obu": ("libsvtav1", "yuv420p", {"options": {"preset": "12"}}),
    "mpeg2.gxf": ("mpeg2video", "yuv420p", {"size_wh": (720, 576), "count": 2}),
    "raw.m4v": ("mpeg4", "yuv420p", {"container_format": "m4v"}),
    "raw.h263": ("h263", "yuv420p", {"size_wh": (176, 144), "container_format": "h263"}),
    "parts.mjpg": ("mjpeg", "yuvj420p", {"container_format": "mpjpeg"}),
    "mpeg2.mxf": ("mpeg2video", "yuv420p", {}),
    "dv.dv": ("dvvideo", "yuv420p", {"size_wh": (720, 576), "count": 3}),
    "mpeg4.nut": ("mpeg4", "yuv420p", {}),
    "vp8.ivf": ("libvpx", "yuv420p", {}),
    "raw.h264": ("libx264", "yuv420p", {"container_format": "h264"}),
    "raw.h265": ("libx265", "yuv420p", {"container_format": "hevc", "options": heif.QUIET}),
    "raw.m2v": ("mpeg2video", "yuv420p", {"container_format": "mpeg2video"}),
    "raw.mjpg": ("mjpeg", "yuvj420p", {"container_format": "mjpeg"}),
    "raw.y4m": ("wrapped_avframe", "yuv420p", {"container_format": "yuv4mpegpipe"}),
    "h263.3gp": ("h263", "yuv420p", {"size_wh": (176, 144)}),
    "gif.gif": ("gif", "rgb8", {}),
    "apng.apng": ("apng", "rgba", {}),
    "wtv.wtv": ("mpeg2video", "yuv420p", {"container_format": "wtv"}),
    "rm.rm": ("rv20", "yuv420p", {"size_wh": (176, 144)}),
}
STILLS: Final = ("jpg", "png", "bmp", "tiff", "webp", "avif")
MOVING: Final = ("webp", "png", "avif", "gif")


def write_seeds(folder: Path) -> list[Path]:
    """Writes one small file of each kind that this FFmpeg can make; returns them, in order."""
    made: dict[str, Callable[[Path], object]] = {}
    for name, (codec, pix_fmt, more) in VIDEOS.items():
        made[name] = _video(codec, pix_fmt, more)
    for suffix in STILLS:
        made[f"still.{suffix}"] = lambda path: path.write_bytes(
            cv2.imencode(path.suffix, media.card())[1].tobytes()
        )
    for suffix in MOVING:
        made[f"moving.{suffix}"] = media.write_moving
    made["sizes.ts"] = lambda path: media.write_changing_size(path, [(96, 64), (64, 96)])
    made["still.heic"] = lambda path: heif.write(path, [heif.coded(media.card(), folder)])
    made["tiles.heic"] = lambda path: heif.write(
        path, heif.tiled(media.card((128, 128)), 64, 2, folder)
    )
    written = []
    for name, make in made.items():
        try:
            make(folder / name)
        except (av.error.FFmpegError, ValueError, OSError, cv2.error) as error:
            print(f"no {name}: {type(error).__name__}", file=sys.stderr)
            continue
        written.append(folder / name)
    return written


def _video(codec: str, pix_fmt: str, more: Mapping[str, Any]) -> Callable[[Path], object]:
    wanted: dict[str, Any] = {"count": 8, "rate": Fraction(25), **more}
    return lambda path: media.write_video(path, codec=codec, pix_fmt=pix_fmt, **wanted)


def mutate(data: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Returns `data` with one to four changes."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4))):
        draw.choice(CHANGES)(changed, others, draw)
    return bytes(changed)


def _flip(data: bytearray, _: list[bytes], draw: random.Random) -> None:
    for _time in range(draw.choice((1, 2, 8, 64))):
        if data:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _cut(data: bytearray, _: list[bytes], draw: random.Random) -> None:
    del data[draw.randrange(len(data) + 1) :]


def _leave_out(data: bytearray, _: list[bytes], draw: random.Random) -> None:
    at = draw.randrange(len(data) + 1)
    del data[at : at + draw.choice((1, 4, 188, 1000))]


def _double(data: bytearray, _: list[bytes], draw: random.Random) -> None:
    at, length = draw.randrange(len(data) + 1), draw.choice((1, 4, 188, 1000))
    data[at:at] = data[at : at + length]


def _splice(data: bytearray, others: list[bytes], draw: random.Random) -> None:
    other = draw.choice(others)
    at, begin = draw.randrange(len(data) + 1), draw.randrange(len(other) + 1)
    length = draw.choice((16, 256, 4096))
    data[at : at + draw.choice((0, length))] = other[begin : begin + length]


def _set_field(data: bytearray, _: list[bytes], draw: random.Random) -> None:
    size = draw.choice((1, 2, 4, 8))
    at = draw.randrange(min(len(data), HEADER_BYTES) + 1)
    if draw.random() < 0.3:  # the index of MP4, AVI and Matroska stands at the end
        at = max(0, len(data) - at)
    value = draw.choice(EXTREMES) & ((1 << 8 * size) - 1)
    data[at : at + size] = value.to_bytes(size, draw.choice(("big", "little")))


def _set_length(data: bytearray, _: list[bytes], draw: random.Random) -> None:
    """Changes what stands before a four-letter word: a length, in MP4, AVI, PNG and WebP."""
    words = [
        at for at in range(4, len(data) - 4) if data[at : at + 4].isalnum() and data[at] > 0x40
    ]
    if words:
        at = draw.choice(words)
        value = draw.choice((*EXTREMES, draw.randrange(1 << 16)))
        data[at - 4 : at] = value.to_bytes(4, draw.choice(("big", "little")))


CHANGES: Final = (_flip, _flip, _cut, _leave_out, _double, _splice, _set_field, _set_length)


def mutated(number: int, seed: int, seeds: list[Path]) -> tuple[str, bytes]:
    """Returns the name and content of one file of the run."""
    draw = random.Random(f"{seed} {number}")
    chosen = seeds[number % len(seeds)]
    others = [draw.choice(seeds).read_bytes() for _ in range(2)]
    return f"{number:05}_{chosen.name}", mutate(chosen.read_bytes(), others, draw)


# ------------------------------------------------------------------------------------- the reader


def read_through(path: Path, *, salvage: bool) -> int:
    """Reads all frames and all sound as a run would; returns how many frames there were.

    Raises:
        SourceError: as the program would say.
    """
    options = FileOptions(max_pixels=MAX_PIXELS, salvage=salvage)
    count = 0
    with _opened(path, options) as source:
        if isinstance(source, FileSource) and source.info.has_audio:
            with SoundSource(path, options, source.clock) as sound:
                for chunk in sound.chunks() if sound.format is not None else ():
                    chunk.release()
        for captured in source.frames():
            captured.frame.release()
            count += 1
    return count


def _opened(path: Path, options: FileOptions) -> Source:
    if path.suffix in IMAGE_SUFFIXES:
        return open_picture(path, options)
    return FileSource(path, options)


def serve() -> None:
    """Reads the files that standard input names, a line each, and says what came of it."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        path, salvage = json.loads(line)
        try:
            read_through(Path(path), salvage=salvage)
            told = "complete"
        except SourceError:
            told = "exit 3"
        except MemoryError:
            told = "memory"
        except M2FPStreamError as error:
            told = f"exit {error.exit_code}"
        except Exception as error:
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            where = "" if trace is None else f" {trace.tb_frame.f_code.co_qualname}"
            told = f"{type(error).__name__}{where}: {error}"[:200]
        print(json.dumps(told), flush=True)


class Reader:
    """A process that reads files one after another, and is replaced when it does not survive."""

    def __init__(self) -> None:
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "scripts.bench.fuzz", "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def read(self, path: Path, *, salvage: bool) -> str:
        """Returns what came of one file."""
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # it has died, as is told below
            process.stdin.write(json.dumps((str(path), salvage)) + "\n")
            process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], LIMIT_S)
        if ready and (line := process.stdout.readline()):
            return str(json.loads(line))
        self.close()
        self.process = self._start()
        if not ready:
            return "hang"
        return f"crash ({signal.Signals(-process.returncode).name})"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


@contextmanager
def reader() -> Iterator[Reader]:
    """Starts a reader, and ends it."""
    one = Reader()
    try:
        yield one
    finally:
        one.close()


def anonymize(path: Path, folder: Path) -> str:
    """Returns what came of a whole run over one file; what it leaves must be an output."""
    target = folder / ("out" + (path.suffix if path.suffix in IMAGE_SUFFIXES else ".mp4"))
    command = [sys.executable, "-m", "m2fp_stream", "anonymize", "--progress=off", str(path)]
    try:
        done = subprocess.run(
            [*command, "-o", str(target)],
            capture_output=True,
            timeout=4 * LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "hang"
    left = sorted(one.name for one in folder.iterdir())
    expected = [target.name] if done.returncode == 0 else []
    target.unlink(missing_ok=True)
    if left != expected:
        return f"left {left} with exit {done.returncode}"
    return "complete" if done.returncode == 0 else f"exit {done.returncode}"


# --------------------------------------------------------------------------------------- the run


@contextmanager
def _files() -> Iterator[tuple[Path, list[Path]]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "seeds").mkdir()
        (folder / "out").mkdir()
        yield folder, write_seeds(folder / "seeds")


def run(arguments: argparse.Namespace) -> int:
    """Makes and reads the files; returns how many findings there were."""
    table: Counter[tuple[str, str]] = Counter()
    findings = []
    with _files() as (folder, seeds), reader() as reading:
        numbers = range(arguments.files) if arguments.only is None else [arguments.only]
        for number in numbers:
            name, data = mutated(number, arguments.seed, seeds)
            path = folder / name
            path.write_bytes(data)
            told = {"read": reading.read(path, salvage=bool(number // len(seeds) % 2))}
            if arguments.whole and number % arguments.whole == 0:
                told["whole"] = anonymize(path, folder / "out")
            for how, what in told.items():
                table[how, what] += 1
                if what not in ("complete", "exit 3"):
                    findings.append(f"{name} ({how}): {what}")
                    print(findings[-1], flush=True)
                    if arguments.keep is not None:
                        (arguments.keep / name).write_bytes(data)
            path.unlink()
            if number % 100 == 99:
                print(f"{number + 1}: {len(findings)} findings", file=sys.stderr, flush=True)
    print(f"{len(seeds)} kinds of files, seed {arguments.seed}")
    for (how, what), count in sorted(table.items()):
        print(f"| {how} | {what} | {count} |")
    return len(findings)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--whole", type=int, default=40, help="every so-many-th file; 0: none")
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--only", type=int, help="this file alone")
    parser.add_argument("--keep", type=Path, help="a folder for findings")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return 0
    os.nice(5)
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    return 1 if run(arguments) else 0


if __name__ == "__main__":
    raise SystemExit(main())
