"""Clients that do not read what they are owed, over sockets whose buffers are small."""

import base64
import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.gate import Gate
from service.sessions import Sessions
from service.settings import Settings
from tests.conftest import LiveServer, serving

PATIENCE_S = 30
HTTP = httpx.Client(timeout=PATIENCE_S, headers={"Connection": "close"})


@pytest.fixture(scope="module")
def impatient() -> Iterator[LiveServer]:
    """A service that waits for no one, and takes texts as fast as they come: their answers fill the buffers soon."""
    settings = Settings(
        port=0, blocked_timeout_ms=200, send_buffer_bytes=4096, resume_grace_ms=0, max_texts_per_s=10_000
    )
    with serving(settings) as server:
        yield server


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """A WebSocket frame of a client, its mask 0."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 127]) + struct.pack("!Q", size)
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


# Not so small that their number is limited.
BAD_FRAME, BAD_TEXT, CLOSE = frame(2, b"x" * 600), frame(1, b"?" * 600), frame(1, b'{"type":"session.close"}')


class Deaf:
    """A client that sends, and reads only when it is told to."""

    def __init__(self, server: LiveServer, query: str) -> None:
        url = httpx.URL(server.url)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect((url.host, url.port))
        key = base64.b64encode(bytes(16)).decode()
        self.socket.sendall(
            f"GET /v1/stream?{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def send(self, content: bytes) -> None:
        """Send, unless the server has cut the connection off."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(content)

    def flood(self, until: Callable[[], bool]) -> None:
        """Send what is answered at length, as much as the server takes, until a condition holds."""
        self.socket.settimeout(0.02)
        pending, deadline_s = b"", time.monotonic() + PATIENCE_S
        with contextlib.suppress(ConnectionError):
            while not until():
                assert time.monotonic() < deadline_s, "it did not come about"
                pending = pending or (BAD_TEXT + BAD_FRAME) * 100
                with contextlib.suppress(TimeoutError):
                    pending = pending[self.socket.send(pending) :]
        self.socket.settimeout(PATIENCE_S)

    def read_to(self, end: bytes) -> bytes:
        """What the server has sent, up to ``end`` or to the end of the connection."""
        heard = b""
        with contextlib.suppress(ConnectionError):
            while not heard.endswith(end) and (part := self.socket.recv(65_536)):
                heard += part
        return heard


@contextlib.contextmanager
def deaf(server: LiveServer, query: str = "freshness=every") -> Iterator[Deaf]:
    client = Deaf(server, query)
    try:
        yield client
    finally:
        client.socket.close()


def figures(server: LiveServer) -> dict[str, float]:
    """The metrics, by name with labels."""
    lines = HTTP.get(f"{server.url}/metrics").text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def sessions(server: LiveServer, state: str) -> float:
    return figures(server)[f'timeconv_sessions{{state="{state}"}}']


def received(server: LiveServer) -> float:
    return figures(server)["timeconv_frames_received_total"]


def in_flight(server: LiveServer) -> float:
    return figures(server)["timeconv_frames_in_flight"]


def ended(server: LiveServer, reason: str) -> float:
    return figures(server).get(f'timeconv_sessions_ended_total{{reason="{reason}"}}', 0)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come about"


def nothing_is_left(server: LiveServer) -> bool:
    found = figures(server)
    gauges = [
        name for name in found if name.startswith(("timeconv_sessions{", "timeconv_waiting", "timeconv_frames_in"))
    ]
    assert len(gauges) == 5
    return not any(found[name] for name in gauges)


@pytest.mark.parametrize("freshness", ["latest", "every"])
def test_a_client_that_does_not_read_is_expelled(impatient: LiveServer, freshness: str) -> None:
    """Its session ends with `slow_reader`, its frames are accounted for and its place is given back."""
    before = ended(impatient, "slow_reader")
    with deaf(impatient, f"freshness={freshness}") as client:
        client.flood(until=lambda: ended(impatient, "slow_reader") == before + 1)
        assert nothing_is_left(impatient)
    found = figures(impatient)
    outcomes = sum(value for name, value in found.items() if name.startswith("timeconv_frames_total{"))
    assert found["timeconv_frames_received_total"] == outcomes


def test_a_client_that_reads_at_last_hears_why(impatient: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reads again within a moment of the end finds the error and the close behind its answers."""
    monkeypatch.setattr(Gate, "goodbye_s", 30.0)  # On a busy machine a second may pass before it reads.
    close = b"\x88\x0d\x03\xf0slow_reader"
    before = ended(impatient, "slow_reader")
    with deaf(impatient) as client:
        client.flood(until=lambda: ended(impatient, "slow_reader") == before + 1)
        heard = client.read_to(close)
    error: dict[str, Any] = json.loads(heard[heard.rindex(b'{"type":"error"') : heard.rindex(b"}") + 1])
    assert (error["code"], error["close_code"]) == ("slow_reader", 1008)
    assert heard.endswith(close)


def test_a_close_does_not_save_a_client_that_does_not_read(
    impatient: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that asks for what it is owed and does not take it is expelled like any other."""
    # On a busy machine it would be expelled before it has asked.
    monkeypatch.setattr(Sessions, "sweep", lambda _: None)
    before, taken = ended(impatient, "slow_reader"), received(impatient)

    def stuck() -> bool:
        """Blocked for good, and owed something: the kernel may take more for a moment after it was full."""
        return all(sessions(impatient, "blocked") and in_flight(impatient) for _ in range(5))

    with deaf(impatient) as client:
        while not stuck():
            client.send(BAD_FRAME * 7)  # Under its credit, so that the close is read.
            taken += 7
            eventually(lambda taken=taken: received(impatient) == taken)
            eventually(lambda: in_flight(impatient) == 0 or stuck())
        assert 0 < in_flight(impatient) < 8
        client.send(CLOSE)
        monkeypatch.undo()
        eventually(lambda: ended(impatient, "slow_reader") == before + 1)
        assert nothing_is_left(impatient)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
def test_descriptors_are_given_back(impatient: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment after the expulsion no socket of a client that still holds its own is left."""
    monkeypatch.setattr(Gate, "goodbye_s", 0.1)

    def sockets() -> int:
        """Accepted by the server, which runs in this process: those at its port."""
        port = f":{httpx.URL(impatient.url).port:04X}"
        rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
        ours = {row[9] for row in rows if row[1].endswith(port) and row[3] != "0A"}
        held = 0
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                held += str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]") in ours
        return held

    before = ended(impatient, "slow_reader")
    with contextlib.ExitStack() as stack:
        for count in (1, 2):
            client = stack.enter_context(deaf(impatient))
            eventually(lambda: sockets() >= 1)
            client.flood(until=lambda count=count: ended(impatient, "slow_reader") == before + count)
        eventually(lambda: sockets() == 0)
