"""The routes that take pictures, on FastAPI: each is handed on unopened."""

from __future__ import annotations

import base64
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Annotated, Final, Literal, final

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from .access import AccessControl
from .gate import BodyRefused, caller_of, set_audit_reason
from .options import PageOptions
from .schema import BINARY, PICTURE, UPLOAD_PROBLEMS, ParsedAreas
from .stills import BadUpload, Busy, Still

__all__ = ["Uploads", "add_stills"]

_INVALID_SHARE: Final = 0.05
"""Of the last uploads: more that are no pictures are an alarm. Chosen: people pick a wrong file now
and then, and not every twentieth time."""

_UPLOADS_KEPT: Final = 100
"""So many are remembered, for a share that is known to a hundredth."""

_UPLOADS_JUDGED: Final = 20
"""Of fewer, a single one would be more than `_INVALID_SHARE`."""

_IN_FLIGHT_BYTES: Final = 256 << 20
"""What all uploads together may take: one of 200 MB, the most that `page.max_upload_mb` allows."""

_MOST_IN_FLIGHT: Final = 4
"""At a time; one worker opens them one by one, the others wait for it. Chosen."""

_MAGIC: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")
"""How JPEG, PNG, BMP and TIFF (either byte order) begin. Sources: ITU-T T.81, B.1.1.3; PNG (third
edition), 5.2; BITMAPFILEHEADER (Microsoft); TIFF 6.0, section 2. WebP: see `_is_picture`."""


@final
class Uploads:
    """Takes one picture at a time from each request, and hands it on unopened."""

    def __init__(self, options: PageOptions, access: AccessControl) -> None:
        self._access = access
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
            self._access.bad_upload(session)
            raise
        except Busy:
            raise HTTPException(503, "the picture could not be worked on now; try again") from None
        except (BadUpload, HTTPException) as error:
            if isinstance(error, BadUpload):
                error = HTTPException(400, str(error))
            if error.status_code < 500:
                self._were_bad.append(True)
                self._access.bad_upload(session)
                set_audit_reason(request.scope, "upload")
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


def _is_picture(data: bytes) -> bool:
    return data.startswith(_MAGIC) or (data.startswith(b"RIFF") and data[8:12] == b"WEBP")


def add_stills(app: FastAPI, uploads: Uploads, still: Still | None) -> None:
    """Adds the routes to an application."""
    _add_parse(app, uploads, still)
    _add_anonymize(app, uploads, still)


def _add_parse(app: FastAPI, uploads: Uploads, still: Still | None) -> None:
    @app.post(
        "/api/parse",
        response_class=Response,
        summary="The parts of people in one picture",
        responses={
            200: {
                "description": "A PNG of class ids; with areas=1 JSON.",
                "content": {
                    "image/png": BINARY,
                    "application/json": {"schema": ParsedAreas.model_json_schema()},
                },
            },
            **UPLOAD_PROBLEMS,
        },
        openapi_extra=PICTURE,
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


def _add_anonymize(app: FastAPI, uploads: Uploads, still: Still | None) -> None:
    @app.post(
        "/api/anonymize",
        response_class=Response,
        summary="One picture with its people covered",
        responses={
            200: {
                "description": "PNG for a PNG, else JPEG.",
                "content": {"image/jpeg": BINARY, "image/png": BINARY},
            },
            **UPLOAD_PROBLEMS,
        },
        openapi_extra=PICTURE,
        tags=["still pictures"],
    )
    async def anonymize(request: Request) -> Response:
        if still is None:
            raise HTTPException(404)
        async with uploads.picture(request) as data:
            covered = await still.anonymize(data)
        return Response(covered.data, media_type=covered.media_type)
