"""Measures `m2fp-stream anonymize` beside bare decode + encode and beside deface, on one machine.

How each number comes about:

- Input: an equal share of frames from the middle of every clip of DATA/clips, one after the other
  (each change is a cut, which costs our program an extra parse), the topmost 16:9 part scaled to
  the wanted size, 30 frames a second, encoded once at CRF 12. Clips of other rates are played at
  30, too: an overhead clip of 10 becomes three times as fast. Or the astronaut of scikit-image
  (public domain, NASA), panned and zoomed.
- All commands encode with libx264, medium, CRF 20, 2 threads, yuv420p. They run interleaved
  (A B C D, A B C D, ...) after one warm-up each. Table: medians of the rounds; ratios are taken
  within a round, then their median.
- fps: frames by wall time of the whole process, start and loading of models included.
- CPU: user + system time of the process and of all its children (wait4).
- Memory: RSS is the resident set, summed over the process tree every 50 ms: pages that two
  processes share count twice, so it is an upper bound. PSS counts them once, but costs more to
  read, so it is taken every second, and for our processes, which are not dumpable, only with the
  privilege to trace others (root). Peaks of both; without that privilege PSS is left empty.
- PSNR outside the cover: squared error against the input over the samples of Y, U and V of all
  frames, without the pixels that *any* of the commands changed on purpose: the same pixels for
  all, floor included. Changed on purpose is where the mean difference over a small square exceeds
  anything the floor shows in that frame; see `changed`.
- Memory slope (--slope): the clip repeated ten times. One point a repetition (the mean of its
  samples, so that content does not matter), the first quarter and the last half repetition left
  out; least squares. Frames are taken to pass at an even pace.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import av
import cv2
import numpy as np
import psutil
from av.video.frame import PictureType
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
SIZES_WH = {"360p": (640, 360), "720p": (1280, 720), "1080p": (1920, 1080)}
FPS = 30
CRF, PRESET, THREADS = "20", "medium", "2"
OURS = "m2fp-stream"
SAMPLE_S = 0.05
TREE_EVERY = 5
PSS_EVERY = 20
"""Samples between looks for new processes, and between readings of PSS. CPU time measured: 3 ms
for a look, 2.4 ms for the PSS of 550 MB, 0.03 ms for a sample of RSS."""
LONGER = 10
MB = 1e6

EPILOG = """\
examples:
  python scripts/bench/file.py --install-deface --slope --json bench.json
  python scripts/bench/file.py --deface-venv ~/deface --sizes 720p --repeat 5
  python scripts/bench/file.py --synthetic --frames 60 --sizes 360p --repeat 1
"""

Command = Callable[[Path, Path], list[str]]
Frames = Iterator[NDArray[np.uint8]]


class BenchError(Exception):
    """The benchmark cannot go on; one line that says why."""


@dataclass(frozen=True)
class Run:
    """One run of one command; `samples` are (seconds since start, RSS in bytes)."""

    wall_s: float
    cpu_s: float
    peak_rss_mb: float
    peak_pss_mb: float | None
    output_bytes: int
    samples: list[tuple[float, int]]


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# -- one run ---------------------------------------------------------------------------------------


class MemorySampler(threading.Thread):
    """Samples the memory of a process and its descendants until `stop()`.

    `samples` are (seconds since start, RSS in bytes); `peak_pss` is None where it was refused.
    """

    def __init__(self, pid: int, began: float) -> None:
        super().__init__(daemon=True)
        self._pid, self._began = pid, began
        self._ended = threading.Event()
        self.samples: list[tuple[float, int]] = []
        self.peak_pss: int | None = 0

    def run(self) -> None:
        tree: list[psutil.Process] = []
        for turn in itertools.count():
            if turn % TREE_EVERY == 0:
                tree = self._tree()
            if resident := sum(map(rss, tree)):
                self.samples.append((time.monotonic() - self._began, resident))
            if turn % PSS_EVERY == 0 and self.peak_pss is not None:
                try:
                    self.peak_pss = max(self.peak_pss, sum(map(pss, tree)))
                except psutil.AccessDenied:
                    self.peak_pss = None
            if self._ended.wait(SAMPLE_S):
                return

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _tree(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self._pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:  # it ended between two samples
        return 0


def pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0


def measure(name: str, command: list[str], output: Path) -> Run:
    """Runs `command`, which writes `output`, and measures it and its descendants.

    Raises:
        BenchError: it fails; the message holds the end of what it said.
    """
    output.unlink(missing_ok=True)
    log = output.with_suffix(".log")
    with log.open("wb") as said:
        began = time.monotonic()
        # A session of its own: Ctrl-C reaches us alone, and we end the command.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=ROOT,
            start_new_session=True,
        )
        sampler = MemorySampler(process.pid, began)
        sampler.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            sampler.stop()
            if process.returncode is None:
                end(process)
    if process.returncode != 0 or not output.exists():
        last = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise BenchError(f"{name} ended with {process.returncode}: {' | '.join(last)}")
    return Run(
        wall_s=wall_s,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_rss_mb=max(size for _, size in sampler.samples) / MB,
        peak_pss_mb=None if sampler.peak_pss is None else sampler.peak_pss / MB,
        output_bytes=output.stat().st_size,
        samples=sampler.samples,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# -- input -----------------------------------------------------------------------------------------


def decoded(path: Path, pixel_format: str) -> Frames:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            picture = frame.to_ndarray(format=pixel_format)
            assert picture.dtype == np.uint8
            yield picture.view(np.uint8)


def endless(path: Path) -> Frames:
    while True:
        yield from decoded(path, "bgr24")


def footage(clips: Sequence[Path], count: int, size_wh: tuple[int, int]) -> Frames:
    """Yields `count` frames: an equal share from the middle of each clip, which repeats if short.

    The topmost 16:9 part is taken, for heads are at the top, and enlarged with INTER_CUBIC.
    """
    for index, clip in enumerate(clips):
        share = count * (index + 1) // len(clips) - count * index // len(clips)
        with av.open(str(clip)) as container:
            length = sum(packet.size > 0 for packet in container.demux(video=0))
        first = max(0, (length - share) // 2)
        for frame in itertools.islice(endless(clip), first, first + share):
            height, width = frame.shape[:2]
            rows = min(height, width * 9 // 16)
            yield scaled(frame[:rows, : rows * 16 // 9], size_wh)


def scaled(picture: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    smaller = size_wh[0] < picture.shape[1]
    resized = cv2.resize(
        picture, size_wh, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    )
    return resized.astype(np.uint8, copy=False)


def astronaut(count: int, size_wh: tuple[int, int]) -> Frames:
    """Yields `count` frames of a slow pan and zoom over scikit-image's picture.

    Raises:
        BenchError: scikit-image is not installed.
    """
    try:
        from skimage.data import astronaut as load
    except ImportError:
        raise BenchError("--synthetic needs scikit-image: pip install scikit-image") from None
    picture = np.ascontiguousarray(load()[:, :, ::-1])
    side = picture.shape[0]
    for index in range(count):
        turn = 2 * math.pi * index / FPS / 4  # one round in 4 s
        scale = size_wh[0] / side * (1.25 + 0.1 * math.sin(turn))  # never beyond the borders
        centre = (side * (0.5 + 0.04 * math.sin(2 * turn)), side * 0.3)
        matrix = np.array(
            [
                [scale, 0, size_wh[0] / 2 - scale * centre[0]],
                [0, scale, size_wh[1] / 2 - scale * centre[1]],
            ]
        )
        yield cv2.warpAffine(picture, matrix, size_wh, flags=cv2.INTER_CUBIC).astype(
            np.uint8, copy=False
        )


def write_input(path: Path, frames: Frames, size_wh: tuple[int, int]) -> None:
    """Encodes BGR `frames` well above the quality that the commands encode with."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=FPS, options={"crf": "12", "preset": "veryfast"}
        )
        stream.width, stream.height = size_wh
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pict_type = PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


# -- commands --------------------------------------------------------------------------------------


def floor(path_in: Path, path_out: Path) -> list[str]:
    program = Path(__file__).with_name("floor.py")
    return [sys.executable, *map(str, (program, path_in, path_out)), CRF, PRESET, THREADS]


def ours(path_in: Path, path_out: Path) -> list[str]:
    words = [sys.executable, "-m", "m2fp_stream", "anonymize", str(path_in), "-o", str(path_out)]
    return [*words, "--crf", CRF, "--preset", PRESET, "--threads", THREADS, "--progress", "off"]


def deface(environment: Path, *options: str) -> Command:
    # quality null: else imageio adds a CRF of its own; macro_block_size: else it pads to 16.
    encoder = {
        "codec": "libx264",
        "quality": None,
        "macro_block_size": 2,
        "output_params": ["-crf", CRF, "-preset", PRESET, "-threads", THREADS],
    }
    program = [str(environment / "bin" / "deface"), "--ffmpeg-config", json.dumps(encoder)]
    return lambda path_in, path_out: [*program, *options, str(path_in), "-o", str(path_out)]


def install_deface(folder: Path) -> Path:
    """Makes an environment with the peer in `folder` and returns it.

    Raises:
        BenchError: pip fails.
    """
    say("installing deface")
    venv.create(folder, with_pip=True)
    requirements = Path(__file__).with_name("requirements.txt")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r"]
    done = subprocess.run([*pip, str(requirements)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"deface cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return folder


def answer(command: list[str]) -> str:
    """Returns the one line that `command` prints.

    Raises:
        BenchError: it fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"{command[0]} does not run: {error}") from None
    return done.stdout.strip()


# -- quality ---------------------------------------------------------------------------------------


def changed(
    before: NDArray[np.uint8], after: NDArray[np.uint8], allowed: float
) -> tuple[NDArray[np.bool_], float]:
    """Finds where `after` was changed by more than an encoder does.

    Both are luma, (H, W) uint8. The *signed* difference is averaged over squares of 1/45 of the
    height (16 px at 720p): the errors of coding cancel out, a cover's new colour does not. What
    exceeds `allowed` is widened by the same length.

    Returns:
        The changed pixels, (H, W) bool, and the largest mean difference (in levels).
    """
    side = max(3, before.shape[0] // 45)
    means = np.abs(cv2.blur(before.astype(np.float32) - after, (side, side)))
    seeds = (means > allowed).astype(np.uint8)
    widened = cv2.dilate(seeds, np.ones((2 * side + 1, 2 * side + 1), np.uint8))
    return widened > 0, float(means.max())


def quality(original: Path, outputs: dict[str, Path]) -> tuple[dict[str, float], float]:
    """Compares `outputs` with `original` outside of what any of them covers.

    Returns:
        PSNR (dB) by command, and the share of the picture that was compared.

    Raises:
        BenchError: an output has another number of frames.
    """
    names = list(outputs)
    squares = dict.fromkeys(names, 0.0)
    compared = samples = 0
    streams = [decoded(path, "yuv420p") for path in (original, *outputs.values())]
    for index, pictures in enumerate(itertools.zip_longest(*streams)):
        for name, picture in zip(("the input", *names), pictures, strict=True):
            if picture is None:
                raise BenchError(f"{name} has only {index} frames, others have more")
        before, *afters = pictures
        height = before.shape[0] * 2 // 3
        allowed = 1.5 * changed(before[:height], afters[names.index("floor")][:height], 255)[1]
        cover = np.zeros(before[:height].shape, bool)
        for after in afters:
            cover |= changed(before[:height], after[:height], allowed)[0]
        outside = ~np.concatenate([cover.ravel(), *[cover[::2, ::2].ravel()] * 2])
        reference = before.ravel()[outside].astype(np.int32)
        for name, after in zip(names, afters, strict=True):
            squares[name] += float(np.square(after.ravel()[outside] - reference).sum())
        compared += reference.size
        samples += before.size
    return (
        {name: 10 * math.log10(255**2 * compared / max(squares[name], 1e-9)) for name in names},
        compared / samples,
    )


# -- the table -------------------------------------------------------------------------------------


def compare(
    size: str, clip: Path, commands: dict[str, Command], repeat: int, frames: int
) -> dict[str, object]:
    """Runs all commands `repeat` times, interleaved, and prints and returns their table."""
    outputs = {name: clip.with_name(f"out{index}.mp4") for index, name in enumerate(commands)}
    rounds: dict[str, list[Run]] = {name: [] for name in commands}
    for turn in range(repeat + 1):
        for name, command in commands.items():
            say(f"{size}: {name}, " + (f"round {turn} of {repeat}" if turn else "warm-up"))
            run = measure(name, command(clip, outputs[name]), outputs[name])
            if turn:
                rounds[name].append(run)
    say(f"{size}: quality")
    psnr, share = quality(clip, outputs)
    width, height = SIZES_WH[size]
    print(f"\n{size} ({width}x{height}), {frames} frames, median of {repeat}", end="; ")
    print(f"PSNR outside all covers, over {share:.0%} of the picture")
    print(
        f"{'':24}{'fps':>8}{'(from - to)':>16}{'CPU s/frame':>13}{'RSS MB':>9}{'PSS MB':>9}"
        f"{'output kB':>11}{'PSNR dB':>9}{'  ' + OURS + ' is':>18}"
    )
    table: dict[str, object] = {}
    for name, runs in rounds.items():
        fps = [frames / run.wall_s for run in runs]
        row = {
            "fps": statistics.median(fps),
            "cpu_s_per_frame": statistics.median(run.cpu_s for run in runs) / frames,
            "peak_rss_mb": statistics.median(run.peak_rss_mb for run in runs),
            "output_bytes": runs[-1].output_bytes,
            "psnr_db": psnr[name],
        }
        ratios = {
            other: statistics.median(
                theirs.wall_s / mine.wall_s
                for mine, theirs in zip(runs, rounds[other], strict=True)
            )
            for other in commands
        }
        slower = statistics.median(
            run.wall_s / our.wall_s for run, our in zip(runs, rounds[OURS], strict=True)
        )
        proportional = [run.peak_pss_mb for run in runs if run.peak_pss_mb is not None]
        if proportional:
            row["peak_pss_mb"] = statistics.median(proportional)
        pss_mb = f"{row['peak_pss_mb']:.0f}" if proportional else "-"
        spread = f"({min(fps):.2f} - {max(fps):.2f})"
        print(
            f"{name:24}{row['fps']:8.2f}{spread:>16}{row['cpu_s_per_frame']:13.4f}"
            f"{row['peak_rss_mb']:9.0f}{pss_mb:>9}{row['output_bytes'] / 1e3:11.0f}"
            f"{row['psnr_db']:9.2f}{slower:10.2f}x as fast",
            flush=True,
        )
        every = [{"wall_s": run.wall_s, "cpu_s": run.cpu_s} for run in runs]
        table[name] = {**row, "times_as_fast_as": ratios, "rounds": every}
    return {"commands": table, "compared_share": share}


def slope(size: str, clip: Path, frames: int) -> dict[str, float]:
    """Runs our command on `clip` and on ten of it; prints and returns how memory grows."""
    longer = clip.with_name("longer.mp4")
    repeated = itertools.chain.from_iterable(decoded(clip, "bgr24") for _ in range(LONGER))
    say(f"{size}: making a clip {LONGER} times longer")
    write_input(longer, repeated, SIZES_WH[size])
    output = clip.with_name("slope.mp4")
    say(f"{size}: memory on {frames} frames")
    short = measure(OURS, ours(clip, output), output)
    say(f"{size}: memory on {frames * LONGER} frames")
    long = measure(OURS, ours(longer, output), output)
    longer.unlink()
    lengths = [time_s / long.wall_s * LONGER for time_s, _ in long.samples]
    xs, ys = [], []
    for start in np.arange(LONGER / 4, LONGER - 1):
        within = [
            memory / MB
            for at, (_, memory) in zip(lengths, long.samples, strict=True)
            if start <= at < start + 1
        ]
        xs.append((start + 0.5) * frames / 1000)
        ys.append(statistics.fmean(within))
    line = statistics.linear_regression(xs, ys)
    rest = [y - line.slope * x - line.intercept for x, y in zip(xs, ys, strict=True)]
    middle = statistics.fmean(xs)
    error = math.sqrt(sum(r * r for r in rest) / (len(xs) - 2) / sum((x - middle) ** 2 for x in xs))
    print(
        f"\n{size} memory of {OURS}: peak RSS {short.peak_rss_mb:.0f} MB on {frames} frames, "
        f"{long.peak_rss_mb:.0f} MB on {frames * LONGER}; slope {line.slope:+.2f} MB per 1000 "
        f"frames, standard error {error:.2f} ({len(xs)} points)",
        flush=True,
    )
    return {
        "peak_rss_mb": short.peak_rss_mb,
        "peak_rss_mb_longer": long.peak_rss_mb,
        "mb_per_1000_frames": line.slope,
        "standard_error": error,
    }


# -- what the numbers depend on --------------------------------------------------------------------


def machine() -> dict[str, object]:
    """Returns CPU, cores, memory and how busy it is."""
    cpu = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        names = [line for line in listing.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def versions(environment: Path | None) -> dict[str, str]:
    found = {
        "python": platform.python_version(),
        "package": answer([sys.executable, "-m", "m2fp_stream", "--version"]),
        "opencv": cv2.__version__,
        "av": av.__version__,
        "ffmpeg": av.ffmpeg_version_info,
        "numpy": np.__version__,
    }
    if environment is not None:
        python = str(environment / "bin" / "python")
        question = (
            "import cv2, deface, imageio_ffmpeg, numpy;"
            "print(deface.__version__, '(ffmpeg', imageio_ffmpeg.get_ffmpeg_version() + ',',"
            "'opencv', cv2.__version__ + ',', 'numpy', numpy.__version__, end='')\n"
            "try:\n import onnx, onnxruntime; print(', onnxruntime', onnxruntime.__version__ + ')')"
            "\nexcept ImportError: print(', no onnxruntime)')"
        )
        found["deface"] = answer([python, "-c", question])
    return found


# -- command line ----------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def positive(text: str) -> int:
        value = int(text)
        if value < 1:
            raise argparse.ArgumentTypeError("must be at least 1")
        return value

    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="folder with clips/*.mkv and *.mp4 (default: ../shared/data beside the checkout)",
    )
    parser.add_argument("--synthetic", action="store_true", help="make the input, without --data")
    parser.add_argument("--frames", type=positive, default=150, help="of the clip (default: 150)")
    parser.add_argument("--sizes", nargs="+", choices=SIZES_WH, default=list(SIZES_WH))
    parser.add_argument("--repeat", type=positive, default=3, help="rounds (default: 3)")
    peer = parser.add_mutually_exclusive_group()
    peer.add_argument(
        "--deface-venv", type=Path, metavar="DIR", help="virtual environment that holds deface"
    )
    peer.add_argument(
        "--install-deface", action="store_true", help="make one in the working folder, from PyPI"
    )
    parser.add_argument("--slope", action="store_true", help="measure how memory grows, too")
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="keep inputs, outputs and logs there (default: a temporary folder, removed)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    return parser.parse_args()


def find_clips(data: Path) -> list[Path]:
    """Returns the clips in the order of their names.

    Raises:
        BenchError: there are none.
    """
    clips = sorted(p for p in (data / "clips").glob("*") if p.suffix in (".mkv", ".mp4"))
    if not clips:
        raise BenchError(f"no clips in {data / 'clips'}; name another --data or use --synthetic")
    return clips


def bench(args: argparse.Namespace, work: Path) -> None:
    clips = [] if args.synthetic else find_clips(args.data)
    environment = args.deface_venv.absolute() if args.deface_venv else None
    if args.install_deface:
        environment = install_deface(work / "deface")
    commands: dict[str, Command] = {"floor": floor, OURS: ours}
    if environment is not None:
        commands["deface"] = deface(environment)
        commands["deface --scale 640x360"] = deface(environment, "--scale", "640x360")
    else:
        say("deface is left out: name --deface-venv or --install-deface")
    report: dict[str, object] = {
        "machine": machine(),
        "versions": versions(environment),
        "codec": {"codec": "libx264", "crf": CRF, "preset": PRESET, "threads": THREADS},
        "input": [clip.name for clip in clips] or ["skimage.data.astronaut"],
        "frames": args.frames,
        "repeat": args.repeat,
    }
    for title in ("machine", "versions", "codec", "input"):
        print(f"{title}: {json.dumps(report[title])}", flush=True)
    tables: dict[str, object] = {}
    slopes: dict[str, object] = {}
    for size in args.sizes:
        say(f"{size}: making the input")
        clip = work / f"{size}.mp4"
        make = astronaut if args.synthetic else lambda n, wh: footage(clips, n, wh)
        write_input(clip, make(args.frames, SIZES_WH[size]), SIZES_WH[size])
        tables[size] = compare(size, clip, commands, args.repeat, args.frames)
        if args.slope:
            slopes[size] = slope(size, clip, args.frames)
    if args.json:
        args.json.write_text(json.dumps({**report, "sizes": tables, "slope": slopes}, indent=2))


def ended(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    args = arguments()
    signal.signal(signal.SIGTERM, ended)
    try:
        with ExitStack() as stack:
            if args.work is None:
                work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            else:
                work = args.work.absolute()
                work.mkdir(parents=True, exist_ok=True)
            bench(args, work)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
