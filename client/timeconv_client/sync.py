"""The client without asyncio: the same names, errors and meanings, for threads.

`connect` and `stay_connected` are context managers that run an event loop on a thread of their own, which ends with
them. Their sessions may be used from any thread, each method from several at once. Ctrl-C (`KeyboardInterrupt`) breaks
off whatever waits, and leaves the session as cancelling does the asynchronous one; leaving the block then ends it.
"""

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, ExitStack, closing, contextmanager, suppress
from types import TracebackType
from typing import Any, Generic, NoReturn, Protocol, Self, TypeVar, Unpack

from timeconv_client import lasting, opening
from timeconv_client.errors import SessionEnded, TimedOut
from timeconv_client.feeding import Frame, Frames
from timeconv_client.lasting import DEFAULT_RETRY, LASTING_TIMEOUTS, Closed, LastingEvent, LastingTotals
from timeconv_client.listening import Listenable
from timeconv_client.messages import Event, Prediction, SessionClosed, SessionStarted, SessionUpdated
from timeconv_client.opening import DEFAULT_TIMEOUTS, SessionOptions
from timeconv_client.retry import Retry
from timeconv_client.session import OptionChanges
from timeconv_client.timeouts import Timeouts

T = TypeVar("T")
E = TypeVar("E")
C = TypeVar("C")
E_co = TypeVar("E_co", covariant=True)
C_co = TypeVar("C_co", covariant=True)


class _Asynchronous(Listenable[E_co], Protocol[E_co, C_co]):
    """What both kinds of asynchronous session have."""

    @property
    def started(self) -> SessionStarted: ...
    @property
    def next_seq(self) -> int: ...
    @property
    def unanswered(self) -> frozenset[int]: ...
    @property
    def credit(self) -> int: ...
    @property
    def is_connected(self) -> bool: ...
    @property
    def is_open(self) -> bool: ...
    async def until_credit(self) -> None: ...
    def try_send(self, jpeg: bytes, captured_us: int | None = None) -> int | None: ...
    async def update(self, **changes: Unpack[OptionChanges]) -> SessionUpdated: ...
    async def close(self) -> C_co: ...
    async def __anext__(self) -> E_co: ...


S = TypeVar("S", bound=_Asynchronous[Any, Any])


class _NoLoop(Exception):
    """The thread could not run an event loop."""


class _Host(Generic[S]):
    """A thread with an event loop on which one session lives."""

    def __init__(self, opening: AbstractAsyncContextManager[S]) -> None:
        self._opening = opening
        self._thread = threading.Thread(target=self._run, name="timeconv-client")
        self._running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()
        self._opened: Future[S] = Future()
        self._leave = asyncio.Event()
        self._over = threading.Event()
        self._error: BaseException | None = None
        # Calls that nobody has answered, so that none is left waiting for a loop that has ended.
        self._lock = threading.Lock()
        self._calls: set[Future[Any]] | None = set()

    def __enter__(self) -> S:
        """Start the thread, and wait for the session."""
        self._thread.start()
        try:
            return self._opened.result()
        except BaseException:
            self._stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the session, in order unless the block failed, and the thread."""
        if error is not None:
            self._stop()
            return
        loop, _ = self._running.result()
        try:
            _call_soon(loop, self._leave.set)
            self._join()
        except BaseException:
            self._stop()
            raise
        if self._error is not None:
            raise self._error

    def _stop(self) -> None:
        """End the session at once, and the thread."""
        with suppress(_NoLoop):
            loop, task = self._running.result()
            _call_soon(loop, task.cancel)
        self._join()

    def _join(self) -> None:
        # Not by `join` alone: interrupted, it takes a thread that runs for one that has ended (bpo-46726).
        self._over.wait()
        self._thread.join()

    def call(self, function: Callable[[], Awaitable[T]], timeout_s: float | None = None) -> T:
        """Run an asynchronous function there, and wait for it.

        Raises:
            TimedOut: it took longer than ``timeout_s``; it is cancelled.
            SessionEnded: the session's block is left.
            RuntimeError: called on the loop's own thread, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("A synchronous session cannot be used on the thread of its own event loop")
        answer: Future[T] = Future()
        loop, _ = self._running.result()
        tasks: list[asyncio.Task[T]] = []

        def start() -> None:
            tasks.append(loop.create_task(_within(function, timeout_s)))
            tasks[0].add_done_callback(lambda task: _hand_over(task, answer))

        def cancel() -> None:
            tasks[0].cancel()

        with self._lock:
            if self._calls is None or not _call_soon(loop, start):
                _raise_ended()
            self._calls.add(answer)
        try:
            return answer.result()
        except CancelledError:
            _raise_ended()
        except BaseException:
            if not answer.done():  # It is this thread that was interrupted.
                _call_soon(loop, cancel)
                with suppress(CancelledError):
                    answer.exception()
            raise
        finally:
            with self._lock:
                if self._calls is not None:
                    self._calls.discard(answer)

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._main())
        except BaseException as error:  # noqa: BLE001 - whoever is in the block gets it
            self._error = error
            if not self._running.done():
                self._running.set_exception(_NoLoop())
            if not self._opened.done():
                self._opened.set_exception(error)
        finally:
            with self._lock:
                calls, self._calls = self._calls, None
            for call in calls or ():
                call.cancel()
            self._over.set()

    async def _main(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        # One thread reads frames for `stream`. The loop waits for it at its end.
        loop.set_default_executor(ThreadPoolExecutor(1, thread_name_prefix="timeconv-client-frames"))
        self._running.set_result((loop, task))
        async with self._opening as opened:
            self._opened.set_result(opened)
            await self._leave.wait()


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> bool:
    """Call back on a loop's thread; False if the loop is closed."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        if not loop.is_closed():
            raise
        return False
    return True


def _raise_ended() -> NoReturn:
    raise SessionEnded("The session is over: its block was left") from None


async def _within(function: Callable[[], Awaitable[T]], timeout_s: float | None) -> T:
    try:
        async with asyncio.timeout(timeout_s) as limit:
            return await function()
    except TimeoutError as late:
        # Another is the function's own: of the client, or of what gives the frames.
        if not limit.expired() or isinstance(late, TimedOut):
            raise
        raise TimedOut(f"It took more than {timeout_s:g} s") from late


def _hand_over(task: asyncio.Task[T], answer: Future[T]) -> None:
    if answer.done():
        task.cancelled() or task.exception()
    elif task.cancelled():
        answer.cancel()
    elif (error := task.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(task.result())


class _Synchronous(Generic[E, C]):
    """What both kinds of synchronous session have; every method may be called from any thread."""

    def __init__(self, host: _Host[Any], asynchronous: _Asynchronous[E, C]) -> None:
        self._host = host
        self._session = asynchronous

    @property
    def started(self) -> SessionStarted:
        """What the service said when the (newest) connection began."""
        return self._session.started

    @property
    def next_seq(self) -> int:
        """Seq that the next frame will get."""
        return self._session.next_seq

    @property
    def unanswered(self) -> frozenset[int]:
        """Seqs of the frames sent whose outcome has not come."""
        return self._session.unanswered

    @property
    def credit(self) -> int:
        """Frames that may be sent without waiting."""
        return self._session.credit

    @property
    def is_open(self) -> bool:
        """Whether it has neither ended nor been closed."""
        return self._session.is_open

    @property
    def is_connected(self) -> bool:
        """Whether there is an open connection."""
        return self._session.is_connected

    def until_credit(self, *, timeout_s: float | None = None) -> None:
        """Wait until a frame may be sent: what a camera gives after it is fresh when it is sent.

        Raises:
            TimedOut: it may not within ``timeout_s``.
        """
        self._host.call(self._session.until_credit, timeout_s)

    def send(self, jpeg: bytes, captured_us: int | None = None, *, timeout_s: float | None = None) -> int:
        """Send a frame as soon as there is credit, and return its seq, as the asynchronous one.

        Raises:
            TimedOut: there was none within ``timeout_s``; the frame is not sent.
        """
        return self._host.call(lambda: self._session.send(jpeg, captured_us), timeout_s)

    def try_send(self, jpeg: bytes, captured_us: int | None = None) -> int | None:
        """Send a frame if there is credit now, and return its seq; else drop it, and return None."""

        async def attempt() -> int | None:
            return self._session.try_send(jpeg, captured_us)

        return self._host.call(attempt)

    def update(self, *, timeout_s: float | None = None, **changes: Unpack[OptionChanges]) -> SessionUpdated:
        """Change options for the frames sent from now on, and return what the service made of it.

        Raises:
            TimedOut: no answer within ``timeout_s``; whether the change was made the events tell.
        """
        return self._host.call(lambda: self._session.update(**changes), timeout_s)

    def __iter__(self) -> Self:
        """The session is its own iterator; of several threads that iterate, each event goes to one."""
        return self

    def __next__(self) -> E:
        """The next event."""
        event = self.next_event()
        if event is None:
            raise StopIteration
        return event

    def next_event(self, timeout_s: float | None = None) -> E | None:
        """The next event, or None after the last.

        Raises:
            TimedOut: none came within ``timeout_s``; none is lost.
        """
        return self._host.call(lambda: _next(self._session), timeout_s)

    def stream(self, frames: Frames) -> Generator[E, None, None]:
        """Send all frames, each as soon as there is credit, yielding every event meanwhile; then close the session.

        As the asynchronous one. ``frames`` is read on another thread, since it may wait for its next frame while events
        come. Leaving the iteration early stops the sending; leaving the session's block waits for a read in progress.
        """
        events = self._session.stream(frames if isinstance(frames, AsyncIterable) else _read_on_a_thread(frames))
        try:
            while (event := self._host.call(lambda: _next(events))) is not None:
                yield event
        finally:
            with suppress(SessionEnded):  # With the block, if that was left first.
                self._host.call(events.aclose)

    def close(self) -> C:
        """End the session in order, and return its totals, as the asynchronous one."""
        return self._host.call(self._session.close)

    def abort(self) -> None:
        """End the session at once; frames in flight are abandoned. Does nothing if it has ended."""
        self._host.call(self._session.abort)


class Session(_Synchronous[Event, SessionClosed]):
    """A session of one connection; see `timeconv_client.Session`."""


class LastingSession(_Synchronous[LastingEvent, Closed]):
    """A session that goes on over broken connections; see `timeconv_client.LastingSession`."""

    def __init__(self, host: _Host[Any], asynchronous: lasting.LastingSession) -> None:
        super().__init__(host, asynchronous)
        self._lasting = asynchronous

    @property
    def totals(self) -> LastingTotals:
        """Frames so far; those in flight are in ``sent`` alone."""
        return self._lasting.totals


@contextmanager
def connect(
    address: str,
    *,
    key: str | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    resume: str | None = None,
    **options: Unpack[SessionOptions],
) -> Iterator[Session]:
    """A session for the length of a ``with``; see `timeconv_client.connect`."""
    host = _Host(opening.connect(address, key=key, timeouts=timeouts, resume=resume, **options))
    with host as asynchronous:
        yield Session(host, asynchronous)


@contextmanager
def stay_connected(
    address: str,
    *,
    key: str | None = None,
    timeouts: Timeouts = LASTING_TIMEOUTS,
    retry: Retry = DEFAULT_RETRY,
    **options: Unpack[SessionOptions],
) -> Iterator[LastingSession]:
    """A session that goes on over broken connections; see `timeconv_client.stay_connected`."""
    host = _Host(lasting.stay_connected(address, key=key, timeouts=timeouts, retry=retry, **options))
    with host as asynchronous:
        yield LastingSession(host, asynchronous)


def listen(
    session: _Synchronous[E, Any],
    frames: Frames | None = None,
    *,
    on_prediction: Callable[[Prediction], object] | None = None,
    on_event: Callable[[E], object] | None = None,
) -> None:
    """Call back for each event until the session ends, on this thread; see `timeconv_client.listen`."""
    try:
        with ExitStack() as stack:
            events = session if frames is None else stack.enter_context(closing(session.stream(frames)))
            for event in events:
                if on_event is not None:
                    on_event(event)
                if on_prediction is not None and isinstance(event, Prediction):
                    on_prediction(event)
    except BaseException:
        session.abort()
        raise


_END: Any = object()
"""What stands for StopIteration, which cannot be raised into a coroutine."""


async def _next(events: AsyncIterator[E]) -> E | None:
    return await anext(events, None)


async def _read_on_a_thread(frames: Iterable[bytes | Frame] | Iterable[bytes]) -> AsyncIterator[bytes | Frame]:
    loop, source = asyncio.get_running_loop(), iter(frames)
    while (frame := await loop.run_in_executor(None, next, source, _END)) is not _END:
        yield frame
