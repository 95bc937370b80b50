"""A session that lasts: every frame is told of exactly once, whatever becomes of its connections."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest

from service import protocol
from service.protocol import Outcome
from tests.client.fake_server import (
    Refusal,
    Script,
    Talk,
    answer_every_frame,
    fake_server,
    frame,
    prediction,
    resume_token,
    serving_in_turn,
    started,
)
from timeconv_client import (
    BadAddress,
    CannotConnect,
    Closed,
    ConnectionLost,
    Disconnected,
    ErrorMessage,
    FramesOutcome,
    GoAway,
    LastingEvent,
    LastingSession,
    Prediction,
    ProtocolMismatch,
    Reconnected,
    Reconnecting,
    Retry,
    ServiceStopping,
    SessionEnded,
    SessionError,
    SessionUpdated,
    TimeConvClientError,
    Timeouts,
    Unauthorized,
    UpdateRefused,
    stay_connected,
)
from timeconv_client.iteration import EVENT_BUFFER

JPEG = b"\xff\xd8 a picture \xff\xd9"
AT_ONCE = Retry(first_s=0, most_s=0)
NOISE = protocol.SessionUpdated(options=protocol.Options(), from_seq=0, max_in_flight=1, by="service")


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test to its end; whatever hangs is a failure, and so is a task that is left."""

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test
        assert client_tasks() == set()

    asyncio.run(bounded())


def client_tasks() -> set[str]:
    """Names of the client's tasks."""
    return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("timeconv-client")}


@asynccontextmanager
async def lasting(*turns: Script | Refusal, retry: Retry = AT_ONCE, **options: Any) -> AsyncIterator[LastingSession]:
    """A session whose connections are served in turn."""
    async with serving_in_turn(*turns) as address, stay_connected(address, retry=retry, **options) as session:
        yield session


async def next_of(session: LastingSession, *kinds: type) -> list[Any]:
    """The next events, which are of these kinds."""
    events = [await anext(session) for _ in kinds]
    assert [type(event) for event in events] == list(kinds)
    return events


async def turns(count: int = 20) -> None:
    """Let every task that can run do so; what still waits then waits for something."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Let everything run until something is so."""
    while not condition():
        await turns(1)


def cut_after(frames: int, *answers: protocol.ServerMessage) -> Script:
    """Take frames, say the answers, and break the connection."""

    async def script(talk: Talk) -> None:
        await talk.start(8)
        assert [await talk.next() for _ in range(frames)] == list(range(frames))
        for answer in answers:
            await talk.say(answer)
        # Not before all is written: what is told must arrive.
        await talk.socket.drain()
        talk.socket.transport.write_eof()

    return script


def resumed(next_seq: int, token: str = "again") -> protocol.SessionStarted:  # noqa: S107 - not a secret
    """The first message of a session that goes on."""
    fields = {name: getattr(started(8), name) for name in protocol.SessionStarted.__struct_fields__}
    return protocol.SessionStarted(**{**fields, "next_seq": next_seq, "resumed": True, "resume_token": token})


def with_token(token: str) -> protocol.SessionStarted:
    """The first message of a new session with a resume token."""
    fields = {name: getattr(started(8), name) for name in protocol.SessionStarted.__struct_fields__}
    return protocol.SessionStarted(**{**fields, "resume_token": token})


# Numbers


def test_numbers_go_on_in_a_new_session() -> None:
    """After a break frames are numbered on, answers are of these numbers, and what was in flight is told as lost."""

    async def test() -> None:
        async with lasting(cut_after(3, prediction(1)), answer_every_frame) as session:
            assert [await session.send(JPEG) for _ in range(3)] == [0, 1, 2]
            answer, lost, trying, back = await next_of(session, Prediction, Disconnected, Reconnecting, Reconnected)
            assert (answer.seq, lost.lost, trying.attempt, back.resumed, back.next_seq) == (1, (0, 2), 1, False, 3)
            assert isinstance(lost.error, ConnectionLost)
            assert trying.error is lost.error
            assert await session.send(JPEG) == 3
            assert (await next_of(session, Prediction))[0].seq == 3
            closed = await session.close()
            assert (closed.totals.sent, closed.totals.outcomes, closed.totals.lost) == (4, {"prediction": 2}, 2)
            assert await next_of(session, Closed) == [closed]
            with pytest.raises(StopAsyncIteration):
                await anext(session)

    run(test())


def test_going_on_with_the_session() -> None:
    """The token is shown; where the service has received fewer frames than were sent no answer is of a wrong one."""
    tokens: list[str | None] = []

    async def first(talk: Talk) -> None:
        tokens.append(resume_token(talk))
        await talk.say(with_token("one"))
        for _ in range(4):
            await talk.next()
        await talk.say(prediction(0))
        await talk.socket.drain()
        talk.socket.transport.write_eof()

    async def second(talk: Talk) -> None:
        tokens.append(resume_token(talk))
        await talk.say(resumed(2, "two"))  # Two of the four were still on their way.
        await talk.next()
        # Late answers, of the connection before, are of no frame of this one.
        await talk.say(prediction(1))
        await talk.say(protocol.FramesOutcome(first=0, last=2, outcome=Outcome.NO_FACE))
        await talk.next()
        await talk.say(prediction(3))
        assert await talk.next() == {"type": "session.close"}
        await talk.finish()

    async def test() -> None:
        async with lasting(first, second) as session:
            assert [await session.send(JPEG) for _ in range(4)] == [0, 1, 2, 3]
            _, lost, _, back = await next_of(session, Prediction, Disconnected, Reconnecting, Reconnected)
            assert (lost.lost, back.resumed, back.next_seq, session.started.session) == ((1, 2, 3), True, 4, "s-1")
            assert await session.send(JPEG) == 4
            (ranged,) = await next_of(session, FramesOutcome)
            assert list(ranged.seqs) == [4]
            assert await session.send(JPEG) == 5
            assert (await next_of(session, Prediction))[0].seq == 5
            closed = await session.close()
            assert (closed.totals.sent, closed.totals.lost) == (6, 3)
            assert closed.totals.outcomes == {"prediction": 2, "no_face": 1}

    run(test())
    assert tokens == [None, "one"]


def unreliable(chance: random.Random) -> Script:
    """A server that breaks off or stops at any moment; goes on with fewer frames than were sent."""

    async def script(talk: Talk) -> None:
        received = chance.randrange(3) if resume_token(talk) else 0
        await talk.say(resumed(received) if received else with_token("t"))
        owed: list[int] = []
        stops = False
        while isinstance(message := await talk.next(), int):
            owed.append(received + message)
            if not stops and chance.random() < 0.05:
                stops = True
                await talk.say(protocol.GoAway(time_left_ms=1000))
            while owed and (stops or len(owed) == 8 or chance.random() < 0.4):
                await talk.say(prediction(owed.pop(0)))
            if chance.random() < 0.15:
                talk.socket.transport.abort()
                return
        for seq in owed:
            await talk.say(frame(seq, Outcome.NO_FACE))
        await talk.finish()

    return script


@pytest.mark.parametrize("seed", range(12))
def test_every_frame_is_told_of_once(seed: int) -> None:
    """Through breaks at any moment, resumed or not, each frame of a stream gets one outcome, or is lost, in the end."""

    async def test() -> None:
        told: Counter[int] = Counter()
        events: list[LastingEvent] = []
        script = unreliable(random.Random(seed))  # noqa: S311 - not a secret
        async with fake_server(script) as address, stay_connected(address, retry=AT_ONCE) as session:
            async for event in session.stream([JPEG] * 60):
                events.append(event)
                told.update(event.lost if isinstance(event, Disconnected) else getattr(event, "seqs", ()))
        assert told == Counter(range(60))
        assert any(isinstance(event, Reconnected) for event in events)
        assert isinstance(closed := events[-1], Closed)
        assert closed.totals.sent == sum(closed.totals.outcomes.values()) + closed.totals.lost == 60

    run(test())


# A service that stops


def test_a_service_that_stops_loses_nothing() -> None:
    """After a goaway nothing is sent, what is owed comes, the session is closed, and the next one takes the frames."""

    async def stops(talk: Talk) -> None:
        await talk.start(2)
        assert [await talk.next(), await talk.next()] == [0, 1]
        await talk.say(protocol.GoAway(time_left_ms=1000, resume_token="elsewhere"))  # noqa: S106 - not a secret
        await talk.say(prediction(0))
        await talk.say(prediction(1))
        assert await talk.next() == {"type": "session.close"}
        await talk.finish()

    async def goes_on(talk: Talk) -> None:
        assert resume_token(talk) == "elsewhere"
        await answer_every_frame(talk)

    async def test() -> None:
        async with lasting(stops, goes_on) as session:
            assert [await session.send(JPEG), await session.send(JPEG)] == [0, 1]
            waiting = asyncio.create_task(session.send(JPEG))
            await next_of(session, GoAway)
            assert (session.try_send(JPEG), session.is_connected, session.credit) == (None, False, 0)
            _, _, stopped, _, _ = await next_of(
                session, Prediction, Prediction, Disconnected, Reconnecting, Reconnected
            )
            assert isinstance(stopped.error, ServiceStopping)
            assert (stopped.lost, await waiting) == ((), 2)
            assert (await next_of(session, Prediction))[0].seq == 2

    run(test())


def test_closing_a_session_whose_service_stops() -> None:
    """Who closes between goaway and the last answer still gets it, and no other connection is made."""
    answer = asyncio.Event()

    async def stops(talk: Talk) -> None:
        await talk.start(2)
        await talk.next()
        await talk.say(protocol.GoAway(time_left_ms=1000))
        await answer.wait()
        await talk.say(prediction(0))
        assert await talk.next() == {"type": "session.close"}
        await talk.finish()

    async def test() -> None:
        async with lasting(stops) as session:
            await session.send(JPEG)
            await next_of(session, GoAway)
            closing = asyncio.create_task(session.close())
            await turns()
            answer.set()
            assert (await closing).totals.outcomes == {"prediction": 1}

    run(test())


def test_a_service_that_stops_and_does_not_end_it() -> None:
    """After a goaway who does not end the session in time is left, told as one that stopped, for the next."""

    async def stops(talk: Talk) -> None:
        await talk.start(2)
        await talk.next()
        await talk.say(protocol.GoAway(time_left_ms=1))
        await talk.say(prediction(0))
        await talk.socket.wait_closed()

    async def test() -> None:
        async with lasting(stops, answer_every_frame, timeouts=Timeouts(end_s=0.02)) as session:
            await session.send(JPEG)
            _, _, gone, _, _ = await next_of(session, GoAway, Prediction, Disconnected, Reconnecting, Reconnected)
            assert isinstance(gone.error, ServiceStopping)

    run(test())


@pytest.mark.parametrize("code", ["idle_timeout", "slow_reader"])
def test_a_session_that_rested_too_long(code: str) -> None:
    """A camera that was off, or a computer asleep, is no reason to give up: another session serves it as well."""

    async def ends(talk: Talk) -> None:
        await talk.say(with_token("t"))
        await talk.next()
        await talk.say(protocol.ErrorMessage(code=code, message="Too long", retryable=False, close_code=1008))
        await talk.socket.close(1008)

    async def serves(talk: Talk) -> None:
        assert resume_token(talk) is None
        await answer_every_frame(talk)

    async def test() -> None:
        async with lasting(ends, serves) as session:
            await session.send(JPEG)
            _, gone, _, _ = await next_of(session, ErrorMessage, Disconnected, Reconnecting, Reconnected)
            assert (gone.error.code, gone.lost) == (code, (0,))

    run(test())


# Frames that would be old


@pytest.mark.parametrize("freshness", ["latest", "every"])
def test_a_picture_that_was_taken_while_the_connection_broke(freshness: Any) -> None:
    """A live one is dropped, since it would be old on the next connection; one of a file is sent there."""

    async def breaks(talk: Talk) -> None:
        await talk.start(2, freshness=freshness)
        await talk.next()
        await broken.wait()
        talk.socket.transport.abort()

    async def serves(talk: Talk) -> None:
        await talk.start(2, freshness=freshness)
        await talk.next()
        assert talk.frames == [b"old" if freshness == "every" else b"new"]
        await talk.say(prediction(0))
        while isinstance(seq := await talk.next(), int):
            await talk.say(prediction(seq))
        await talk.finish()

    async def pictures() -> AsyncIterator[bytes]:
        yield b"first"
        broken.set()
        await back.wait()
        yield b"old"
        yield b"new"

    async def test() -> None:
        async with lasting(breaks, Refusal(HTTPStatus.BAD_GATEWAY), serves, freshness=freshness) as session:
            async for event in session.stream(pictures()):
                if isinstance(event, Reconnecting):
                    back.set()
                    await turns()
        assert session.totals.sent == (3 if freshness == "every" else 2)

    broken, back = asyncio.Event(), asyncio.Event()
    run(test())


def test_a_frame_that_waits_keeps_its_time() -> None:
    """Without a time of its own a frame was taken when it was given to send, however long it then waits."""

    async def serves(talk: Talk) -> None:
        await talk.start(2, timestamps=True)
        await talk.next()
        times.append(int.from_bytes(talk.frames[0][:8], "big"))
        await talk.socket.wait_closed()

    async def breaks(talk: Talk) -> None:
        await talk.start(2, timestamps=True)
        await talk.next()
        talk.socket.transport.abort()

    async def test() -> None:
        async with lasting(breaks, serves, timestamps=True) as session:
            await session.send(JPEG)
            await next_of(session, Disconnected)
            sending = asyncio.ensure_future(session.send(JPEG))
            await turns(1)
            given_us = time.monotonic_ns() // 1000
            await sending
            await until(lambda: bool(times))
            assert times[0] <= given_us
            await session.abort()

    times: list[int] = []
    run(test())


# What trying again cannot help


async def say_unknown_model(talk: Talk) -> None:
    await talk.say(protocol.ErrorMessage(code="unknown_model", message="No network 'x'", retryable=False))
    await talk.socket.close(1008)


async def talk_nonsense(talk: Talk) -> None:
    await talk.socket.send("nonsense")
    await talk.socket.wait_closed()


@pytest.mark.parametrize(
    ("turn", "kind"),
    [
        (Refusal(HTTPStatus.UNAUTHORIZED), Unauthorized),
        (say_unknown_model, SessionError),
        (talk_nonsense, ProtocolMismatch),
    ],
    ids=["unauthorized", "unknown model", "nonsense"],
)
def test_what_is_given_up(turn: Script | Refusal, kind: type[TimeConvClientError]) -> None:
    """An error that would come again ends the session: the iterator, a send and an update that wait get it."""

    async def test() -> None:
        async with lasting(cut_after(1), turn) as session:
            await session.send(JPEG)
            await next_of(session, Disconnected, Reconnecting)
            waiting = [asyncio.ensure_future(session.send(JPEG)), asyncio.ensure_future(session.update(stride=2))]
            with pytest.raises(kind):
                await anext(session)
            assert [type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)] == [kind] * 2
            for late in (session.send(JPEG), session.update(stride=2), session.close(), session.until_credit()):
                with pytest.raises(kind):
                    await late
            with pytest.raises(kind):
                session.try_send(JPEG)
            assert (session.totals.sent, session.totals.lost, session.is_open) == (1, 1, False)

    run(test())


def test_an_end_nobody_noticed() -> None:
    """A block that never looked at a session that was given up is told at its end."""

    async def test() -> None:
        with pytest.raises(Unauthorized):
            async with lasting(cut_after(0), Refusal(HTTPStatus.UNAUTHORIZED)) as session:
                await asyncio.wait([session._keeper])

    run(test())


def test_an_outage_that_is_too_long() -> None:
    """It is given up with the error of the last attempt when the next would come too late."""
    retry = Retry(first_s=0, most_s=0, give_up_after_s=0.2)
    body = b'{"code": "at_capacity", "retryable": true, "retry_after_ms": 300}'

    async def test() -> None:
        async with lasting(cut_after(0), Refusal(HTTPStatus.SERVICE_UNAVAILABLE, body), retry=retry) as session:
            await next_of(session, Disconnected, Reconnecting)
            with pytest.raises(TimeConvClientError, match="at_capacity"):
                await anext(session)

    run(test())


# Waiting


def test_a_wait_that_the_service_asks_for() -> None:
    """A refusal's retry_after_ms is kept to, and told."""
    body = b'{"code": "at_capacity", "retryable": true, "retry_after_ms": 40}'

    async def test() -> None:
        full = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, body)
        async with lasting(cut_after(0), full, answer_every_frame) as session:
            _, first, second, _ = await next_of(session, Disconnected, Reconnecting, Reconnecting, Reconnected)
            assert (first.attempt, first.wait_s, second.attempt) == (1, 0, 2)
            assert 0.04 <= second.wait_s <= 0.05
            assert second.error.code == "at_capacity"

    run(test())


def test_a_proxy_whose_service_is_away() -> None:
    """A 502 of a proxy in front is tried again."""

    async def test() -> None:
        async with lasting(cut_after(0), Refusal(HTTPStatus.BAD_GATEWAY), answer_every_frame) as session:
            await next_of(session, Disconnected, Reconnecting, Reconnecting, Reconnected)

    run(test())


def test_a_service_that_is_away() -> None:
    """While nothing listens it is tried again, send waits, and try_send drops; then frames go on."""

    async def test() -> None:
        async with fake_server(cut_after(0)) as address:
            session_context = stay_connected(address, retry=Retry(first_s=0.01, most_s=0.01))
            session = await session_context.__aenter__()
            await next_of(session, Disconnected)
        while not isinstance((await next_of(session, Reconnecting))[0].error, CannotConnect):
            pass
        waiting = asyncio.create_task(session.send(JPEG))
        assert (session.try_send(JPEG), session.credit, session.is_connected) == (None, 0, False)
        async with fake_server(port=int(address.rpartition(":")[2])):
            assert await waiting == 0
            while not isinstance(event := await anext(session), Reconnected):
                assert isinstance(event, Reconnecting)
            assert (await next_of(session, Prediction))[0].seq == 0
            await session_context.__aexit__(None, None, None)

    run(test())


async def throw_out(talk: Talk) -> None:
    await talk.start()
    await talk.say(protocol.ErrorMessage(code="overloaded", message="Full", retryable=True))
    await talk.socket.close(1013)


def test_a_service_that_lets_in_and_throws_out() -> None:
    """A connection that served nothing does not end the outage: the waits go on growing until one has."""
    retry = Retry(first_s=0.001, most_s=10)

    async def test() -> None:
        async with lasting(throw_out, throw_out, cut_after(1, prediction(0)), throw_out, retry=retry) as session:
            attempts: list[int] = []
            while len(attempts) < 3:
                match await anext(session):
                    case Reconnecting(attempt):
                        attempts.append(attempt)
                    case Reconnected() if len(attempts) == 2:
                        await session.send(JPEG)
            assert attempts == [1, 2, 1]
            await next_of(session, Reconnected, ErrorMessage, Disconnected)
            await session.abort()

    run(test())


def test_a_connection_that_has_lasted() -> None:
    """One that was there for as long as the longest wait ends the outage, also if no frame was sent on it."""
    retry = Retry(first_s=0.001, most_s=5)
    now_s = 0.0

    async def lasts(talk: Talk) -> None:
        nonlocal now_s
        await talk.start()
        await talk.next()
        now_s += 5
        talk.socket.transport.abort()

    async def test() -> None:
        async with lasting(cut_after(1), lasts, throw_out, retry=retry) as session:
            session._clock = lambda: now_s
            await session.send(JPEG)
            _, first, _ = await next_of(session, Disconnected, Reconnecting, Reconnected)
            await session.send(JPEG)
            _, second = await next_of(session, Disconnected, Reconnecting)
            assert (first.attempt, second.attempt) == (1, 1)
            await next_of(session, Reconnected, ErrorMessage, Disconnected)
            await session.abort()

    run(test())


# The first connection


def test_the_first_connection_is_tried_once() -> None:
    """An address where nobody listens is an error at once, unless it is said how long to try."""

    async def test() -> None:
        async with fake_server() as address:
            pass
        for retry in (AT_ONCE, Retry(first_s=0.001, most_s=0.001, start_within_s=0.01)):
            with pytest.raises(CannotConnect):
                async with stay_connected(address, retry=retry):
                    pass

    run(test())


def test_a_service_that_starts_later() -> None:
    """With start_within_s a service that is not ready yet is waited for, and nothing is told of it."""

    async def test() -> None:
        retry = Retry(first_s=0, most_s=0, start_within_s=20)
        not_ready = Refusal(HTTPStatus.SERVICE_UNAVAILABLE)
        async with lasting(not_ready, not_ready, answer_every_frame, retry=retry) as session:
            assert await session.send(JPEG) == 0
            await next_of(session, Prediction)

    run(test())


def test_what_is_wrong_with_the_arguments() -> None:
    """An address or a key that cannot be one is an error before anything is tried."""

    async def test() -> None:
        for kind, arguments in (
            (BadAddress, {"address": "nowhere"}),
            (ValueError, {"address": "ws://h", "key": "a b"}),
        ):
            with pytest.raises(kind):
                async with stay_connected(**arguments):
                    pass

    run(test())


# Options


def test_options_are_asked_for_again() -> None:
    """Later connections have the options of the first, with the changes that were accepted, and none that was not."""
    paths: list[str] = []

    async def first(talk: Talk) -> None:
        await talk.start(2)
        assert await talk.next() == {"type": "session.update", "options": {"stride": 9}}
        await talk.say(protocol.ErrorMessage(code="bad_option", message="stride", retryable=False))
        assert await talk.next() == {"type": "session.update", "options": {"stride": 3}}
        await talk.say(protocol.SessionUpdated(options=protocol.Options(stride=3), from_seq=0, max_in_flight=2))
        await talk.next()
        await talk.socket.drain()
        talk.socket.transport.write_eof()

    async def second(talk: Talk) -> None:
        paths.append(talk.path)
        await answer_every_frame(talk)

    async def test() -> None:
        async with lasting(first, second, freshness="every", stride=2) as session:
            with pytest.raises(UpdateRefused):
                await session.update(stride=9)
            await session.update(stride=3)
            with pytest.raises(TypeError, match="freshness"):
                await session.update(freshness="latest")  # type: ignore[call-arg]  # that is the point
            await session.send(JPEG)
            while not isinstance(await anext(session), Reconnected):
                pass

    run(test())
    assert paths == ["/v1/stream?freshness=every&stride=3"]


def test_an_update_that_breaks() -> None:
    """An update whose connection breaks before the answer is asked again on the next; seqs are those of the user."""

    async def first(talk: Talk) -> None:
        await talk.start(2)
        await talk.next()
        await talk.next()
        talk.socket.transport.write_eof()

    async def second(talk: Talk) -> None:
        await talk.start(2)
        assert await talk.next() == {"type": "session.update", "options": {"stride": 3}}
        await talk.say(protocol.SessionUpdated(options=protocol.Options(stride=3), from_seq=0, max_in_flight=2))
        await talk.answer_all()

    async def test() -> None:
        async with lasting(first, second) as session:
            await session.send(JPEG)
            updated = await session.update(stride=3)
            assert updated.from_seq == 1
            *_, event = await next_of(session, Disconnected, Reconnecting, Reconnected, SessionUpdated)
            assert event == updated

    run(test())


# The end


def test_closing_while_there_is_no_connection() -> None:
    """Close does not wait for a connection, in the wait before an attempt as in an attempt, and nothing is left."""

    async def silent(talk: Talk) -> None:
        attempted.set()
        await talk.socket.wait_closed()

    async def test() -> None:
        async with lasting(cut_after(1), retry=Retry(first_s=60, most_s=60)) as session:
            await session.send(JPEG)
            await next_of(session, Disconnected, Reconnecting)
            assert (await session.close()).totals.lost == 1
            await next_of(session, Closed)
            with pytest.raises(SessionEnded):
                await session.send(JPEG)
        async with lasting(cut_after(1), silent) as session:
            await session.send(JPEG)
            await attempted.wait()
            assert (await session.close()).totals.lost == 1

    attempted = asyncio.Event()
    run(test())


def test_a_connection_that_breaks_while_closing() -> None:
    """What a broken connection leaves unanswered is told as lost, and the session ends in order."""

    async def script(talk: Talk) -> None:
        await talk.start(2)
        await talk.next()
        assert await talk.next() == {"type": "session.close"}
        talk.socket.transport.abort()

    async def test() -> None:
        async with lasting(script) as session:
            await session.send(JPEG)
            closed = await session.close()
            assert (closed.totals.sent, closed.totals.lost, closed.totals.outcomes) == (1, 1, {})
            lost, last = await next_of(session, Disconnected, Closed)
            assert (lost.lost, last) == ((0,), closed)

    run(test())


def test_a_service_that_does_not_end_it() -> None:
    """Close takes no longer than its timeout; what is unanswered then is lost."""

    async def script(talk: Talk) -> None:
        await talk.start(2)
        await talk.next()
        await talk.socket.wait_closed()

    async def test() -> None:
        async with lasting(script, timeouts=Timeouts(end_s=0.05)) as session:
            await session.send(JPEG)
            assert (await session.close()).totals.lost == 1

    run(test())


def test_aborting() -> None:
    """Abort ends it at once; frames in flight are told as lost, then why; the service sees 1001."""

    async def script(talk: Talk) -> None:
        await talk.start(2)
        await talk.next()
        await talk.socket.wait_closed()
        assert talk.socket.close_code == 1001

    async def test() -> None:
        async with lasting(script) as session:
            await session.send(JPEG)
            await session.abort()
            (lost,) = await next_of(session, Disconnected)
            assert lost.lost == (0,)
            for late in (anext(session), session.send(JPEG), session.close()):
                with pytest.raises(SessionEnded, match="aborted"):
                    await late

    run(test())


def test_an_abort_that_is_cancelled() -> None:
    """It cuts the connection, and does not wait for a service that does not answer the close."""

    async def deaf(talk: Talk) -> None:
        await talk.start(1)
        await talk.next()
        talk.socket.transport.pause_reading()
        await over.wait()
        talk.socket.transport.abort()

    async def test() -> None:
        async with lasting(deaf, timeouts=Timeouts(close_s=60)) as session:
            await session.send(JPEG)
            await turns()
            aborting = asyncio.ensure_future(session.abort())
            await turns()
            aborting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await aborting
            assert client_tasks() == set()
            over.set()

    over = asyncio.Event()
    run(test())


def test_an_error_that_is_none_of_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in the client, or in what it is made of, is raised as what it is, and nobody waits for ever."""

    async def test() -> None:
        async with lasting(cut_after(1)) as session:
            monkeypatch.setattr("timeconv_client.lasting.connect", lambda *_, **__: 1 // 0)
            await session.send(JPEG)
            async for _ in session:
                pass

    with pytest.raises(ZeroDivisionError):
        run(test())


def test_an_exception_in_the_block_aborts() -> None:
    """The block's own exception is raised, and nothing is left."""

    async def fail(address: str) -> None:
        async with stay_connected(address) as session:
            await session.send(JPEG)
            raise ZeroDivisionError

    async def test() -> None:
        async with fake_server() as address:
            with pytest.raises(ZeroDivisionError):
                await fail(address)

    run(test())


async def send_frames(session: LastingSession) -> None:
    for _ in range(12):
        await session.send(JPEG)


async def take_events(session: LastingSession) -> None:
    for _ in range(12):
        session.try_send(JPEG)
        await anext(session)


async def update_options(session: LastingSession) -> None:
    await session.update(stride=2)


async def stream_frames(session: LastingSession) -> None:
    async with aclosing(session.stream([JPEG] * 12)) as events:
        async for _ in events:
            pass


async def send_and_close(session: LastingSession) -> None:
    await session.send(JPEG)
    await session.close()


@pytest.mark.parametrize("use", [send_frames, take_events, update_options, stream_frames, send_and_close])
def test_cancelling_at_any_await(use: Callable[[LastingSession], Awaitable[None]]) -> None:
    """Wherever a user of a session that breaks again and again is cancelled, no task and no connection is left."""
    connections: list[Talk] = []

    async def breaks(talk: Talk) -> None:
        connections.append(talk)
        await talk.say(with_token("t"))
        for _ in range(2):
            if isinstance(seq := await talk.next(), int):
                await talk.say(prediction(seq))
        await talk.next()
        talk.socket.transport.abort()

    async def user(address: str) -> None:
        async with stay_connected(address, retry=AT_ONCE, timeouts=Timeouts(close_s=1)) as session:
            await use(session)

    async def test() -> None:
        async with fake_server(breaks) as address:
            for turns_before in range(0, 160, 4):
                task = asyncio.create_task(user(address))
                await turns(turns_before)
                task.cancel()
                await asyncio.wait([task])
                assert client_tasks() == set(), f"after {turns_before} turns"
            for talk in connections:
                await talk.socket.wait_closed()

    run(test())


# Bounds


def test_events_that_nobody_takes() -> None:
    """What waits for the iterator is bounded, over any number of connections; who waits to send is told of the end."""
    count = EVENT_BUFFER * 3
    go = asyncio.Event()

    async def noisy(talk: Talk) -> None:
        await talk.start(1)
        await talk.next()
        for _ in range(count):
            await talk.say(NOISE)
        await go.wait()
        await talk.say(protocol.ErrorMessage(code="internal", message="Ours", retryable=False, close_code=1011))
        await talk.socket.close(1011)

    async def test() -> None:
        async with lasting(noisy) as session:
            await session.send(JPEG)
            await until(lambda: len(session._events) >= EVENT_BUFFER)
            await turns(200)
            assert len(session._events) == EVENT_BUFFER
            go.set()
            for _ in range(count):
                await next_of(session, SessionUpdated)
            with pytest.raises(SessionError, match="internal"):
                await session.send(JPEG)

    run(test())


def test_no_attempt_while_nobody_takes_the_events() -> None:
    """With as many events waiting as may, no connection is tried until some are taken."""

    async def noisy(talk: Talk) -> None:
        await talk.start(1)
        await talk.next()
        for _ in range(EVENT_BUFFER):
            await talk.say(NOISE)
        await talk.socket.drain()
        talk.socket.transport.write_eof()

    async def test() -> None:
        async with lasting(noisy, answer_every_frame) as session:
            await session.send(JPEG)
            await until(lambda: bool(session._events) and isinstance(session._events[-1], Reconnecting))
            await turns(200)
            assert not session.is_connected
            for _ in range(EVENT_BUFFER):
                await next_of(session, SessionUpdated)
            await next_of(session, Disconnected, Reconnecting, Reconnected)

    run(test())
