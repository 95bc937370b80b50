"""Closed-loop clients: each keeps as many requests under way as it may, and sends the next when an answer comes.

They only pass bytes on, so that one process of them can saturate a server on the cores beside it; answers are read
afterwards.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import cast
from urllib.parse import urlsplit

import uvloop
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from loadtest.errors import CannotGenerate
from loadtest.processes import heard, process
from timeconv_client.opening import SUBPROTOCOL
from timeconv_client.session import TIMESTAMP_BYTES

FRAME_US = 40_000
"""Between the capture times of a session that has them: 25 frames/s."""

_OPEN_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Clients of one kind.

    Attributes:
        url: ``ws`` of a session with its options, or ``http`` of an endpoint that is posted to.
        messages: what is sent, over and over: frames (a session) or bodies.
        clients: how many.
        warm_up: how many messages each sends before anything is measured.
        stamped: frames carry capture times, `FRAME_US` apart.
    """

    url: str
    messages: Sequence[bytes]
    clients: int
    warm_up: int
    stamped: bool = False


Answers = list[bytes]
"""What one client was answered, in order."""


@dataclass(frozen=True, slots=True)
class Playing:
    """Clients that are connected, warmed up and silent; ``warm_up``: what each was answered so far."""

    warm_up: list[Answers]
    _pipes: Sequence[Connection]

    def play(self, seconds: float) -> list[Answers]:
        """Send for some seconds, wait for all that is owed, and return each client's answers.

        Raises:
            CannotGenerate: a connection ended.
        """
        for pipe in self._pipes:
            pipe.send(seconds)
        return list(itertools.chain.from_iterable(heard(pipe) for pipe in self._pipes))


@contextmanager
def playing(plan: Plan, processes: int = 1) -> Iterator[Playing]:
    """The clients of a plan, in processes of their own, until the end of the block.

    Raises:
        CannotGenerate: the server cannot be reached, or refuses.
    """
    processes = min(processes, plan.clients)
    shares = [plan.clients // processes + (number < plan.clients % processes) for number in range(processes)]
    with ExitStack() as running:
        pipes = [running.enter_context(process(_work, (plan, share))) for share in shares]
        warm_up = list(itertools.chain.from_iterable(heard(pipe) for pipe in pipes))
        yield Playing(warm_up, pipes)


def _work(task: tuple[Plan, int], pipe: Connection) -> None:
    """In the process: connects and warms up, then plays each time it hears how long; says the answers of each."""
    uvloop.run(_play(*task, pipe))


async def _play(plan: Plan, share: int, pipe: Connection) -> None:
    clients = [await _opened(plan) for _ in range(share)]
    await asyncio.gather(*(client.play(client.has_warmed_up) for client in clients))
    while True:
        pipe.send([client.take() for client in clients])
        until_s = await asyncio.to_thread(pipe.recv) + time.monotonic()
        is_over = partial(_is_over, until_s)
        await asyncio.gather(*(client.play(is_over) for client in clients))


def _is_over(until_s: float) -> bool:
    return time.monotonic() >= until_s


async def _opened(plan: Plan) -> "Client":
    url = urlsplit(plan.url)
    assert url.hostname is not None
    assert url.port is not None  # Servers of ours are on free ports.
    client = FrameClient(plan) if url.scheme == "ws" else BodyClient(plan)
    try:
        async with asyncio.timeout(_OPEN_TIMEOUT_S):
            await asyncio.get_running_loop().create_connection(lambda: client, url.hostname, url.port)
            await client.opened
    except (OSError, TimeoutError) as error:
        raise CannotGenerate(f"{plan.url} cannot be reached: {error or 'no answer'}") from error
    return client


class Client(asyncio.Protocol):
    """What all clients do: hold on to their credit. A subclass speaks."""

    def __init__(self, plan: Plan) -> None:
        """Inside an event loop."""
        self._plan = plan
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent = 0
        self._answered = 0
        self._credit = 1
        self._answers: Answers = []
        self._is_enough: Callable[[], bool] = lambda: True
        self._settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def play(self, is_enough: Callable[[], bool]) -> None:
        """Send until it is enough, and wait for the answers.

        Raises:
            CannotGenerate: the connection ended.
        """
        self._is_enough, self._settled = is_enough, asyncio.get_running_loop().create_future()
        self._send_on()
        await self._settled

    def has_warmed_up(self) -> bool:
        """Whether all of the plan's warm-up is sent."""
        return self.sent >= self._plan.warm_up

    def take(self) -> Answers:
        """The answers since the last time."""
        taken, self._answers = self._answers, []
        return taken

    def close(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._fail(f"The connection ended: {exc or 'the server closed it'}")

    def _begin(self) -> None:
        raise NotImplementedError

    def _send(self, number: int) -> None:
        raise NotImplementedError

    def _take_answer(self, answer: bytes) -> None:
        self._answers.append(answer)
        self._answered += 1
        self._send_on()

    def _send_on(self) -> None:
        while self.sent - self._answered < self._credit and not self._is_enough():
            self._send(self.sent)
            self.sent += 1
        if self.sent == self._answered and not self._settled.done():
            self._settled.set_result(None)

    def _fail(self, reason: str) -> None:
        waited_for = self._settled if self.opened.done() else self.opened
        if not waited_for.done():
            waited_for.set_exception(CannotGenerate(reason))


class FrameClient(Client):
    """A session: WebSocket by the library's core, with nothing between it and the socket."""

    def _begin(self) -> None:
        self._socket = ClientProtocol(parse_uri(self._plan.url), subprotocols=[SUBPROTOCOL])
        self._socket.send_request(self._socket.connect())
        self._write()

    def _send(self, number: int) -> None:
        frame = self._plan.messages[number % len(self._plan.messages)]
        if self._plan.stamped:
            frame = (number * FRAME_US).to_bytes(TIMESTAMP_BYTES, "big") + frame
        self._socket.send_binary(frame)
        self._write()

    def _write(self) -> None:
        self._transport.writelines(self._socket.data_to_send())

    def data_received(self, data: bytes) -> None:
        """Read what the server says."""
        self._socket.receive_data(data)
        for event in self._socket.events_received():
            if isinstance(event, Response):
                if self._socket.handshake_exc is not None:
                    self._fail(f"The server refused: {self._socket.handshake_exc}")
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._hear(bytes(event.data))
        self._write()

    def _hear(self, text: bytes) -> None:
        if text.startswith(b'{"type":"error"'):
            self._fail(json.loads(text)["message"])
        elif not self.opened.done():
            self._credit = json.loads(text)["max_in_flight"]
            self.opened.set_result(None)
        else:
            self._take_answer(text)


class BodyClient(Client):
    """Posts one body after the other on a connection that is kept; an answer must give its length."""

    def _begin(self) -> None:
        url = urlsplit(self._plan.url)
        self._head = f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: %d\r\n\r\n".encode()
        self._came = b""
        self.opened.set_result(None)

    def _send(self, number: int) -> None:
        body = self._plan.messages[number % len(self._plan.messages)]
        self._transport.write(self._head % len(body) + body)

    def data_received(self, data: bytes) -> None:
        """Read an answer, once it is whole."""
        self._came += data
        head, end, body = self._came.partition(b"\r\n\r\n")
        if not end or len(body) < _content_length(head):
            return
        self._came = b""
        if head.split(maxsplit=2)[1] == b"200":
            self._take_answer(body)
        else:
            self._fail(f"{self._plan.url} answers {head.splitlines()[0].decode()}: {body.decode(errors='replace')}")


def _content_length(head: bytes) -> int:
    lines = (line.lower().partition(b":") for line in head.splitlines())
    return next((int(value) for name, _, value in lines if name == b"content-length"), 0)
