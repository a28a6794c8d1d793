"""How every application here says that something went wrong: one sentence, and nothing quoted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .gate import problem

__all__ = ["answer_problem", "problem_response"]

_SENTENCES: Final = {404: "there is nothing there", 405: "that method does nothing there"}


def problem_response(
    status: int, sentence: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Returns an answer that says what went wrong."""
    return Response(problem(sentence), status, media_type="application/json", headers=headers)


async def answer_problem(_: Request, error: Exception) -> Response:
    """Answers an `HTTPException`."""
    assert isinstance(error, HTTPException)
    # Texts of our own pass; those of libraries may quote the request.
    sentence = _SENTENCES.get(error.status_code, error.detail)
    return problem_response(error.status_code, sentence, error.headers)
