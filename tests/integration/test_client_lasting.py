"""Sessions that last, asynchronous and synchronous, against real services that break in every way there is."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from service.access import new_key
from service.settings import Settings
from tests.client.proxy import Proxy, proxy
from tests.conftest import LiveServer, serving
from timeconv_client import (
    Closed,
    ConnectionLost,
    Disconnected,
    GoAway,
    LastingTotals,
    Prediction,
    Reconnected,
    Reconnecting,
    Retry,
    ServiceStopping,
    SessionEnded,
    Timeouts,
    Unauthorized,
    connect,
    stay_connected,
    sync,
)

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60
FAST = Retry(first_s=0.02, most_s=0.1, give_up_after_s=PATIENCE_S)
Opening = Callable[..., Any]
T = TypeVar("T")


class OnThreads:
    """A synchronous session, each of whose methods is called on a thread: so both kinds live through the same."""

    def __init__(self, session: sync.LastingSession) -> None:
        self.session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    async def send(self, jpeg: bytes) -> int:
        return await asyncio.to_thread(self.session.send, jpeg)

    async def close(self) -> Closed:
        return await asyncio.to_thread(self.session.close)

    def __aiter__(self) -> "OnThreads":
        return self

    async def __anext__(self) -> Any:
        event = await asyncio.to_thread(self.session.next_event)
        if event is None:
            raise StopAsyncIteration
        return event


@asynccontextmanager
async def on_threads(address: str, **arguments: Any) -> AsyncIterator[OnThreads]:
    """`timeconv_client.sync.stay_connected` from a coroutine."""
    opening = sync.stay_connected(address, **arguments)
    session = await asyncio.to_thread(opening.__enter__)
    try:
        yield OnThreads(session)
    except BaseException as error:
        await asyncio.to_thread(opening.__exit__, type(error), error, error.__traceback__)
        raise
    await asyncio.to_thread(opening.__exit__, None, None, None)


both = pytest.mark.parametrize("opening", [stay_connected, on_threads], ids=["async", "sync"])


def run(story: Coroutine[Any, Any, T]) -> T:
    """Run a story; whatever hangs is a failure, and so is a thread of the client that is left."""
    told = asyncio.run(asyncio.wait_for(story, PATIENCE_S))
    assert [thread for thread in threading.enumerate() if thread.name.startswith("timeconv-client")] == []
    return told


class Told:
    """What a client was told, of frames that it sends on and on."""

    def __init__(self, session: Any, clip: list[bytes]) -> None:
        self.session = session
        self.times: Counter[int] = Counter()
        self.lost: list[int] = []
        self._feeding = asyncio.create_task(self._feed(clip))

    async def _feed(self, clip: list[bytes]) -> None:
        with suppress(SessionEnded):
            for frame in cycle(clip):
                await self.session.send(frame)

    async def until(self, kind: type, count: int = 1) -> Any:
        """Listen until so many events of a kind have come; the last."""
        async for event in self.session:
            self.times.update(event.lost if isinstance(event, Disconnected) else getattr(event, "seqs", ()))
            if isinstance(event, Disconnected):
                self.lost += event.lost
            if isinstance(event, kind) and (count := count - 1) == 0:
                return event
        raise AssertionError(f"no {kind.__name__} came")

    async def end(self) -> None:
        """Close, and check that every frame was told of exactly once."""
        closing = asyncio.create_task(self.session.close())
        totals = (await self.until(Closed)).totals
        await closing
        await self._feeding
        assert self.times == Counter(range(totals.sent))
        assert totals.sent == sum(totals.outcomes.values()) + totals.lost
        assert totals.lost == len(self.lost)


# A service that is started again


def free_port() -> int:
    """One that nobody listens on now."""
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@contextmanager
def process(port: int) -> Iterator["subprocess.Popen[str]"]:
    """A service of its own once it is ready; it is killed if the block does not end it."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "client")])}
    with subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "service.cli", "serve", "--port", str(port)],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as service:
        end = threading.Timer(PATIENCE_S, service.kill)
        end.start()
        try:
            assert service.stderr is not None
            next(line for line in service.stderr if " Ready " in line)
            yield service
        finally:
            end.cancel()
            service.kill()


def counted(service: "subprocess.Popen[str]") -> Counter[str]:
    """What the sessions of a service that has stopped received, and what became of it, by its log."""
    assert service.stderr is not None
    ended = [line for line in service.stderr if " Session ended " in line]
    counts: Counter[str] = Counter()
    for line in ended:
        _, _, told = line.partition(" received=")
        counts.update(
            {name: int(count) for name, _, count in (word.partition("=") for word in f"received={told}".split())}
        )
    return counts


@both
@pytest.mark.parametrize("freshness", ["every", "latest"])
def test_a_service_that_stops_and_starts_again(opening: Opening, freshness: str, face_clip: list[bytes]) -> None:
    """Told to stop it loses nothing, the next takes what follows: what both count is what the client counts."""

    async def story() -> None:
        address = f"http://127.0.0.1:{port}"
        async with opening(address, retry=FAST, freshness=freshness) as session:
            told = Told(session, face_clip)
            await told.until(Prediction, 5)
            first.send_signal(signal.SIGTERM)
            await told.until(GoAway)
            gone = await told.until(Disconnected)
            assert isinstance(gone.error, ServiceStopping)
            await asyncio.to_thread(first.wait)
            second = await asyncio.to_thread(services.enter_context, process(port))
            back = await told.until(Reconnected)
            assert (back.resumed, back.next_seq) == (False, max(told.times) + 1)
            assert (await told.until(Prediction, 5)).seq > back.next_seq
            await told.end()
            totals = session.totals
        second.send_signal(signal.SIGTERM)
        assert (totals.lost, told.lost) == (0, [])
        assert counted(first) + counted(second) == Counter(received=totals.sent) + Counter(totals.outcomes)

    port = free_port()
    with ExitStack() as services:
        first = services.enter_context(process(port))
        run(story())


@both
def test_a_service_that_is_killed(opening: Opening, face_clip: list[bytes]) -> None:
    """What was in flight is lost and told so, once; the next takes what follows, and counts it as the client."""

    async def story() -> None:
        address = f"http://127.0.0.1:{port}"
        async with opening(address, retry=FAST, freshness="every") as session:
            told = Told(session, face_clip)
            await told.until(Prediction, 5)
            first.send_signal(signal.SIGKILL)
            gone = await told.until(Disconnected)
            assert isinstance(gone.error, ConnectionLost)
            before = session.totals
            assert before.sent == sum(before.outcomes.values()) + before.lost
            await asyncio.to_thread(first.wait)
            second = await asyncio.to_thread(services.enter_context, process(port))
            back = await told.until(Reconnected)
            assert (back.resumed, back.next_seq) == (False, before.sent)
            assert (await told.until(Prediction, 5)).seq > back.next_seq
            await told.end()
            after = session.totals
        second.send_signal(signal.SIGTERM)
        since = Counter(after.outcomes) - Counter(before.outcomes)
        assert counted(second) == Counter(received=after.sent - before.sent) + since

    port = free_port()
    with ExitStack() as services:
        first = services.enter_context(process(port))
        run(story())


# Connections that break


@both
@pytest.mark.parametrize("how", ["cut", "freeze"])
def test_a_connection_that_breaks(opening: Opening, how: str, live_server: LiveServer, face_clip: list[bytes]) -> None:
    """Cut off, or half open and given up, the session goes on: the same id, face and numbers."""
    timeouts = Timeouts(ping_interval_s=0.1, ping_s=0.5)

    async def story(way: Proxy) -> None:
        async with opening(way.url, retry=FAST, freshness="every", timeouts=timeouts) as session:
            told = Told(session, face_clip)
            before = await told.until(Prediction, 5)
            started = session.started
            await asyncio.to_thread(getattr(way, how))
            gone = await told.until(Disconnected)
            assert isinstance(gone.error, ConnectionLost)
            back = await told.until(Reconnected)
            assert (back.resumed, session.started.session) == (True, started.session)
            assert session.started.resume_token != started.resume_token
            after = await told.until(Prediction)
            assert after.faces[0].id == before.faces[0].id
            await told.end()

    with proxy(live_server.url) as way:
        run(story(way))


@both
@pytest.mark.parametrize("freshness", ["every", "latest"])
def test_a_connection_that_is_cut_again_and_again(opening: Opening, freshness: str, face_clip: list[bytes]) -> None:
    """Each time the session goes on, and every frame is told of once; the service has an outcome for each it got."""

    async def story(way: Proxy) -> LastingTotals:
        async with opening(way.url, retry=FAST, freshness=freshness) as session:
            told = Told(session, face_clip)
            for _ in range(5):
                await told.until(Prediction, 2)
                await asyncio.to_thread(way.cut)
                assert (await told.until(Reconnected)).resumed
            await told.end()
            totals: LastingTotals = session.totals
            return totals

    with serving(Settings(port=0, workers=1)) as server, proxy(server.url) as way:
        totals = run(story(way))
        metrics = httpx.get(server.url + "/metrics", trust_env=False).text
    (received,) = (
        int(float(count)) for count in re.findall(r"^timeconv_frames_received_total (\S+)", metrics, re.MULTILINE)
    )
    outcomes = re.findall(r'^timeconv_frames_total\{outcome="(\w+)"\} (\S+)', metrics, re.MULTILINE)
    there = Counter({outcome: int(float(count)) for outcome, count in outcomes})
    assert received == there.total()
    # What the client heard the service had said; what was lost it had not got, or its answer did not arrive.
    assert Counter(totals.outcomes) <= there
    assert totals.sent - totals.lost <= received <= totals.sent


# Services that refuse


@both
def test_a_wrong_key(opening: Opening, face_clip: list[bytes]) -> None:
    """It is given up at once, at the start as later, where another service has other keys; the key is in no error."""
    key, line = new_key("old")
    _, other_line = new_key("new")

    async def story(way: Proxy, other: LiveServer) -> None:
        async with opening(way.url, key=key, retry=FAST) as session:
            told = Told(session, face_clip)
            await told.until(Prediction)
            way.target = other.url
            await asyncio.to_thread(way.cut)
            with pytest.raises(Unauthorized) as refused:
                await told.until(Reconnected)
            assert key not in str(refused.value)
            with pytest.raises(Unauthorized):
                await told._feeding
            assert told.times == Counter(range(session.next_seq))
        with pytest.raises(Unauthorized):
            async with opening(other.url, key=key, retry=FAST):
                pass

    settings = ({"port": 0, "workers": 1, "keys": keys} for keys in (line, other_line))
    with (
        serving(Settings.model_validate(next(settings))) as one,
        serving(Settings.model_validate(next(settings))) as two,
        proxy(one.url) as way,
    ):
        run(story(way, two))


def test_a_service_that_is_full(live_server: LiveServer, face_clip: list[bytes]) -> None:
    """It is asked again after the time that it says, until there is a place."""

    async def story(way: Proxy, full: LiveServer) -> None:
        async with connect(full.url) as other, stay_connected(way.url, retry=FAST, freshness="every") as session:
            told = Told(session, face_clip)
            await told.until(Prediction)
            way.target = full.url
            await asyncio.to_thread(way.cut)
            while getattr((waiting := await told.until(Reconnecting)).error, "code", "") != "at_capacity":
                pass
            assert 1 <= waiting.error.retry_after_ms / 1000 <= waiting.wait_s
            await other.close()
            assert not (await told.until(Reconnected)).resumed
            await told.until(Prediction)
            await told.end()

    with serving(Settings(port=0, workers=1, max_sessions=1)) as full, proxy(live_server.url) as way:
        run(story(way, full))
