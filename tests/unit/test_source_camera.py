"""Webcams by identity. They are *simulated* here: a made-up sysfs, readers of made-up frames."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from m2fp_stream.core.errors import SourceError
from m2fp_stream.sources.camera import CameraReader, CameraSource, OpenCvCameras
from m2fp_stream.sources.devices import (
    CameraDevice,
    CameraId,
    OtherCameraError,
    find_camera,
    holders_of,
    list_cameras,
)
from m2fp_stream.sources.live import LIVE_TIME_BASE
from m2fp_stream.sources.options import CameraOptions
from tests.kit import media
from tests.kit.wait import PATIENCE_S


class Computer:
    """A simulated sysfs, and cameras that give numbered cards while they are plugged in."""

    def __init__(self, folder: Path) -> None:
        self.sysfs, self.dev = folder / "class" / "video4linux", folder / "dev"
        self.sysfs.mkdir(parents=True)
        self.dev.mkdir()
        self.devices = folder / "devices" / "pci0000:00" / "0000:00:14.0" / "usb1"
        self.opened: list[tuple[CameraDevice, CameraOptions]] = []
        self.readers: list[Reader] = []
        self.size_wh = (192, 128)

    def plug(
        self,
        number: int,
        *,
        port: str = "2",
        vendor: str = "046d",
        product: str = "0825",
        serial: str = "",
        name: str = "Simulated Camera",
        interface: str = "00",
        nodes: int = 2,
    ) -> None:
        device = self.devices / f"1-{port}"
        place = device / f"1-{port}:1.{int(interface, 16)}"
        place.mkdir(parents=True)
        (device / "idVendor").write_text(f"{vendor}\n")
        (device / "idProduct").write_text(f"{product}\n")
        if serial:
            (device / "serial").write_text(f"{serial}\n")
        (place / "bInterfaceNumber").write_text(f"{interface}\n")
        for index in range(nodes):
            folder = place / "video4linux" / f"video{number + index}"
            folder.mkdir(parents=True)
            (folder / "name").write_text(f"{name}\n")
            (folder / "index").write_text(f"{index}\n")
            (folder / "device").symlink_to(place)
            (self.sysfs / folder.name).symlink_to(folder)
            (self.dev / folder.name).touch()

    def unplug(self, number: int, nodes: int = 2) -> None:
        for index in range(nodes):
            (self.sysfs / f"video{number + index}").unlink()
            (self.dev / f"video{number + index}").unlink()
        # The sockets are empty now; a test plugs in one camera a port.
        for folder in self.devices.glob("*"):
            folder.rename(folder.with_name(f"gone-{len(list(self.devices.iterdir()))}-{number}"))

    # CameraBackend

    def list(self) -> Sequence[CameraDevice]:
        return list_cameras(self.sysfs, self.dev)

    def open(self, device: CameraDevice, options: CameraOptions) -> CameraReader:
        self.opened.append((device, options))
        self.readers.append(Reader(self, device))
        return self.readers[-1]


class Reader:
    def __init__(self, computer: Computer, device: CameraDevice) -> None:
        self.computer, self.device = computer, device
        self.number = 0
        self.closed = False
        self.gave: list[np.ndarray[Any, np.dtype[np.uint8]]] = []

    def read(self) -> media.BGR | None:
        assert not self.closed
        if not self.device.node.exists():
            return None
        self.number += 1
        self.gave.append(media.card(self.computer.size_wh, self.number - 1))
        return self.gave[-1]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return Computer(tmp_path)


def open_camera(computer: Computer, camera: CameraId | str, **more: Any) -> CameraSource:
    return CameraSource(camera, backend=computer, **more)


# ----------------------------------------------------------------- identity (simulated)


def test_cameras_are_listed_by_what_they_are(computer: Computer) -> None:
    computer.plug(0, serial="AB 12/3", name="Desk")
    computer.plug(2, port="1.3", vendor="1bcf", product="2281", name="Door")
    desk, door = computer.list()
    assert (str(desk.id), desk.number, desk.node) == (
        *("usb-046d:0825-AB_12_3", 0, computer.dev / "video0"),
    )
    assert str(door.id) == door.id.by_port == "usb-1bcf:2281@0000:00:14.0-1.3"
    assert (door.number, door.id.name) == (2, "Door")


def test_the_bus_number_is_no_part_of_the_identity(computer: Computer) -> None:
    computer.plug(0)
    (first,) = computer.list()
    computer.unplug(0)
    computer.devices = computer.devices.with_name("usb3")
    computer.plug(0)
    (second,) = computer.list()
    assert str(first.id) == str(second.id) == "usb-046d:0825@0000:00:14.0-2"


def test_two_cameras_of_one_device_differ(computer: Computer) -> None:
    computer.plug(0, serial="S", name="Colour")
    device = computer.devices / "1-2"
    place = device / "1-2:1.2"
    folder = place / "video4linux" / "video2"
    folder.mkdir(parents=True)
    (place / "bInterfaceNumber").write_text("02\n")
    (folder / "name").write_text("Infrared\n")
    (folder / "index").write_text("0\n")
    (folder / "device").symlink_to(place)
    (computer.sysfs / "video2").symlink_to(folder)
    assert [str(one.id) for one in computer.list()] == ["usb-046d:0825-S", "usb-046d:0825-S+02"]


def test_what_is_no_usb_device_has_an_identity_too(computer: Computer, tmp_path: Path) -> None:
    board = tmp_path / "devices" / "platform" / "fe801000.csi"
    board.mkdir(parents=True)
    for number, name, parent in ((7, "unicam", board), (9, "OBS Virtual Camera", None)):
        folder = computer.sysfs / f"video{number}"
        folder.mkdir()
        (folder / "name").write_text(name)
        if parent is not None:
            (folder / "device").symlink_to(parent)
    assert [str(one.id) for one in computer.list()] == [
        "platform-fe801000.csi",
        "virtual-OBS_Virtual_Camera",
    ]


def test_no_video_at_all_is_an_empty_list(tmp_path: Path) -> None:
    assert list_cameras(tmp_path / "none", tmp_path) == ()


def test_a_camera_is_found_by_number_file_link_and_identity(
    computer: Computer, tmp_path: Path
) -> None:
    computer.plug(0, serial="S")
    computer.plug(2, port="4", vendor="1bcf")
    cameras = computer.list()
    link = tmp_path / "usb-Vendor_Camera-index0"
    link.symlink_to(computer.dev / "video2")
    for text in ("2", str(computer.dev / "video2"), str(link), "usb-1bcf:0825@0000:00:14.0-4"):
        assert find_camera(text, cameras).number == 2
    for text in ("0", "usb-046d:0825-S", "usb-046d:0825@0000:00:14.0-2"):
        assert find_camera(text, cameras).number == 0


@pytest.mark.parametrize("text", ["1", "9", "/dev/video9", "usb-046d:0825-OTHER", "nonsense", ""])
def test_what_is_not_connected_is_an_error_that_lists_what_is(
    computer: Computer, text: str
) -> None:
    computer.plug(0, serial="S", name="Desk")
    with pytest.raises(SourceError, match=r"not connected; .* 0: Desk \(usb-046d:0825-S\)"):
        find_camera(text, computer.list())


def test_twins_with_one_serial_number_are_told_apart_by_port(computer: Computer) -> None:
    computer.plug(0, serial="SN0001", port="1")
    computer.plug(2, serial="SN0001", port="2")
    with pytest.raises(SourceError, match=r"several .*@0000:00:14\.0-1 or .*@0000:00:14\.0-2"):
        find_camera("usb-046d:0825-SN0001", computer.list())
    with open_camera(computer, "2") as source:
        wanted = source.camera
    with open_camera(computer, wanted):
        assert computer.opened[-1][0].number == 2


# ----------------------------------------------------------------- reading (simulated)


def numbers(source: CameraSource, count: int) -> Iterator[int]:
    for _, captured in zip(range(count), source.frames(), strict=False):
        assert captured.frame.time_base == LIVE_TIME_BASE
        assert captured.frame.size_wh == source.info.size_wh
        with captured.frame.analysis() as bgr:
            yield media.number_of(bgr)
        captured.frame.release()


def test_frames_come_in_order_and_what_the_back_end_gave_is_zeroed(computer: Computer) -> None:
    computer.plug(0)
    options = CameraOptions(width=640, height=480, fourcc="YUYV", fps=15)
    with open_camera(computer, "0", options=options, first_frame_id=7) as source:
        assert computer.opened[0][1] is options
        assert source.info.size_wh == (192, 128), "what the camera gives, not what was asked"
        assert source.info.average_rate == 15
        assert list(numbers(source, 5)) == [0, 1, 2, 3, 4]
    reader = computer.readers[0]
    assert reader.closed
    assert not any(picture.any() for picture in reader.gave)
    assert source._pool.outstanding == 0


def test_another_size_is_fitted_into_the_canvas_and_restarts(computer: Computer) -> None:
    computer.plug(0)
    with open_camera(computer, "0", size_wh=(128, 128)) as source:
        frames = source.frames()
        first = next(frames)
        assert not first.restart
        with first.frame.analysis() as bgr:
            assert bgr.shape == (128, 128, 3)
            assert not bgr[:20].any()
            assert media.number_of(bgr) == 0
        computer.size_wh = (128, 128)
        assert next(frames).restart
        assert not next(frames).restart


def test_unplugged_while_reading_is_an_error(computer: Computer) -> None:
    computer.plug(0, serial="S")
    with open_camera(computer, "0") as source:
        frames = source.frames()
        next(frames).frame.release()
        computer.unplug(0)
        with pytest.raises(SourceError, match=r"camera usb-046d:0825-S: gives no picture any more"):
            next(frames)


@pytest.mark.parametrize(("serial", "port"), [("S", "2"), ("S", "3.1"), ("", "2")])
def test_plugged_in_again_under_another_number_it_is_the_same_camera(
    computer: Computer, serial: str, port: str
) -> None:
    computer.plug(0, serial=serial)
    with open_camera(computer, "0") as source:
        wanted = source.camera
    computer.unplug(0)
    computer.plug(4, serial=serial, port=port)
    with open_camera(computer, wanted) as source:
        assert computer.opened[-1][0].number == 4
        assert list(numbers(source, 2)) == [0, 1]


def test_without_a_serial_number_another_port_is_another_camera(computer: Computer) -> None:
    computer.plug(0)
    with open_camera(computer, "0") as source:
        wanted = source.camera
    computer.unplug(0)
    computer.plug(0, port="5")
    with pytest.raises(OtherCameraError, match="another camera is connected"):
        open_camera(computer, wanted)


def test_another_camera_under_the_old_number_is_refused(computer: Computer) -> None:
    computer.plug(0, serial="MINE", name="Desk")
    with open_camera(computer, "0") as source:
        wanted = source.camera
    computer.unplug(0)
    with pytest.raises(SourceError, match=r"is not connected; plug Desk \(usb-.*-MINE\)") as caught:
        open_camera(computer, wanted)
    assert not isinstance(caught.value, OtherCameraError)
    computer.plug(0, serial="THEIRS", name="Bedroom")
    before = len(computer.opened)
    with pytest.raises(
        OtherCameraError,
        match=r"another camera is connected \(Bedroom\); plug Desk \(usb-046d:0825-MINE\) in "
        r"again, or restart with --camera usb-046d:0825-THEIRS",
    ):
        open_camera(computer, wanted)
    assert len(computer.opened) == before, "it was not even opened"
    with open_camera(computer, "0") as source:  # the control: by number it is taken
        assert source.camera.serial == "THEIRS"


def test_a_camera_that_changes_while_it_is_opened_is_refused(computer: Computer) -> None:
    class Swapping(Computer):
        def open(self, device: CameraDevice, options: CameraOptions) -> CameraReader:
            computer.unplug(0)
            computer.plug(0, serial="THEIRS")
            return computer.open(device, options)

    computer.plug(0, serial="MINE")
    swapping = Swapping.__new__(Swapping)
    swapping.__dict__ = computer.__dict__
    with pytest.raises(SourceError, match="was unplugged while it was opened"):
        CameraSource("0", backend=swapping)
    assert computer.readers[0].closed
    assert computer.readers[0].gave == []


def test_a_camera_without_a_picture_is_refused_and_closed(computer: Computer) -> None:
    computer.plug(0)
    (computer.dev / "video0").unlink()
    with pytest.raises(SourceError, match="gives no picture"):
        open_camera(computer, "0")
    assert computer.readers[0].closed


def test_close_from_another_thread_waits_for_no_read(computer: Computer) -> None:
    computer.plug(0)
    hanging, go_on = threading.Event(), threading.Event()

    class Slow(Reader):
        def read(self) -> media.BGR | None:
            if self.number:
                hanging.set()
                assert go_on.wait(PATIENCE_S)
                (self.device.node).unlink()
            return super().read()

    class SlowComputer(Computer):
        def open(self, device: CameraDevice, options: CameraOptions) -> CameraReader:
            self.readers.append(Slow(self, device))
            return self.readers[-1]

    slow = SlowComputer.__new__(SlowComputer)
    slow.__dict__ = computer.__dict__
    source = CameraSource("0", backend=slow)

    def read() -> None:
        for captured in source.frames():
            captured.frame.release()

    thread = threading.Thread(target=read)
    thread.start()
    assert hanging.wait(PATIENCE_S)
    source.close()
    assert not computer.readers[0].closed, "a read is under way"
    go_on.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert computer.readers[0].closed


def test_a_closed_source_gives_no_frames_and_its_first_picture_is_zeroed(
    computer: Computer,
) -> None:
    computer.plug(0)
    source = open_camera(computer, "0")
    frames = source.frames()
    source.close()
    source.close()
    with pytest.raises(SourceError, match="was closed before"):
        next(frames)
    assert not computer.readers[0].gave[0].any()


# ----------------------------------------------------------------- OpenCV itself


def test_a_device_that_cannot_be_opened_is_one_error_and_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    level = cv2.utils.logging.getLogLevel()
    camera = CameraId("", "", "", "platform-none", "none")
    for node in (tmp_path / "video99", tmp_path / "file"):
        if node.name == "file":
            node.write_bytes(b"no camera")
        with pytest.raises(SourceError, match=r"platform-none: \S+ cannot be opened"):
            OpenCvCameras().open(CameraDevice(camera, 99, node), CameraOptions())
    assert "".join(capfd.readouterr()) == ""
    assert cv2.utils.logging.getLogLevel() == level


HOLD = "import sys; file = open(sys.argv[1], 'rb'); print('holds', flush=True); sys.stdin.read()"


@contextmanager
def held(node: Path) -> Iterator[int]:
    """Another program has `node` open."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(node)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"holds\n"
        yield process.pid


def test_who_holds_a_device_is_found_by_name(tmp_path: Path) -> None:
    node, link, other = tmp_path / "video0", tmp_path / "link", tmp_path / "video1"
    for file in (node, other):
        file.touch()
    link.symlink_to(node)
    assert holders_of(node) == ()
    with node.open("rb"), held(node) as first, held(link) as second:  # not this program itself
        name = Path(f"/proc/{first}/comm").read_text().strip()
        expected = tuple(f"{name} ({pid})" for pid in sorted((first, second)))
        assert holders_of(node) == holders_of(link) == expected
        assert holders_of(other) == ()
    assert holders_of(node) == ()
    assert holders_of(tmp_path / "none") == ()


def test_a_camera_that_another_program_holds_is_busy_by_name(tmp_path: Path) -> None:
    """Simulated: an ordinary file is no camera, so OpenCV cannot open it, held or not."""
    node = tmp_path / "video99"
    node.write_bytes(b"no camera")
    camera = CameraDevice(CameraId("", "", "", "platform-none", "none"), 99, node)
    with held(node) as pid, pytest.raises(SourceError, match=rf"is busy: \S+ \({pid}\) uses it"):
        OpenCvCameras().open(camera, CameraOptions())
    with pytest.raises(SourceError, match="cannot be opened"):
        OpenCvCameras().open(camera, CameraOptions())


def test_a_camera_whose_holder_cannot_be_seen_is_busy_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: what the kernel answers where somebody else has the buffers."""
    node = tmp_path / "video99"
    node.write_bytes(b"no camera")
    asked = []

    def ioctl(descriptor: int, request: int, data: bytes) -> bytes:
        asked.append((request, data))
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    camera = CameraDevice(CameraId("", "", "", "platform-none", "none"), 99, node)
    with pytest.raises(SourceError, match="is busy: a program of another user"):
        OpenCvCameras().open(camera, CameraOptions())
    assert asked == [(0xC0145608, bytes(4) + b"\1\0\0\0" * 2 + bytes(8))]


def test_a_camera_that_is_taken_while_it_is_read_is_busy(computer: Computer) -> None:
    computer.plug(0)
    source = open_camera(computer, "0")
    frames = source.frames()
    next(frames).frame.release()
    node = computer.dev / "video0"
    with held(node) as pid:
        computer.readers[0].read = lambda: None  # type: ignore[method-assign]  # the driver's answer
        with pytest.raises(SourceError, match=rf"is busy: \S+ \({pid}\)"):
            next(frames)
    source.close()


def test_elsewhere_than_on_linux_numbers_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert find_camera("3").number == 3
    assert str(find_camera("camera-3").id) == "camera-3"


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"height": "720"}, {"fps": 0}, {"fourcc": "H264"}, {"x": 1}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CameraOptions.model_validate(wrong)
