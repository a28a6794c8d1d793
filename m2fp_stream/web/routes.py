"""The page's routes, on FastAPI."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, final

from fastapi import FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from ..core.errors import UsageError
from .app import BadUpload, Busy, Still
from .audit import Audit
from .doors import COOKIE, Doors, Refused, Use
from .gate import BodyRefused, Gate, caller_of, note, problem
from .hub import Full, Hub, Viewer, status_text
from .limits import resident_bytes
from .options import PageOptions

__all__ = ["PageSettings", "ParsedAreas", "PrivacyWish", "Problem", "Status", "build"]

_MEMORY_BYTES: Final = 512 << 20
_MEMORY_SHARE: Final = 0.9
_INVALID_SHARE: Final = 0.05
_UPLOADS_KEPT: Final = 100
_UPLOADS_JUDGED: Final = 20
_IN_FLIGHT_BYTES: Final = 256 << 20
_MOST_IN_FLIGHT: Final = 4
_REPEAT_S: Final = 1.0
_PAGE_FILE_BYTES: Final = 2 << 20
_BOUNDARY: Final = b"m2fp-frame"
_MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
_MAGIC: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")

PAGE: Final = Path(__file__).parent / "page"


class Problem(BaseModel):
    """Every error."""

    error: str = Field(description="One sentence.")


class PageSettings(BaseModel):
    """How the page looks."""

    language: Literal["auto", "en", "zh"]
    rotation: Literal[0, 90, 180, 270]
    mirror: bool
    clock: bool
    consent: bool
    stale_s: float


class Status(BaseModel):
    """What is shown, and what is covered."""

    state: Literal["live", "card", "away", "starting"] = Field(
        description="live: pictures come; card: they do, wholly covered; away: the camera gives "
        "nothing; starting: no picture comes."
    )
    why: str | None = Field(description="Why it is the card.")
    level: Literal["parts", "person", "frame"] = Field(description="What is covered at least.")
    silhouette: bool = Field(description="Whether what is covered is a flat colour.")
    floor: Literal["parts", "person", "frame"] = Field(description="What is always covered.")
    hide: str | list[str] | None = Field(description="The parts that are covered.")
    effect: Literal["frost", "solid", "silhouette", "mosaic"] | None = Field(
        description="What whole people are covered with."
    )
    person: bool = Field(description="Whether somebody was seen of late.")
    asleep: bool = Field(description="Whether the page is black because nobody was.")
    fps: float | None
    latency_ms: float | None
    frame_age_ms: int | None
    watching: int
    stored: bool | None = Field(
        description="Whether the covered picture is also recorded or sent on; null: not known."
    )
    remote: bool = Field(description="Whether other computers may reach the page.")
    uploads: bool
    alarms: list[str]
    options: PageSettings


class PrivacyWish(BaseModel):
    """What is to be covered."""

    model_config = ConfigDict(extra="forbid", strict=True)

    level: Literal["parts", "person", "frame"] = Field(
        description="The configured parts, whole people, or everything."
    )
    silhouette: bool = Field(default=False, description="A flat colour instead of frost.")


class ParsedAreas(BaseModel):
    """The parts of people in a picture, with their areas."""

    png: str = Field(description="The picture of class ids, base64.")
    areas: dict[str, int] = Field(description="Pixels by part.")
    size_wh: tuple[int, int] = Field(description="Width and height.")


@final
class _Uploads:
    """Takes one picture at a time from each request, and hands it on unopened."""

    def __init__(self, options: PageOptions, doors: Doors) -> None:
        self._doors = doors
        most = _IN_FLIGHT_BYTES // (options.max_upload_mb * 1_000_000)
        self._free = max(1, min(_MOST_IN_FLIGHT, most))
        self._were_bad: deque[bool] = deque(maxlen=_UPLOADS_KEPT)

    @contextlib.asynccontextmanager
    async def picture(self, request: Request) -> AsyncIterator[bytes]:
        """Yields the body of a request, by its first bytes a picture.

        Raises:
            HTTPException: it is none, whoever opened it says so, or there is no room.
        """
        if self._free == 0:
            raise HTTPException(503, "too many pictures are being worked on; try again")
        self._free -= 1
        session = caller_of(request.scope).session
        try:
            if request.headers.get("content-encoding", "identity").lower() != "identity":
                raise HTTPException(415, "send the picture as it is, without Content-Encoding")
            data = b"".join([chunk async for chunk in request.stream()])
            if not _is_picture(data):
                raise HTTPException(415, "send one JPEG, PNG, WebP, BMP or TIFF picture")
            yield data
        except BodyRefused:
            self._doors.bad_upload(session)
            raise
        except Busy:
            raise HTTPException(503, "the picture could not be worked on now; try again") from None
        except (BadUpload, HTTPException) as error:
            if isinstance(error, BadUpload):
                error = HTTPException(400, str(error))
            if error.status_code < 500:
                self._were_bad.append(True)
                self._doors.bad_upload(session)
                note(request.scope, "upload")
            raise error from None
        else:
            self._were_bad.append(False)
        finally:
            self._free += 1

    def alarms(self) -> list[str]:
        """Returns a sentence where many uploads are no pictures."""
        count = len(self._were_bad)
        if count >= _UPLOADS_JUDGED and sum(self._were_bad) > _INVALID_SHARE * count:
            return [f"{sum(self._were_bad)} of the last {count} uploads were no pictures"]
        return []


@final
class _Multipart(Response):
    """Pictures without end; newest wins, and the card where there is none."""

    media_type = f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}"

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._hub.watch() as viewer:
                gone = asyncio.ensure_future(_until_gone(receive))
                try:
                    await self._stream(viewer, gone, send)
                finally:
                    gone.cancel()
        except Full:
            body = problem("as many watch as may; close another page")
            answer = Response(body, 503, media_type="application/json")
            await answer(scope, receive, send)

    async def _stream(self, viewer: Viewer, gone: asyncio.Future[None], send: Send) -> None:
        hub = self._hub
        kind = [(b"content-type", str(self.media_type).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        # The boundary that ends a part goes with it: browsers show a picture when that has come.
        await _more(send, b"--" + _BOUNDARY + b"\r\n")
        loop = asyncio.get_running_loop()
        last, card_due_s = 0, loop.time()
        while not gone.done() and not hub.ended.is_set():
            frame = hub.frame()
            if frame is not None and viewer.may_get(frame):
                card_due_s = 0.0
                if frame.sequence != last:
                    last = frame.sequence
                    await _more(send, _part(frame.jpeg))
            elif loop.time() >= card_due_s:
                card_due_s = loop.time() + _REPEAT_S
                await _more(send, _part(hub.card()))
            del frame  # or a client at rest would keep a picture alive
            await viewer.news(_REPEAT_S / 4)
        await send({"type": "http.response.body", "body": b"--\r\n"})


async def _more(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
    # Sends nothing, but waits until the data is gone: the next picture is chosen then, not before.
    await send({"type": "http.response.body", "body": b"", "more_body": True})


def _part(jpeg: bytes) -> bytes:
    head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
    return head + jpeg + b"\r\n--" + _BOUNDARY + b"\r\n"


async def _until_gone(receive: Receive, hear: Callable[[str], None] | None = None) -> None:
    while (message := await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        if hear is not None and isinstance(text := message.get("text"), str):
            hear(text)


def _is_picture(data: bytes) -> bool:
    return data.startswith(_MAGIC) or (data.startswith(b"RIFF") and data[8:12] == b"WEBP")


def _page_files() -> dict[str, tuple[bytes, str]]:
    """Reads the page's files: nothing is ever read from a disk for a request.

    Raises:
        UsageError: they are not there.
    """
    if not (PAGE / "index.html").is_file():
        raise UsageError("the page's files are missing; install m2fp-stream again")
    return {
        file.name: (file.read_bytes(), _MEDIA_TYPES[file.suffix])
        for file in sorted(PAGE.iterdir())
        if file.is_file()
        and file.suffix in _MEDIA_TYPES
        and file.stat().st_size <= _PAGE_FILE_BYTES
    }


_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Problem, "description": "The request makes no sense."},
    401: {"model": Problem, "description": "No token and no session."},
    403: {"model": Problem, "description": "Another site asks, or the key is wrong."},
    413: {"model": Problem, "description": "The body is too large."},
    421: {"model": Problem, "description": "The Host header does not name this server."},
    422: {"model": Problem, "description": "The request has another form than described."},
    429: {"model": Problem, "description": "Too often."},
}
_UPLOAD_PROBLEMS: Final = {
    **_PROBLEMS,
    400: {"model": Problem, "description": "The picture cannot be read."},
    404: {"model": Problem, "description": "Uploads are switched off (page.uploads)."},
    408: {"model": Problem, "description": "The picture did not come within 15 seconds."},
    415: {"model": Problem, "description": "The body is no JPEG, PNG, WebP, BMP or TIFF."},
    503: {"model": Problem, "description": "Too many pictures at once."},
}
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_PICTURE: Final = {
    "requestBody": {
        "required": True,
        "content": {"image/*": _BINARY},
        "description": "One picture.",
    }
}


def build(
    options: PageOptions,
    hub: Hub,
    doors: Doors,
    still: Still | None,
    audit: Audit | None,
) -> FastAPI:
    """Returns the application; see `app.make_app`."""
    app = FastAPI(
        title="m2fp-stream",
        version="1",
        summary="Composed pictures of a camera, and what is covered in them.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # a route of our own, so that its checks are those of the others
        redirect_slashes=False,
        # FastAPI would hand every request, with its query, to an exporter that the environment
        # names (OpenTelemetry); P9: there is no telemetry.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    app.state.doors = doors
    app.state.audit = audit
    uploads = _Uploads(options, doors)
    hub.more_alarms = lambda: [*uploads.alarms(), *_memory_alarm(), *_audit_alarm(audit)]
    app.add_middleware(Gate, doors=doors, options=options, audit=audit)
    _add_errors(app)
    _add_page(app, doors)
    _add_api(app, hub)
    _add_streams(app, hub)
    _add_stills(app, uploads, still)
    _add_description(app)
    return app


def _memory_alarm() -> list[str]:
    used = resident_bytes()
    if used <= _MEMORY_SHARE * _MEMORY_BYTES:
        return []
    return [f"the server uses {used >> 20} of {_MEMORY_BYTES >> 20} MB of memory"]


def _audit_alarm(audit: Audit | None) -> list[str]:
    return ["the audit log cannot be written"] if audit is not None and audit.broken else []


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def _form(_: Request, __: RequestValidationError) -> Response:
        return _problem(422, "the request has another form than /openapi.json describes")

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        sentences = {404: "there is nothing there", 405: "that method does nothing there"}
        # Texts of our own pass; those of libraries may quote the request.
        sentence = sentences.get(error.status_code, error.detail)
        return _problem(error.status_code, sentence, error.headers)


def _problem(status: int, sentence: str, headers: Any = None) -> Response:
    return Response(problem(sentence), status, media_type="application/json", headers=headers)


def _add_page(app: FastAPI, doors: Doors) -> None:
    files = _page_files()

    @app.get(
        "/enter",
        status_code=303,
        response_class=Response,
        summary="Come in with the token or a one-time code",
        responses={
            303: {"description": "To the page, with a session's cookie."},
            **{code: _PROBLEMS[code] for code in (400, 403, 421, 422, 429)},
        },
        tags=["page"],
    )
    async def enter(
        request: Request,
        key: Annotated[str, Query(min_length=1, max_length=200, description="Token or code.")],
    ) -> Response:
        address = request.client.host if request.client else ""
        session = doors.enter(key, address)
        if session is Refused.BLOCKED:
            note(request.scope, "blocked")
            return _problem(429, "too many wrong keys came from there; wait a minute")
        if isinstance(session, Refused):
            note(request.scope, "token")
            return _problem(403, "that key is wrong, or was used before")
        if not doors.may(Use.ENTER, "all"):
            return _problem(429, "that is too often; wait some seconds")
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE, session, path="/", httponly=True, samesite="strict", secure=doors.secure
        )
        return answer

    @app.get("/healthz", status_code=204, summary="Whether the server answers", tags=["page"])
    async def healthz() -> None:
        return None

    def file(name: str) -> Response:
        found = files.get(name)
        if found is None:
            raise HTTPException(404)
        return Response(found[0], media_type=found[1])

    page = {
        200: {"content": {"text/html": _BINARY}, "description": "The page."},
        **_PROBLEMS,
        404: {"model": Problem, "description": "No such file."},
    }

    @app.get("/", response_class=Response, summary="The mirror", responses=page, tags=["page"])
    async def index() -> Response:
        return file("index.html")

    kinds = {kind.partition(";")[0]: _BINARY for kind in _MEDIA_TYPES.values()}

    @app.get(
        "/page/{name}",
        response_class=Response,
        summary="A file of the mirror",
        responses={**page, 200: {"content": kinds, "description": "The file."}},
        tags=["page"],
    )
    async def page_file(name: str) -> Response:
        return file(name)


def _add_api(app: FastAPI, hub: Hub) -> None:
    @app.get(
        "/api/status",
        response_model=Status,
        summary="What is shown, and what is covered",
        responses=_PROBLEMS,
        tags=["privacy"],
    )
    async def status() -> Response:
        return JSONResponse(hub.status())

    @app.post(
        "/api/privacy",
        response_model=Status,
        summary="Cover more, or less down to the floor",
        responses=_PROBLEMS,
        tags=["privacy"],
    )
    async def privacy(wish: PrivacyWish) -> Response:
        hub.wish(wish.level, silhouette=wish.silhouette)
        return JSONResponse(hub.status())


def _add_streams(app: FastAPI, hub: Hub) -> None:
    @app.get(
        "/stream.mjpg",
        response_class=Response,
        summary="Pictures without end",
        responses={
            200: {"content": {"multipart/x-mixed-replace": _BINARY}, "description": "JPEG parts."},
            503: {"model": Problem, "description": "As many watch as may."},
            **_PROBLEMS,
        },
        tags=["stream"],
    )
    async def multipart() -> Response:
        return _Multipart(hub)

    @app.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        try:
            with hub.watch() as viewer:
                await socket.accept()
                hear = functools.partial(hub.hear, viewer)
                gone = asyncio.ensure_future(_until_gone(socket.receive, hear))
                try:
                    await _feed(socket, viewer, gone)
                finally:
                    gone.cancel()
        except Full:
            note(socket.scope, "full")
            await socket.close()
        except (WebSocketDisconnect, RuntimeError):
            note(socket.scope, "gone")

    async def _feed(socket: WebSocket, viewer: Viewer, gone: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        told: dict[str, Any] = {}
        last, due_s = 0, 0.0
        while not gone.done() and not hub.ended.is_set():
            number = viewer.asked()
            if number is not None:
                answer = {"time": number, "now_ms": time.time() * 1e3}
                await socket.send_text(status_text(answer))
            status = hub.status()
            if loop.time() >= due_s or _differs(status, told):
                told, due_s = status, loop.time() + _REPEAT_S
                await socket.send_text(status_text(status))
            frame = hub.frame()
            if frame is not None and frame.sequence != last and viewer.may_get(frame):
                last = frame.sequence
                viewer.sent(last)
                await socket.send_bytes(frame.message(hub.now_ns()))
            del frame  # or a client at rest would keep a picture alive
            await viewer.news(max(0.01, due_s - loop.time()))
        if not gone.done():
            await socket.close(1001)


def _differs(status: dict[str, Any], told: dict[str, Any]) -> bool:
    """Says whether two statuses differ in more than what changes with every picture."""
    changing = ("frame_age_ms", "fps", "latency_ms")
    return any(told.get(name) != value for name, value in status.items() if name not in changing)


def _add_stills(app: FastAPI, uploads: _Uploads, still: Still | None) -> None:
    @app.post(
        "/api/parse",
        response_class=Response,
        summary="The parts of people in one picture",
        responses={
            200: {
                "description": "A PNG of class ids; with areas=1 JSON.",
                "content": {
                    "image/png": _BINARY,
                    "application/json": {"schema": ParsedAreas.model_json_schema()},
                },
            },
            **_UPLOAD_PROBLEMS,
        },
        openapi_extra=_PICTURE,
        tags=["still pictures"],
    )
    async def parse(
        request: Request,
        format: Annotated[  # noqa: A002  # the parameter's name
            Literal["index", "palette"], Query(description="Grey values, or colours.")
        ] = "index",
        areas: Annotated[int, Query(ge=0, le=1, description="1: JSON with areas.")] = 0,
    ) -> Response:
        if still is None:
            raise HTTPException(404)
        async with uploads.picture(request) as data:
            parsed = await still.parse(data, palette=format == "palette")
        if not areas:
            return Response(parsed.png, media_type="image/png")
        png = base64.b64encode(parsed.png).decode()
        content = {"png": png, "areas": dict(parsed.areas), "size_wh": list(parsed.size_wh)}
        return JSONResponse(content)

    @app.post(
        "/api/anonymize",
        response_class=Response,
        summary="One picture with its people covered",
        responses={
            200: {
                "description": "PNG for a PNG, else JPEG.",
                "content": {"image/jpeg": _BINARY, "image/png": _BINARY},
            },
            **_UPLOAD_PROBLEMS,
        },
        openapi_extra=_PICTURE,
        tags=["still pictures"],
    )
    async def anonymize(request: Request) -> Response:
        if still is None:
            raise HTTPException(404)
        async with uploads.picture(request) as data:
            covered = await still.anonymize(data)
        return Response(covered.data, media_type=covered.media_type)


def _add_description(app: FastAPI) -> None:
    schemes = {
        "token": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    }

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes
            )
            schema.setdefault("components", {})["securitySchemes"] = schemes
            schema["security"] = [{"token": []}, {"session": []}]
            for path in ("/enter", "/healthz"):
                schema["paths"][path]["get"]["security"] = []
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI's documentation does

    @app.get("/openapi.json", include_in_schema=False)
    async def description() -> Response:
        return JSONResponse(app.openapi())
