"""Which cameras are connected, what they are, and who uses them."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import re
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..core.errors import SourceError

__all__ = [
    "CameraDevice",
    "CameraId",
    "OtherCameraError",
    "busy",
    "connected_cameras",
    "find_again",
    "find_camera",
    "holders_of",
    "list_cameras",
    "on_linux",
]

_SYSFS: Final = Path("/sys/class/video4linux")
_DEV: Final = Path("/dev")
_PROC: Final = Path("/proc")
_VIDIOC_REQBUFS: Final = 0xC0145608
"""Asks for buffers; asked for none, it only says whether another program has some (EBUSY).
Source: linux/videodev2.h, _IOWR('V', 8, struct v4l2_requestbuffers), 20 bytes."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._:-]+")
_NODE: Final = re.compile(r"video(\d+)")


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


def connected_cameras() -> tuple[CameraDevice, ...]:
    """Returns the cameras connected now (Linux), or numbers that may be tried.

    Elsewhere than on Linux cameras cannot be told apart: ten numbers are offered (chosen: more than
    anybody plugs in), and a camera's identity is its number.
    """
    if on_linux():
        return list_cameras()
    return tuple(
        CameraDevice(CameraId("", "", "", f"camera-{n}", f"camera {n}"), n, Path(str(n)))
        for n in range(10)
    )


def find_camera(text: str, cameras: Sequence[CameraDevice] | None = None) -> CameraDevice:
    """Returns the camera that `text` means.

    Args:
        text: a number ("0"), a device file ("/dev/video0", or a link to one such as those in
            /dev/v4l/by-id), or an identity (`str(CameraId)`, `CameraId.by_port`).
        cameras: those to choose from; by default those connected.

    Raises:
        SourceError: none or several fit; the message lists what is connected.
    """
    cameras = connected_cameras() if cameras is None else cameras
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


def find_again(camera: CameraId, cameras: Sequence[CameraDevice]) -> CameraDevice:
    """Returns the same camera among those connected; in any port where it has a serial number.

    Raises:
        OtherCameraError: it is away, and others are connected.
        SourceError: it is away, or several fit.
    """

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


def busy(device: CameraDevice) -> str:
    """Returns who else uses a camera, in words; empty where nobody is known to."""
    if not on_linux():
        return ""
    holders = holders_of(device.node)
    if holders:
        uses = "uses" if len(holders) == 1 else "use"
        return f"is busy: {' and '.join(holders)} {uses} it; close that first"
    if _is_busy(device.node):
        return "is busy: a program of another user or in a container uses it; close that first"
    return ""


def on_linux() -> bool:
    """Says whether cameras can be told apart here."""
    return platform.system() == "Linux"


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
