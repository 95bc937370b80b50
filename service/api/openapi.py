"""What FastAPI cannot read off the code, for ``/openapi.json``: messages, problems, and whether a key is asked for."""

from collections.abc import Iterator
from typing import Any

from service.api import schemas
from service.api.problems import MEDIA_TYPE, Problem, problem_of
from service.api.requests import HEADER
from service.errors import (
    BadHttp,
    HandshakeTimeout,
    HeaderTooLarge,
    RateLimited,
    TimeConvError,
    TooManyConnections,
    Unauthorized,
)
from service.protocol import FrameOutcome, Prediction

Responses = dict[int | str, dict[str, Any]]

_ANYWHERE = (
    BadHttp("This is no HTTP request"),
    HandshakeTimeout("No whole request header within 10000 ms"),
    RateLimited("More than 16 requests are sent ahead of their answers"),
    HeaderTooLarge("The header is over 65536 bytes"),
    TimeConvError("The service failed on this request"),
    TooManyConnections("As many connections are open as may be"),
)
"""What any request may be answered, most of it before it is one."""


def refusals(*errors: TimeConvError) -> Responses:
    """The problems that an operation may answer with, by status: these errors, as examples, and what any may."""
    responses: Responses = {}
    for error in (*errors, *_ANYWHERE):
        answer = responses.setdefault(
            error.status,
            {"description": "", "headers": {}, "content": {MEDIA_TYPE: {"schema": schemas.reference("Problem")}}},
        )
        meaning = f"`{error.code}`: {(error.__doc__ or '').partition(chr(10))[0]}"
        answer["description"] = "\n\n".join(filter(None, (answer["description"], meaning)))
        answer["headers"] |= dict(_headers(error))
        examples = answer["content"][MEDIA_TYPE].setdefault("examples", {})
        examples[error.code if error.code not in examples else f"{error.code} {len(examples)}"] = {
            "value": schemas.as_json(problem_of(error))
        }
    return responses


def _headers(error: TimeConvError) -> Iterator[tuple[str, dict[str, Any]]]:
    yield HEADER, {"description": "The id of this request in the log", "schema": {"type": "string"}}
    if error.retry_after_ms is not None:
        yield "Retry-After", {"description": "Seconds", "schema": {"type": "integer", "minimum": 0}}
    if isinstance(error, Unauthorized):
        yield "WWW-Authenticate", {"schema": {"const": "Bearer"}}


def complete(document: dict[str, Any], *, guarded: bool) -> None:
    """Add what is missing to FastAPI's document, in its place. ``guarded``: a key or token is asked for."""
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas.components([Prediction, FrameOutcome, Problem]))
    if not guarded:
        components.pop("securitySchemes", None)
    for operation in (one for operations in document["paths"].values() for one in operations.values()):
        if not guarded:
            operation.pop("security", None)
        for answer in operation["responses"].values():
            for example in answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {}).values():
                example["value"].setdefault("retry_after_ms", None)  # FastAPI drops members that are null.
