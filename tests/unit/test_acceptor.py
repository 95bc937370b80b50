"""service.acceptor: connections on a real socket of the loopback, whose addresses are counted here as any other's."""

import asyncio
import errno
import functools
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from service.acceptor import Acceptor
from service.gate import Gate
from service.http import HttpProtocol
from service.settings import Settings
from tests.fakes import ManualClock

PATIENCE_S = 30
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True)
def counted_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the loopback, and be short with those who broke a limit."""
    monkeypatch.setattr(Gate, "goodbye_s", 0.01)
    monkeypatch.setattr("service.gate.origin_of", lambda address: address)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Runs a test on either event loop."""
    if request.param == "asyncio":
        factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    else:
        factory = pytest.importorskip("uvloop").new_event_loop

    def on_loop(test: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            await asyncio.wait_for(test(), PATIENCE_S)

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    return on_loop


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A listening socket."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as made:
        yield made


async def until(is_so: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    while not is_so():  # noqa: ASYNC110 - what makes it so is no task of the test's
        await asyncio.sleep(0)


class House:
    """An acceptor, an application that answers 200, and what was refused."""

    def __init__(self, listening: Any, clock: Callable[[], float] | None = None, **settings: Any) -> None:
        self.codes: list[str] = []
        self.gate = Gate(Settings(**settings), refused=self.codes.append, clock=clock or ManualClock())
        config = Config(self._application, interface="asgi3", lifespan="off", log_config=None, ws="none")
        protocol = functools.partial(HttpProtocol, config, ServerState(), {}, gate=self.gate)
        self.acceptor = Acceptor(listening, lambda address: protocol(address=address), self.gate, tls=None)

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002 - ASGI's
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def left(self) -> None:
        """Wait until nobody is connected."""
        await until(lambda: not self.gate.connections)


async def connected(listening: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client."""
    return await asyncio.open_connection(*listening.getsockname())


async def answered(listening: socket.socket) -> tuple[bytes, asyncio.StreamWriter]:
    """A client that was let in and has an answer."""
    reader, writer = await connected(listening)
    writer.write(GET)
    return await reader.readline(), writer


async def refused(listening: socket.socket) -> dict[str, Any]:
    """Why a client that has said nothing is sent away."""
    reader, writer = await connected(listening)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 503")
    decoded = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert isinstance(decoded, dict)
    return decoded


def test_who_is_let_in_is_served(run: Any, listening: socket.socket) -> None:
    """A connection is answered, and gives its place back at its end."""

    async def test() -> None:
        house = House(listening)
        line, writer = await answered(listening)
        assert line == b"HTTP/1.1 200 OK\r\n"
        assert house.gate.connections == 1
        writer.close()
        await house.left()
        house.acceptor.close()
        await house.acceptor.wait_closed()

    run(test)


def test_one_too_many_is_told_so(run: Any, listening: socket.socket) -> None:
    """It is told why and closed at once; when one has gone, the next is let in."""

    async def test() -> None:
        house = House(listening, max_connections_per_address=1)
        _, first = await answered(listening)
        problem = await refused(listening)
        assert (problem["code"], problem["retry_after_ms"]) == ("too_many_connections", 5000)
        assert (house.codes, house.gate.connections) == (["too_many_connections"], 1)
        first.close()
        await house.left()
        line, third = await answered(listening)
        assert line == b"HTTP/1.1 200 OK\r\n"
        third.close()
        await house.left()
        house.acceptor.close()

    run(test)


def test_who_broke_a_limit_comes_back_later(run: Any, listening: socket.socket) -> None:
    """A new connection has new budgets: whoever broke one is refused for a second."""

    async def test() -> None:
        clock = ManualClock()
        house = House(listening, clock)
        reader, writer = await connected(listening)
        writer.write(b"GET / HTTP/1.1\r\nx: " + b"y" * 40_000)
        assert await reader.readline() == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
        assert (await refused(listening))["code"] == "too_many_connections"
        clock.advance(1.0)
        line, again = await answered(listening)
        assert line == b"HTTP/1.1 200 OK\r\n"
        for each in (writer, again):
            each.close()
        await house.left()
        house.acceptor.close()

    run(test)


def test_a_flood_of_connections_does_not_hold_the_loop(run: Any) -> None:
    """Of a flood that never ends a few are accepted in each turn, and others have theirs in between."""

    class Flood(socket.socket):
        """Always has another client."""

        accepted = 0

        def accept(self) -> tuple[socket.socket, Any]:
            self.accepted += 1
            mine, theirs = socket.socketpair()
            theirs.close()
            return mine, ("192.0.2.1", 1)

    async def test() -> None:
        with Flood() as listening, socket.socket() as client:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            client.connect(listening.getsockname())  # It stays there, so the socket is always ready.
            house = House(listening, max_new_connections_per_s=0.001)
            house.gate.connections = 10**9  # Each is refused.
            for _ in range(10):
                before = listening.accepted
                await asyncio.sleep(0)
                assert listening.accepted - before <= 16
            await until(lambda: listening.accepted >= 100)
            house.acceptor.close()
            accepted = listening.accepted
            await asyncio.sleep(0)
            assert listening.accepted == accepted

    run(test)


def test_without_files_it_waits(run: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file for a connection there is a line and a rest; a connection that has failed costs neither."""
    monkeypatch.setattr("service.acceptor._OUT_OF_FILES_S", 0.01)

    class Poor(socket.socket):
        """Has a bad connection first, and then no file."""

        tries = 0

        def accept(self) -> tuple[socket.socket, Any]:
            self.tries += 1
            if self.tries <= 2:
                raise OSError(
                    *((errno.EPROTO, "Protocol error"), (errno.EMFILE, "Too many open files"))[self.tries - 1]
                )
            return super().accept()

    async def test() -> None:
        with Poor() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            house = House(listening)
            line, writer = await answered(listening)
            assert line == b"HTTP/1.1 200 OK\r\n"
            writer.close()
            await house.left()
            house.acceptor.close()

    run(test)
    assert [record.getMessage() for record in caplog.records] == ["No connection can be accepted: Too many open files"]


def test_after_its_close_nobody_is_accepted(run: Any, listening: socket.socket) -> None:
    """And who was about to come in leaves no place taken."""

    async def test() -> None:
        house = House(listening)
        with socket.socket() as client:
            client.connect(listening.getsockname())
            await until(lambda: house.gate.connections == 1)
            house.acceptor.close()
            await house.acceptor.wait_closed()
        await house.left()

    run(test)
