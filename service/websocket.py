"""uvicorn's WebSocket protocol, with ends that arrive and buffers that are bounded.

Where a session has to end while its client does not read, ASGI has no way to say so: its ``send`` waits. So the
connection's own ways out are handed to the application in the scope, as the extension `EXTENSION`.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.http11 import Request

EXTENSION = "timeconv.end"

End = Callable[[str, int, str], None]
"""``end(text, code, reason)``: a last message and a close that do not wait; the connection is cut off soon after."""

_GOODBYE_S = 1.0
"""How long a client gets to take what ends its connection."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection."""

    _ended = False
    _cut_off: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._cut_off is not None:
            self._cut_off.cancel()
        super().connection_lost(exc)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Give what is still to be sent as long as a close is waited for: asyncio itself would wait for ever."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._cut_off = self.loop.call_later(self.close_timeout, self.transport.abort)

    async def send(self, message: ASGISendEvent) -> None:
        """Send for the application, which may not know yet that the connection was ended without it."""
        await self.writable.wait()
        if self._ended:
            raise ClientDisconnected
        await super().send(message)

    def handle_connect(self, event: Request) -> None:
        """Begin the upgrade, with our extension in its scope."""
        super().handle_connect(event)
        if hasattr(self, "scope"):  # Not so for an upgrade that uvicorn refused.
            extensions = cast("dict[str, object]", self.scope["extensions"])
            extensions[EXTENSION] = self.end

    def end(self, text: str, code: int, reason: str) -> None:
        """Write a last message and the close past the buffer's mark, and cut the connection off a moment later."""
        if self.close_sent:
            return
        if self.transport.is_closing():  # The client has begun to close, and does not read our answer to it.
            self.transport.abort()
            return
        self.conn.send_text(text.encode())
        self.conn.send_close(code, reason)
        self._write_and_cut_off()

    def handle_parser_exception(self) -> None:
        """Send the close frame of a broken rule, then read on for a moment; what comes is discarded.

        uvicorn closes the socket at once. If the client is still sending, as with a message that is too large, the
        kernel answers with a reset, which overtakes the close frame: the client sees 1006 instead of 1009.
        """
        if self.close_sent:
            return  # The rest of the message that was refused.
        assert self.conn.close_sent is not None
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._write_and_cut_off()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def handle_ping(self) -> None:
        """Answer a ping, unless the client does not read: pongs would pile up without bound (RFC 6455, 5.5.3)."""
        pong = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(pong)

    def shutdown(self) -> None:
        """Close with 1012; a client that does not take it is cut off."""
        try:
            super().shutdown()
        except InvalidState:  # The client has begun to close, and does not read our answer to it.
            self.transport.close()
        self.loop.call_later(_GOODBYE_S, self.transport.abort)

    def _write_and_cut_off(self) -> None:
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = self._ended = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(_GOODBYE_S, self.transport.abort)
