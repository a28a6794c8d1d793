"""Webcams, known by what they are, not by the number that the system gives them today."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Protocol, final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import SourceError
from .base import Captured, SourceInfo
from .convert import fit_bgr
from .devices import (
    CameraDevice,
    CameraId,
    busy,
    connected_cameras,
    find_again,
    find_camera,
    on_linux,
)
from .live import LIVE_TIME_BASE, LiveSource
from .options import CameraOptions

__all__ = ["CameraBackend", "CameraReader", "CameraSource", "OpenCvCameras"]


class CameraReader(Protocol):
    """An open camera; one thread at a time."""

    def read(self) -> NDArray[np.uint8] | None:
        """Waits for the next picture, (H, W, 3) BGR, the caller's own; None if there is none."""

    def close(self) -> None:
        """Lets go of the camera; idempotent."""


class CameraBackend(Protocol):
    """Knows which cameras are connected and opens them."""

    def list(self) -> Sequence[CameraDevice]:
        """Returns the cameras connected now."""

    def open(self, device: CameraDevice, options: CameraOptions) -> CameraReader:
        """Opens one.

        Raises:
            SourceError: it cannot be opened; nothing stays open.
        """


@final
class CameraSource(LiveSource):
    """Reads a webcam, and no other than the one named.

    `camera` says which one it is: hand that over when it is to be opened again after it was lost.
    It is then found in any port (see `CameraId`) and under any number, and never confused with
    another one that has taken its number.

    A read that hangs lasts as long as the back end lets it (OpenCV on Linux: 10 seconds), also
    after `close`.

    Args:
        camera: an identity, or what `find_camera` takes.
        options: size, rate and format asked for.
        first_frame_id, size_wh: see `LiveSource`.
        backend: OpenCV if None.

    Raises:
        SourceError: not connected, not to be opened, no picture; while iterating: it gives no
            picture any more.
    """

    def __init__(
        self,
        camera: CameraId | str,
        options: CameraOptions | None = None,
        *,
        first_frame_id: int = 0,
        size_wh: tuple[int, int] | None = None,
        backend: CameraBackend | None = None,
    ) -> None:
        super().__init__(f"camera {camera}", first_frame_id=first_frame_id, size_wh=size_wh)
        backend = OpenCvCameras() if backend is None else backend
        options = options or CameraOptions()
        self._reader: CameraReader | None = None
        cameras = backend.list()
        device = (
            find_camera(camera, cameras) if isinstance(camera, str) else find_again(camera, cameras)
        )
        self._device, self._camera = device, device.id
        self._name = f"camera {device.id}"
        try:
            self._reader = backend.open(device, options)
            # Between the look and the opening another one may have taken the number.
            if not any(one.node == device.node and one.id == device.id for one in backend.list()):
                raise SourceError(f"{self._name}: was unplugged while it was opened; try again")
            first = self._take()
            self._waiting = iter([first])
            height, width = first[0].shape[:2]
        except BaseException:
            self.close()
            raise
        self._shape_wh = width, height
        self._size_wh = self._canvas_wh or (width, height)
        self._info = SourceInfo(
            size_wh=self._size_wh,
            time_base=LIVE_TIME_BASE,
            average_rate=Fraction(options.fps),
            colorspace=0,
        )

    @property
    def info(self) -> SourceInfo:
        """What the camera gives; `average_rate` is what it was asked for."""
        return self._info

    @property
    def camera(self) -> CameraId:
        """Which camera it is."""
        return self._camera

    def _shut(self) -> None:
        for picture, _ in getattr(self, "_waiting", ()):
            picture.fill(0)
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _take(self) -> tuple[NDArray[np.uint8], int]:
        assert self._reader is not None  # never after `_shut`
        picture = self._reader.read()
        if picture is None:
            problem = busy(self._device) or "gives no picture any more; plug it in again"
            raise SourceError(f"{self._name}: {problem}")
        return picture, time.monotonic_ns()

    def _capture(self) -> Iterator[Captured]:
        self._check_open()
        while True:
            given = self._read(self._next_picture)
            if given is None:
                return
            picture, captured_ns = given
            if self._closed.is_set():
                picture.fill(0)
                return
            shape_wh = picture.shape[1], picture.shape[0]
            restart, self._shape_wh = shape_wh != self._shape_wh, shape_wh
            try:
                captured = self._captured(
                    lambda out, picture=picture: fit_bgr(picture, out),  # type: ignore[misc]
                    self._size_wh,
                    captured_ns,
                    restart=restart,
                )
            finally:
                picture.fill(0)
            yield captured

    def _next_picture(self) -> tuple[NDArray[np.uint8], int] | None:
        first = next(self._waiting, None)
        if first is not None:
            return first
        try:
            return self._take()
        except SourceError:
            if self._closed.is_set():
                return None
            raise


@final
class OpenCvCameras:
    """Opens cameras through OpenCV: V4L2 on Linux, whatever it finds elsewhere.

    Elsewhere than on Linux cameras cannot be told apart (`connected_cameras`).
    """

    def list(self) -> Sequence[CameraDevice]:
        """Returns the cameras connected now (Linux), or numbers that may be tried."""
        return connected_cameras()

    def open(self, device: CameraDevice, options: CameraOptions) -> CameraReader:
        """Opens one camera.

        Raises:
            SourceError: it is not there, may not be used or is in use.
        """
        return _OpenCvReader(device, options)


class _OpenCvReader:
    def __init__(self, device: CameraDevice, options: CameraOptions) -> None:
        linux = on_linux()
        if linux and device.node.exists() and not os.access(device.node, os.R_OK | os.W_OK):
            raise SourceError(
                f"camera {device.id}: no right to use {device.node}; "
                "add the user to its group (video), then log in again"
            )
        with _quiet():
            self._capture = (
                cv2.VideoCapture(str(device.node), cv2.CAP_V4L2)
                if linux
                else cv2.VideoCapture(device.number)
            )
            if not self._capture.isOpened():
                self._capture.release()
                problem = busy(device) or f"{device.node} cannot be opened; plug it in again"
                raise SourceError(f"camera {device.id}: {problem}")
            # The format first: the sizes and rates to choose from depend on it.
            if options.fourcc is not None:
                code = int.from_bytes(options.fourcc.encode(), "little")
                self._capture.set(cv2.CAP_PROP_FOURCC, code)
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, options.width)
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, options.height)
            self._capture.set(cv2.CAP_PROP_FPS, options.fps)
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def read(self) -> NDArray[np.uint8] | None:
        with _quiet():
            good, picture = self._capture.read()
        if not good or picture.ndim != 3 or picture.dtype != np.uint8:
            return None
        return np.asarray(picture, np.uint8)

    def close(self) -> None:
        self._capture.release()


@contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV tells on stderr what our errors say."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
