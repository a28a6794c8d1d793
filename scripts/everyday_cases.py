"""The odd files of `scripts.everyday_files`: how each is made, and what the first version did."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from tests.kit import boxes, heif, media, oddities

__all__ = ["CASES", "Case", "Stage"]

Bgr = NDArray[np.uint8]
Words = list[str | Path]

WHO: Final = ("sister", "again", "night", "eat", "help", "please", "school", "thanks")
"""Clips of somebody who stands before a camera."""
_FRAMES: Final = 16
_SIZE_WH: Final = (480, 360)
_UNKNOWN: Final = "not recorded"


class Stage:
    """Where a case's files are written, and pictures of people to make them from.

    Args:
        data: folder with `clips`, `reports` and `everyday`.
        folder: empty, the case's own.
    """

    def __init__(self, data: Path, folder: Path) -> None:
        self.data, self.folder = data, folder

    def path(self, name: str) -> Path:
        """Returns where an input of that name goes."""
        return self.folder / name

    def report(self, name: str) -> Words:
        """Returns a small file of the reports, copied, for outputs may lie beside it."""
        target = self.path(name)
        target.write_bytes((self.data / "reports" / name).read_bytes())
        return [target]

    def people(
        self, count: int = _FRAMES, size_wh: tuple[int, int] = _SIZE_WH, who: str = "sister"
    ) -> list[Bgr]:
        """Returns frames of somebody before a camera."""
        found: list[Bgr] = []
        with av.open(self.data / "clips" / f"{who}.mkv") as container:
            for frame in container.decode(video=0):
                picture = frame.to_ndarray(format="bgr24")
                found.append(np.asarray(cv2.resize(picture, size_wh), np.uint8))
                if len(found) == count:
                    break
        return found

    def film(self, name: str, pictures: list[Bgr] | None = None, **more: Any) -> Words:
        """Writes a film of somebody, or of `pictures`."""
        frames = self.people() if pictures is None else pictures
        height, width = frames[0].shape[:2]
        media.write_video(self.path(name), frames=frames, size_wh=(width, height), **more)
        return [self.path(name)]


@dataclass(frozen=True)
class Case:
    """One odd file.

    Attributes:
        name: what the table calls it.
        build: makes it, and returns the words after ``anonymize``.
        before: what the first version did with such a file, as it was reported.
    """

    name: str
    build: Callable[[Stage], Words]
    before: str = _UNKNOWN


def _reported(name: str) -> Callable[[Stage], Words]:
    return lambda stage: stage.report(name)


def _heic(stage: Stage) -> Words:
    picture = stage.people(1)[0]
    return [heif.write(stage.path("tiles.heic"), heif.tiled(picture, 128, 2, stage.folder))]


def _suffixes(stage: Stage) -> Words:
    quiet = {"x265-params": "log-level=none"}
    made: dict[str, dict[str, Any]] = {
        "a.h265": {"codec": "libx265", "container_format": "hevc", "options": quiet},
        "a.mjpg": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "container_format": "mjpeg"},
        "a.qt": {"container_format": "mov"},
        "a.insv": {"container_format": "mp4"},
        "a.3g2": {},
        "a.asf": {"codec": "wmv2"},
        "a.m2v": {"codec": "mpeg2video"},
    }
    pictures = stage.people(4)
    stage.path("in").mkdir()
    for name, more in made.items():
        stage.film(f"in/{name}", pictures, **more)
    stage.film("in/a.dv", stage.people(4, (720, 576)), codec="dvvideo")
    stage.path("in/a.jfif").write_bytes(cv2.imencode(".jpg", pictures[0])[1].tobytes())
    return [stage.path("in"), "--jobs", "2"]


def _folder(stage: Stage) -> Words:
    folder = stage.path("in")
    folder.mkdir()
    pictures = stage.people(2)
    for name in ("interview.anonymized.v2.mov", f"{'long ' * 49}.mp4"):
        stage.film(f"in/{name}", pictures)
    cut = stage.film("in/cut.mkv")[0]
    assert isinstance(cut, Path)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    for name in ("notes.txt", "song.mp3", "sheet.pdf", "other.pdf"):
        (folder / name).write_bytes(b"nothing")
    return [folder]


def _canvas(stage: Stage) -> Words:
    return [*stage.report("ramp.webm"), "--canvas", "480x360"]


def _two(stage: Stage) -> Words:
    return [*stage.report("two.mp4"), "--stream", "2"]


def _edits(stage: Stage) -> Words:
    words = stage.film("edits.mp4", stage.people(50), options={"bf": "2", "g": "10"})
    boxes.set_edits(stage.path("edits.mp4"), [(500, boxes.EMPTY), (1000, 10 * 512)])
    return [*words, "--start", "0.7"]


def _gallery(stage: Stage) -> Words:
    """Nine tiles, as calls are recorded: eight people, and one empty."""
    rows = []
    tiles = [stage.people(_FRAMES, (320, 240), who) for who in WHO]
    tiles.append([np.full((240, 320, 3), 40, np.uint8)] * _FRAMES)
    for number in range(_FRAMES):
        row = [np.hstack([tiles[3 * y + x][number] for x in range(3)]) for y in range(3)]
        rows.append(np.vstack(row))
    return stage.film("gallery.mp4", rows)


def _all_around(stage: Stage) -> Words:
    """Somebody stands on the seam: half of him at each edge."""
    pictures = [np.roll(one, 240, axis=1) for one in stage.people()]
    words = stage.film("around.mp4", pictures)
    boxes.call_spherical(stage.path("around.mp4"))
    return words


def _fisheye(stage: Stage) -> Words:
    y, x = np.mgrid[0:480, 0:480].astype(np.float32) / 239.5 - 1
    radius = np.hypot(x, y)
    bent = np.tan(np.minimum(radius, 1) * 1.2) / np.tan(1.2)
    scale = np.where(radius > 0, bent / np.maximum(radius, 1e-6), 1).astype(np.float32)
    across, down = (x * scale + 1) * 319.5, (y * scale + 1) * 239.5
    pictures = [
        np.asarray(
            cv2.remap(one, across, down, cv2.INTER_LINEAR) * (radius < 1)[..., None], np.uint8
        )
        for one in stage.people(_FRAMES, (640, 480))
    ]
    return stage.film("fisheye.mp4", pictures)


def _tracks(stage: Stage) -> Words:
    return stage.film("tracks.mkv", extras=True, audio_s=0.6, metadata={"location": "+48+002/"})


def _corrupt(stage: Stage) -> Path:
    stage.film("corrupt.mp4", stage.people(60), options={"g": "15"})
    path = stage.path("corrupt.mp4")
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + 4 + (data.index(b"moov") - data.index(b"mdat")) // 2
    data[middle : middle + 3000] = b"\xff" * 3000
    path.write_bytes(data)
    return path


def _lost(codec: str, *words: str) -> Callable[[Stage], Words]:
    options = {"g": "20", "bf": "0"}
    if codec == "libx265":
        options = {"x265-params": "log-level=none:keyint=20:bframes=0"}

    def build(stage: Stage) -> Words:
        (whole,) = stage.film("whole.mp4", stage.people(40), codec=codec, options=options)
        return [oddities.without(Path(whole), stage.path("lost.mp4"), {9}), *words]

    return build


def _read(path: Path) -> Bgr:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"cannot read {path}")
    return np.asarray(cv2.resize(picture, _SIZE_WH), np.uint8)


def _animals(stage: Stage) -> Words:
    folder = stage.data / "everyday" / "coco_neg"
    wanted = {"cat", "dog", "horse", "bird", "bear", "cow", "giraffe"}
    pictures: list[Bgr] = []
    for entry in json.loads((folder / "list.json").read_text(encoding="utf-8")):
        if wanted & set(entry["categories"]):
            pictures += [_read(folder / "images" / entry["file"])] * 2
    return stage.film("animals.mp4", pictures, rate=5)


def _empty(draw: Callable[[Bgr, int], None], stage: Stage, name: str, dark: float = 1.0) -> Words:
    """Writes a street without anybody, over which something is drawn."""
    ground = np.asarray(_read(next(_streets(stage))) * dark, np.uint8)
    pictures = []
    for number in range(30):
        picture = ground.copy()
        draw(picture, number)
        pictures.append(picture)
    return stage.film(name, pictures)


def _streets(stage: Stage) -> Iterator[Path]:
    from scripts.bench.scenes_everyday import STREETS

    for name in STREETS:
        yield stage.data / "everyday" / "rooms_neg" / "images" / f"{name}.jpg"


def _time_lapse(stage: Stage) -> Words:
    """Every fifteenth frame of somebody, one in five seconds."""
    return stage.film("lapse.mp4", stage.people(240)[::15], rate=Fraction(1, 5))


def _hdr(stage: Stage) -> Words:
    return stage.film(
        "hdr.mkv",
        codec="libx265",
        pix_fmt="yuv420p10le",
        options={"x265-params": "log-level=none"},
        tags={"color_trc": 16, "color_primaries": 9, "colorspace": 9},
    )


def _interlaced(stage: Stage) -> Words:
    """Fields of two moments, as old cameras record them."""
    pictures = stage.people(32)
    woven = [one.copy() for one in pictures[::2]]
    for frame, other in zip(woven, pictures[1::2], strict=True):
        frame[1::2] = other[1::2]
    return stage.film(
        "interlaced.mp4", woven, options={"flags": "+ilme+ildct", "x264-params": "tff=1"}
    )


def _turned(degrees: int, *mirrors: bool) -> Callable[[Stage], Words]:
    mirror_x, mirror_y = mirrors or (False, False)

    def build(stage: Stage) -> Words:
        back = [np.ascontiguousarray(np.rot90(one, -degrees // 90)) for one in stage.people()]
        return stage.film("turned.mp4", back, rotation=(degrees, mirror_x, mirror_y))

    return build


def _sideways(degrees: int) -> Callable[[Stage], Words]:
    return lambda stage: stage.film(
        "sideways.mp4",
        [np.ascontiguousarray(np.rot90(one, degrees // 90)) for one in stage.people()],
    )


def _sized(width: int, height: int, count: int, **more: Any) -> Callable[[Stage], Words]:
    return lambda stage: stage.film("sized.mkv", stage.people(count, (width, height)), **more)


def _at_rate(rate: int) -> Callable[[Stage], Words]:
    return lambda stage: stage.film("rate.mp4", stage.people(max(4, rate // 8)), rate=rate)


FIRST: Final = "first picture only"
OPEN: Final = "open (a leak)"
CASES: Final = (
    Case("HEIC", _reported("a.heic"), "refused"),
    Case("HEIC in tiles", _heic, "a film of one tile, where named"),
    Case("AVIF", _reported("a.avif"), "refused"),
    Case("animated WebP", _reported("anim.webp"), FIRST),
    Case("APNG", _reported("anim.png"), FIRST),
    Case("a recorder's .dav", _reported("clip.dav"), '3, "check that the file is complete"'),
    Case(
        "folder: .h265 .mjpg .qt .insv .3g2 .asf .m2v .dv .jfif",
        _suffixes,
        "two of 18 names taken, nothing said of the rest",
    ),
    Case(
        "folder: long name, .anonymized.v2.mov, one cut short, four that are none",
        _folder,
        "skipped without a word; stopped at the first failure",
    ),
    Case("transparent WebM, VP8", _reported("alpha_vp8.webm"), "opaque: the hidden visible"),
    Case("transparent WebM, VP9", _reported("alpha_vp9.webm"), "opaque: the hidden visible"),
    Case("size changes (ramp)", _reported("ramp.webm"), "all at 128x72"),
    Case("size changes, --canvas 480x360", _canvas),
    Case("transport stream from 1.48 s", _reported("base.ts"), "starts at 1.48 s"),
    Case("one picture lost, H.264 (report)", _reported("drop_h264.mp4"), "0; said to smear"),
    Case("one picture lost, HEVC (report)", _reported("drop_hevc.mp4"), "0; said to be withheld"),
    Case("lost reference, H.264", _lost("libx264"), "0; what follows smears"),
    Case("lost reference, HEVC", _lost("libx265"), "0; frames withheld"),
    Case("lost reference, H.264, --salvage", _lost("libx264", "--salvage"), "0; smears"),
    Case("corrupt packets in the middle", lambda stage: [_corrupt(stage)]),
    Case("the same, --salvage", lambda stage: [_corrupt(stage), "--salvage"]),
    Case("motion photo", _reported("motion.jpg"), "the film left out, not named"),
    Case("MPO", _reported("mpo.jpg"), "the second picture left out, not named"),
    Case("two videos in a file", _reported("two.mp4"), 'the second called "video"'),
    Case("two videos, --stream 2", _two, "no way to choose"),
    Case("display matrix, 90 degrees", _turned(90)),
    Case("display matrix, 180 degrees", _turned(180)),
    Case("display matrix, 270 degrees", _turned(270)),
    Case("display matrix, mirrored", _turned(0, True, False)),
    Case("pixels sideways, 90 degrees", _sideways(90), OPEN),
    Case("pixels upside down", _sideways(180), OPEN),
    Case("pixels sideways, 270 degrees", _sideways(270), OPEN),
    Case("upside down, from behind, comes", _reported("down_arriving.mp4"), OPEN),
    Case("upside down, from behind, goes", _reported("down_leaving.mp4"), OPEN),
    Case("upside down, small", _reported("small_night_down.mp4"), OPEN),
    Case("picture, upside down, small (night)", _reported("night_0_third_down.png"), OPEN),
    Case("picture, upside down, small (sister)", _reported("sister_0_third_down.png"), OPEN),
    Case("picture, sideways, small (again)", _reported("again_0_third_cw.png"), OPEN),
    Case("360 degrees, somebody on the seam", _all_around, "the tag lost without a word"),
    Case("fisheye", _fisheye),
    Case("gallery of nine tiles", _gallery),
    Case("interlaced", _interlaced),
    Case("4:2:2, 10 bits", lambda stage: stage.film("a.mkv", codec="ffv1", pix_fmt="yuv422p10le")),
    Case("HDR (PQ)", _hdr),
    Case("edit list, --start 0.7", _edits),
    Case("data, subtitles, chapters, sound, place", _tracks),
    Case("time-lapse, one in 5 s", _time_lapse),
    Case("1x1", _sized(1, 1, 4, codec="ffv1", pix_fmt="bgra"), _UNKNOWN),
    Case("17x9", _sized(17, 9, 4, codec="ffv1", pix_fmt="bgra"), _UNKNOWN),
    Case("8K", _sized(7680, 4320, 3, options={"preset": "ultrafast"})),
    Case("1 frame a second", _at_rate(1)),
    Case("240 frames a second", _at_rate(240)),
    Case(
        "--crf 0", lambda stage: [*stage.film("a.mp4"), "--crf", "0"], "a profile few players have"
    ),
    Case("nobody: animals", _animals),
    Case(
        "nobody: leaves in the wind",
        lambda stage: _empty(oddities.draw_leaves, stage, "leaves.mp4"),
    ),
    Case(
        "nobody: headlights at night",
        lambda stage: _empty(oddities.draw_headlights, stage, "lights.mp4", 0.15),
    ),
    Case("nobody: snow", lambda stage: _empty(oddities.draw_snow, stage, "snow.mp4")),
)
