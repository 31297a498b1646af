"""Errors as answers: one JSON shape for all of them, and never a traceback."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from storerec.errors import ConfigError, DataError
from storerec.serving.refusals import RefusalError
from storerec.serving.schemas import ErrorBody

if TYPE_CHECKING:
    from fastapi import FastAPI

    from storerec.serving.metrics import Metrics

_KINDS = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}
_MOST_FAULTS = 5
_TEXTS = {
    400: "The body is no JSON.",
    401: "The API key is missing or wrong.",
    404: "There is no such item.",
    408: "The body did not come in time.",
    413: "The body is too long.",
    421: "The host is not a name of this machine.",
    422: "The request is not valid.",
    429: "Too many requests are waiting; Retry-After says when to come back.",
    500: "A fault of the service.",
    503: "No answer in time, or the model is not loaded.",
}


def failure(status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as answer: ``{"error": {"type": kind, "message": message}}``."""
    # ASCII only: a message may quote what no encoding can write
    text = json.dumps({"error": {"type": kind, "message": message}})
    return Response(text, status, headers, media_type="application/json")


def refusal(error: RefusalError) -> Response:
    """The answer for a refusal, with when to come back."""
    wait = error.retry_after
    headers = {} if wait is None else {"Retry-After": str(math.ceil(wait))}
    return failure(error.status, error.kind, str(error), headers)


def documented(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Errors of a route for its OpenAPI description."""
    return {status: {"model": ErrorBody, "description": _TEXTS[status]} for status in sorted(statuses)}


def add_handlers(app: FastAPI, metrics: Metrics) -> None:
    """Give every error its answer."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusalError)
        if error.status in (429, 503):
            metrics.refused.labels(error.kind).inc()
        return refusal(error)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return failure(422, "invalid_request", "; ".join(_fault(one) for one in error.errors()[:_MOST_FAULTS]))

    async def unusable(_: Request, error: Exception) -> Response:
        return failure(422, "invalid_request", " ".join(str(error).split()))

    async def of_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = _KINDS.get(error.status_code, "error")
        return failure(error.status_code, kind, str(error.detail), error.headers)

    async def fault(_: Request, error: Exception) -> Response:
        return failure(500, "internal", "the service failed at this request; its log says why")

    app.add_exception_handler(RefusalError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(DataError, unusable)
    app.add_exception_handler(ConfigError, unusable)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(Exception, fault)


def _fault(found: Mapping[str, Any]) -> str:
    """One fault under its field: ``items.0.text`` for ``("body", "items", 0, "text")``."""
    place, *inner = found["loc"]
    if found["type"] == "json_invalid":
        return f"{place}: no JSON from character {inner[0]} on"
    return f"{'.'.join(map(str, inner)) or place}: {found['msg']}"
