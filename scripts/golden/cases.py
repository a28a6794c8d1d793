"""The photographs of the golden files, and how a golden file is written and read.

The photographs come with scikit-image's wheel and are free to use (docstrings of
`skimage.data.astronaut`, `camera`, `chelsea` and `coffee`: public domain and CC0); their SHA-256 is
checked. None is stored here: a golden file holds what the network found.

NumPy and OpenCV only, and Python 3.10: the classic stack imports this file, and the tests do.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CASES",
    "Case",
    "Instance",
    "digest_of",
    "instances_of",
    "large_picture",
    "packed",
    "paint",
    "read_file",
    "stored_instances",
    "write_file",
]

_PHOTOS: Final = {
    "astronaut": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "camera": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    "chelsea": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
}
_HUMAN: Final = 20


@dataclass(frozen=True)
class Case:
    """One picture that the reference parses.

    Attributes:
        name: of the golden file.
        kind: whose weights.
        photo: of scikit-image.
        rows: what of the photograph is shown, begin and end.
        columns: likewise.
        short_side: of the network's input, in pixels; None: as the LIP pipeline has it, the
            picture as it is in the middle of 512 x 384.
        exact: whether the network runs in float64 and its output is kept, too.
    """

    name: str
    kind: str
    photo: str
    rows: tuple[int, int]
    columns: tuple[int, int]
    short_side: int | None
    exact: bool = False

    def bgr(self) -> NDArray[np.uint8]:
        """Returns the picture, (h, w, 3) uint8 BGR.

        Raises:
            FileNotFoundError: scikit-image is not installed.
            ValueError: the photograph is not the file that is known.
        """
        package = importlib.util.find_spec("skimage")
        if package is None or package.origin is None:
            raise FileNotFoundError("scikit-image ships the photographs: pip install scikit-image")
        path = Path(package.origin).parent / "data" / f"{self.photo}.png"
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != _PHOTOS[self.photo]:
            raise ValueError(f"{path.name} is not the photograph of the golden files")
        whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        part = np.asarray(whole, np.uint8)[slice(*self.rows), slice(*self.columns)]
        return np.ascontiguousarray(part)


CASES: Final = (
    # All but one become 256 x 384, so that one exported network serves them.
    Case("astronaut", "cihp", "astronaut", (0, 341), (0, 512), 256),
    Case("camera", "cihp", "camera", (60, 401), (0, 500), 256),  # 375 columns, padded
    Case("chelsea", "cihp", "chelsea", (0, 300), (0, 450), 256),
    Case("coffee", "cihp", "coffee", (0, 400), (0, 600), 256),
    Case("portrait", "cihp", "astronaut", (0, 512), (60, 401), 256),
    # What a user of ModelScope's pipeline gets.
    Case("astronaut_default", "cihp", "astronaut", (0, 512), (0, 512), 640),
    Case("chelsea_default", "cihp", "chelsea", (0, 300), (0, 451), 640),
    Case("astronaut_lip", "lip", "astronaut", (0, 400), (60, 360), None),
    Case("chelsea_lip", "lip", "chelsea", (0, 300), (60, 440), None),
    # Small enough to keep every number that the network gives.
    Case("chelsea_exact", "cihp", "chelsea", (0, 300), (0, 451), 64, exact=True),
    Case("camera_exact", "cihp", "camera", (60, 401), (0, 500), 64, exact=True),  # padded
)


def large_picture() -> NDArray[np.uint8]:
    """Returns the picture that time and memory are measured on, (1080, 1920, 3) uint8 BGR."""
    case = next(one for one in CASES if one.name == "astronaut_default")
    large = cv2.resize(case.bgr()[:288], (1920, 1080), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.uint8)


@dataclass(frozen=True, eq=False)
class Instance:
    """One part or human.

    Attributes:
        category: class number.
        score: 0..1.
        mask: (h, w) bool, of the picture's size.
    """

    category: int
    score: float
    mask: NDArray[np.bool_]


def paint(instances: Sequence[Instance], shape_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns the label map of a list of instances, (h, w) uint8.

    Humans lie below all parts; among equals, a higher score lies above a lower.
    """
    label_map = np.zeros(shape_hw, np.uint8)
    for one in sorted(instances, key=lambda one: (one.category != _HUMAN, one.score)):
        label_map[one.mask] = one.category
    return label_map


def instances_of(
    categories: Sequence[int], scores: Sequence[float], masks: Sequence[NDArray[Any]]
) -> list[Instance]:
    """Returns instances, the surest first."""
    found = [
        Instance(int(category), float(score), np.asarray(mask) > 0)
        for category, score, mask in zip(categories, scores, masks, strict=True)
    ]
    return sorted(found, key=lambda one: -one.score)


def stored_instances(golden: Mapping[str, NDArray[Any]]) -> list[Instance]:
    """Returns the instances of a golden file, the surest first."""
    height, width = golden["label_map"].shape
    masks = np.unpackbits(golden["masks"], axis=1, count=height * width).astype(bool)
    return instances_of(
        golden["categories"].tolist(),
        golden["scores"].tolist(),
        list(masks.reshape(-1, height, width)),
    )


def packed(instances: Sequence[Instance], shape_hw: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Returns instances as a golden file has them, with the label map that they give."""
    masks = np.array([one.mask.reshape(-1) for one in instances], bool)
    return {
        "categories": np.array([one.category for one in instances], np.uint8),
        "scores": np.array([one.score for one in instances], np.float32),
        "masks": np.packbits(masks.reshape(len(instances), -1), axis=1),
        "label_map": paint(instances, shape_hw),
    }


def digest_of(array: NDArray[Any]) -> str:
    """Returns the SHA-256 of an array's shape, type and values."""
    values = np.ascontiguousarray(array)
    head = f"{values.dtype.str} {values.shape} ".encode()
    return hashlib.sha256(head + values.tobytes()).hexdigest()


def write_file(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes an ``.npz`` file: the same bytes for the same arrays, as small as zlib makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, values in sorted(arrays.items()):
            stream = io.BytesIO()
            np.lib.format.write_array(stream, np.asarray(values, order="C"), allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy"), stream.getvalue(), zipfile.ZIP_DEFLATED, 9
            )


def read_file(path: Path) -> dict[str, NDArray[Any]]:
    """Returns the arrays of a golden file."""
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}
