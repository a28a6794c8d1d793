"""The page's routes, on FastAPI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from ..core.errors import UsageError
from .access import COOKIE, AccessControl, Refused, Use
from .audit import Audit
from .errors import answer_problem, problem_response
from .gate import PAGE_ROUTES, Gate, set_audit_reason
from .hub import Hub
from .options import PageOptions
from .schema import BINARY, PROBLEMS, PrivacyRequest, Problem, Status
from .stills import Still
from .streams import add_streams
from .uploads import Uploads, add_stills

__all__ = ["build"]

_MEMORY_BYTES: Final = 512 << 20
"""What the server should take at most: 256 MB of uploads in flight (`uploads`), and as much again
for all else. Above `_MEMORY_SHARE` of it the status has an alarm. Chosen."""

_MEMORY_SHARE: Final = 0.9
"""Chosen: before it is too late, and not for what comes and goes."""

_PAGE_FILE_BYTES: Final = 2 << 20
"""Larger ones are no part of the page: its largest file has 20 kB. Chosen."""

_MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}

PAGE: Final = Path(__file__).parent / "page"


def build(
    options: PageOptions,
    hub: Hub,
    access: AccessControl,
    still: Still | None,
    audit: Audit | None,
    used_bytes: Callable[[], int],
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
    app.state.access = access
    app.state.audit = audit
    uploads = Uploads(options, access)
    hub.more_alarms = lambda: [
        *uploads.alarms(),
        *_memory_alarm(used_bytes()),
        *_audit_alarm(audit),
    ]
    upload_bytes = options.max_upload_mb * 1_000_000
    app.add_middleware(
        Gate, access=access, routes=PAGE_ROUTES, upload_bytes=upload_bytes, audit=audit
    )
    _add_errors(app)
    _add_entrance(app, access)
    _add_page(app)
    _add_api(app, hub)
    add_streams(app, hub)
    add_stills(app, uploads, still)
    _add_description(app)
    return app


def _memory_alarm(used: int) -> list[str]:
    if used <= _MEMORY_SHARE * _MEMORY_BYTES:
        return []
    return [f"the server uses {used >> 20} of {_MEMORY_BYTES >> 20} MB of memory"]


def _audit_alarm(audit: Audit | None) -> list[str]:
    return ["the audit log cannot be written"] if audit is not None and audit.broken else []


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def _form(_: Request, __: RequestValidationError) -> Response:
        return problem_response(422, "the request has another form than /openapi.json describes")

    app.add_exception_handler(HTTPException, answer_problem)


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


def _add_entrance(app: FastAPI, access: AccessControl) -> None:
    @app.get(
        "/enter",
        status_code=303,
        response_class=Response,
        summary="Come in with the token or a one-time code",
        responses={
            303: {"description": "To the page, with a session's cookie."},
            **{code: PROBLEMS[code] for code in (400, 403, 421, 422, 429)},
        },
        tags=["page"],
    )
    async def enter(
        request: Request,
        key: Annotated[str, Query(min_length=1, max_length=200, description="Token or code.")],
    ) -> Response:
        address = request.client.host if request.client else ""
        session = access.enter(key, address)
        if session is Refused.BLOCKED:
            set_audit_reason(request.scope, "blocked")
            return problem_response(429, "too many wrong keys came from there; wait a minute")
        if isinstance(session, Refused):
            set_audit_reason(request.scope, "token")
            return problem_response(403, "that key is wrong, or was used before")
        if not access.may(Use.ENTER, "all"):
            return problem_response(429, "that is too often; wait some seconds")
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE, session, path="/", httponly=True, samesite="strict", secure=access.secure
        )
        return answer

    @app.get("/healthz", status_code=204, summary="Whether the server answers", tags=["page"])
    async def healthz() -> None:
        return None


def _add_page(app: FastAPI) -> None:
    files = _page_files()

    def file(name: str) -> Response:
        found = files.get(name)
        if found is None:
            raise HTTPException(404)
        return Response(found[0], media_type=found[1])

    page = {
        200: {"content": {"text/html": BINARY}, "description": "The page."},
        **PROBLEMS,
        404: {"model": Problem, "description": "No such file."},
    }

    @app.get("/", response_class=Response, summary="The mirror", responses=page, tags=["page"])
    async def index() -> Response:
        return file("index.html")

    kinds = {kind.partition(";")[0]: BINARY for kind in _MEDIA_TYPES.values()}

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
        responses=PROBLEMS,
        tags=["privacy"],
    )
    async def status() -> Response:
        return JSONResponse(hub.status())

    @app.post(
        "/api/privacy",
        response_model=Status,
        summary="Cover more, or less down to the floor",
        responses=PROBLEMS,
        tags=["privacy"],
    )
    async def privacy(request: PrivacyRequest) -> Response:
        hub.request_privacy(request.level, silhouette=request.silhouette)
        return JSONResponse(hub.status())


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
