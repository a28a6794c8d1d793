"""Makes docs/pictures/: what the README shows, written by the real command.

    python scripts/readme_pictures.py

The people in it come with scikit-image's wheel and are free to show (docstrings of
`skimage.data.astronaut` and `skimage.data.camera`): Eileen Collins, photographed by NASA, public
domain; a man with a camera, photographed by Lav Varshney, CC0. Their SHA-256 is checked, so that
the licence belongs to the very file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.labels import PALETTE_RGB, PRESETS, Label

U8 = NDArray[np.uint8]

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "pictures"
PEOPLE: Final = {
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
}
LARGEST_BYTES: Final = 150_000
TILE_PX: Final = 256
CLIP_WH: Final = (640, 360)
CLIP_FRAMES: Final = 60
SHOWN_FRAMES: Final = (20, 32, 45, 59)
"""From the first sight of the chin to the end."""
IN_LEGEND: Final = (
    Label.HAIR,
    Label.FACE,
    Label.TORSO_SKIN,
    Label.LEFT_ARM,
    Label.RIGHT_ARM,
    Label.UPPER_CLOTHES,
    Label.PANTS,
    Label.HUMAN,
)


def people(folder: Path) -> None:
    """Copies the photographs into `folder`."""
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        sys.exit("readme_pictures: scikit-image is missing: pip install scikit-image")
    for name, expected in PEOPLE.items():
        data = (Path(package.origin).parent / "data" / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != expected:
            sys.exit(f"readme_pictures: {name} is not the file whose licence is known")
        (folder / name).write_bytes(data)


def command(*words: str | Path) -> None:
    """Runs m2fp-stream; its output is not shown unless it fails."""
    line = [sys.executable, "-m", "m2fp_stream", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"readme_pictures: {' '.join(line)}: exit {done.returncode}\n{done.stderr}")


def read(path: Path) -> U8:
    """Returns a picture as (H, W, 3) BGR."""
    return cast(U8, cv2.imread(str(path), cv2.IMREAD_COLOR))


def tiles(pictures: Sequence[U8], height: int = TILE_PX) -> U8:
    """Returns `pictures` side by side at one height, a white line between them."""
    row: list[U8] = []
    for picture in pictures:
        width = round(picture.shape[1] * height / picture.shape[0])
        resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        row += [cast(U8, resized), np.full((height, 4, 3), 255, np.uint8)]
    return np.hstack(row[:-1])


def tilt(photo: U8, path: Path) -> None:
    """Writes a clip in which the camera tilts up `photo`, so that the head comes in from above."""
    width, height = CLIP_WH
    large = cast(U8, cv2.resize(photo, (width, width), interpolation=cv2.INTER_CUBIC))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(CLIP_FRAMES):
            top = round((width - height) * (1 - number / (CLIP_FRAMES - 1)))
            view = np.ascontiguousarray(large[top : top + height])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="bgr24")))
        container.mux(stream.encode())


def frames(path: Path) -> list[U8]:
    """Returns every frame of a video as BGR."""
    with av.open(str(path)) as container:
        decoded = container.decode(video=0)
        return [cast(U8, frame.to_ndarray(format="bgr24")) for frame in decoded]


def legend(labels: Sequence[Label], height: int = TILE_PX) -> U8:
    """Returns a white card with the palette's colour, the id and the name of `labels`."""
    card = np.full((height, 190, 3), 255, np.uint8)
    step = height // len(labels)
    for row, label in enumerate(labels):
        top = row * step + step // 2 - 12
        red, green, blue = PALETTE_RGB[label]
        cv2.rectangle(card, (12, top), (36, top + 24), (blue, green, red), cv2.FILLED)
        text = f"{label.value} {label.title}"
        cv2.putText(
            card, text, (48, top + 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA
        )
    return card


def save(name: str, picture: U8) -> None:
    """Writes one picture of the README."""
    path = FOLDER / name
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    size = path.stat().st_size
    print(f"{path.name}: {picture.shape[1]}x{picture.shape[0]}, {size / 1000:.0f} kB")
    if size > LARGEST_BYTES:
        sys.exit(f"readme_pictures: {name} is larger than {LARGEST_BYTES} bytes")


def sway(photo: U8, path: Path) -> None:
    """Writes a film of six seconds in which the camera sways a little."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=15, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for number in range(90):
            left = 40 + round(30 * np.sin(number * 2 * np.pi / 90))
            view = cv2.resize(photo[10:340, left : left + 440], (640, 480))
            frame = av.VideoFrame.from_ndarray(np.asarray(view, np.uint8), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def windows(film: Path, work: Path) -> list[U8]:
    """Returns screenshots of the preview: at the start, as configured, and after the key p."""
    for tool in ("Xvfb", "import", "xdotool"):
        if shutil.which(tool) is None:
            sys.exit("readme_pictures: needs Xvfb, ImageMagick and xdotool")
    reading, writing = os.pipe()
    with subprocess.Popen(
        [
            "Xvfb",
            "-displayfd",
            str(writing),
            "-screen",
            "0",
            "640x480x24",
            "-nolisten",
            "tcp",
            "-noreset",
        ],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    ) as screen:
        os.close(writing)
        with os.fdopen(reading) as number:
            display = f":{number.readline().strip()}"
        (work / "loop.yaml").write_text("capture: {loop: true}\n")
        line = [sys.executable, "-m", "m2fp_stream", "preview", "--source", str(film)]
        line += ["--config", str(work / "loop.yaml")]
        environment = {**os.environ, "DISPLAY": display}
        with subprocess.Popen(line, env=environment, stderr=subprocess.DEVNULL) as preview:
            shots = []
            for wait_s, key in ((2.5, ""), (7.0, ""), (2.5, "p")):
                if key:
                    subprocess.run(["xdotool", "key", key], env=environment, check=True)
                time.sleep(wait_s)
                shot = subprocess.run(
                    ["import", "-display", display, "-window", "root", "png:-"],
                    capture_output=True,
                    check=True,
                )
                shots.append(
                    cast(U8, cv2.imdecode(np.frombuffer(shot.stdout, np.uint8), cv2.IMREAD_COLOR))
                )
            preview.terminate()
        screen.terminate()
    return shots


def main() -> int:
    """Makes every picture; returns the exit code."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        photos = work / "photos"
        photos.mkdir()
        people(photos)
        astronaut, camera = (read(photos / name) for name in PEOPLE)

        tilt(astronaut, work / "clip.mp4")
        command("anonymize", work / "clip.mp4")
        before, after = frames(work / "clip.mp4"), frames(work / "clip.anonymized.mp4")
        rows = [tiles([clip[i] for i in SHOWN_FRAMES], 140) for clip in (before, after)]
        save("video.jpg", np.vstack([rows[0], np.full_like(rows[0][:4], 255), rows[1]]))

        def anonymized(*options: str) -> list[U8]:
            command("anonymize", photos, "-o", work, "--overwrite", *options)
            return [read(work / name.replace(".png", ".anonymized.png")) for name in PEOPLE]

        hidden = anonymized("--hide", "person", "--effect", "silhouette")
        save("folder.jpg", tiles([astronaut, hidden[0], camera, hidden[1]]))

        maps = []
        for name in PEOPLE:
            command("parse", photos / name, "-o", work / name, "--format", "palette")
            maps.append(read(work / name))
        save("labels.jpg", tiles([astronaut, maps[0], camera, maps[1], legend(IN_LEGEND)]))

        effects = [
            anonymized("--effect", effect)[0]
            for effect in ("frost", "solid", "silhouette", "mosaic")
        ]
        save("effects.jpg", tiles(effects))
        presets = [anonymized("--hide", preset)[1] for preset in PRESETS]
        save("presets.jpg", tiles([camera, *presets]))

        sway(astronaut, work / "film.mp4")
        save("window.jpg", tiles(windows(work / "film.mp4", work)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
