"""uvicorn's WebSocket protocol, with a straight way to the application, ends that arrive and buffers that are bounded.

ASGI hands every message over through a queue and a task, pauses reading for each, and has no way to end a session
whose client does not read: its ``send`` waits. So once a session is accepted the connection itself is handed to the
application in the scope, as the extension `EXTENSION`: messages are calls, both ways, on the event loop.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, cast

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from service import protocol
from service.errors import ClientGone, RateLimited
from service.gate import Gate
from service.limits import TokenBucket

EXTENSION = "timeconv.link"
T = TypeVar("T")


class Listener(Protocol):
    """An application that is spoken to by calls. What it raises is its own fault: it must not."""

    def received(self, message: bytes | str) -> bool:
        """A message came; whether the next one may come. If not, `Link.read_on` asks for it."""
        ...

    def blocked(self) -> None:
        """The client does not read: the buffer is over its mark."""
        ...

    def unblocked(self) -> None:
        """The buffer is under its mark again."""
        ...


class Link(Protocol):
    """A connection as its application sees it. ASGI's ``receive`` still tells when it is over."""

    @property
    def is_writable(self) -> bool:
        """Whether a message may be sent: the client is there and reads."""
        ...

    @property
    def breach(self) -> str | None:
        """The code of the error for which the connection ended by itself."""
        ...

    def attach(self, listener: Listener) -> None:
        """Have messages come to ``listener`` from now on, those first that came already."""
        ...

    def read_on(self) -> None:
        """Let messages come again."""
        ...

    def say(self, text: bytes) -> None:
        """Send a text message, UTF-8."""
        ...

    def finish(self, code: int = 1000) -> None:
        """Close with ``code``. What is still to be sent is sent for as long as a close is waited for."""
        ...

    async def while_open(self, awaited: Coroutine[Any, Any, T]) -> T:
        """What ``awaited`` comes to.

        Raises:
            ClientGone: the connection ended before that; ``awaited`` is cancelled.
        """
        ...

    def end(self, text: bytes, code: int, reason: str) -> None:
        """Send a last message and a close past the buffer's mark, and cut the connection off soon after."""
        ...


_TINY_MESSAGE_BYTES = 512
"""No picture is smaller; a message under this costs as much to handle as one of a picture."""
_SMALL_FRAGMENT_BYTES = 4096
"""Clients that cut messages up make larger pieces."""


_WIRE = logging.getLogger(f"{__name__}.wire")
_WIRE.setLevel(logging.WARNING)  # Under it websockets logs headers and messages, which hold keys and tokens.


class _Nobody:
    """Listens when the application is done."""

    def received(self, message: bytes | str) -> bool:  # noqa: ARG002 - the protocol's
        """Drop a message."""
        return True

    def blocked(self) -> None:
        """Nothing."""

    def unblocked(self) -> None:
        """Nothing."""


class _Frames(ServerProtocol):
    """The parser, without extensions. It counts frames that are small, and stops at once where there are too many."""

    def __init__(self, small: TokenBucket, clock: Callable[[], float], max_size: int) -> None:
        super().__init__(max_size=max_size, logger=_WIRE)
        self._small = small
        self._clock = clock

    def recv_frame(self, frame: Frame) -> None:
        """Take a frame."""
        is_whole = frame.fin and frame.opcode is not Opcode.CONT
        is_small = len(frame.data) < (_TINY_MESSAGE_BYTES if is_whole else _SMALL_FRAGMENT_BYTES)
        if is_small and not self._small.take(self._clock()):
            self._end(RateLimited("This connection sends more small frames than it may"))
        else:
            super().recv_frame(frame)

    def _end(self, error: RateLimited) -> None:
        self.parser_exc = error
        self.writes.clear()  # Pongs.
        if self.state is OPEN:
            self.send_text(protocol.encode(protocol.error_message(error, closing=True)))
        self.fail(error.close_code, error.code)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection."""

    breach: str | None = None
    """The code of the error for which the connection ended by itself."""
    _is_refused = False
    _discarded_bytes = 0
    _cut_off: asyncio.TimerHandle | None = None
    _awaited: "asyncio.Future[Any] | None" = None
    _listener: Listener | None = None
    _hears = True
    _held: deque[bytes | str]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        gate: Gate,
    ) -> None:
        """``gate`` has the limits; the rest is uvicorn's."""
        super().__init__(config, server_state, app_state, _loop)
        self._gate = gate
        self.conn: ServerProtocol = _Frames(gate.small_frames(), gate.clock, config.ws_max_size)

    # The application's side: `Link`

    @property
    def is_writable(self) -> bool:
        """Whether a message may be sent: the client is there and reads."""
        return self.writable.is_set() and not (self.close_sent or self.disconnected or self.transport.is_closing())

    def attach(self, listener: Listener) -> None:
        """Have messages come to ``listener`` from now on, those first that came already."""
        self._listener, self._held = listener, deque()
        came = [self.queue.get_nowait() for _ in range(self.queue.qsize())]
        for event in came:
            if event["type"] == "websocket.receive":
                message = event.get("bytes")
                self._hear(cast("str", event.get("text")) if message is None else message)
            else:
                self.queue.put_nowait(event)
        if self._hears:
            self._resume()

    def read_on(self) -> None:
        """Let messages come again."""
        if self._hears:
            return
        self._hears = True
        while self._held and self._hears:
            self._hear(self._held.popleft())
        if self._hears:
            self._resume()

    def say(self, text: bytes) -> None:
        """Send a text message, UTF-8."""
        self.conn.send_text(text)
        self.transport.write(b"".join(self.conn.data_to_send()))

    def finish(self, code: int = 1000) -> None:
        """Close with ``code``. What is still to be sent is sent for as long as a close is waited for."""
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})
        self.conn.send_close(code)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._resume()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    async def while_open(self, awaited: Coroutine[Any, Any, T]) -> T:
        """What ``awaited`` comes to.

        Raises:
            ClientGone: the connection ended before that; ``awaited`` is cancelled.
        """
        self._awaited = task = asyncio.ensure_future(awaited)
        try:
            return await task
        except asyncio.CancelledError:
            if self.disconnected:
                raise ClientGone("The client left during the opening") from None
            raise
        finally:
            self._awaited = None

    def end(self, text: bytes, code: int, reason: str) -> None:
        """Send a last message and a close past the buffer's mark, and cut the connection off soon after."""
        if self.close_sent:
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self.transport.is_closing():  # The client has begun to close, and does not read our answer to it.
            self.transport.abort()
            return
        self.conn.send_text(text)
        self.conn.send_close(code, reason)
        self._resume()
        self._write_and_cut_off()

    def _hear(self, message: bytes | str) -> None:
        """Hand a message over, or hold it: a chunk may bring more of them than the application has room for."""
        assert self._listener is not None
        if not self._hears:
            self._held.append(message)
        elif not self._listener.received(message):
            self._hears = False
            self._pause()

    def _pause(self) -> None:
        if not self.read_paused and not self.transport.is_closing():
            self.read_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self.read_paused and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection; it was let in as HTTP."""
        super().connection_made(transport)
        self._gate.enter(self._address)

    def data_received(self, data: bytes) -> None:
        """Parse what came. After a broken rule as much is discarded as a message may have, and the rest not read."""
        if not self._is_refused:
            super().data_received(data)
            return
        self._discarded_bytes += len(data)
        if self._discarded_bytes > self.config.ws_max_size:
            self._stop_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._gate.leave(self._address)
        if self._cut_off is not None:
            self._cut_off.cancel()
        super().connection_lost(exc)
        if self._awaited is not None:
            self._awaited.cancel()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Give what is still to be sent as long as a close is waited for: asyncio itself would wait for ever.

        The listener, which holds us too, is let go now rather than by the garbage collector, and its network with it.
        """
        super().on_task_complete(task)
        if self._listener is not None:
            self._listener, self._held = _Nobody(), deque()
        if not self.disconnected:
            self._cut_off = self.loop.call_later(self.close_timeout, self.transport.abort)

    def handle_connect(self, event: Request) -> None:
        """Begin the upgrade, with our extension in its scope."""
        super().handle_connect(event)
        if hasattr(self, "scope"):  # Not so for an upgrade that uvicorn refused.
            extensions = cast("dict[str, object]", self.scope["extensions"])
            extensions[EXTENSION] = self

    def pause_writing(self) -> None:
        """Tell the listener."""
        super().pause_writing()
        if self._listener is not None:
            self._listener.blocked()

    def resume_writing(self) -> None:
        """Tell the listener."""
        super().resume_writing()
        if self._listener is not None:
            self._listener.unblocked()

    def handle_bytes(self, event: Frame) -> None:
        """Hand a picture over, and drop it: the parser keeps its frame until the next one has come."""
        super().handle_bytes(event)
        event.data = b""

    def handle_text(self, event: Frame) -> None:
        """The same of a text."""
        super().handle_text(event)
        event.data = b""

    def handle_cont(self, event: Frame) -> None:
        """The same of a message's later fragments."""
        super().handle_cont(event)
        event.data = b""

    def send_receive_event_to_app(self) -> None:
        """Hand a whole message to the listener; before there is one, to ASGI's queue.

        A text that is too large is not looked at: what it may make a parser do grows faster than it does.
        """
        if self.curr_msg_data_type == "text" and sum(map(len, self.frames)) > self._gate.max_text_bytes:
            self._fail(1009)
            return
        if self._listener is None:
            super().send_receive_event_to_app()
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "bytes":
            self._hear(data)
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self._fail(1007)
        else:
            self._hear(text)

    def _fail(self, code: int) -> None:
        self.frames = []
        self.conn.fail(code)
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """Send the close frame of a broken rule, then read on for a moment; what comes is discarded.

        uvicorn closes the socket at once. If the client is still sending, as with a message that is too large, the
        kernel answers with a reset, which overtakes the close frame: the client sees 1006 instead of 1009.
        """
        self._is_refused = True
        broken = self.conn.parser_exc
        if isinstance(broken, RateLimited):
            self.breach = broken.code
            self._gate.refuse(broken, self._address)
        if self.close_sent:
            self._stop_reading()
            return
        if self.conn.close_sent is None:  # There is no WebSocket yet to send a close on.
            self.transport.abort()
            return
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self.breach is None:
            self._resume()
        else:
            self._stop_reading()
        self._write_and_cut_off()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def handle_ping(self) -> None:
        """Answer a ping, unless the client does not read: pongs would pile up without bound (RFC 6455, 5.5.3)."""
        pong = b"".join(self.conn.data_to_send())
        if self.writable.is_set() and not self.close_sent:
            self.transport.write(pong)

    def shutdown(self) -> None:
        """Close with 1012, unless a close was sent; a client that does not take it is cut off."""
        # Of a connection that is closed with bytes unread the kernel makes a reset, which overtakes what was sent. So
        # where our close is under way the client's is waited for. An upgrade that was refused has its answer.
        if not (self.close_sent or self.conn.eof_sent):
            try:
                super().shutdown()
            except InvalidState:  # The client has begun to close, and does not read our answer to it.
                self.transport.close()
        self.loop.call_later(self._gate.goodbye_s, self.transport.abort)

    def _write_and_cut_off(self) -> None:
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(self._gate.goodbye_s, self.transport.abort)

    def _stop_reading(self) -> None:
        """Read no more, whoever asks for it: to ASGI reading does not look paused."""
        self.read_paused = False
        if not self.transport.is_closing():
            self.transport.pause_reading()

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""
