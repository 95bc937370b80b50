"""A session that outlives its connections: a layer over `Session`, of which it uses what any user could.

One task, the keeper, holds the connection of the moment, moves its events over and connects anew when it breaks.
Everything else is called by the user, from the same event loop.
"""

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from typing import Protocol, Unpack

from timeconv_client import feeding
from timeconv_client.address import stream_url
from timeconv_client.errors import (
    ConnectionLost,
    ServiceStopping,
    SessionEnded,
    TimeConvClientError,
    TimedOut,
    UpdateRefused,
)
from timeconv_client.feeding import Frames
from timeconv_client.iteration import Iterated
from timeconv_client.messages import (
    Answer,
    ErrorMessage,
    Event,
    FrameOutcome,
    FramesOutcome,
    GoAway,
    Prediction,
    SessionClosed,
    SessionStarted,
    SessionUpdated,
    UnknownMessage,
)
from timeconv_client.opening import SessionOptions, authorization, connect
from timeconv_client.retry import Outage, Retry
from timeconv_client.session import OptionChanges, Session, first_of, now_us, require_changeable
from timeconv_client.timeouts import Timeouts

LASTING_TIMEOUTS = Timeouts(ping_interval_s=5.0, ping_s=20.0)
"""Who connects again may take a connection for dead earlier than who does not."""
DEFAULT_RETRY = Retry()


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection ended with ``error``; the frames ``lost`` were sent on it, and their outcome will never come.

    Where the service stops in order the error is `ServiceStopping`, and nothing is lost.
    """

    error: TimeConvClientError
    lost: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """In ``wait_s`` seconds a connection is tried, the ``attempt``-th of this outage; the last ended with ``error``."""

    attempt: int
    wait_s: float
    error: TimeConvClientError


@dataclass(frozen=True, slots=True)
class Reconnected:
    """There is a connection again; the next frame is ``next_seq``.

    With ``started.resumed`` the service goes on with the session: face ids and totals, and the window if the break
    was short. Else it is a new one. Labels, crop and network are those of ``started``, and may have changed.
    """

    started: SessionStarted
    next_seq: int

    @property
    def resumed(self) -> bool:
        """Whether the service goes on with the session it had."""
        return self.started.resumed


@dataclass(frozen=True, slots=True)
class LastingTotals:
    """Frames over all connections, as this side counted them: sent = sum of outcomes + lost."""

    sent: int
    outcomes: dict[str, int]
    lost: int


@dataclass(frozen=True, slots=True)
class Closed:
    """Last event of a `LastingSession` that ended in order."""

    totals: LastingTotals


LastingEvent = (
    Prediction
    | FrameOutcome
    | FramesOutcome
    | SessionUpdated
    | ErrorMessage
    | GoAway
    | UnknownMessage
    | Disconnected
    | Reconnecting
    | Reconnected
    | Closed
)
"""What iterating over a `LastingSession` yields."""


class OpenSession(Protocol):
    """Opens a session, as `connect` does for one address."""

    def __call__(
        self, *, resume: str | None, **options: Unpack[SessionOptions]
    ) -> AbstractAsyncContextManager[Session]:
        """A session for the length of an ``async with``."""
        ...


@dataclass(eq=False, slots=True)
class _Connection:
    """A session of one connection; frame ``seq`` of it is ``seq + offset`` of the lasting one."""

    session: Session
    offset: int
    opened_s: float
    stopping: GoAway | None = None
    has_answered: bool = False
    updates: deque[OptionChanges] = field(default_factory=deque)


class LastingSession(Iterated[LastingEvent, Closed]):
    """A session that goes on over broken connections; `stay_connected` makes it.

    It is used like a `Session`: iterate over it while sending. Frames are numbered from 0 over all connections, and
    every frame sent is told of exactly once: by its outcome, or as `Disconnected.lost`. While there is no connection
    `send` waits and `try_send` drops the frame. The events of a `Session` come as they are, with these numbers; a
    `Disconnected`, a `Reconnecting` before each attempt and a `Reconnected` between them; `Closed` is the last.

    At most about 2,048 events wait for the iterator; until it takes some nothing is read and no
    connection is tried.

    It ends with the error that trying again could not help (a key that is not valid, an unknown model), or that of the
    last attempt before it gave up: the iterator raises it after the events, and so does every other method. One that
    the service ended since nothing was sent, or read, for long (``idle_timeout``, ``slow_reader``) begins anew.

    Cancelling any method is safe for the session; each says what it does to its own call.
    """

    def __init__(
        self,
        open_session: OpenSession,
        options: SessionOptions,
        retry: Retry,
        chance: Callable[[], float],
    ) -> None:
        """Connect, in a running event loop; ``chance`` gives numbers in [0, 1)."""
        super().__init__()
        self._open_session = open_session
        self._options = options
        self._retry = retry
        self._chance = chance
        self._clock = asyncio.get_running_loop().time
        self._connection: _Connection | None = None
        self._started: SessionStarted | None = None
        self._next_seq = 0
        self._unanswered: set[int] = set()
        self._outcomes: Counter[str] = Counter()
        self._lost = 0
        # A wake-up only, as those of `Iterated`.
        self._changed = asyncio.Event()
        self._keeper = asyncio.create_task(self._keep(), name="timeconv-client-keeper")

    # What is known

    @property
    def started(self) -> SessionStarted:
        """What the service said when the newest connection began."""
        assert self._started is not None
        return self._started

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection that takes frames."""
        return self._connection is not None and self._connection.stopping is None

    @property
    def next_seq(self) -> int:
        """Seq that the next frame will get."""
        return self._next_seq

    @property
    def unanswered(self) -> frozenset[int]:
        """Seqs of the frames sent whose outcome has not come, and that are not told as lost."""
        return frozenset(self._unanswered)

    @property
    def credit(self) -> int:
        """Frames that may be sent without waiting; 0 while there is no connection."""
        return self._connection.session.credit if self._connection is not None and self.is_connected else 0

    @property
    def totals(self) -> LastingTotals:
        """Frames so far; those in flight are in ``sent`` alone."""
        return LastingTotals(self._next_seq, dict(self._outcomes), self._lost)

    # Frames out

    async def until_credit(self) -> None:
        """Wait until there is a connection on which a frame may be sent.

        Raises:
            SessionEnded, TimeConvClientError: as `send`.
        """
        while (connection := await self._until_connected()) and not await self._has_credit(connection):
            pass

    async def send(self, jpeg: bytes, captured_us: int | None = None) -> int:
        """Send a frame as soon as there is a connection and credit, and return its seq; see `Session.send`.

        Cancelling it means the frame is not sent. A frame whose connection broke is not sent again, but told as lost.

        Raises:
            ValueError: a capture time that does not fit in 64 bits, or one in a session without time stamps.
            SessionEnded: the session was closed or aborted.
            TimeConvClientError: what ended the session.
        """
        if captured_us is None and self.started.options.timestamps:
            captured_us = now_us()  # It is no newer for having waited.
        while True:
            await self.until_credit()
            if (seq := self.try_send(jpeg, captured_us)) is not None:
                return seq

    def try_send(self, jpeg: bytes, captured_us: int | None = None) -> int | None:
        """Send a frame if there is a connection and credit now, and return its seq; else drop it, and return None.

        Raises:
            ValueError, SessionEnded, TimeConvClientError: as `send`.
        """
        self._require_open()
        connection = self._connection
        if connection is None or connection.stopping is not None:
            return None
        try:
            seq = connection.session.try_send(jpeg, captured_us)
        except TimeConvClientError:  # It has just ended; the keeper will say why.
            return None
        if seq is None:
            return None
        self._next_seq = seq + connection.offset + 1
        self._unanswered.add(seq + connection.offset)
        return seq + connection.offset

    def stream(self, frames: Frames) -> AsyncGenerator[LastingEvent, None]:
        """Send all frames, each as soon as it can be, yielding every event meanwhile; then close the session.

        The last event is `Closed`. Leaving the iteration early stops the sending. Each frame is taken from ``frames``
        only once it can be sent: nothing is taken while there is no connection. Those lost are not sent again. If the
        connection breaks while a frame is being taken, it is sent on the next one with ``freshness="every"``; a live
        one would be old by then, and is dropped.

        Raises:
            TimeConvClientError: what ended the session.
            Exception: whatever ``frames`` raises; the session is aborted then.
        """
        return feeding.stream(self, frames)

    # Options

    async def update(self, **changes: Unpack[OptionChanges]) -> SessionUpdated:
        """Change options for the frames sent from now on, also on later connections; see `Session.update`.

        If the connection breaks before the answer, the next one is asked again.

        Raises:
            TypeError: an option that cannot be changed.
            UpdateRefused: the service did not take it; the old options stay.
            SessionEnded: the session was closed or aborted.
            TimeConvClientError: what ended the session.
        """
        require_changeable(changes)
        while True:
            connection = await self._until_connected()
            connection.updates.append(changes)
            try:
                return _moved_update(await connection.session.update(**changes), connection.offset)
            except UpdateRefused:
                raise
            except TimeConvClientError:
                await self._until_gone(connection)

    # The end

    async def close(self) -> Closed:
        """End the session in order: the frames in flight are answered, if the connection holds, else told as lost.

        Does not wait for a connection if there is none. The events not yet taken can still be iterated over. Takes
        `Timeouts.end_s` at most for the answers. Cancelling it stops the waiting, not the closing; calling it again
        waits again.

        Raises:
            SessionEnded: the session was aborted.
            TimeConvClientError: what ended the session before.
        """
        if self.is_open:
            self._closing = True
            self._wake()
            if self._connection is None:
                self._keeper.cancel()
        if self._connection is not None:
            with suppress(TimeConvClientError):  # The frames that it leaves unanswered are told as lost.
                await self._connection.session.close()
        await asyncio.wait([self._keeper])
        if self._error is not None:
            self._raise_error(self._error)
        assert self._closed is not None
        return self._closed

    async def abort(self) -> None:
        """End the session at once; frames in flight are lost. Does nothing if it has ended.

        Waits for the closing handshake, at most for `Timeouts.close_s`. Cancelled, it cuts the connection instead.
        """
        if self._closed is None and self._error is None:
            self._error_was_raised = True
            self._keeper.cancel()
        try:
            await asyncio.wait([self._keeper])
        except asyncio.CancelledError:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            raise
        if not self._keeper.cancelled():
            self._keeper.result()  # An error that is none of the client's is raised, not lost.

    async def _begin(self) -> None:
        """Wait for the first connection; raise why there is none."""
        while self._started is None:
            if self._error is not None:
                self._raise_error(self._error)
            await self._until_changed()

    # Waiting

    async def _until_changed(self) -> None:
        await self._changed.wait()

    def _wake(self) -> None:
        """Whoever waits for a change looks again."""
        self._changed.set()
        self._changed = asyncio.Event()
        self._event_came.set()
        self._event_taken.set()

    async def _until_connected(self) -> _Connection:
        while True:
            self._require_open()
            if self._connection is not None and self._connection.stopping is None:
                return self._connection
            await self._until_changed()

    async def _until_gone(self, connection: _Connection) -> None:
        """Wait until the keeper has noticed that a connection takes nothing more."""
        while self._connection is connection and connection.stopping is None:
            await self._until_changed()

    async def _has_credit(self, connection: _Connection) -> bool:
        """Wait for credit; False if the connection ended meanwhile."""
        try:
            await connection.session.until_credit()
        except TimeConvClientError:
            await self._until_gone(connection)
            return False
        return self._connection is connection and connection.stopping is None

    # The keeper

    async def _keep(self) -> None:
        error: TimeConvClientError = SessionEnded("The session was aborted")
        try:
            await self._keep_connected()
        except TimeConvClientError as why:
            error = why
        finally:
            # Whatever stopped the keeper: nobody may go on waiting for it.
            if self._closing:
                self._closed = Closed(self.totals)
                self._emit(self._closed)
            else:
                self._error = error
            self._wake()

    async def _keep_connected(self) -> None:
        """Connect, and again whenever a connection ends, until the session is closed; raise why it is given up."""
        outage = Outage(self._retry, since_s=self._clock(), limit_s=self._retry.start_within_s)
        token: str | None = None
        while not self._closing:
            try:
                async with self._open_session(resume=token, **self._options) as session:
                    is_first, token = self._started is None, session.started.resume_token
                    connection = self._take(session)
                    error = await self._serve(connection)
            except TimeConvClientError as refused:
                error = refused
            else:
                token = _token_after(error, token)
                now_s = self._clock()
                # Else it is the same outage: a service that lets in and throws out is not hammered.
                if is_first or connection.has_answered or now_s - connection.opened_s >= self._retry.most_s:
                    outage = Outage(self._retry, since_s=now_s, limit_s=self._retry.give_up_after_s)
            if not self._closing:
                await self._wait_for_attempt(outage, error)

    async def _wait_for_attempt(self, outage: Outage, error: TimeConvClientError) -> None:
        wait_s = outage.wait_s(error, self._clock(), self._chance())
        if wait_s is None:
            raise error
        if self._started is not None:
            self._emit(Reconnecting(outage.attempts, wait_s, error))
        await asyncio.sleep(wait_s)
        while self._is_full():
            self._event_taken.clear()
            await self._event_taken.wait()

    def _take(self, session: Session) -> _Connection:
        connection = _Connection(session, self._next_seq - session.started.next_seq, self._clock())
        if self._started is not None:
            self._emit(Reconnected(session.started, self._next_seq))
        self._started = session.started
        self._connection = connection
        self._wake()
        return connection

    async def _serve(self, connection: _Connection) -> TimeConvClientError:
        """Move the events of a connection over until it ends; what it ended with."""
        error: TimeConvClientError = SessionEnded("The session was aborted")
        try:
            error = await self._move_events(connection)
        finally:
            self._connection = None
            lost = tuple(sorted(self._unanswered))
            self._unanswered.clear()
            self._lost += len(lost)
            if lost or not self._closing:
                self._emit(Disconnected(error, lost))
            self._wake()
        return error

    async def _move_events(self, connection: _Connection) -> TimeConvClientError:
        session = connection.session
        while True:
            await self._room_for_events(session)
            try:
                event = await anext(session)
            except StopAsyncIteration:
                return _stopped(connection.stopping)
            except TimedOut as error:
                # Who said that it stops, and then does not end the session, has stopped all the same.
                return error if connection.stopping is None else _stopped(connection.stopping)
            except TimeConvClientError as error:
                return error
            if (moved := self._moved(event, connection)) is not None:
                self._emit(moved)
            if connection.stopping is not None and not session.unanswered:
                with suppress(TimeConvClientError):  # The iteration tells.
                    await session.close()

    def _moved(self, event: Event, connection: _Connection) -> LastingEvent | None:
        """The event as the user sees it, its frames settled; None for what is not for the user."""
        match event:
            case Prediction() | FrameOutcome() | FramesOutcome():
                return self._moved_answer(event, connection)
            case SessionUpdated():
                if event.by != "service" and connection.updates:
                    self._options = {**self._options, **connection.updates.popleft()}
                return _moved_update(event, connection.offset)
            case ErrorMessage(close_code=None):
                if connection.updates:
                    connection.updates.popleft()
                return event
            case GoAway():
                connection.stopping = event
                self._wake()
                return event
            case SessionClosed():
                return None
            case _:
                return event

    def _moved_answer(self, answer: Answer, connection: _Connection) -> Answer | None:
        """The answer with the frames' numbers; what is said of frames that wait for none is passed over."""
        connection.has_answered = True
        moved = [seq + connection.offset for seq in (answer.seqs.start, answer.seqs.stop - 1)]
        settled = {seq for seq in self._unanswered if moved[0] <= seq <= moved[1]}
        if not settled:
            return None
        self._unanswered -= settled
        self._outcomes[str(answer.outcome)] += len(settled)
        if isinstance(answer, FramesOutcome):
            return answer.model_copy(update={"first": min(settled), "last": max(settled)})
        return answer.model_copy(update={"seq": moved[0]}) if connection.offset else answer

    async def _room_for_events(self, session: Session) -> None:
        """Wait for room, or for the end of the connection, which whoever waits to send must be told of."""
        while self._is_full() and session.is_connected:
            self._event_taken.clear()
            await first_of(self._event_taken.wait(), session.wait_closed())


def _stopped(goaway: GoAway | None) -> ServiceStopping:
    return ServiceStopping(goaway.resume_token if goaway else None)


def _moved_update(updated: SessionUpdated, offset: int) -> SessionUpdated:
    return updated.model_copy(update={"from_seq": updated.from_seq + offset}) if offset else updated


def _token_after(error: TimeConvClientError, token: str | None) -> str | None:
    """What to show to go on with a session that ended so; None where it cannot go on."""
    match error:
        case ConnectionLost():
            return token
        case ServiceStopping():
            return error.resume_token
        case _:
            return None


@contextlib.asynccontextmanager
async def stay_connected(
    address: str,
    *,
    key: str | None = None,
    timeouts: Timeouts = LASTING_TIMEOUTS,
    retry: Retry = DEFAULT_RETRY,
    **options: Unpack[SessionOptions],
) -> AsyncIterator[LastingSession]:
    """A session for the length of an ``async with`` that goes on over broken connections.

    When a connection breaks, or the service stops or starts anew, it connects again and goes on with the session where
    the service still has it. At the end of the block the session is closed in order; if the block ends by an exception
    it is aborted. One that was given up in the block without the block being told raises at its end.

    Args:
        address: as for `connect`; several connections are made to it, one after the other.
        key: as for `connect`.
        timeouts: how long each connection waits for the service.
        retry: when it is tried again, and when given up.
        options: see `SessionOptions`; later connections have them too, as changed by `LastingSession.update`.

    Cancelling it while it connects leaves no connection behind.

    Raises:
        BadAddress, ValueError: as `connect`.
        TimeConvClientError: the first connection did not come about: as `connect`, after `Retry.start_within_s`.
    """
    stream_url(address, options)
    authorization(key)  # Both raise what would else be the keeper's to raise.

    def open_session(*, resume: str | None, **options: Unpack[SessionOptions]) -> AbstractAsyncContextManager[Session]:
        return connect(address, key=key, timeouts=timeouts, resume=resume, **options)

    session = LastingSession(open_session, options, retry, random.random)
    try:
        await session._begin()  # noqa: SLF001 - the way into `stay_connected`, not for users
        yield session
        await session._leave()  # noqa: SLF001 - and out of it
    finally:
        await session.abort()
