"""Errors over HTTP: RFC 9457 problem+json, with the code, and whether and when to try again."""

import logging
import math
from http import HTTPStatus

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response
from msgspec import UNSET, Struct, UnsetType
from starlette.exceptions import HTTPException

from service.api.requests import HEADER, request_id
from service.errors import FrameRefused, TimeConvError, Unauthorized
from service.protocol import Count

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class Problem(Struct, frozen=True, kw_only=True):
    """Why a request was refused (RFC 9457).

    ``code``: a code of ``/asyncapi.json`` (``x-error-codes``), or the name of the status. ``index`` and ``reason``:
    of ``bad_image``, which frame, and a word for what is wrong with it.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    retryable: bool = False
    retry_after_ms: Count | None = None
    index: Count | UnsetType = UNSET
    reason: str | UnsetType = UNSET


def problem_of(error: TimeConvError) -> Problem:
    """What is said of an error of the service."""
    frame = error if isinstance(error, FrameRefused) else None
    return Problem(
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        detail=error.told,
        code=error.code,
        retryable=error.retryable,
        retry_after_ms=error.retry_after_ms,
        index=UNSET if frame is None else frame.index,
        reason=UNSET if frame is None else frame.reason,
    )


def problem(error: TimeConvError) -> Response:
    """The response for an error of the service."""
    headers = {} if error.retry_after_ms is None else {"Retry-After": str(math.ceil(error.retry_after_ms / 1000))}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        msgspec.json.encode(problem_of(error)), status_code=error.status, headers=headers, media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Answer every error of the application as a problem."""
    app.add_exception_handler(TimeConvError, _service_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TimeConvError)
    request.app.state.engine.metrics.refused(error.code)
    return problem(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    body = Problem(title=status.phrase, status=status, detail=error.detail, code=status.name.lower())
    request.app.state.engine.metrics.refused(body.code)
    return Response(msgspec.json.encode(body), status_code=status, headers=error.headers, media_type=MEDIA_TYPE)


async def _unexpected(connection: Request, error: Exception) -> Response:
    request = request_id(connection)
    log.error("%s %s failed", connection.method, connection.url.path, exc_info=error, extra={"request": request})
    connection.app.state.engine.metrics.refused(TimeConvError.code)
    response = problem(TimeConvError("The service failed on this request"))
    response.headers[HEADER] = request  # This answer is made outside of all middleware.
    return response
