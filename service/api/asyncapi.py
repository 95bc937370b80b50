"""``GET /asyncapi.json``: the WebSocket as AsyncAPI 3.0 has it, from the types that are sent and the tree of errors."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, get_args

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response

from service import __version__, errors
from service.api import samples, schemas
from service.api.openapi import refusals
from service.api.problems import Problem
from service.engine import Engine
from service.errors import AtCapacity, NoSuchStream, OriginRefused, TooManySessions, Unauthorized, Unavailable
from service.protocol import (
    AUTH_PREFIX,
    MAX_IN_FLIGHT,
    OUTCOME_MEANINGS,
    RESUME_PREFIX,
    SUBPROTOCOL,
    TIMESTAMP_BYTES,
    ClientMessage,
    Options,
    ServerMessage,
)

router = APIRouter(tags=["documents"])

MEDIA_TYPE = "application/vnd.aai.asyncapi+json"

CLOSE_CODES: Mapping[int, str] = {
    1000: "the client asked for the end, and `session.closed` came before",
    1001: "the service stops",
    1002: "a frame that is none of RFC 6455's; by the transport, without `error`",
    1007: "a text that is no UTF-8; by the transport, without `error`",
    1008: "a rule was broken; `error` came before and says which",
    1009: "a message over twice `limits.max_frame_bytes`, or a text over its limit; by the transport, without `error`",
    1011: "our fault; `error` came before",
    1012: "the transport is restarted; without `error`",
    1013: "try again later; `error` came before",
}

_DESCRIPTION = f"""\
One WebSocket is one session. Each binary message is a frame, a JPEG, and takes the next `seq`, from 0. Each gets
exactly one outcome: a `prediction`, a `frame`, or its place in a run of `frames`. Predictions come in order of `seq`;
other outcomes may overtake them.

**Credit.** `max_in_flight` is how many frames may have been sent without an outcome: {MAX_IN_FLIGHT["latest"]} with
`freshness=latest`, {MAX_IN_FLIGHT["every"]} with `every`. Each outcome gives one back. A client that ignores it harms
itself only: in `latest` its waiting frame is replaced (`superseded`), in `every` the server stops reading.

**Errors.** `error` with `close_code` null refuses a text message and changes nothing; with one it says why the session
ends, and the close follows. Bad options are answered after the upgrade, by `error` and close 1008. Who may not enter,
or finds no place, is refused at the upgrade with problem+json (the schema `Problem`, with a code
of `x-refusals`).

**Going on after a break.** Offer `{RESUME_PREFIX}` with `session.started.resume_token` behind it as a second
subprotocol.

A later version may add members, outcomes, codes and types of messages: pass over what you do not know.
"""

_REFUSING = (Unauthorized, OriginRefused, NoSuchStream, TooManySessions, AtCapacity, Unavailable)
"""What an upgrade may be refused with."""
_FRAME = "One JPEG, baseline or progressive, colour or gray; EXIF orientation is obeyed."
_TIME = (
    f"{TIMESTAMP_BYTES} bytes of capture time (microseconds on any clock of the client's, unsigned, big-endian), then "
)


@router.head("/asyncapi.json", include_in_schema=False)
@router.get(
    "/asyncapi.json",
    summary="The WebSocket, as AsyncAPI 3.0",
    response_class=Response,
    responses={
        **refusals(),
        200: {"description": "AsyncAPI 3.0", "content": {MEDIA_TYPE: {"schema": {"type": "object"}}}},
    },
)
async def asyncapi(request: Request) -> Response:
    """Options, messages, errors and closes of `/v1/stream`."""
    engine: Engine = request.app.state.engine
    return Response(_encoded(guarded=not engine.access.keys.is_open), media_type=f"{MEDIA_TYPE};version=3.0.0")


@cache
def _encoded(*, guarded: bool) -> bytes:
    return json.dumps(document(guarded=guarded), ensure_ascii=False).encode()


def document(*, guarded: bool) -> dict[str, Any]:
    """The AsyncAPI document; ``guarded``: a key or token is asked for."""
    client, server = get_args(ClientMessage), get_args(ServerMessage)
    security = {"security": [_component("securitySchemes", name) for name in _SECURITY]} if guarded else {}
    return {
        "asyncapi": "3.0.0",
        "id": "urn:timeconv:stream",
        "info": {
            "title": "TimeConv",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            name: {"host": "{host}", "protocol": name, "variables": {"host": {"default": "127.0.0.1:8000"}}, **security}
            for name in ("ws", "wss")
        },
        "channels": {
            "stream": {
                "address": "/v1/stream",
                "title": SUBPROTOCOL,
                "description": "One session, from the upgrade to the close.",
                "messages": {
                    name: _component("messages", name)
                    for name in (*_BINARY, *(_tag(kind) for kind in (*client, *server)))
                },
                "bindings": {"ws": _binding(guarded=guarded)},
            }
        },
        "operations": _operations(),
        "components": {
            "messages": {**_BINARY, **{_tag(kind): _message(kind) for kind in (*client, *server)}},
            "schemas": {**schemas.components((*client, *server, Problem)), "Frame": _binary(_FRAME)},
            **({"securitySchemes": _SECURITY} if guarded else {}),
        },
        "x-outcomes": {outcome.value: meaning for outcome, meaning in OUTCOME_MEANINGS.items()},
        "x-max-in-flight": dict(MAX_IN_FLIGHT),
        "x-close-codes": {str(code): meaning for code, meaning in CLOSE_CODES.items()},
        "x-error-codes": error_codes(),
        "x-refusals": {kind.code: kind.status for kind in _REFUSING},
    }


def error_codes() -> dict[str, dict[str, Any]]:
    """What each code means, the close code and HTTP statuses it comes with, and whether trying again may help."""
    codes: dict[str, dict[str, Any]] = {}
    for kind in errors.kinds():
        entry = codes.setdefault(
            kind.code,
            {
                "meaning": (kind.__doc__ or "").partition("\n")[0],
                "close_code": kind.close_code,
                "statuses": [],
                "retryable": kind.retryable,
                "retry_after_ms": kind.retry_after_ms,
            },
        )
        entry["statuses"] = sorted({*entry["statuses"], kind.status})
    return dict(sorted(codes.items()))


def _tag(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


def _component(place: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{place}/{name}"}


def _binary(description: str) -> dict[str, str]:
    return {"type": "string", "format": "binary", "description": description}


_BINARY: dict[str, dict[str, Any]] = {
    "picture": {
        "title": "A frame",
        "summary": "A binary message: one JPEG",
        "contentType": "image/jpeg",
        "payload": schemas.reference("Frame"),
    },
    "picture.timed": {
        "title": "A frame and when it was captured",
        "summary": f"A binary message, with the option timestamps=1: {TIMESTAMP_BYTES} bytes of time, then one JPEG",
        "contentType": "application/octet-stream",
        "payload": _binary(_TIME + _FRAME[:1].lower() + _FRAME[1:]),
    },
}

_SECURITY: dict[str, dict[str, str]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, or a token of `POST /v1/tokens`.",
    },
    "subprotocol": {
        "type": "httpApiKey",
        "in": "header",
        "name": "Sec-WebSocket-Protocol",
        "description": f"For browsers, which can set no other header: `{SUBPROTOCOL}, {AUTH_PREFIX}TOKEN`, with a token"
        " of `POST /v1/tokens`. The service answers with the first of the two alone.",
    },
}


def _message(kind: type[msgspec.Struct]) -> dict[str, Any]:
    shown = samples.EVERY[kind]
    return {
        "name": _tag(kind),
        "title": kind.__name__,
        "summary": (kind.__doc__ or "").partition("\n")[0].replace("``", "`"),
        "contentType": "application/json",
        "payload": schemas.reference(kind.__name__),
        "examples": [{"name": name, "payload": schemas.as_json(message)} for name, message in shown.items()],
    }


def _binding(*, guarded: bool) -> dict[str, Any]:
    """The upgrade: its query, which are the options, and its headers."""
    query = schemas.components([Options])["Options"]
    auth = f", {AUTH_PREFIX}TOKEN" if guarded else ""
    headers = {
        "Sec-WebSocket-Protocol": f"`{SUBPROTOCOL}`, or nothing. Beside it may stand {RESUME_PREFIX}TOKEN{auth}.",
        "X-Request-ID": "Up to 64 letters, digits, `.`, `_` and `-`; comes back, and stands in the log.",
        "traceparent": "W3C Trace Context; spans of frames are linked to it where traces are on.",
        **({"Authorization": "`Bearer KEY`, a key or a token."} if guarded else {}),
    }
    return {
        "method": "GET",
        "query": {
            **query,
            "description": "Options; a name that is unknown or given twice is refused. `timestamps` is `0` or `1`.",
            "required": [],
            "additionalProperties": False,
        },
        "headers": {
            "type": "object",
            "properties": {
                name: {"type": "string", "description": description} for name, description in headers.items()
            },
        },
        "bindingVersion": "0.1.0",
    }


def _operations() -> dict[str, Any]:
    """Who says what, as the service sees it: it receives frames and texts, and sends the rest."""

    def operation(action: str, summary: str, messages: Iterable[str], answers: Iterable[str] = ()) -> dict[str, Any]:
        channel = {"$ref": "#/channels/stream"}
        listed = [{"$ref": f"#/channels/stream/messages/{name}"} for name in messages]
        replies = [{"$ref": f"#/channels/stream/messages/{name}"} for name in answers]
        reply = {"reply": {"channel": channel, "messages": replies}} if replies else {}
        return {"action": action, "summary": summary, "channel": channel, "messages": listed, **reply}

    return {
        "start": operation("send", "First of all, once the upgrade is accepted", ["session.started"]),
        "frame": operation("receive", "A frame; it gets one outcome", list(_BINARY), ["prediction", "frame", "frames"]),
        "update": operation(
            "receive", "Options for the frames to come", ["session.update"], ["session.updated", "error"]
        ),
        "close": operation("receive", "The end, when all is answered", ["session.close"], ["session.closed"]),
        "takeover": operation("send", "A new version of the network has taken over", ["session.updated"]),
        "stop": operation("send", "The service stops soon", ["goaway"]),
        "fail": operation("send", "What was refused, or why the session ends", ["error"]),
        "end": operation("send", "Last of a session that ends in order", ["session.closed"]),
    }
