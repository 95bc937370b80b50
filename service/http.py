"""uvicorn's HTTP protocol, with limits on what comes before a request is whole.

uvicorn itself waits for ever for a header, takes one of any size, and parses whatever comes in one piece at one go.
Here a connection has so much time for each header, and so many bytes for all that is not body: header, chunk sizes and
trailers. A refusal is one answer; after it nothing is read, and the connection is cut off a moment later, so that the
client can see why without costing anything.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState
from websockets.exceptions import SecurityError

from service.api.problems import problem
from service.errors import BadHttp, BadUpgrade, HandshakeTimeout, HeaderTooLarge, RateLimited, TimeConvError
from service.gate import Gate
from service.websocket import WebSocketProtocol

_PART_BYTES = 16_384
"""Parsed at one go; each chunk of a body, be it one byte, is a call."""
_MOST_AHEAD = 16
"""Requests sent ahead of the answer to the one before."""


class HttpProtocol(HttpToolsProtocol):
    """One connection that was let in, up to its end or its upgrade to a WebSocket."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        gate: Gate,
        address: str,
    ) -> None:
        """``gate`` has the limits, and has counted the connection of ``address``; the rest is uvicorn's."""
        super().__init__(config, server_state, app_state, _loop)
        self._gate = gate
        self._address = address
        self._is_counted = False
        self._is_over = False
        self._framing_bytes = 0
        self._breach: TimeConvError | None = None
        self._running: RequestResponseCycle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._blocked: asyncio.TimerHandle | None = None

    # The transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn does
        """Wait for a request. From now on the place is ours to give back."""
        super().connection_made(transport)
        self._is_counted = True
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, part by part, until the connection is refused or becomes a WebSocket."""
        limit = self._gate.max_header_bytes
        step = min(_PART_BYTES, limit)
        for start in range(0, len(data), step):
            if self._is_over or self.transport.is_closing():
                return
            part = data[start : start + step]
            self._framing_bytes += len(part)
            super().data_received(part)
            if self._framing_bytes > limit and not self._is_over:
                self._refuse(HeaderTooLarge(f"More than {limit} bytes of a request are not its body"))

    def pause_writing(self) -> None:
        """Give a client that does not read its answer as long as one of a session."""
        super().pause_writing()
        if self._blocked is None:
            self._blocked = self.loop.call_later(self._gate.blocked_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        _cancel(self._blocked)
        self._blocked = None

    # The parser's side

    def on_message_begin(self) -> None:
        """Count anew. What came before the first request is counted with it."""
        if self.cycle is not None:
            self._framing_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin the request, unless too many wait already: what is raised here ends the parser."""
        _cancel(self._deadline)
        if len(self.pipeline) >= _MOST_AHEAD:
            self._breach = RateLimited(f"More than {_MOST_AHEAD} requests were sent ahead of their answers")
            raise self._breach
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body. It pays for its chunk's size, unless the chunks are tiny."""
        self._framing_bytes -= len(body) + len(body) // 8
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the client to take the last answer."""
        super().on_response_complete()
        if self.cycle.response_complete and not self._is_over:
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """Refuse what could not be parsed, by its reason if that is one of ours."""
        self._refuse(self._breach or BadHttp(msg))

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; the WebSocket counts itself. Nothing of HTTP may be under way: it would hang on."""
        if self.flow.write_paused or not (self.cycle is None or self.cycle.response_complete):
            self._refuse(BadUpgrade("An upgrade has to wait for the answers to what was asked before"))
            return
        self._is_over = True
        self._leave()
        super().handle_websocket_upgrade()
        socket = self.transport.get_protocol()
        if isinstance(socket, WebSocketProtocol) and not socket.handshake_initiated:
            # websockets has limits of its own on a header, and leaves the answer to others.
            if isinstance(socket.conn.handshake_exc, SecurityError):
                self._refuse(HeaderTooLarge("The upgrade has more than 128 header lines, or one of over 8,190 bytes"))
            else:
                self.send_400_response("Invalid WebSocket upgrade.")

    # Limits

    def _await_head(self) -> None:
        _cancel(self._deadline)
        self._deadline = self.loop.call_later(self._gate.handshake_timeout_s, self._head_is_late)

    def _head_is_late(self) -> None:
        if self.transport.is_closing():  # An answer is not taken.
            self.transport.abort()
        else:
            self._refuse(HandshakeTimeout(f"No whole request header came within {self._gate.handshake_timeout_s:g} s"))

    def _refuse(self, error: TimeConvError) -> None:
        """Say why, if no other answer has begun, stop reading, and cut the connection off soon."""
        self._is_over = True
        self._gate.refuse(error, self._address)
        _cancel(self._deadline)
        has_begun = False
        # Of requests sent ahead `cycle` is the last; what it answers to comes first.
        if self._running is not None and not self._running.response_complete:
            has_begun = self._running.response_started
            self._running.disconnected = True
            self._running.message_event.set()
        if has_begun:
            self.transport.abort()
            return
        self.flow.pause_reading()
        self.transport.write(answer_to(error))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline = self.loop.call_later(self._gate.goodbye_s, self.transport.abort)

    def _leave(self) -> None:
        _cancel(self._deadline)
        _cancel(self._blocked)
        if self._is_counted:
            self._is_counted = False
            self._gate.leave(self._address)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


_answers: dict[str, bytes] = {}


def answer_to(error: TimeConvError) -> bytes:
    """A whole response. Texts are few and fixed by the settings, and a flood must not have each built anew."""
    message = str(error)
    if message not in _answers:
        response = problem(error)
        lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode(), b"connection: close"]
        lines += [name + b": " + value for name, value in response.raw_headers]
        _answers[message] = b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body)
    return _answers[message]
