"""The clients of a load, against a server that follows a script."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from loadtest.callers import MOST_CALLS, Caller, Due, RestCaller, open_caller, rest_outcome
from loadtest.errors import CannotGenerate
from loadtest.histogram import Times
from loadtest.plan import Load, parse_group
from loadtest.tally import Account, Tally
from service import protocol
from service.protocol import Outcome
from tests.client.fake_server import Script, Talk, answer_every_frame, fake_server, prediction

CLIP = (b"first", b"second", b"third")


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test to its end; whatever hangs is a failure."""

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test

    asyncio.run(bounded())


def schedule(frames: int) -> list[Due]:
    """Frames that were all due a moment ago, so that no test waits for them."""
    now_s = time.monotonic()
    return [Due(now_s - 1 + number / 1000, number) for number in range(frames)]


async def played(caller: Caller, due: Sequence[Due]) -> Account:
    """The account of a caller that has sent what was due."""
    tally = Tally(0, 0.0, Times(), Times())
    await caller.play(due, time.monotonic() + 10, tally)
    return tally.account()


async def account_of(group: str, script: Script, frames: int = 3) -> Account:
    """The account of one session of ``group`` with a server that follows ``script``."""
    load = Load(groups=(parse_group(group),))
    async with fake_server(script) as address, open_caller(address, load, load.groups[0], CLIP) as caller:
        return await played(caller, schedule(frames))


@pytest.mark.parametrize("group", ["1x10", "1x10,every", "1x10,flood"])
def test_every_frame_is_sent_stamped_and_answered(group: str) -> None:
    """Frames carry the moment they were due as their capture time; the session ends in order, with the same totals."""
    messages: list[bytes] = []

    async def script(talk: Talk) -> None:
        await answer_every_frame(talk)
        messages.extend(talk.frames)

    async def test() -> None:
        account = await account_of(group, script, frames=5)
        assert (account.scheduled, account.sent, account.unanswered) == (5, 5, 0)
        assert account.outcomes == account.told == {"prediction": 5}
        assert account.broken_by is None

    begun_s = time.monotonic()
    run(test())
    stamps, pictures = zip(*map(protocol.split_timestamp, messages), strict=True)
    assert pictures == (b"first", b"second", b"third", b"first", b"second")
    assert [stamp - stamps[0] for stamp in stamps] == pytest.approx([0, 1000, 2000, 3000, 4000], abs=1)
    assert abs(stamps[0] / 1e6 - (begun_s - 1)) < 20


def gated(credit: int) -> Script:
    """A server that lets ``credit`` frames wait, and answers none before the client has ended or sent them all."""

    async def script(talk: Talk) -> None:
        await talk.start(credit, timestamps=True)
        while isinstance(message := await talk.next(), int):
            pass
        for seq in range(len(talk.frames)):
            await talk.say(prediction(seq))
        assert message == {"type": "session.close"}
        await talk.finish()

    return script


def test_a_live_client_does_not_send_without_credit() -> None:
    """Frames that are due while there is no credit are not sent, and counted as that."""

    async def test() -> None:
        account = await account_of("1x10", gated(credit=2), frames=7)
        assert (account.scheduled, account.sent) == (7, 2)
        assert account.measured == {"prediction": 2, "not_sent": 5}
        assert account.outcomes == account.told == {"prediction": 2}

    run(test())


def test_a_flooder_sends_without_credit() -> None:
    """A flooder's frames are all sent, whatever the credit."""

    async def test() -> None:
        account = await account_of("1x10,flood", gated(credit=2), frames=7)
        assert (account.sent, account.told) == (7, {"prediction": 7})

    run(test())


def test_a_patient_client_sends_late() -> None:
    """In `every` a frame waits for credit, and its latency counts from when it was due."""

    async def script(talk: Talk) -> None:
        await talk.start(1, timestamps=True)
        await talk.answer_all()

    async def test() -> None:
        async with fake_server(script) as address:
            load = Load(groups=(parse_group("1x10,every"),))
            async with open_caller(address, load, load.groups[0], CLIP) as caller:
                tally = Tally(0, 0.0, Times(), Times())
                await caller.play(schedule(7), time.monotonic() + 10, tally)
        assert tally.account().outcomes == {"prediction": 7}
        # All were due a second ago.
        assert all(time_ms is not None and time_ms > 990 for time_ms in tally.latency.percentiles_ms((1, 100)))
        assert tally.lateness.count == 7

    run(test())


@pytest.mark.parametrize("group", ["1x10", "1x10,every", "1x10,flood"])
def test_frames_that_are_too_late_are_not_sent(group: str) -> None:
    """After the end of the load nothing is sent any more; what is left of the schedule is counted."""

    async def test() -> None:
        load = Load(groups=(parse_group(group),))
        async with (
            fake_server(answer_every_frame) as address,
            open_caller(address, load, load.groups[0], CLIP) as caller,
        ):
            tally = Tally(0, 0.0, Times(), Times())
            await caller.play(schedule(4), time.monotonic(), tally)
        account = tally.account()
        assert (account.scheduled, account.sent, account.measured) == (4, 0, {"not_sent": 4})
        assert account.told == {}

    run(test())


async def breaking(talk: Talk) -> None:
    """A server that takes one frame and ends the session with an error."""
    await talk.start(2, timestamps=True)
    await talk.next()
    await talk.say(protocol.ErrorMessage(code="slow_reader", message="Not read", retryable=True, close_code=1008))
    await talk.socket.close(1008)


@pytest.mark.parametrize("group", ["1x10", "1x10,every", "1x10,flood"])
def test_a_session_that_breaks_leaves_its_frames_in_the_account(group: str) -> None:
    """The error is told; what was sent is unanswered, what was still due is not sent, and nothing is raised."""

    async def test() -> None:
        account = await account_of(group, breaking, frames=9)
        assert account.broken_by is not None
        assert "slow_reader" in account.broken_by
        assert account.told is None
        assert account.scheduled == 9
        assert account.unanswered == account.sent > 0
        assert account.measured.get("not_sent", 0) == 9 - account.sent

    run(test())


@pytest.mark.parametrize("group", ["1x10", "1x10,flood"])
def test_a_session_that_is_refused(group: str) -> None:
    """What cannot be opened is an error of the run: it has not the load that was asked for."""

    async def refuse(talk: Talk) -> None:
        await talk.say(protocol.ErrorMessage(code="unknown_model", message="No", retryable=False, close_code=1008))
        await talk.socket.close(1008)

    async def test() -> None:
        with pytest.raises(CannotGenerate):
            await account_of(group, refuse)

    run(test())


@asynccontextmanager
async def caller_of(handle: Callable[[httpx.Request], Awaitable[httpx.Response]]) -> Any:
    """A caller of REST whose requests are handled in this process."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(handle), base_url="http://service") as client:
        yield RestCaller(client, CLIP)


def test_a_call_brings_five_pictures() -> None:
    """Each call has five pictures that follow each other, as files, and gets one outcome."""
    bodies: list[bytes] = []

    async def handle(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return httpx.Response(200, json={"type": "prediction"})

    async def test() -> None:
        async with caller_of(handle) as caller:
            account = await played(caller, schedule(2))
        assert (account.sent, account.outcomes) == (2, {"prediction": 2})

    run(test())
    assert [body.count(b'name="frames"') for body in bodies] == [5, 5]
    assert sorted((body.count(b"first"), body.count(b"third")) for body in bodies) == [(1, 2), (2, 1)]


def test_calls_do_not_wait_for_each_other() -> None:
    """A call that is due is made though others are under way; beyond a bound it is not sent."""
    answer = asyncio.Event()
    under_way = 0

    async def handle(_request: httpx.Request) -> httpx.Response:
        nonlocal under_way
        under_way += 1
        if under_way == MOST_CALLS:
            answer.set()
        await answer.wait()
        return httpx.Response(200, json={"type": "prediction"})

    async def test() -> None:
        async with caller_of(handle) as caller:
            account = await played(caller, schedule(MOST_CALLS + 3))
        assert under_way == account.sent >= MOST_CALLS
        assert account.sent + account.measured.get("not_sent", 0) == MOST_CALLS + 3

    run(test())


def test_a_call_without_an_answer() -> None:
    """A connection that breaks leaves its call unanswered, and is told."""

    async def handle(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("reset", request=request)

    async def test() -> None:
        async with caller_of(handle) as caller:
            account = await played(caller, schedule(2))
        assert (account.unanswered, account.broken_by) == (2, "ReadError: reset")

    run(test())


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (httpx.Response(200, json={"type": "prediction"}), "prediction"),
        (httpx.Response(200, json={"type": "frame", "outcome": Outcome.NO_FACE}), "no_face"),
        (httpx.Response(503, json={"code": "overloaded"}), "overloaded"),
        (httpx.Response(502, text="<html>a proxy"), "http_502"),
    ],
)
def test_the_outcome_of_a_call(answer: httpx.Response, outcome: str) -> None:
    """It is that of the frames, or the code of the error, or the status where there is no code."""
    assert rest_outcome(answer) == outcome
