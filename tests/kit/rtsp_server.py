"""A real RTSP server on a loopback port, for `tests/kit/rtsp.py`; runs under the system's Python.

Reads one line of JSON on stdin, then the raw BGR pictures it announces; says its port on stdout;
shows the pictures over and over; ends when stdin does.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
from typing import Any

gi: Any = importlib.import_module("gi")  # known to the system's Python alone
for library in ("Gst", "GstRtsp", "GstRtspServer"):
    gi.require_version(library, "1.0")
GLib, Gst, GstRtsp, GstRtspServer = (
    importlib.import_module(f"gi.repository.{name}")
    for name in ("GLib", "Gst", "GstRtsp", "GstRtspServer")
)

LAUNCH = (
    "( appsrc name=pictures is-live=true format=time block=false "
    "! videoconvert ! video/x-raw,format=I420 "
    "! x264enc tune=zerolatency speed-preset=ultrafast threads=1 key-int-max={gop} {rate} "
    "! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
)


class Pictures:
    """Feeds one client's pipeline in real time."""

    def __init__(self, source: Any, frames: list[tuple[int, int, bytes]], fps: int) -> None:
        self.source, self.frames, self.fps = source, frames, fps
        self.number, self.size = 0, (0, 0)
        GLib.timeout_add(max(1, 1000 // fps), self.push)

    def push(self) -> bool:
        width, height, pixels = self.frames[self.number % len(self.frames)]
        if (width, height) != self.size:
            self.size = width, height
            text = f"video/x-raw,format=BGR,width={width},height={height},framerate={self.fps}/1"
            self.source.set_property("caps", Gst.Caps.from_string(text))
        buffer = Gst.Buffer.new_wrapped(pixels)
        buffer.pts = self.number * Gst.SECOND // self.fps
        buffer.duration = Gst.SECOND // self.fps
        self.number += 1
        return bool(self.source.emit("push-buffer", buffer) == Gst.FlowReturn.OK)


def padded(width: int, height: int, pixels: bytes) -> bytes:
    """GStreamer wants rows of BGR to begin at multiples of four."""
    row, rest = width * 3, -width * 3 % 4
    if not rest:
        return pixels
    return b"".join(pixels[y * row : (y + 1) * row] + bytes(rest) for y in range(height))


def main() -> None:
    given = sys.stdin.buffer
    wanted = json.loads(given.readline())
    frames = [
        (width, height, padded(width, height, given.read(width * height * 3)))
        for width, height in wanted["sizes_wh"]
    ]
    Gst.init(None)
    loop = GLib.MainLoop()
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(wanted["port"]))

    factory = GstRtspServer.RTSPMediaFactory()
    rate = f"bitrate={wanted['kbit']}" if wanted["kbit"] else "pass=quant quantizer=18"
    factory.set_launch(LAUNCH.format(gop=wanted["gop"], rate=rate))
    factory.set_shared(True)

    def configure(_: object, media: Any) -> None:
        source = media.get_element().get_by_name_recurse_up("pictures")
        media.pictures = Pictures(source, frames, wanted["fps"])

    factory.connect("media-configure", configure)
    if wanted["user"]:
        protect(server, factory, wanted)
    server.get_mount_points().add_factory("/live", factory)
    if not server.attach(None):
        sys.exit(f"port {wanted['port']} cannot be had")
    sys.stdout.write(f"{server.get_bound_port()}\n")
    sys.stdout.flush()

    def wait_for_the_end() -> None:
        given.read()
        loop.quit()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    loop.run()


def protect(server: Any, factory: Any, wanted: dict[str, Any]) -> None:
    """Lets in one user only."""
    user, password = wanted["user"], wanted["password"]
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if wanted["digest"]:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    if wanted["tls"]:
        gio = importlib.import_module("gi.repository.Gio")
        auth.set_tls_certificate(gio.TlsCertificate.new_from_files(*wanted["tls"]))
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    for right in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role("viewer", right, True)
    factory.set_permissions(permissions)


if __name__ == "__main__":
    main()
