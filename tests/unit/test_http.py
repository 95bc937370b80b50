"""service.http: what a connection may do before a request is whole, on a transport of the test's own."""

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from service.gate import Gate
from service.http import HttpProtocol
from service.settings import Settings
from service.websocket import WebSocketProtocol
from tests.fakes import UPGRADE, Pipe

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
SOON_MS = 100


@pytest.fixture(autouse=True)
def short_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off soon."""
    monkeypatch.setattr(Gate, "goodbye_s", 0.01)


class Service:
    """An application that reads the body, unless it is told not to, and answers once ``may_answer``."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.codes: list[str] = []
        self.gate = Gate(self.settings, refused=self.codes.append)
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.begun = 0
        self.bodies: list[bytes | None] = []
        self.ended = asyncio.Event()
        self.config = Config(
            self._application,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            ws=functools.partial(WebSocketProtocol, gate=self.gate),  # type: ignore[arg-type] # uvicorn calls it
        )

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        self.begun += 1
        body = b""
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                self.bodies.append(None)
                self.ended.set()
                return
            body += event["body"]
            if not event["more_body"]:
                break
        self.bodies.append(body)
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        self.ended.set()

    def connected(self, address: str = "192.0.2.1") -> tuple[HttpProtocol, Pipe]:
        """A connection that was let in and has said nothing."""
        pipe = Pipe(address)
        self.gate.enter(address)
        loop = asyncio.get_running_loop()
        pipe.protocol = protocol = HttpProtocol(self.config, ServerState(), {}, loop, gate=self.gate, address=address)
        protocol.connection_made(pipe)
        return protocol, pipe


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test on an event loop."""

    async def main() -> None:
        await asyncio.wait_for(test(), 30)

    asyncio.run(main())


def problem(pipe: Pipe) -> dict[str, Any]:
    """The only answer, which is a problem."""
    head, _, body = pipe.written.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    assert f"content-length: {len(body)}".encode() in head
    decoded = json.loads(body)
    assert isinstance(decoded, dict)
    assert head.startswith(f"HTTP/1.1 {decoded['status']} {decoded['title']}\r\n".encode())
    return decoded


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r\n\r\n"])
def test_a_header_that_does_not_come(sent: bytes) -> None:
    """A connection without a whole header in time gets 408, however much of one it sent, and is cut off."""

    async def test() -> None:
        service = Service(handshake_timeout_ms=SOON_MS)
        protocol, pipe = service.connected()
        if sent:
            protocol.data_received(sent)
        await pipe.cut_off.wait()
        assert problem(pipe)["code"] == "handshake_timeout"
        assert pipe.answers() == [408]
        assert pipe.ended_writing
        assert service.codes == ["handshake_timeout"]
        assert service.gate.connections == 0

    run(test)


@pytest.mark.parametrize("sent", [b"\r\n", b"GET"])
def test_the_next_header_that_does_not_come(sent: bytes) -> None:
    """After an answer the time runs anew, and bytes that begin no request do not stop it."""

    async def test() -> None:
        service = Service(handshake_timeout_ms=SOON_MS)
        protocol, pipe = service.connected()
        protocol.data_received(GET)
        await service.ended.wait()
        protocol.data_received(sent)  # uvicorn's own timeout ends here.
        await pipe.cut_off.wait()
        assert pipe.answers() == [200, 408]

    run(test)


def test_a_request_at_work_has_time() -> None:
    """The time is for the header alone: while an answer is awaited it does not run."""

    async def test() -> None:
        service = Service(handshake_timeout_ms=SOON_MS)
        service.may_answer.clear()
        protocol, pipe = service.connected()
        _, silent = service.connected()
        protocol.data_received(GET)
        await silent.cut_off.wait()  # The same time has passed, and more.
        assert not pipe.written
        service.may_answer.set()
        await service.ended.wait()
        assert pipe.answers() == [200]
        pipe.abort()

    run(test)


@pytest.mark.parametrize("piece", [1000, 10_000, 1_000_000])
@pytest.mark.parametrize("head", [b"GET /", b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 400 + b"z"])
def test_an_endless_header(head: bytes, piece: int) -> None:
    """A header over its limit gets 431, whatever of it is endless, and nothing more is read or kept."""

    async def test() -> None:
        service = Service(max_header_bytes=4096)
        protocol, pipe = service.connected()
        protocol.data_received(head)
        sent = len(head)
        while not pipe.is_reading_paused:
            assert sent <= 4096
            protocol.data_received(b"a" * piece)
            sent += piece
        assert problem(pipe)["code"] == "header_too_large"
        assert (pipe.answers(), service.codes, service.begun) == ([431], ["header_too_large"], 0)
        protocol.data_received(b"a" * 1000)  # What was on its way.
        await pipe.cut_off.wait()
        assert pipe.answers() == [431]

    run(test)


def test_a_header_just_under_its_limit() -> None:
    """A header of as many bytes as it may have is served, and so is the next one on the same connection."""

    async def test() -> None:
        service = Service(max_header_bytes=4096)
        protocol, pipe = service.connected()
        request = GET[:-2] + b"x: " + b"y" * (4096 - len(GET) - 5) + b"\r\n\r\n"
        assert len(request) == 4096
        for _ in range(3):
            service.ended.clear()
            protocol.data_received(request)
            await service.ended.wait()
        assert pipe.answers() == [200] * 3
        pipe.abort()

    run(test)


def test_a_body_is_no_header() -> None:
    """A large body is taken, by length and in chunks of an ordinary size."""

    async def test() -> None:
        service = Service(max_header_bytes=1024)
        protocol, pipe = service.connected()
        protocol.data_received(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"b" * 100_000)
        await service.ended.wait()
        service.ended.clear()
        protocol.data_received(CHUNKED + (b"1000\r\n" + b"c" * 4096 + b"\r\n") * 50 + b"0\r\n\r\n")
        await service.ended.wait()
        assert service.bodies == [b"b" * 100_000, b"c" * 204_800]
        assert pipe.answers() == [200, 200]
        pipe.abort()

    run(test)


@pytest.mark.parametrize(
    "body", [b"1\r\na\r\n", b"1;" + b"e" * 5000 + b"\r\na\r\n", b"0\r\n" + b"t: u\r\n" * 500, b"0\r\nt:" + b"u" * 5000]
)
def test_what_frames_a_body_is_bounded(body: bytes) -> None:
    """One-byte chunks, long extensions and endless trailers are refused, and the application hears of an end."""

    async def test() -> None:
        service = Service(max_header_bytes=1024)
        protocol, pipe = service.connected()
        protocol.data_received(CHUNKED)
        for _ in range(2000):
            protocol.data_received(body)
            if pipe.is_reading_paused:
                break
        await service.ended.wait()
        assert pipe.answers() == [431]
        await pipe.cut_off.wait()

    run(test)


def test_requests_far_ahead_of_their_answers() -> None:
    """Some requests may be sent ahead; of a flood of them the rest is not even parsed."""

    async def test() -> None:
        service = Service()
        service.may_answer.clear()
        protocol, pipe = service.connected()
        protocol.data_received(GET * 5000)
        refusal = problem(pipe)
        assert (refusal["code"], refusal["retryable"], refusal["retry_after_ms"]) == ("rate_limited", True, 1000)
        assert b"retry-after: 1\r\n" in pipe.written
        assert (pipe.answers(), service.codes) == ([429], ["rate_limited"])
        assert len(protocol.pipeline) == 16
        assert pipe.is_reading_paused
        await pipe.cut_off.wait()

    run(test)


def test_no_upgrade_beside_a_request() -> None:
    """An upgrade while a request is in work is refused, and the request ends with its connection."""

    async def test() -> None:
        service = Service()
        service.may_answer.clear()
        protocol, pipe = service.connected()
        protocol.data_received(GET + UPGRADE + b"\r\n")
        assert (problem(pipe)["code"], pipe.answers()) == ("bad_upgrade", [400])
        assert pipe.protocol is protocol
        await pipe.cut_off.wait()
        assert protocol.cycle.disconnected
        assert service.gate.connections == 0

    run(test)


def test_no_upgrade_beside_an_answer_that_is_not_read() -> None:
    """Nor while the answer before waits for its client: the WebSocket would not know that it does not read."""

    async def test() -> None:
        service = Service()
        protocol, pipe = service.connected()
        protocol.data_received(GET)
        await service.ended.wait()
        protocol.pause_writing()
        protocol.data_received(UPGRADE + b"\r\n")
        assert pipe.answers() == [200, 400]
        assert pipe.protocol is protocol
        await pipe.cut_off.wait()
        assert service.gate.connections == 0

    run(test)


def test_nothing_follows_a_refusal() -> None:
    """The answer that was on its way when later requests were refused is not written behind the refusal."""

    async def test() -> None:
        service = Service()
        service.may_answer.clear()
        protocol, pipe = service.connected()
        protocol.data_received(GET * 40)
        service.may_answer.set()
        await service.ended.wait()
        assert pipe.answers() == [429]
        await pipe.cut_off.wait()

    run(test)


def test_an_answer_that_has_begun_is_not_spoilt() -> None:
    """A refusal in the middle of an answer cuts the connection off instead of writing into it."""

    async def test() -> None:
        service = Service(max_header_bytes=1024)
        service.may_answer.clear()
        protocol, pipe = service.connected()
        protocol.data_received(GET)
        protocol.cycle.response_started = True
        protocol.data_received(b"GET /" + b"a" * 5000)
        assert pipe.cut_off.is_set()
        assert not pipe.written

    run(test)


def test_what_is_no_http() -> None:
    """Bytes that are no request are told so, like all that is refused."""

    async def test() -> None:
        service = Service()
        protocol, pipe = service.connected()
        protocol.data_received(b"\x16\x03\x01 hello\r\n\r\n")
        assert problem(pipe)["code"] == "bad_http"
        assert (pipe.answers(), service.codes) == ([400], ["bad_http"])
        await pipe.cut_off.wait()

    run(test)


def test_an_answer_that_is_not_read() -> None:
    """A client that does not take its answer is cut off, like a session."""

    async def test() -> None:
        service = Service(blocked_timeout_ms=SOON_MS)
        service.may_answer.clear()
        protocol, pipe = service.connected()
        protocol.data_received(GET)
        protocol.pause_writing()
        await pipe.cut_off.wait()

    run(test)


def test_an_answer_that_is_read_after_all() -> None:
    """Who reads in time is served on."""

    async def test() -> None:
        service = Service(blocked_timeout_ms=SOON_MS)
        protocol, pipe = service.connected()
        other, late = service.connected()
        protocol.pause_writing()
        protocol.resume_writing()
        other.pause_writing()
        await late.cut_off.wait()
        assert not pipe.cut_off.is_set()
        pipe.abort()

    run(test)


def test_a_last_answer_that_is_not_read() -> None:
    """A connection that closes, but whose client does not take the answer, is cut off when the time is over."""

    async def test() -> None:
        service = Service(handshake_timeout_ms=SOON_MS)
        protocol, pipe = service.connected()
        protocol.data_received(GET[:-2] + b"Connection: close\r\n\r\n")
        await service.ended.wait()
        assert pipe.closing
        await pipe.cut_off.wait()
        assert pipe.answers() == [200]

    run(test)


def test_a_websocket_is_one_connection() -> None:
    """An upgrade hands its place over, and the time for the header is at an end with it."""

    async def test() -> None:
        service = Service(handshake_timeout_ms=SOON_MS)
        protocol, pipe = service.connected()
        _, silent = service.connected()
        protocol.data_received(UPGRADE + b"\r\n" + b"what follows in the same chunk is not HTTP")
        assert isinstance(pipe.protocol, WebSocketProtocol)
        assert service.gate.connections == 2
        await silent.cut_off.wait()
        assert 408 not in pipe.answers()
        pipe.abort()
        assert service.gate.connections == 0

    run(test)


@pytest.mark.parametrize(
    ("headers", "status"), [(b"x: y\r\n" * 200, 431), (b"x: " + b"y" * 9000 + b"\r\n", 431), (b"x: \x80\r\n" * 3, 0)]
)
def test_an_upgrade_that_websockets_does_not_take(headers: bytes, status: int) -> None:
    """It has limits of its own and is silent about them; the client is told, and does not hang."""

    async def test() -> None:
        service = Service()
        protocol, pipe = service.connected()
        protocol.data_received(UPGRADE + headers + b"\r\n")
        if status:
            assert isinstance(pipe.protocol, WebSocketProtocol)
            pipe.protocol.shutdown()  # As when the service stops in this moment.
            assert pipe.answers() == [status]
            await pipe.cut_off.wait()
        else:
            pipe.abort()
        assert service.gate.connections == 0

    run(test)
