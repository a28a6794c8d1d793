"""Composed frames for players and recorders: encoded, and held in memory for whoever serves them.

The server is not here (`web.player_server`): it is handed in, and gets what was composed alone.
"""

from __future__ import annotations

import secrets
from fractions import Fraction
from typing import Annotated, ClassVar, Final, Protocol, Self, final

from pydantic import Field, model_validator

from ..core.address import address_of
from ..core.errors import SinkError
from ..core.safe import SafeFrame
from ..options import Host, Options, Port, Token
from .base import Sink
from .live_encoder import KeyFrameSeconds, LiveEncoder, LivePreset, Muxer
from .live_stream import LiveStream, StreamLimits

__all__ = ["Serve", "ServeOptions", "ServeSink", "Server"]

_GOODBYE_S: Final = 2.0
"""How long clients may take the last pictures after the end; what waits for one at 4 Mbit/s is 8
seconds, and a network that takes it at once needs less."""

_LIMITS: Final = StreamLimits()

_TOKEN_BYTES: Final = 24
"""Of a token made for a run: 192 random bits, 32 letters. Chosen: beyond guessing."""


class ServeOptions(Options):
    """How the live picture is offered to players."""

    enabled: Annotated[
        bool,
        Field(
            title="Serve",
            description=(
                "Offer the covered picture at http://HOST:PORT/live.m3u8 (HLS) and /live.ts."
            ),
        ),
    ] = False
    host: Annotated[
        Host,
        Field(
            title="Address",
            description="The IP address to listen at; 127.0.0.1 is this computer only.",
        ),
    ] = "127.0.0.1"
    allow_remote: Annotated[
        bool,
        Field(
            title="Other computers may watch",
            description=(
                "Needed for any address but this computer's own, together with a token. The "
                "picture and the token then cross the network unencrypted."
            ),
        ),
    ] = False
    port: Port = 8090
    token: Annotated[
        Token | None,
        Field(
            title="Token",
            description="Who watches has to name it (?token=...); none: a new one for each run.",
            repr=False,
        ),
    ] = None
    segment_s: Annotated[
        float,
        Field(
            title="Length of an HLS segment",
            description="Seconds; rounded up to whole intervals between key frames.",
            ge=0.5,
            le=10,
        ),
    ] = 1.0
    window: Annotated[
        int, Field(title="HLS segments", description="How many the playlist names.", ge=3, le=60)
    ] = 6
    keyframe_s: KeyFrameSeconds = 1.0
    preset: LivePreset = "ultrafast"

    @model_validator(mode="after")
    def _closed_by_default(self) -> Self:
        if not address_of(self.host).is_loopback:
            if not self.allow_remote:
                raise ValueError(
                    "host is open to other computers; set allow_remote: true or use 127.0.0.1"
                )
            if self.token is None:
                raise ValueError("host is open to other computers; set a token of your own")
        return self


class Server(Protocol):
    """Whoever serves a stream; any thread."""

    @property
    def address(self) -> tuple[str, int]:
        """The IP address and the port it listens at."""
        ...

    @property
    def clients(self) -> int:
        """How many connections there are."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether it still serves."""
        ...

    def close(self, grace_s: float) -> None:
        """Ends every connection and thread, after clients had so long to take what is left."""
        ...


class Serve(Protocol):
    """Whatever starts a server."""

    def __call__(self, options: ServeOptions, stream: LiveStream, token: str, /) -> Server:
        """Serves a stream to all who name the token.

        Raises:
            UsageError: a library is missing.
            SinkError: it cannot listen there; nothing was started.
        """
        ...


@final
class ServeSink(Sink[SafeFrame]):
    """Encodes frames for a server to give out; `write` never waits for a client.

    What is given out: MPEG-TS without end, from the next key frame on (a client that does not keep
    up misses pictures, up to a key frame), and HLS (RFC 8216, version 3), its last segments held in
    memory. `finish` and `abort` end the server, and with it every connection and every thread.

    Args:
        options: see `ServeOptions`.
        size_wh: (width, height) of every frame.
        time_base: seconds a tick of the frames' `pts`.
        serve: starts the server.
        limits: of what is held in memory.
        goodbye_s: how long clients may take the last pictures after the end.

    Raises:
        UsageError: a library of the server is missing.
        SinkError: it cannot listen there, or the size cannot be encoded; nothing was started.
    """

    accepts: ClassVar[type] = SafeFrame

    def __init__(
        self,
        options: ServeOptions,
        *,
        size_wh: tuple[int, int],
        time_base: Fraction,
        serve: Serve,
        limits: StreamLimits = _LIMITS,
        goodbye_s: float = _GOODBYE_S,
    ) -> None:
        super().__init__()
        self._encoder = LiveEncoder(
            size_wh, time_base, preset=options.preset, keyframe_s=options.keyframe_s
        )
        self._bytes = _Bytes()
        self._muxer = Muxer(self._bytes, "mpegts", self._encoder.coded_size_wh)
        self._token = options.token or secrets.token_urlsafe(_TOKEN_BYTES)
        self._goodbye_s = goodbye_s
        self.stream = LiveStream(
            segment_s=options.segment_s,
            keyframe_s=options.keyframe_s,
            window=options.window,
            limits=limits,
        )
        """What is served."""
        self._server = serve(options, self.stream, self._token)

    @property
    def address(self) -> tuple[str, int]:
        """The IP address and the port it listens at."""
        return self._server.address

    @property
    def url(self) -> str:
        """Where it is served, without a slash at its end."""
        host, port = self._server.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def token(self) -> str:
        """What a client has to name; keep it out of logs."""
        return self._token

    @property
    def clients(self) -> int:
        """How many connections there are."""
        return self._server.clients

    def _emit(self, item: SafeFrame) -> None:
        if not self._server.is_running:
            raise SinkError("the server of players has ended; it is started anew")
        frame = self._encoder.encode(item)
        self._muxer.write(frame)
        self.stream.publish(frame, self._bytes.take())

    def _finish(self) -> None:
        self._muxer.close()
        self._close(self._goodbye_s)

    def _abort(self) -> None:
        self._close(0)

    def _close(self, grace_s: float) -> None:
        self.stream.end()
        self._server.close(grace_s)


@final
class _Bytes:
    """Collects what the muxer writes for one frame."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self._parts.append(data)
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data
