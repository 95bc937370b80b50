"""Errors over HTTP: RFC 9457 problem+json, with the code, and whether and when to try again."""

import logging
import math
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from service.api.requests import HEADER, request_id
from service.errors import FrameRefused, TimeConvError, Unauthorized

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


def problem(error: TimeConvError) -> JSONResponse:
    """The response for an error of the service."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.told,
        "code": error.code,
        "retryable": error.retryable,
        "retry_after_ms": error.retry_after_ms,
    }
    if isinstance(error, FrameRefused):
        body |= {"index": error.index, "reason": error.reason}
    headers = {} if error.retry_after_ms is None else {"Retry-After": str(math.ceil(error.retry_after_ms / 1000))}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status_code=error.status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of the application as a problem."""
    app.add_exception_handler(TimeConvError, _service_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


async def _service_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TimeConvError)
    request.app.state.engine.metrics.refused(error.code)
    return problem(error)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).name.lower()
    request.app.state.engine.metrics.refused(code)
    body = {
        "type": "about:blank",
        "title": HTTPStatus(error.status_code).phrase,
        "status": error.status_code,
        "detail": error.detail,
        "code": code,
        "retryable": False,
        "retry_after_ms": None,
    }
    return JSONResponse(body, status_code=error.status_code, headers=error.headers, media_type=MEDIA_TYPE)


async def _unexpected(connection: Request, error: Exception) -> JSONResponse:
    request = request_id(connection)
    log.error("%s %s failed", connection.method, connection.url.path, exc_info=error, extra={"request": request})
    connection.app.state.engine.metrics.refused(TimeConvError.code)
    response = problem(TimeConvError("The service failed on this request"))
    response.headers[HEADER] = request  # This answer is made outside of all middleware.
    return response
