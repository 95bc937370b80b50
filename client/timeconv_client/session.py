"""A session: frames out under credit, events in.

One task reads. It settles frames, so that credit comes back also while nobody iterates, and lines the events up for
the iterator. Everything else is called by the user, from the same event loop.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal, TypedDict, Unpack

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import broadcast
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from timeconv_client import feeding
from timeconv_client.errors import (
    ConnectionLost,
    ProtocolMismatch,
    ServiceStopping,
    SessionEnded,
    SessionError,
    TimeConvClientError,
    TimedOut,
    UpdateRefused,
)
from timeconv_client.feeding import Frames
from timeconv_client.iteration import Iterated
from timeconv_client.ledger import Ledger
from timeconv_client.messages import (
    ErrorMessage,
    Event,
    FrameOutcome,
    FramesOutcome,
    GoAway,
    Prediction,
    ServerMessage,
    SessionClosed,
    SessionStarted,
    SessionUpdated,
    parse_message,
)
from timeconv_client.timeouts import Timeouts

TIMESTAMP_BYTES = 8
_NORMAL = 1000
_GOING_AWAY = 1001
_NO_CLOSE_FRAME = 1006


class OptionChanges(TypedDict, total=False):
    """What `Session.update` may change. ``freshness`` and ``timestamps`` rule how frames are sent: set at `connect`."""

    model: str
    region: Literal["detect", "whole"]
    max_age_ms: int | None
    stride: int
    faces: int
    smoothing_ms: int


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def now_us() -> int:
    """Microseconds of the clock that capture times are of by default: it never goes back."""
    return time.monotonic_ns() // 1000


def require_changeable(options: Iterable[str]) -> None:
    """Check the names of options to be changed.

    Raises:
        TypeError: one that cannot be changed.
    """
    if wrong := set(options) - OptionChanges.__annotations__.keys():
        raise TypeError(f"Options that cannot be changed in a session: {', '.join(sorted(wrong))}")


class Session(Iterated[Event, SessionClosed]):
    """A session in progress; `connect` makes it.

    Iterate over it for the events, in the order they come; the last is `SessionClosed`. Up to 1,024 events wait for the
    iterator; beyond that nothing more is read, so no credit comes back and the service will in time close the session
    as a slow reader: iterate while sending. After the events that came before it, the iterator raises what ended the
    session, if not `close`: `SessionError`, `ConnectionLost` or `ProtocolMismatch`. Whoever waits in another method
    then gets the same error.

    When the service stops a `GoAway` comes. From then on sending raises `ServiceStopping`; frames in flight are
    answered. `stream` closes the session then; whoever sends by `send` should `close` soon, and connect anew.

    Cancelling any method is safe for the session; each says what it does to its own call.
    """

    def __init__(self, socket: ClientConnection, started: SessionStarted, timeouts: Timeouts) -> None:
        """Take over a connection on which ``session.started`` has come, in a running event loop."""
        super().__init__()
        self.started = started
        self._socket = socket
        self._timeouts = timeouts
        self._ledger = Ledger(started.next_seq, started.max_in_flight)
        self._updates: deque[asyncio.Future[SessionUpdated]] = deque()
        self._goaway: GoAway | None = None
        # A wake-up only, as those of `Iterated`.
        self._may_send = asyncio.Event()
        self._may_send.set()
        self._reader = asyncio.create_task(self._read(), name="timeconv-client-reader")
        self._pings = asyncio.create_task(self._ping(), name="timeconv-client-pings")

    # What is known

    @property
    def next_seq(self) -> int:
        """Seq that the next frame will get."""
        return self._ledger.next_seq

    @property
    def unanswered(self) -> frozenset[int]:
        """Seqs of the frames sent whose outcome has not come."""
        return self._ledger.unanswered

    @property
    def credit(self) -> int:
        """Frames that may be sent without waiting."""
        return self._ledger.credit

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open; events that came before its end may still wait for the iterator."""
        return self._socket.state is State.OPEN

    async def wait_closed(self) -> None:
        """Wait until the connection is closed."""
        await self._socket.wait_closed()

    # Frames out

    async def until_credit(self) -> None:
        """Wait until a frame may be sent: what a camera gives after it is fresh when it is sent.

        Raises:
            SessionEnded, ServiceStopping, SessionError, ConnectionLost, ProtocolMismatch: as `send`.
        """
        while True:
            self._require_sending()
            if self._socket.state is not State.OPEN:
                await self._ended()
            elif self._ledger.credit > 0:
                return
            else:
                self._may_send.clear()
                await self._may_send.wait()

    async def send(self, jpeg: bytes, captured_us: int | None = None) -> int:
        """Send a frame as soon as there is credit, and return its seq.

        Args:
            jpeg: the picture.
            captured_us: when it was taken, in microseconds of any steady clock; only with ``timestamps=True``, where
                None means now.

        Cancelling it means the frame is not sent; `next_seq` has not changed and no credit is used.

        Raises:
            TypeError: ``jpeg`` is not bytes.
            ValueError: a capture time that does not fit in 64 bits, or one in a session without time stamps.
            SessionEnded: `close` was called.
            ServiceStopping: the service takes no more frames.
            SessionError, ConnectionLost, ProtocolMismatch: the session ended before the frame could be sent.
        """
        message = self._message(jpeg, captured_us)
        await self.until_credit()
        return self._transmit(message)

    def try_send(self, jpeg: bytes, captured_us: int | None = None) -> int | None:
        """Send a frame if there is credit now, and return its seq; else drop it, and return None.

        For live pictures: the camera never waits, and what is sent is fresh. It does not block.

        Raises:
            TypeError, ValueError, SessionEnded, ServiceStopping, SessionError, ConnectionLost, ProtocolMismatch: as
                `send`.
        """
        message = self._message(jpeg, captured_us)
        self._require_sending()
        if self._ledger.credit <= 0 or self._socket.state is not State.OPEN:
            return None
        return self._transmit(message)

    # Options

    async def update(self, **changes: Unpack[OptionChanges]) -> SessionUpdated:
        """Change options for the frames sent from now on, and return what the service made of it.

        The answer is among the events too. Cancelling it leaves open whether the change was made: see the events.

        Raises:
            TypeError: an option that cannot be changed.
            UpdateRefused: the service did not take it; the old options stay.
            SessionEnded, SessionError, ConnectionLost, ProtocolMismatch: the session ended before the answer.
        """
        require_changeable(changes)
        self._require_open()
        answer: asyncio.Future[SessionUpdated] = asyncio.get_running_loop().create_future()
        self._updates.append(answer)
        self._write_json({"type": "session.update", "options": changes})
        return await answer

    # Events in

    def stream(self, frames: Frames) -> AsyncGenerator[Event, None]:
        """Send all frames, each as soon as there is credit, yielding every event meanwhile; then close the session.

        The last event is `SessionClosed`. Leaving the iteration early stops the sending. Each frame is taken from
        ``frames`` only once it can be sent, so that of a live camera it is a new one.

        Raises:
            ServiceStopping: after the last event, if the service stopped before all frames were sent; those sent are
                answered.
            SessionError, ConnectionLost, ProtocolMismatch: the session ended otherwise.
            Exception: whatever ``frames`` raises; the session is aborted then.
        """
        return feeding.stream(self, frames)

    # The end

    async def close(self) -> SessionClosed:
        """End the session in order: every frame sent is answered, then come the totals.

        The events not yet taken can still be iterated over; nothing more can be sent. Cancelling it stops the waiting,
        not the closing; calling it again waits again.

        Raises:
            TimedOut: the service took more than `Timeouts.end_s` for it; the session is aborted.
            SessionError, ConnectionLost, ProtocolMismatch: the session ended otherwise.
        """
        if not self._closing:
            self._closing = True
            self._may_send.set()
            # From here on few events can come, and who closes may have stopped to iterate.
            self._event_taken.set()
            self._write_json({"type": "session.close"})
        try:
            async with asyncio.timeout(self._timeouts.end_s):
                await self._ended()
        except TimeoutError as late:
            if isinstance(late, TimedOut):
                raise
            self._end(TimedOut(f"The session did not end within {self._timeouts.end_s:g} s"))
            await self.abort()
        if self._error is not None:
            self._raise_error(self._error)
        assert self._closed is not None
        return self._closed

    async def abort(self) -> None:
        """End the session at once; frames in flight are abandoned. Does nothing if it has ended.

        Waits for the closing handshake, at most for `Timeouts.close_s`. Cancelled, it cuts the connection instead.
        """
        if self._closed is None and self._error is None:
            self._error = SessionEnded("The session was aborted")
            self._error_was_raised = True
        try:
            await self._close_socket(_GOING_AWAY)
            await asyncio.wait([self._reader, self._pings])
        except asyncio.CancelledError:
            self._socket.transport.abort()
            await asyncio.wait([self._reader, self._pings])
            raise

    # Writing

    def _message(self, jpeg: bytes, captured_us: int | None) -> bytes:
        if not isinstance(jpeg, bytes | bytearray | memoryview):
            # A text would be sent as one, which no answer gives the credit back for.
            raise TypeError(f"A frame is the bytes of a JPEG, not {type(jpeg).__name__}")
        if not self.started.options.timestamps:
            if captured_us is not None:
                raise ValueError("captured_us needs a session with timestamps=True")
            return jpeg
        if captured_us is None:
            captured_us = now_us()
        if not 0 <= captured_us < 1 << 8 * TIMESTAMP_BYTES:
            raise ValueError(f"captured_us must fit in {TIMESTAMP_BYTES} bytes, unsigned: {captured_us}")
        return captured_us.to_bytes(TIMESTAMP_BYTES, "big") + jpeg

    def _transmit(self, message: bytes) -> int:
        # `broadcast` writes without waiting, so a frame is either sent and counted or neither, whoever is cancelled.
        # What it may leave in the write buffer is bounded by the credit.
        broadcast([self._socket], message)
        return self._ledger.sent()

    def _write_json(self, message: Mapping[str, Any]) -> None:
        # On a connection about to close nothing is written; the reader then ends whoever waits for an answer.
        broadcast([self._socket], json.dumps(message))

    def _require_sending(self) -> None:
        if self._error is None and self._goaway is not None and not self._closing:
            raise ServiceStopping(self._goaway.resume_token)
        self._require_open()

    async def _ended(self) -> None:
        """Wait until the connection is closed; raise what ended it, if it was no ``session.closed``."""
        if self._socket.state is not State.OPEN:
            # A peer that never closes its end of TCP is given up after the close timeout.
            await self._close_socket()
        await asyncio.wait([self._reader])
        if self._error is not None:
            self._raise_error(self._error)

    # Reading

    async def _read(self) -> None:
        last: ServerMessage | None = None
        error_of_update: ServerMessage | None = None
        try:
            while not isinstance(last, SessionClosed):
                last = parse_message(await self._socket.recv(decode=False))
                if isinstance(last, ErrorMessage) and last.close_code is None and self._updates:
                    error_of_update = last
                self._take(last)
                await self._room_for_events()
        except ConnectionClosed as closed:
            self._end(ending(closed, None if last is error_of_update else last))
        except ProtocolMismatch as mismatch:
            self._end(mismatch)
        finally:
            # Whatever stopped the reading: nobody may go on waiting for it.
            self._end(SessionEnded("The session was aborted"))
            self._pings.cancel()
            with suppress(AttributeError):  # After a 1009 websockets may write to a transport that is no more.
                await self._close_socket()

    async def _ping(self) -> None:
        """Cut a connection that does not answer: then whoever reads is told.

        websockets' own pings wait until the write buffer drains, and so does its close. Over a half-open connection it
        never does, once the buffers are full of frames.
        """
        with suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(self._timeouts.ping_interval_s)
                try:
                    async with asyncio.timeout(self._timeouts.ping_s):
                        await (await self._socket.ping())
                except TimeoutError:
                    self._socket.transport.abort()

    async def _close_socket(self, code: int = _NORMAL) -> None:
        """Close the connection with a handshake, in time, else cut it."""
        try:
            async with asyncio.timeout(self._timeouts.close_s):
                await self._socket.close(code)
        except TimeoutError:
            self._socket.transport.abort()
            await self._socket.wait_closed()

    def _take(self, message: ServerMessage) -> None:
        match message:
            case Prediction() | FrameOutcome() | FramesOutcome():
                self._ledger.answered(message)
                self._may_send.set()
            case SessionUpdated():
                self._ledger.max_in_flight = message.max_in_flight
                self._may_send.set()
                if message.by != "service":
                    self._settle_update(message)
            case ErrorMessage(close_code=None):
                self._settle_update(
                    UpdateRefused(
                        message.code,
                        message.message,
                        retryable=message.retryable,
                        retry_after_ms=message.retry_after_ms,
                    )
                )
            case GoAway():
                self._goaway = message
                self._may_send.set()
            case SessionClosed():
                self._closed = message
                self._end(SessionEnded("The session is closed"))
            case SessionStarted():
                raise ProtocolMismatch("A second session.started came")
            case _:
                pass
        self._emit(message)

    def _settle_update(self, answer: SessionUpdated | UpdateRefused) -> None:
        """The service answers text messages in order, so the answer is for the oldest update, if there is any."""
        if not self._updates:
            return
        update = self._updates.popleft()
        if update.done():
            return
        if isinstance(answer, UpdateRefused):
            update.set_exception(answer)
        else:
            update.set_result(answer)

    async def _room_for_events(self) -> None:
        while self._is_full() and self.is_connected:
            self._event_taken.clear()
            await first_of(self._event_taken.wait(), self.wait_closed())

    def _end(self, error: TimeConvClientError) -> None:
        """Wake everybody; ``error`` is the reason unless there is one, or the session was closed in order."""
        if self._closed is None and self._error is None:
            self._error = error
        for update in self._updates:
            if not update.done():
                update.set_exception(self._error or error)
        self._updates.clear()
        self._may_send.set()
        self._event_came.set()


def ending(closed: ConnectionClosed, last: ServerMessage | None) -> SessionError | ConnectionLost:
    """Why a connection ended: what an ``error`` said, if that was the last message, else its close code alone."""
    close_code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (_NO_CLOSE_FRAME, "")
    if isinstance(last, ErrorMessage):
        return SessionError(
            last.code,
            last.message,
            close_code=close_code,
            retryable=last.retryable,
            retry_after_ms=last.retry_after_ms,
        )
    return ConnectionLost(close_code, reason)
