"""A screen that nobody sees: Xvfb, and what is on it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

TOOLS = ("Xvfb", "import")
"""Programs that it takes; `import` is ImageMagick's."""


def missing(*more: str) -> list[str]:
    """Returns which of its programs, and of `more`, are not installed."""
    return [tool for tool in (*TOOLS, *more) if shutil.which(tool) is None]


@contextmanager
def screen(*options: str, size_wh: tuple[int, int] = (1024, 768)) -> Iterator[str]:
    """Runs an X server on a free display and gives its name; skips where there is none."""
    if missing():
        pytest.skip("needs Xvfb and ImageMagick; apt-get install xvfb imagemagick")
    reading, writing = os.pipe()
    size = f"{size_wh[0]}x{size_wh[1]}x24"
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", size, "-nolisten", "tcp"]
    with subprocess.Popen(
        [*command, "-noreset", *options],
        pass_fds=(writing,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        os.close(writing)
        try:
            with os.fdopen(reading, "rb") as number:
                yield f":{number.readline().decode().strip()}"
        finally:
            server.terminate()


def screenshot(display: str) -> NDArray[np.uint8]:
    """Returns what is on the screen of a display, (H, W, 3) uint8 BGR."""
    done = subprocess.run(
        ["import", "-display", display, "-window", "root", "ppm:-"],
        capture_output=True,
        check=True,
    )
    picture = cv2.imdecode(np.frombuffer(done.stdout, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture, np.uint8)
