"""Which source a live run has: what `capture.input` says, as something that opens it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from ..config import Settings
from ..core.address import looks_like_address
from ..core.errors import SourceError
from ..pipeline.live.capture import OpenSource
from ..sources.base import Source
from ..sources.camera import CameraSource
from ..sources.devices import CameraId, find_camera
from ..sources.file import FileSource
from ..sources.live import RealtimeSource
from ..sources.pipe import PipeSource
from ..sources.snapshot import HttpCameras
from ..sources.stream import StreamSource
from ..sources.synthetic import SyntheticSource

__all__ = ["pick_source"]


def pick_source(config: Settings, say: Callable[[str], None]) -> tuple[OpenSource, bool]:
    """Returns what opens the source, and whether its end is a loss (a camera's is, a film's not).

    Raises:
        SourceError: a camera is named that is not connected, or what is named is no source; where
            it may hold a password it is not quoted.
    """
    text = config.capture.input
    kind, _, rest = text.partition(":")
    if kind == "camera" and (looks_like_address(rest) or rest == "-" or _is(Path.is_fifo, rest)):
        text = rest  # --camera rtsp://...
    if text == "-" or _is(Path.is_fifo, text):
        return _pipe(None if text == "-" else Path(text), config), False
    if re.match("https?:", text.strip(), re.IGNORECASE):
        every_s = config.capture.snapshot_s
        return HttpCameras(text, config.stream, interval_s=every_s, on_notice=say), True
    if looks_like_address(text):
        return _stream(text, config, say), True
    if kind == "camera":
        return _camera(rest or "0", config), True
    if text == "synthetic":
        return _synthetic(config), False
    if ("@" in text or "//" in text) and not _is(Path.exists, text):
        raise SourceError(
            "capture.input: there is no such file; if it is an address, begin it with rtsp://, "
            "http://, https://, rtsps:// or rtmp://"
        )
    return _film(Path(text), config), False


def _pipe(path: Path | None, config: Settings) -> OpenSource:
    return lambda first, size_wh: PipeSource(
        path, config.stream, first_frame_id=first, size_wh=size_wh
    )


def _stream(address: str, config: Settings, say: Callable[[str], None]) -> OpenSource:
    return lambda first, size_wh: StreamSource(
        address, config.stream, first_frame_id=first, size_wh=size_wh, on_notice=say
    )


def _camera(name: str, config: Settings) -> OpenSource:
    camera: CameraId | str = name
    if sys.platform == "linux":
        camera = find_camera(name).id  # from now on this one and no other
    return lambda first, size_wh: CameraSource(
        camera, config.camera, first_frame_id=first, size_wh=size_wh
    )


def _synthetic(config: Settings) -> OpenSource:
    return lambda first, size_wh: SyntheticSource(
        config.synthetic, first_frame_id=first, size_wh=size_wh
    )


def _film(path: Path, config: Settings) -> OpenSource:
    def film() -> Source:
        return FileSource(path, config.source)

    again = film if config.capture.loop else None
    return lambda first, size_wh: RealtimeSource(
        film(), reopen=again, first_frame_id=first, size_wh=size_wh
    )


def _is(what: Callable[[Path], bool], text: str) -> bool:
    try:
        return what(Path(text))
    except (OSError, ValueError):  # too long, or the like: no name of a file
        return False
