"""Webcams, known by what they are, not by the number that the system gives them today."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import re
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol, final

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..core.errors import SourceError
from ..options import Options
from .base import Captured, SourceInfo
from .convert import fit_bgr
from .live import LIVE_TIME_BASE, LiveSource

__all__ = [
    "CameraBackend",
    "CameraDevice",
    "CameraId",
    "CameraOptions",
    "CameraReader",
    "CameraSource",
    "OpenCvCameras",
    "OtherCameraError",
    "find_camera",
    "holders_of",
    "list_cameras",
]

_SYSFS: Final = Path("/sys/class/video4linux")
_DEV: Final = Path("/dev")
_PROC: Final = Path("/proc")
_VIDIOC_REQBUFS: Final = 0xC0145608
"""Asks for buffers; asked for none, it only says whether another program has some (EBUSY).
Source: linux/videodev2.h, _IOWR('V', 8, struct v4l2_requestbuffers), 20 bytes."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._:-]+")
_NODE: Final = re.compile(r"video(\d+)")


class CameraOptions(Options):
    """What is asked of a camera; it may answer with the nearest it can."""

    width: Annotated[
        int, Field(title="Width", description="Pixels across the picture.", ge=16, le=7680)
    ] = 1280
    height: Annotated[
        int, Field(title="Height", description="Pixels down the picture.", ge=16, le=4320)
    ] = 720
    fps: Annotated[
        int,
        Field(
            title="Frame rate",
            description="Frames a second.",
            ge=1,
            le=240,
        ),
    ] = 30
    fourcc: Annotated[
        Literal["MJPG", "YUYV", "NV12"] | None,
        Field(
            title="Format on the wire",
            description="MJPG gives large pictures over USB 2; leave empty for the camera's own.",
        ),
    ] = "MJPG"


@dataclass(frozen=True, slots=True)
class CameraId:
    """What stays the same when a camera is plugged in again.

    With a serial number it is the same camera in every port; without one, whatever of that vendor
    and product is in that port.

    Attributes:
        vendor, product: USB ids, four hexadecimal digits each; empty for what is no USB device.
        serial: empty where it has none.
        path: controller and ports of the USB socket; for other devices, their place in the system.
        name: for people; no part of the identity.
        interface: number of the USB interface, for devices that hold several cameras.
    """

    vendor: str
    product: str
    serial: str
    path: str
    name: str
    interface: str = "00"

    def __str__(self) -> str:
        """The form to give to `find_camera`: by serial number if there is one, else by port."""
        if self.vendor and self.serial:
            return f"usb-{self.vendor}:{self.product}-{self.serial}{self._suffix}"
        return self.by_port

    @property
    def by_port(self) -> str:
        """The form that says the port; tells twins with one serial number apart."""
        if not self.vendor:
            return self.path
        return f"usb-{self.vendor}:{self.product}@{self.path}{self._suffix}"

    @property
    def _suffix(self) -> str:
        return "" if self.interface in ("", "00") else f"+{self.interface}"


@dataclass(frozen=True, slots=True)
class CameraDevice:
    """A camera that is connected now.

    Attributes:
        id: which camera it is.
        number: what the system calls it at present.
        node: its device file.
    """

    id: CameraId
    number: int
    node: Path

    def __str__(self) -> str:
        return f"{self.number}: {self.id.name or 'unnamed'} ({self.id})"


class OtherCameraError(SourceError):
    """The camera is away and others are connected: it may have been swapped."""


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


def list_cameras(root: Path = _SYSFS, dev: Path = _DEV) -> tuple[CameraDevice, ...]:
    """Returns the cameras that Linux knows, by number; empty on other systems.

    Source: Linux kernel documentation, ABI/stable/sysfs-bus-usb (idVendor, idProduct, serial) and
    userspace-api/media/v4l/open.html. A UVC camera has a second node for metadata: its `index` is
    not 0, and it is left out.

    Args:
        root: sysfs's folder of video devices.
        dev: the folder of device files.
    """
    found = []
    for folder in root.glob("video*"):
        match = _NODE.fullmatch(folder.name)
        if match and _text(folder / "index") in ("", "0"):
            found.append(CameraDevice(_identity(folder), int(match[1]), dev / folder.name))
    return tuple(sorted(found, key=lambda one: one.number))


def find_camera(text: str, cameras: Sequence[CameraDevice] | None = None) -> CameraDevice:
    """Returns the camera that `text` means.

    Args:
        text: a number ("0"), a device file ("/dev/video0", or a link to one such as those in
            /dev/v4l/by-id), or an identity (`str(CameraId)`, `CameraId.by_port`).
        cameras: those to choose from; by default those connected.

    Raises:
        SourceError: none or several fit; the message lists what is connected.
    """
    cameras = OpenCvCameras().list() if cameras is None else cameras
    if text.isdecimal():
        fitting = [one for one in cameras if one.number == int(text)]
    elif text.startswith("/"):
        node = Path(os.path.realpath(text))
        fitting = [one for one in cameras if node in (one.node, Path(os.path.realpath(one.node)))]
    else:
        fitting = [one for one in cameras if text in (str(one.id), one.id.by_port)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        ports = " or ".join(one.id.by_port for one in fitting)
        raise SourceError(f"camera {text}: several are connected; name one by its port: {ports}")
    connected = "; ".join(map(str, cameras)) or "none"
    if "@" in text and not text.startswith("usb-"):  # an address by mistake, with its password
        text = "named"
    raise SourceError(f"camera {text}: is not connected; plug it in, or name one of: {connected}")


def holders_of(node: Path, proc: Path = _PROC) -> tuple[str, ...]:
    """Returns the other programs that have `node` open, such as "zoom (4711)", as far as told.

    Those of other users are not told to an ordinary one. Source: proc_pid_fd(5), proc_pid_comm(5).
    """
    try:
        wanted = node.stat()
    except OSError:
        return ()
    found = {}
    for process in proc.glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with suppress(OSError):  # it has ended, or is another user's
            for link in (process / "fd").iterdir():
                with suppress(OSError):
                    if os.path.samestat(link.stat(), wanted):
                        name = _safe(_text(process / "comm")) or "a program"
                        found[int(process.name)] = f"{name} ({process.name})"
                        break
    return tuple(found[number] for number in sorted(found))


def _is_busy(node: Path) -> bool:
    """Whether another program takes pictures from a V4L2 device; it may hide who it is."""
    try:
        descriptor = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return error.errno == errno.EBUSY
    try:
        # Of pictures (1), in mapped memory (1), none.
        fcntl.ioctl(descriptor, _VIDIOC_REQBUFS, struct.pack("=5I", 0, 1, 1, 0, 0))
    except OSError as error:
        return error.errno == errno.EBUSY
    finally:
        os.close(descriptor)
    return False


def _busy(device: CameraDevice) -> str:
    """Returns who else uses a camera, in words; empty where nobody is known to."""
    if not _on_linux():
        return ""
    holders = holders_of(device.node)
    if holders:
        uses = "uses" if len(holders) == 1 else "use"
        return f"is busy: {' and '.join(holders)} {uses} it; close that first"
    if _is_busy(device.node):
        return "is busy: a program of another user or in a container uses it; close that first"
    return ""


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
            find_camera(camera, cameras) if isinstance(camera, str) else _again(camera, cameras)
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
            problem = _busy(self._device) or "gives no picture any more; plug it in again"
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


def _again(camera: CameraId, cameras: Sequence[CameraDevice]) -> CameraDevice:
    """Finds the same camera among those connected."""

    def is_it(one: CameraId) -> bool:
        same = (one.vendor, one.product, one.serial, one.interface) == (
            *(camera.vendor, camera.product, camera.serial, camera.interface),
        )
        return same and bool((camera.vendor and camera.serial) or one.path == camera.path)

    fitting = [device for device in cameras if is_it(device.id)]
    if len(fitting) > 1:  # twins with one serial number
        fitting = [device for device in fitting if device.id.path == camera.path] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        ports = " or ".join(device.id.by_port for device in fitting)
        raise SourceError(f"camera {camera}: several are connected; name one by its port: {ports}")
    what = f"{camera.name or 'it'} ({camera})"
    if not cameras:
        raise SourceError(f"camera {camera}: is not connected; plug {what} in again")
    others = " and ".join(f"{one.id.name or 'unnamed'}" for one in cameras)
    new = " or ".join(f"--camera {one.id}" for one in cameras)
    raise OtherCameraError(
        f"camera {camera}: another camera is connected ({others}); "
        f"plug {what} in again, or restart with {new}"
    )


# --------------------------------------------------------------------------- OpenCV


@final
class OpenCvCameras:
    """Opens cameras through OpenCV: V4L2 on Linux, whatever it finds elsewhere.

    Elsewhere than on Linux cameras cannot be told apart: ten numbers are offered, and a camera's
    identity is its number.
    """

    def list(self) -> Sequence[CameraDevice]:
        """Returns the cameras connected now (Linux), or numbers that may be tried."""
        if _on_linux():
            return list_cameras()
        return tuple(
            CameraDevice(CameraId("", "", "", f"camera-{n}", f"camera {n}"), n, Path(str(n)))
            for n in range(10)
        )

    def open(self, device: CameraDevice, options: CameraOptions) -> CameraReader:
        """Opens one camera.

        Raises:
            SourceError: it is not there, may not be used or is in use.
        """
        return _OpenCvReader(device, options)


class _OpenCvReader:
    def __init__(self, device: CameraDevice, options: CameraOptions) -> None:
        linux = _on_linux()
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
                problem = _busy(device) or f"{device.node} cannot be opened; plug it in again"
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


def _on_linux() -> bool:
    return platform.system() == "Linux"


# --------------------------------------------------------------------------- sysfs


def _identity(folder: Path) -> CameraId:
    name = _text(folder / "name")
    parent = folder / "device"
    if not parent.exists():
        return CameraId("", "", "", f"virtual-{_safe(name) or folder.name}", name)
    interface = Path(os.path.realpath(parent))
    for device in (interface, *interface.parents):
        vendor, product = _text(device / "idVendor"), _text(device / "idProduct")
        if vendor and product:
            return CameraId(
                vendor,
                product,
                _safe(_text(device / "serial")),
                _port(device),
                name or _text(device / "product"),
                _text(interface / "bInterfaceNumber") or "00",
            )
    return CameraId("", "", "", f"platform-{_safe(interface.name)}", name)


def _port(device: Path) -> str:
    """Returns controller and ports of a USB device's folder, such as "0000:00:14.0-1.3".

    Its own name, "BUS-PORTS", holds a bus number that changes from boot to boot.
    Source: Linux kernel documentation, ABI/stable/sysfs-bus-usb, and driver-api/usb.
    """
    ports = device.name.partition("-")[2] or device.name
    for parent in device.parents:
        if re.fullmatch(r"usb\d+", parent.name):
            return _safe(f"{parent.parent.name}-{ports}")
    return _safe(device.name)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _safe(text: str) -> str:
    """Returns `text` fit for one word on a command line."""
    return _UNSAFE.sub("_", text).strip("_")
