"""uvicorn's WebSocket protocol, with a close that arrives."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_CLOSE_WAIT_S = 1.0


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Tells a client that broke the protocol why before it cuts the connection.

    uvicorn closes the socket at once. If the client is still sending, as with a message that is too large, the kernel
    answers what comes with a reset, which overtakes the close frame: the client sees 1006 instead of 1009.
    """

    def handle_parser_exception(self) -> None:
        """Send the close frame, then read on for a moment; what comes is discarded."""
        if self.close_sent:
            return  # The rest of the message that was refused.
        assert self.conn.close_sent is not None
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.close_timer = self.loop.call_later(_CLOSE_WAIT_S, self.transport.close)
