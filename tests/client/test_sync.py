"""The synchronous client: a thread that lives as long as its block, and the meanings of the asynchronous one."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Any

import pytest

from service import protocol
from tests.client.fake_server import (
    Refusal,
    Script,
    Talk,
    answer_every_frame,
    prediction,
    serving_in_turn,
)
from timeconv_client import (
    CannotConnect,
    Closed,
    ConnectionLost,
    Disconnected,
    Frame,
    Prediction,
    Reconnected,
    Reconnecting,
    Retry,
    SessionClosed,
    SessionEnded,
    TimedOut,
    Timeouts,
    Unauthorized,
    UpdateRefused,
    sync,
)

JPEG = b"\xff\xd8 a picture \xff\xd9"
AT_ONCE = Retry(first_s=0, most_s=0)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Whatever a test does, it leaves no thread."""
    before = threading.enumerate()
    yield
    assert [thread for thread in threading.enumerate() if thread not in before] == []


@contextmanager
def fake(*turns: Script | Refusal) -> Iterator[str]:
    """A fake server in a thread; yields the address."""
    address, loops = [], []
    ready, failures = threading.Event(), []

    async def main() -> None:
        stop = asyncio.Event()
        async with serving_in_turn(*turns) as served:
            address.append(served)
            loops.append((asyncio.get_running_loop(), stop))
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - raised by the block
            failures.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(10)
    try:
        yield address[0]
    finally:
        for loop, stop in loops:
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if failures:
        raise failures[0]


async def wait_until_closed(talk: Talk) -> None:
    """Answer nothing."""
    await talk.start(1)
    await talk.socket.wait_closed()


async def cut_after_one(talk: Talk) -> None:
    """Take a frame, and break the connection."""
    await talk.start(1)
    await talk.next()
    talk.socket.transport.write_eof()


def test_a_session() -> None:
    """Frames go in, events come out, the totals are returned, and the options travel."""
    with fake(answer_every_frame) as address, sync.connect(address, freshness="every") as session:
        assert session.started.options.freshness == "every"
        assert [session.send(JPEG), session.try_send(JPEG), session.next_seq] == [0, 1, 2]
        closed = session.close()
        assert closed.totals.received == 2
        assert [type(event) for event in session] == [Prediction, Prediction, SessionClosed]
        assert (session.unanswered, session.next_event()) == (frozenset(), None)


def test_a_stream() -> None:
    """All frames are sent and answered; those with capture times as well; frames are read on a thread of their own."""
    threads: set[str] = set()

    def frames() -> Iterator[Frame]:
        for index in range(30):
            threads.add(threading.current_thread().name)
            yield Frame(JPEG, index * 40_000)

    with fake(answer_every_frame) as address, sync.connect(address, timestamps=True) as session:
        events = list(session.stream(frames()))
    assert [event.seq for event in events if isinstance(event, Prediction)] == list(range(30))
    assert isinstance(events[-1], SessionClosed)
    assert threads == {"timeconv-client-frames_0"}


def test_leaving_a_stream_early() -> None:
    """Who has seen enough breaks off; the session goes on until the block ends."""
    with fake(answer_every_frame) as address, sync.connect(address) as session:
        for _ in session.stream(JPEG for _ in range(10**9)):
            break
        session.send(JPEG)
        assert isinstance(session.next_event(), Prediction)


def test_an_error_of_the_frames() -> None:
    """Whatever the frames raise is raised where the events are taken."""

    def frames() -> Iterator[bytes]:
        yield JPEG
        raise OSError("the camera was unplugged")

    with (
        fake(answer_every_frame) as address,
        sync.connect(address) as session,
        pytest.raises(OSError, match="unplugged"),
    ):
        list(session.stream(frames()))


def test_a_timeout_of_the_frames() -> None:
    """What a source raises that was too slow, a socket's TimeoutError say, is raised as it is, and no other."""

    def frames() -> Iterator[bytes]:
        yield JPEG
        raise TimeoutError("the camera does not answer")

    with (
        fake(answer_every_frame) as address,
        sync.connect(address) as session,
        pytest.raises(TimeoutError, match="camera") as late,
    ):
        list(session.stream(frames()))
    assert not isinstance(late.value, TimedOut)


def test_timeouts() -> None:
    """A send and an event that do not come in time are TimedOut, which is a TimeoutError; nothing is lost by it."""
    answer = threading.Event()

    async def script(talk: Talk) -> None:
        await talk.start(1)
        await talk.next()
        await asyncio.to_thread(answer.wait)
        await talk.say(prediction(0))
        await talk.answer_all()

    with fake(script) as address, sync.connect(address) as session:
        session.send(JPEG)
        for late in (lambda: session.send(JPEG, timeout_s=0.01), lambda: session.next_event(0.01)):
            with pytest.raises(TimedOut, match=r"0\.01 s"):
                late()
            with pytest.raises(TimeoutError):
                late()
        answer.set()
        assert (session.send(JPEG, timeout_s=20), session.next_event(20).seq) == (1, 0)  # type: ignore[union-attr]


def test_a_service_that_does_not_end_it() -> None:
    """Closing takes no longer than its timeout, in the block as at its end."""
    for end in (lambda session: session.close(), lambda _: None):
        with (
            fake(wait_until_closed) as address,
            pytest.raises(TimedOut, match=r"0\.02 s"),
            sync.connect(address, timeouts=Timeouts(end_s=0.02)) as session,
        ):
            end(session)


def test_updates() -> None:
    """The answer is returned, the refusal raised."""

    async def script(talk: Talk) -> None:
        await talk.start(1)
        await talk.next()
        await talk.say(protocol.SessionUpdated(options=protocol.Options(stride=3), from_seq=0, max_in_flight=2))
        await talk.next()
        await talk.say(protocol.ErrorMessage(code="bad_option", message="stride", retryable=False))
        await talk.answer_all()

    with fake(script) as address, sync.connect(address) as session:
        assert session.update(stride=3).options.stride == 3
        with pytest.raises(UpdateRefused):
            session.update(stride=9, timeout_s=20)


def test_errors_are_those_of_the_asynchronous_client() -> None:
    """What connecting raises, and what ends a session, is raised as it is."""
    with fake(Refusal(HTTPStatus.UNAUTHORIZED), cut_after_one) as address:
        with pytest.raises(Unauthorized), sync.connect(address):
            pass
        with pytest.raises(ConnectionLost), sync.connect(address) as session:
            session.send(JPEG)
    with pytest.raises(CannotConnect), sync.connect(address):
        pass
    with pytest.raises(ValueError, match="key"), sync.connect(address, key="a b"):
        pass


def test_an_exception_in_the_block() -> None:
    """It is raised, without waiting for answers."""

    def fail(address: str) -> None:
        with sync.connect(address) as session:
            session.send(JPEG)
            raise ZeroDivisionError

    with fake(wait_until_closed) as address, pytest.raises(ZeroDivisionError):
        fail(address)


def test_after_the_block() -> None:
    """Whatever is called then says that the session is over, also in threads that were waiting; so does a stream."""
    heard: list[BaseException] = []

    def wait(session: sync.Session) -> None:
        try:
            session.next_event()
        except SessionEnded as error:
            heard.append(error)

    with fake(answer_every_frame, wait_until_closed) as address:
        with sync.connect(address) as session:
            events = session.stream([JPEG] * 3)
            next(events)
        with pytest.raises(SessionEnded):
            session.send(JPEG)
        events.close()
        with sync.connect(address) as session:
            waiting = threading.Thread(target=wait, args=[session])
            waiting.start()
            session.abort()
        waiting.join(10)
    assert len(heard) == 1


def test_sending_from_many_threads() -> None:
    """Sends of several threads get a seq each, and none is lost or doubled."""
    seqs: list[int] = []

    with fake(answer_every_frame) as address, sync.connect(address) as session:
        threads = [
            threading.Thread(target=lambda: seqs.extend(session.send(JPEG) for _ in range(50))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for _ in range(200):
            next(session)
        for thread in threads:
            thread.join()
        assert session.close().totals.received == 200
    assert sorted(seqs) == list(range(200))


def interrupted(wait: Callable[[], object]) -> None:
    """Ctrl-C while this thread waits for something."""
    main = threading.main_thread()
    assert threading.current_thread() is main
    # The wait begins before the timer fires, or a moment later: either way it is interrupted.
    timer = threading.Timer(0.05, lambda: signal.pthread_kill(main.ident or 0, signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            wait()
    finally:
        timer.join()


@pytest.mark.usefixtures("heeded_interrupt")
def test_ctrl_c() -> None:
    """It breaks off a wait and leaves the session as it was; the next one in the block ends it at once."""

    def connect_and_wait(address: str) -> None:
        with sync.connect(address) as session:
            session.next_event()

    def connect_silently(address: str) -> None:
        with sync.connect(address):
            pass

    async def say_nothing(talk: Talk) -> None:
        await talk.socket.wait_closed()

    with fake(wait_until_closed, wait_until_closed, wait_until_closed, say_nothing) as address:
        with sync.connect(address) as session:
            session.send(JPEG)
            interrupted(session.next_event)
            interrupted(lambda: session.send(JPEG))
            interrupted(lambda: next(session.stream([JPEG])))
            assert (session.next_seq, session.is_connected) == (1, True)
            session.abort()
        interrupted(lambda: connect_and_wait(address))
        with sync.connect(address) as session:
            interrupted(lambda: list(session.stream(iter([JPEG] * 3))))
            session.abort()
        interrupted(lambda: connect_silently(address))


@pytest.mark.usefixtures("heeded_interrupt")
def test_ctrl_c_at_the_end_of_the_block() -> None:
    """While the session is ended in order it is ended at once."""

    def leave(address: str) -> None:
        with sync.connect(address) as session:
            session.send(JPEG)

    with fake(wait_until_closed) as address:
        interrupted(lambda: leave(address))
        # Before the server ends, which would end the session as well.
        assert [thread for thread in threading.enumerate() if thread.name == "timeconv-client"] == []


def test_no_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no event loop can be had, with too many files open say, connecting raises that, and does not hang."""

    def none() -> asyncio.AbstractEventLoop:
        raise OSError("Too many open files")

    monkeypatch.setattr(asyncio.events, "new_event_loop", none)
    with pytest.raises(OSError, match="Too many"), sync.connect("http://127.0.0.1:1"):
        pass


def test_a_call_while_the_loop_ends() -> None:
    """A call that came when the loop had cancelled all there was, and that nobody would answer, is told of the end."""
    heard: list[BaseException] = []
    calls: list[threading.Thread] = []

    async def forever() -> AsyncIterator[None]:
        try:
            yield
        finally:
            # The loop runs this after it has cancelled its tasks, and ends.
            call = threading.Thread(target=try_to_wait)
            call.start()
            calls.append(call)
            while not host._calls:  # noqa: ASYNC110 - there is no event of this
                await asyncio.sleep(0)

    def try_to_wait() -> None:
        try:
            host.call(asyncio.Event().wait)
        except SessionEnded as error:
            heard.append(error)

    @asynccontextmanager
    async def opening() -> AsyncIterator[Any]:
        generators.append(forever())
        await anext(generators[0])
        yield None

    generators: list[AsyncIterator[None]] = []
    host: sync._Host[Any] = sync._Host(opening())
    with host:
        pass
    calls[0].join(10)
    assert not calls[0].is_alive()
    assert len(heard) == 1


def test_what_is_known() -> None:
    """Whether it is open, and when there is credit, as the asynchronous one says."""
    with fake(wait_until_closed) as address, sync.connect(address) as session:
        session.until_credit()
        assert session.is_open
        session.send(JPEG)
        with pytest.raises(TimedOut):
            session.until_credit(timeout_s=0.01)
        session.abort()
        assert not session.is_open


def test_on_the_wrong_thread() -> None:
    """A call on the thread of the session's own loop, which would wait for itself, is an error."""

    async def frames(session: sync.Session) -> Any:
        yield session.send(JPEG)

    with (
        fake(answer_every_frame) as address,
        sync.connect(address) as session,
        pytest.raises(RuntimeError, match="own event loop"),
    ):
        list(session.stream(frames(session)))


# One that lasts


def test_a_session_that_lasts() -> None:
    """It connects again, with the same events, numbers and totals."""
    with fake(cut_after_one, answer_every_frame) as address, sync.stay_connected(address, retry=AT_ONCE) as session:
        assert session.send(JPEG) == 0
        lost, _, back = (next(session) for _ in range(3))
        assert isinstance(lost, Disconnected)
        assert lost.lost == (0,)
        assert isinstance(back, Reconnected)
        assert session.send(JPEG) == 1
        assert (session.totals.sent, session.totals.lost) == (2, 1)
        closed = session.close()
        assert closed.totals.outcomes == {"prediction": 1}
        assert [type(event) for event in session] == [Prediction, Closed]


def test_a_session_that_is_given_up() -> None:
    """The error is raised where the events are taken."""
    with (
        fake(cut_after_one, Refusal(HTTPStatus.UNAUTHORIZED)) as address,
        sync.stay_connected(address, retry=AT_ONCE) as session,
    ):
        session.send(JPEG)
        assert [type(next(session)) for _ in range(2)] == [Disconnected, Reconnecting]
        with pytest.raises(Unauthorized):
            next(session)


def test_callbacks() -> None:
    """They are called on the caller's thread; one that raises ends the session."""
    heard: list[Any] = []

    with fake(answer_every_frame, answer_every_frame) as address:
        with sync.connect(address) as session:
            sync.listen(
                session,
                [JPEG],
                on_prediction=lambda each: heard.append((each.seq, threading.current_thread())),
                on_event=lambda event: heard.append(type(event)),
            )
        assert heard == [Prediction, (0, threading.current_thread()), SessionClosed]
        with sync.stay_connected(address) as lasting:
            with pytest.raises(ZeroDivisionError):
                sync.listen(lasting, [JPEG] * 100, on_prediction=lambda _: 1 // 0)
            with pytest.raises(SessionEnded):
                lasting.send(JPEG)
