"""An id for each request and upgrade, in its answer and in every line of the log that is about it.

A caller, or a proxy before us, may choose it (``X-Request-ID``), so that one search finds a call in all logs.
"""

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-ID"

_CHOSEN = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Nothing that would need quoting in a log, and short; what is something else is not taken over."""
_ANSWERS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


class RequestIds:
    """ASGI middleware: gives each request and upgrade its id, and writes it into the header of the answer."""

    def __init__(self, app: ASGIApp) -> None:
        """``app``: what is inside."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass all on; only the messages that begin an answer get a header."""
        chosen = Headers(scope=scope).get(HEADER, "")
        scope["request_id"] = identity = chosen if _CHOSEN.fullmatch(chosen) else secrets.token_urlsafe(12)

        async def answer(message: Message) -> None:
            if message["type"] in _ANSWERS:
                MutableHeaders(raw=message.setdefault("headers", [])).setdefault(HEADER, identity)
            await send(message)

        await self._app(scope, receive, answer)


def traceparents(connection: HTTPConnection) -> list[str]:
    """What a request or upgrade says it is part of (W3C Trace Context); more than one say nothing."""
    return connection.headers.getlist("traceparent")


def request_id(connection: HTTPConnection) -> str:
    """The id of a request or upgrade."""
    return str(connection.scope["request_id"])
