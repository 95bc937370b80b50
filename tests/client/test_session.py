"""Session: credit, one outcome for each frame, and what every kind of ending does to whoever waits."""

import asyncio
import json
import logging
import math
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import uvloop

from service import protocol
from service.protocol import Outcome
from tests.client.fake_server import (
    Script,
    Talk,
    answer_every_frame,
    fake_server,
    frame,
    prediction,
    refusing_server,
    started,
)
from timeconv_client import (
    BadAddress,
    CannotConnect,
    ConnectionLost,
    ErrorMessage,
    Event,
    Forbidden,
    FrameOutcome,
    FramesOutcome,
    GoAway,
    Prediction,
    ProtocolMismatch,
    ServerRefused,
    ServiceStopping,
    Session,
    SessionClosed,
    SessionEnded,
    SessionError,
    SessionUpdated,
    TimeConvClientError,
    TimedOut,
    Timeouts,
    TooMany,
    Unauthorized,
    Unavailable,
    UnknownMessage,
    UpdateRefused,
    connect,
    parse_message,
)
from timeconv_client.iteration import EVENT_BUFFER

NOISE = protocol.SessionUpdated(options=protocol.Options(), from_seq=0, max_in_flight=1)
JPEG = b"\xff\xd8 a picture \xff\xd9"


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test to its end; whatever hangs is a failure."""

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test

    asyncio.run(bounded())


@asynccontextmanager
async def session_with(script: Script, **options: Any) -> AsyncIterator[Session]:
    """A session with a server that follows ``script``."""
    async with fake_server(script) as address, connect(address, **options) as session:
        yield session


async def rest_of(session: Session) -> list[Event]:
    """All events to the end."""
    return [event async for event in session]


async def until_error(iteration: AsyncIterator[Event]) -> tuple[list[Event], TimeConvClientError]:
    """The events that came before the error, and it."""
    events: list[Event] = []
    try:
        async for event in iteration:
            events.append(event)  # noqa: PERF401 - what came before the error counts
    except TimeConvClientError as error:
        return events, error
    raise AssertionError("the session ended in order")


async def turns(count: int = 20) -> None:
    """Let every task that can run do so; what still waits then waits for something."""
    for _ in range(count):
        await asyncio.sleep(0)


# A session in good order


def test_each_frame_is_answered() -> None:
    """Frames get seqs from 0, each is answered once, and the totals agree."""

    async def test() -> None:
        async with session_with(answer_every_frame) as session:
            assert session.started.labels[3] == "happy"
            assert [await session.send(JPEG) for _ in range(20)] == list(range(20))
            closed = await session.close()
            *answers, last = await rest_of(session)
            assert [answer.seq for answer in answers if isinstance(answer, Prediction)] == list(range(20))
            assert last == closed
            assert closed.totals.received == 20
            assert closed.totals.outcomes == {"prediction": 20}
            assert session.unanswered == frozenset()

    run(test())


def test_leaving_the_block_closes_in_order() -> None:
    """At the end of the block the client says session.close and takes the answers that are due."""
    heard: list[Any] = []

    async def script(talk: Talk) -> None:
        await talk.start(2)
        heard.extend([await talk.next(), await talk.next()])
        await talk.say(prediction(0))
        await talk.finish()

    async def test() -> None:
        async with session_with(script) as session:
            await session.send(JPEG)
        assert heard == [0, {"type": "session.close"}]

    run(test())


def test_an_exception_in_the_block_aborts() -> None:
    """A block that fails does not wait for the answers to its frames, and its own exception is what is raised."""
    ended = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.start(2)
        assert await talk.next() == 0
        await talk.socket.wait_closed()
        assert talk.socket.close_code == 1001
        ended.set()

    async def fail(address: str) -> None:
        async with connect(address) as session:
            await session.send(JPEG)
            raise ZeroDivisionError

    async def test() -> None:
        async with fake_server(script) as address:
            with pytest.raises(ZeroDivisionError):
                await fail(address)
            await ended.wait()

    run(test())


def test_options_travel_in_the_query() -> None:
    """Options are query parameters; what is left out or None is left to the service."""
    paths: list[str] = []

    async def script(talk: Talk) -> None:
        paths.append(talk.path)
        assert talk.socket.subprotocol == "timeconv.v1"
        assert talk.socket.protocol.extensions == []
        await answer_every_frame(talk)

    async def test() -> None:
        async with session_with(script, model="m@1", freshness="every", timestamps=True, stride=2, max_age_ms=None):
            pass

    run(test())
    url = urlsplit(paths[0])
    assert url.path == "/v1/stream"
    assert parse_qs(url.query) == {"model": ["m@1"], "freshness": ["every"], "timestamps": ["1"], "stride": ["2"]}
    assert protocol.parse_query([(name, values[0]) for name, values in parse_qs(url.query).items()]).timestamps


def test_time_stamps_come_first() -> None:
    """With timestamps a message is 8 bytes of capture time, big-endian, and the picture; the default is now."""
    frames: list[bytes] = []

    async def script(talk: Talk) -> None:
        await talk.start(8, timestamps=True)
        await talk.answer_all()
        frames.extend(talk.frames)

    async def test() -> None:
        async with session_with(script, timestamps=True) as session:
            await session.send(JPEG, captured_us=0)
            await session.send(JPEG, captured_us=2**64 - 1)
            await session.send(JPEG)
            await session.send(JPEG)
            for impossible in (-1, 2**64):
                with pytest.raises(ValueError, match="8 bytes"):
                    await session.send(JPEG, captured_us=impossible)

    run(test())
    stamps, pictures = zip(*map(protocol.split_timestamp, frames), strict=True)
    assert stamps[:2] == (0, 2**64 - 1)
    assert 0 < stamps[2] <= stamps[3]
    assert set(pictures) == {JPEG}


def test_time_stamp_without_the_option() -> None:
    """A capture time in a session without time stamps is an error, since it would be lost."""

    async def test() -> None:
        async with session_with(answer_every_frame) as session:
            with pytest.raises(ValueError, match="timestamps=True"):
                session.try_send(JPEG, captured_us=5)
            assert await session.send(JPEG) == 0

    run(test())


# Credit


def test_send_waits_for_credit() -> None:
    """With as many frames in flight as allowed, send waits for an outcome, and try_send drops."""
    answer = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.start(2)
        assert [await talk.next(), await talk.next()] == [0, 1]
        await answer.wait()
        await talk.say(prediction(0))
        await talk.answer_all()

    async def test() -> None:
        async with session_with(script) as session:
            assert [await session.send(JPEG), session.try_send(JPEG)] == [0, 1]
            third = asyncio.create_task(session.send(JPEG))
            await turns()
            assert not third.done()
            assert (session.try_send(JPEG), session.credit, session.unanswered) == (None, 0, frozenset({0, 1}))
            answer.set()
            assert await third == 2
            await session.abort()
            with pytest.raises(SessionEnded):
                await session.send(JPEG)

    run(test())


def test_a_range_gives_credit_back() -> None:
    """A range of outcomes releases all its frames at once, the first and the last too."""

    async def script(talk: Talk) -> None:
        await talk.start(4)
        for seq in range(4):
            assert await talk.next() == seq
        await talk.say(protocol.FramesOutcome(first=0, last=3, outcome=Outcome.SUPERSEDED))
        await talk.answer_all()

    async def test() -> None:
        async with session_with(script) as session:
            for _ in range(8):
                await session.send(JPEG)
            closed = await session.close()
            events = await rest_of(session)
            assert isinstance(events[0], FramesOutcome)
            assert list(events[0].seqs) == [0, 1, 2, 3]
            assert closed.totals.outcomes == {"superseded": 4, "prediction": 4}

    run(test())


def test_repeated_and_vast_answers_give_no_extra_credit() -> None:
    """An outcome told twice, or for frames never sent, neither doubles credit nor takes time."""
    told = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.start(2)
        assert await talk.next() == 0
        for _ in range(3):
            await talk.say(frame(0, Outcome.NO_FACE))
        await talk.say(protocol.FramesOutcome(first=10, last=10**15, outcome=Outcome.SUPERSEDED))
        told.set()
        await talk.answer_all()

    async def test() -> None:
        async with session_with(script) as session:
            await session.send(JPEG)
            await told.wait()
            answers = [await anext(session) for _ in range(4)]
            assert isinstance(answers[3], FramesOutcome)
            assert session.credit == 2

    run(test())


def test_a_cancelled_send_sends_nothing() -> None:
    """A send cancelled while it waits uses no seq and no credit; the frames after it take its place."""
    answer = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.start(1)
        assert await talk.next() == 0
        await answer.wait()
        await talk.say(prediction(0))
        await talk.answer_all()
        assert talk.frames == [b"first", b"third", b"fourth"]

    async def test() -> None:
        async with session_with(script) as session:
            await session.send(b"first")
            second = asyncio.create_task(session.send(b"second"))
            third = asyncio.create_task(session.send(b"third"))
            await turns()
            second.cancel()
            await asyncio.wait([second])
            assert second.cancelled()
            answer.set()
            assert await third == 1
            assert await session.send(b"fourth") == 2

    run(test())


def test_a_send_cancelled_as_credit_comes() -> None:
    """A send cancelled in the very moment it is woken with credit leaves that credit to the next."""
    answer = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.start(2)
        assert [await talk.next(), await talk.next()] == [0, 1]
        await answer.wait()
        await talk.say(protocol.FramesOutcome(first=0, last=1, outcome=Outcome.NO_FACE))
        await talk.answer_all()
        assert talk.frames == [b"0", b"1", b"2", b"4"]

    async def test() -> None:
        async with session_with(script) as session:
            await session.send(b"0")
            await session.send(b"1")

            async def send_and_cancel() -> None:
                await session.send(b"2")
                cancelled.cancel()

            # All three are woken by the same answer, in this order.
            first = asyncio.create_task(send_and_cancel())
            cancelled = asyncio.create_task(session.send(b"3"))
            last = asyncio.create_task(session.send(b"4"))
            await turns()
            answer.set()
            await asyncio.wait([first, cancelled])
            assert cancelled.cancelled()
            assert await last == 3

    run(test())


def test_many_senders() -> None:
    """Many tasks that send at once never exceed the credit, and each frame has a seq of its own."""
    most = 0

    async def script(talk: Talk) -> None:
        nonlocal most
        await talk.start(3)
        done = 0
        while done < 50:
            assert isinstance(await talk.next(), int)
            most = max(most, len(talk.frames) - done)
            if len(talk.frames) - done == 3 or len(talk.frames) == 50:
                await talk.say(protocol.FramesOutcome(first=done, last=len(talk.frames) - 1, outcome=Outcome.NO_FACE))
                done = len(talk.frames)
        await talk.answer_all()

    async def test() -> None:
        async with session_with(script) as session:
            seqs = await asyncio.gather(*(session.send(JPEG) for _ in range(50)))
            assert sorted(seqs) == list(range(50))

    run(test())
    assert most == 3


def test_events_that_nobody_takes() -> None:
    """Events wait for the iterator up to a bound; then reading stops, and goes on when they are taken."""
    flooded = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.start(8)
        for _ in range(EVENT_BUFFER + 100):
            await talk.say(NOISE)
        flooded.set()
        await talk.answer_all()

    async def test() -> None:
        async with session_with(script) as session:
            await flooded.wait()
            await turns(3 * EVENT_BUFFER)
            assert len(session._events) == EVENT_BUFFER
            for _ in range(EVENT_BUFFER + 100):
                await anext(session)
            assert await session.send(JPEG) == 0
            assert isinstance(await anext(session), Prediction)

    run(test())


def test_closing_with_events_that_nobody_takes() -> None:
    """Close gets its totals also when the events before them fill the buffer and nobody iterates."""

    async def script(talk: Talk) -> None:
        await talk.start(8)
        for _ in range(EVENT_BUFFER + 100):
            await talk.say(NOISE)
        await talk.answer_all()

    async def test() -> None:
        async with session_with(script) as session:
            assert (await session.close()).totals.received == 0
            assert len(await rest_of(session)) == EVENT_BUFFER + 101

    run(test())


# Options in a session


def test_update() -> None:
    """An update is answered with the options in force, and from which frame on."""

    async def script(talk: Talk) -> None:
        await talk.start(2)
        assert await talk.next() == 0
        assert await talk.next() == {"type": "session.update", "options": {"stride": 2, "max_age_ms": None}}
        await talk.say(protocol.SessionUpdated(options=protocol.Options(stride=2), from_seq=1, max_in_flight=2))
        await talk.say(prediction(0))
        await talk.answer_all()

    async def test() -> None:
        async with session_with(script) as session:
            await session.send(JPEG)
            answer = await session.update(stride=2, max_age_ms=None)
            assert (answer.options.stride, answer.from_seq) == (2, 1)
            assert isinstance(await anext(session), SessionUpdated)

    run(test())


def test_update_refused() -> None:
    """A refused update raises with the service's words; the session and later updates go on."""

    async def script(talk: Talk) -> None:
        await talk.start(2)
        await talk.next()
        await talk.say(protocol.ErrorMessage(code="bad_option", message="stride: 9", retryable=False))
        await talk.next()
        await talk.say(protocol.SessionUpdated(options=protocol.Options(stride=3), from_seq=0, max_in_flight=2))
        await talk.answer_all()

    async def test() -> None:
        async with session_with(script) as session:
            with pytest.raises(UpdateRefused, match=r"stride: 9 \(bad_option\)") as refused:
                await session.update(stride=9)
            assert refused.value.code == "bad_option"
            assert (await session.update(stride=3)).options.stride == 3
            assert await session.send(JPEG) == 0
            assert isinstance(await anext(session), ErrorMessage)

    run(test())


def test_a_cancelled_update_leaves_the_next_its_answer() -> None:
    """The answer to a cancelled update is not taken for that of the next one."""
    answer = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.start(2)
        await talk.next()
        await talk.next()
        await answer.wait()
        for stride in (2, 3):
            await talk.say(
                protocol.SessionUpdated(options=protocol.Options(stride=stride), from_seq=0, max_in_flight=2)
            )
        await talk.answer_all()

    async def test() -> None:
        async with session_with(script) as session:
            first = asyncio.create_task(session.update(stride=2))
            second = asyncio.create_task(session.update(stride=3))
            await turns()
            first.cancel()
            await asyncio.wait([first])
            answer.set()
            assert (await second).options.stride == 3

    run(test())


def test_options_that_rule_sending_stay() -> None:
    """Freshness and time stamps cannot be changed in a session."""

    async def test() -> None:
        async with session_with(answer_every_frame) as session:
            with pytest.raises(TypeError, match="freshness, timestamps"):
                await session.update(timestamps=True, freshness="every")  # type: ignore[call-arg]  # the point

    run(test())


def test_unknown_messages_pass() -> None:
    """A message of a type this client does not know is an event, and harms nothing."""

    async def script(talk: Talk) -> None:
        await talk.start(2)
        await talk.socket.send('{"type": "weather", "degrees": 21}')
        await talk.answer_all()

    async def test() -> None:
        async with session_with(script) as session:
            await session.send(JPEG)
            assert isinstance(await anext(session), UnknownMessage)
            assert isinstance(await anext(session), Prediction)

    run(test())


# Endings


async def close_after_error(talk: Talk) -> None:
    """``slow_reader`` and 1008."""
    await talk.say(
        protocol.ErrorMessage(
            code="slow_reader", message="Too slow", retryable=True, retry_after_ms=50, close_code=1008
        )
    )
    await talk.socket.close(1008)


def close_with(code: int) -> Callable[[Talk], Awaitable[None]]:
    """A bare close."""

    async def end(talk: Talk) -> None:
        await talk.socket.close(code)

    return end


async def cut_off(talk: Talk) -> None:
    """The connection breaks."""
    talk.socket.transport.abort()


async def talk_nonsense(talk: Talk) -> None:
    """Something that is not the protocol; the client is the one to close."""
    await talk.socket.send('{"type": "prediction", "seq": "?"}')
    await talk.socket.wait_closed()


ENDINGS = [
    pytest.param(close_after_error, SessionError, 1008, True, id="error then 1008"),
    pytest.param(close_with(1000), ConnectionLost, 1000, False, id="1000 without session.closed"),
    pytest.param(close_with(1001), ConnectionLost, 1001, True, id="1001"),
    pytest.param(close_with(1009), ConnectionLost, 1009, False, id="1009"),
    pytest.param(close_with(1011), ConnectionLost, 1011, False, id="1011"),
    pytest.param(close_with(1012), ConnectionLost, 1012, True, id="1012"),
    pytest.param(close_with(1013), ConnectionLost, 1013, True, id="1013"),
    pytest.param(cut_off, ConnectionLost, 1006, True, id="cut off"),
    pytest.param(talk_nonsense, ProtocolMismatch, None, False, id="nonsense"),
]


@pytest.mark.parametrize(("end", "kind", "close_code", "retryable"), ENDINGS)
def test_everyone_who_waits_is_told(
    end: Script,
    kind: type[TimeConvClientError],
    close_code: int | None,
    retryable: bool,  # noqa: FBT001 - a column of a table
) -> None:
    """When the session ends in the middle, sends, updates, close and the iterator all raise why, after the events."""
    go = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.start(2)
        await talk.next()
        await talk.next()
        await talk.say(prediction(0))
        await talk.next()
        assert isinstance(await talk.next(), dict)
        await go.wait()
        await end(talk)

    async def test() -> None:
        async with session_with(script) as session:
            for _ in range(3):
                await session.send(JPEG)
            sends = [asyncio.create_task(session.send(JPEG)) for _ in range(3)]
            update = asyncio.create_task(session.update(stride=2))
            iteration = asyncio.create_task(until_error(session))
            await turns()
            go.set()
            errors = await asyncio.gather(*sends, return_exceptions=True)
            update_error = (await asyncio.gather(update, return_exceptions=True))[0]
            events, error = await iteration
            assert [type(each) for each in errors] == [kind] * 3
            assert type(update_error) is kind
            assert isinstance(events[0], Prediction)
            assert type(error) is kind
            assert (getattr(error, "close_code", None), error.retryable) == (close_code, retryable)
            assert session.unanswered == {1, 2}
            for late in (session.send(JPEG), session.update(stride=2), session.close()):
                with pytest.raises(kind):
                    await late
            with pytest.raises(kind):
                session.try_send(JPEG)

    run(test())


def test_a_break_after_a_refused_update() -> None:
    """A connection that breaks when an update has just been refused was lost, and not ended for that reason."""

    async def script(talk: Talk) -> None:
        await talk.start(2)
        await talk.next()
        await talk.say(protocol.ErrorMessage(code="bad_option", message="no", retryable=False))
        await talk.socket.drain()
        talk.socket.transport.write_eof()

    async def test() -> None:
        async with session_with(script) as session:
            with pytest.raises(UpdateRefused):
                await session.update(stride=2)
            with pytest.raises(ConnectionLost, match="1006"):
                await rest_of(session)

    run(test())


def test_an_earlier_error_is_not_the_reason() -> None:
    """An error message that the session survived is not given as the reason of a later end."""

    async def script(talk: Talk) -> None:
        await talk.start(2)
        await talk.next()
        await talk.say(protocol.ErrorMessage(code="bad_option", message="no", retryable=False))
        await talk.next()
        await talk.say(prediction(0))
        await talk.socket.close(1011)

    async def test() -> None:
        async with session_with(script) as session:
            with pytest.raises(UpdateRefused):
                await session.update(stride=2)
            await session.send(JPEG)
            with pytest.raises(ConnectionLost, match="1011"):
                await rest_of(session)

    run(test())


def test_the_end_while_events_fill_the_buffer() -> None:
    """A send that waits for credit is told of the end also while nobody takes the events."""

    async def script(talk: Talk) -> None:
        await talk.start(1)
        await talk.next()
        for _ in range(EVENT_BUFFER + 5):
            await talk.say(NOISE)
        await talk.socket.close(1011)

    async def test() -> None:
        async with session_with(script) as session:
            await session.send(JPEG)
            with pytest.raises(ConnectionLost, match="1011"):
                await session.send(JPEG)
            assert len(session._events) == EVENT_BUFFER + 5

    run(test())


def test_frames_that_end_with_an_error_of_the_client() -> None:
    """Whatever the frames raise ends the stream with it, also what ended the other session that they come from."""
    lost = ConnectionLost(1011, "elsewhere")

    async def frames() -> AsyncIterator[bytes]:
        yield JPEG
        raise lost

    async def test() -> None:
        async with session_with(answer_every_frame) as session:
            _, error = await until_error(session.stream(frames()))
            assert error is lost

    run(test())


def test_an_end_nobody_noticed() -> None:
    """A block that never looked at a session that broke is told at its end."""

    async def script(talk: Talk) -> None:
        await talk.start(2)
        assert await talk.next() == 0
        await talk.socket.close(1011)

    async def test() -> None:
        with pytest.raises(ConnectionLost, match="1011"):
            async with session_with(script) as session:
                await session.send(JPEG)

    run(test())


def test_the_service_closes_first() -> None:
    """A session that the service closes in order ends the iteration; a send after it says so."""

    async def script(talk: Talk) -> None:
        await talk.start(2)
        await talk.finish()

    async def test() -> None:
        async with session_with(script) as session:
            assert [type(event) for event in await rest_of(session)] == [SessionClosed]
            with pytest.raises(SessionEnded):
                await session.send(JPEG)
            assert (await session.close()).totals.received == 0

    run(test())


def test_closing_wakes_waiting_sends() -> None:
    """Close while a send waits for credit: the send raises, and is not sent."""

    async def script(talk: Talk) -> None:
        await talk.start(1)
        assert await talk.next() == 0
        assert await talk.next() == {"type": "session.close"}
        await talk.say(prediction(0))
        await talk.finish()

    async def test() -> None:
        async with session_with(script) as session:
            await session.send(JPEG)
            waiting = asyncio.create_task(session.send(JPEG))
            await turns()
            closed = await session.close()
            assert closed.totals.received == 1
            with pytest.raises(SessionEnded):
                await waiting

    run(test())


def test_a_cancelled_close_can_be_taken_up_again() -> None:
    """Cancelling close stops only the waiting: called again it says nothing twice and gets the totals."""
    answer = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.start(2)
        assert await talk.next() == 0
        assert await talk.next() == {"type": "session.close"}
        await answer.wait()
        await talk.say(prediction(0))
        await talk.finish()

    async def test() -> None:
        async with session_with(script) as session:
            await session.send(JPEG)
            first = asyncio.create_task(session.close())
            await turns()
            first.cancel()
            await asyncio.wait([first])
            answer.set()
            assert (await session.close()).totals.outcomes == {"prediction": 1}

    run(test())


def test_a_cancelled_iteration_loses_nothing() -> None:
    """Cancelling the wait for an event loses none."""
    answer = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.start(2)
        await answer.wait()
        await talk.answer_all()

    async def test() -> None:
        async with session_with(script) as session:
            await session.send(JPEG)
            waiting = asyncio.ensure_future(anext(session))
            await turns()
            waiting.cancel()
            await asyncio.wait([waiting])
            answer.set()
            assert isinstance(await anext(session), Prediction)

    run(test())


def test_no_task_is_left() -> None:
    """After the block no task of the client runs."""

    async def test() -> None:
        before = asyncio.all_tasks()
        async with session_with(answer_every_frame) as session:
            await session.send(JPEG)
            assert isinstance(await anext(session), Prediction)
        assert asyncio.all_tasks() == before

    run(test())


# A connection that is half open


@pytest.mark.parametrize("size", [20, 8_000_000], ids=["idle", "with full buffers"])
def test_a_peer_that_is_gone_without_a_word(size: int) -> None:
    """Who answers no ping is given up in time, also where nothing more can be written; no task waits for it."""
    gone = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.start(8)
        talk.socket.transport.pause_reading()
        await gone.wait()
        talk.socket.transport.abort()

    async def test() -> None:
        timeouts = Timeouts(ping_interval_s=0.01, ping_s=0.05, close_s=0.05)
        before = asyncio.all_tasks()
        async with fake_server(script) as address:
            async with connect(address, timeouts=timeouts) as session:
                for _ in range(3):
                    await session.send(bytes(size))
                with pytest.raises(ConnectionLost, match="1006"):
                    await rest_of(session)
            assert not {task for task in asyncio.all_tasks() - before if "timeconv-client" in task.get_name()}
            gone.set()

    run(test())


def test_aborting_where_nothing_can_be_written() -> None:
    """Abort takes no longer than its timeout, and none at all if it is cancelled."""
    gone = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.start(8)
        talk.socket.transport.pause_reading()
        await gone.wait()
        talk.socket.transport.abort()

    async def test() -> None:
        async with fake_server(script) as address:
            for close_s, waits in ((0.02, False), (1000.0, True)):
                async with connect(address, timeouts=Timeouts(close_s=close_s)) as session:
                    await session.send(bytes(30_000_000))
                    aborting = asyncio.create_task(session.abort())
                    if waits:
                        await turns()
                        aborting.cancel()
                    await asyncio.wait([aborting])
                    assert aborting.cancelled() == waits
                    assert not session.is_connected
            gone.set()

    run(test())


def test_a_service_that_does_not_end_it() -> None:
    """Close is given up after its timeout, and the session aborted."""

    async def script(talk: Talk) -> None:
        await talk.start(2)
        await talk.socket.wait_closed()

    async def test() -> None:
        async with session_with(script, timeouts=Timeouts(end_s=0.02)) as session:
            with pytest.raises(TimedOut, match=r"0\.02 s"):
                await session.close()
            assert not session.is_connected

    run(test())


# Connecting


def test_bad_options_are_refused_in_the_session() -> None:
    """An error as the first message, with its close, is raised by connect."""

    async def script(talk: Talk) -> None:
        await talk.say(protocol.ErrorMessage(code="unknown_model", message="No network 'x'", retryable=False))
        await talk.socket.close(1008)

    async def test() -> None:
        with pytest.raises(SessionError, match="No network 'x'") as refused:
            async with session_with(script, model="x"):
                pass
        assert (refused.value.code, refused.value.close_code, refused.value.retryable) == ("unknown_model", 1008, False)

    run(test())


def test_another_first_message() -> None:
    """A server whose first message is none of session.started does not speak the protocol."""

    async def script(talk: Talk) -> None:
        await talk.say(prediction(0))
        await talk.socket.wait_closed()

    async def test() -> None:
        with pytest.raises(ProtocolMismatch, match=r"prediction came before session\.started"):
            async with session_with(script):
                pass

    run(test())


def test_a_silent_server() -> None:
    """A server that accepts but never starts the session is given up in time, and the connection closed."""

    async def script(talk: Talk) -> None:
        await talk.socket.wait_closed()

    async def test() -> None:
        async with fake_server(script) as address:
            with pytest.raises(CannotConnect, match="did not start a session within"):
                async with connect(address, timeouts=Timeouts(open_s=0.05)):
                    pass

    run(test())


def test_a_refused_upgrade() -> None:
    """Problem details of a refused upgrade become the fields of the error."""
    body = b'{"title": "Full", "detail": "16 sessions are open", "code": "at_capacity", "retryable": true,'
    body += b' "retry_after_ms": 5000, "instance": "/x"}'

    async def test() -> None:
        async with refusing_server(HTTPStatus.SERVICE_UNAVAILABLE, body) as address:
            with pytest.raises(ServerRefused, match="16 sessions are open") as refused:
                async with connect(address):
                    pass
        error = refused.value
        assert (error.status, error.code, error.retryable, error.retry_after_ms) == (503, "at_capacity", True, 5000)

    run(test())


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (403, Forbidden), (429, TooMany), (503, Unavailable), (404, ServerRefused)],
)
def test_refusals_have_kinds(status: int, kind: type[ServerRefused]) -> None:
    """What a caller may want to tell apart has an error of its own."""

    async def test() -> None:
        async with refusing_server(HTTPStatus(status), b"{}") as address:
            with pytest.raises(ServerRefused) as refused:
                async with connect(address, key="tc_x"):
                    pass
        assert type(refused.value) is kind
        assert "tc_x" not in str(refused.value)

    run(test())


def test_a_refusal_by_something_else() -> None:
    """A refusal that is not the service's own keeps its status, and Retry-After in seconds."""

    async def test() -> None:
        async with refusing_server(
            HTTPStatus.TOO_MANY_REQUESTS, b"<html>", content_type="text/html", Retry_After="3"
        ) as address:
            with pytest.raises(ServerRefused, match="HTTP 429") as refused:
                async with connect(address):
                    pass
        error = refused.value
        assert (error.status, error.code, error.retryable, error.retry_after_ms) == (429, "http_429", True, 3000)

    run(test())


def test_nobody_listens() -> None:
    """A port where nothing listens cannot be connected to."""

    async def test() -> None:
        async with fake_server() as address:
            pass
        with pytest.raises(CannotConnect, match="Cannot connect to ws://127"):
            async with connect(address):
                pass

    run(test())


def test_not_a_websocket_server() -> None:
    """A server that answers in another protocol cannot be connected to."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"220 mail.example.org ESMTP\r\n")
        writer.close()
        await writer.wait_closed()

    async def test() -> None:
        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(CannotConnect):
                async with connect(f"ws://127.0.0.1:{port}"):
                    pass

    run(test())


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:8000", "localhost:8000", "ftp://example.org", "ws://", "ws://h:99999", "ws://[::1"]
)
def test_bad_addresses(address: str) -> None:
    """What is no address of a service is refused before anything is connected."""

    async def test() -> None:
        with pytest.raises(BadAddress, match="Not an address"):
            async with connect(address):
                pass

    run(test())


def test_first_message_can_resume() -> None:
    """Seqs start where session.started says."""

    async def script(talk: Talk) -> None:
        message = started(2)
        await talk.say(protocol.SessionStarted(**{**_fields(message), "next_seq": 40, "resumed": True}))
        await talk.next()
        await talk.say(frame(40, Outcome.NO_FACE))
        await talk.next()
        await talk.finish()

    async def test() -> None:
        async with session_with(script) as session:
            assert await session.send(JPEG) == 40
            assert isinstance(await anext(session), FrameOutcome)
            assert session.unanswered == frozenset()

    run(test())


def _fields(message: protocol.SessionStarted) -> dict[str, Any]:
    return {name: getattr(message, name) for name in message.__struct_fields__}


# A service that stops


def test_a_stream_ends_in_order_when_the_service_stops() -> None:
    """After a goaway no frame is sent; those in flight are answered, the totals come, and then why it ended early."""

    async def script(talk: Talk) -> None:
        await talk.start(8)
        assert [await talk.next() for _ in range(8)] == list(range(8))
        await talk.say(protocol.GoAway(time_left_ms=500, resume_token="elsewhere"))  # noqa: S106 - not a secret
        for seq in range(8):
            await talk.say(prediction(seq))
        assert await talk.next() == {"type": "session.close"}
        await talk.finish()

    async def test() -> None:
        async with session_with(script) as session:
            events, error = await until_error(session.stream([JPEG] * 100))
            assert not session.unanswered
        assert [type(event) for event in events] == [GoAway, *[Prediction] * 8, SessionClosed]
        assert isinstance(error, ServiceStopping)
        assert (error.retryable, error.resume_token) == (True, "elsewhere")

    run(test())


def test_sending_to_a_service_that_stops() -> None:
    """Who waits for credit, or offers a live frame, is told that the service stops; closing still gets the totals."""

    async def script(talk: Talk) -> None:
        await talk.start(1)
        assert await talk.next() == 0
        await talk.say(protocol.GoAway(time_left_ms=500))
        assert await talk.next() == {"type": "session.close"}
        await talk.say(prediction(0))
        await talk.finish()

    async def test() -> None:
        async with session_with(script) as session:
            await session.send(JPEG)
            with pytest.raises(ServiceStopping):
                await session.send(JPEG)
            with pytest.raises(ServiceStopping):
                session.try_send(JPEG)
            assert (await session.close()).totals.received == 1
            with pytest.raises(SessionEnded):
                session.try_send(JPEG)

    run(test())


def test_totals_that_came_first() -> None:
    """A service that closes by itself after its goaway ends a stream in order as well."""

    async def script(talk: Talk) -> None:
        await talk.start(1)
        assert await talk.next() == 0
        await talk.say(protocol.GoAway(time_left_ms=1))
        await talk.say(prediction(0))
        await talk.finish()

    async def test() -> None:
        async with session_with(script) as session:
            _, error = await until_error(session.stream([JPEG] * 2))
        assert isinstance(error, ServiceStopping)

    run(test())


# What others do to a stream


async def never() -> AsyncIterator[bytes]:
    """A camera that gives no picture."""
    yield JPEG
    await asyncio.Event().wait()


def test_a_source_that_gives_nothing_keeps_nobody() -> None:
    """A stream whose frames do not come ends when its session does, whoever ended it, and says so."""

    async def stops(talk: Talk) -> None:
        await talk.start(2)
        await talk.next()
        await talk.say(protocol.GoAway(time_left_ms=1))
        await talk.say(prediction(0))
        await talk.finish()

    async def test() -> None:
        for end in (Session.abort, Session.close):
            async with session_with(answer_every_frame) as session:
                events = session.stream(never())
                await anext(events)
                ending = asyncio.ensure_future(end(session))
                assert isinstance((await until_error(events))[1], SessionEnded)
                await ending
        async with session_with(stops) as session:
            assert isinstance((await until_error(session.stream(never())))[1], ServiceStopping)

    run(test())


# Credit that changes


def test_an_update_may_change_the_credit() -> None:
    """The newest max_in_flight is kept to, whoever asked for the update: more at once, or nothing until fewer wait."""

    async def script(talk: Talk) -> None:
        await talk.start(2)
        for _ in range(2):
            await talk.next()
        await talk.say(protocol.SessionUpdated(options=protocol.Options(), from_seq=2, max_in_flight=4))
        for _ in range(2):
            await talk.next()
        await talk.say(protocol.SessionUpdated(options=protocol.Options(), from_seq=4, max_in_flight=1, by="service"))
        await fell.wait()
        for seq in range(4):
            await talk.say(prediction(seq))
        await talk.answer_all()

    async def test() -> None:
        async with session_with(script) as session:
            for _ in range(2):
                await session.send(JPEG)
            waiting = asyncio.ensure_future(session.send(JPEG))
            assert isinstance(await anext(session), SessionUpdated)
            assert (await waiting, session.credit) == (2, 1)
            await session.send(JPEG)
            assert isinstance(await anext(session), SessionUpdated)
            assert (session.credit, session.try_send(JPEG)) == (0, None)
            fell.set()
            for _ in range(4):
                await anext(session)
            assert session.credit == 1

    fell = asyncio.Event()
    run(test())


@pytest.mark.parametrize("wrong", ["1.jpg", 5, None])
@pytest.mark.parametrize("options", [{}, {"timestamps": True}], ids=["plain", "stamped"])
def test_what_is_no_picture(wrong: Any, options: dict[str, Any]) -> None:
    """A path, say, in the place of its bytes is an error, and not a text message that nobody answers."""

    async def test() -> None:
        async with session_with(answer_every_frame, **options) as session:
            for sending in (session.try_send, session.send):
                with pytest.raises(TypeError, match="bytes"):
                    await sending(wrong)
            assert (session.next_seq, session.unanswered) == (0, frozenset())
            with pytest.raises(TypeError, match="bytes"):
                async for _ in session.stream([wrong]):
                    pass

    run(test())


# Secrets


def test_a_key_and_a_token_are_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Not even where everything is logged, as by `logging.basicConfig(level=DEBUG)`."""

    async def script(talk: Talk) -> None:
        await talk.socket.send(json.dumps({**msgspec.to_builtins(started()), "resume_token": "token-2"}))
        await talk.answer_all()

    async def test() -> None:
        async with (
            fake_server(script) as address,
            connect(address, key="tc_key", resume="token-1") as session,
        ):
            await session.send(JPEG)
            assert session.started.resume_token == "token-2"  # noqa: S105 - not a secret

    with caplog.at_level(logging.DEBUG):
        run(test())
    # What the fake server logs is not the client's.
    said = "\n".join(line.getMessage() for line in caplog.records if "server" not in line.name)
    assert "tc_key" not in said
    assert "token-" not in said


def test_a_token_is_in_no_repr() -> None:
    """Events are printed and logged; a token in them would be as well. So is what a message lacked."""
    message = msgspec.to_builtins(started())
    events = [
        parse_message(json.dumps({**message, "resume_token": "secret"})),
        parse_message('{"type": "goaway", "time_left_ms": 1, "resume_token": "secret"}'),
    ]
    assert "secret" not in repr(events)
    assert "secret" not in str(events[0])
    lacking = json.dumps({"type": "session.started", "resume_token": "secret"})
    with pytest.raises(ProtocolMismatch) as wrong:
        parse_message(lacking)
    assert "secret" not in "".join(traceback.format_exception(wrong.value))


@pytest.mark.parametrize(
    "address", ["http://user:secret@127.0.0.1:1/", "ftp://user:secret@host", "http://user:secret@host:99999"]
)
def test_a_password_in_an_address_is_in_no_error(address: str) -> None:
    """Of the address that is wrong, or where nobody answers, the errors say all but that."""

    async def test() -> None:
        with pytest.raises((BadAddress, CannotConnect)) as wrong:
            async with connect(address):
                pass
        assert "secret" not in "".join(traceback.format_exception(wrong.value))

    run(test())


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example.org"])
def test_a_host_that_cannot_be(host: str) -> None:
    """A name that no name service can be asked for is a bad address."""

    async def test() -> None:
        with pytest.raises(BadAddress):
            async with connect(f"http://{host}/"):
                pass

    run(test())


# No timeouts


def test_no_timeouts() -> None:
    """`math.inf` is none, also on uvloop, which knows no endless timer."""

    async def test() -> None:
        none = math.inf
        timeouts = Timeouts(open_s=none, ping_interval_s=none, ping_s=none, close_s=none, end_s=none)
        async with fake_server() as address, connect(address, timeouts=timeouts) as session:
            await session.send(JPEG)
            assert session.is_open
            await turns()
            assert (await session.close()).totals.received == 1

    run(test())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())
