"""WebSocket clients that break the rules, on raw sockets: each gets its close code, and a neighbour is served on."""

import base64
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Self

import httpx
import pytest

from service.settings import Settings
from tests.conftest import LiveServer, serving

PATIENCE_S = 20
TEXT, BINARY, CLOSE, PING, PONG, CONT = 1, 2, 8, 9, 10, 0


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True, size: int = -1
) -> bytes:
    """A WebSocket frame, its mask 0; ``size`` says another one than the payload has."""
    size = len(payload) if size < 0 else size
    if size < 126:
        length = bytes([size])
    elif size < 65_536:
        length = bytes([126]) + struct.pack("!H", size)
    else:
        length = bytes([127]) + struct.pack("!Q", size)
    length = bytes([length[0] | 0x80 * masked]) + length[1:]
    return bytes([0x80 * fin | reserved << 4 | opcode]) + length + bytes(4 * masked) + payload


class RawClient:
    """A WebSocket on a socket, which sends whatever it is told to."""

    def __init__(self, server: LiveServer) -> None:
        url = httpx.URL(server.url)
        self.socket = socket.create_connection((url.host, url.port), timeout=PATIENCE_S)
        key = base64.b64encode(bytes(16)).decode()
        self.socket.sendall(
            f"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.heard = b""
        while b"\r\n\r\n" not in self.heard:
            part = self.socket.recv(65_536)
            assert part, f"The connection ended after {self.heard!r}"
            self.heard += part
        assert self.heard.startswith(b"HTTP/1.1 101")
        self.heard = self.heard.partition(b"\r\n\r\n")[2]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def next_frame(self) -> tuple[int, bytes] | None:
        """The next frame of the service, by opcode and payload; none where the connection has ended."""
        while True:
            if len(self.heard) >= 2:
                size, begin = self.heard[1], 2
                if size == 126 and len(self.heard) >= 4:
                    size, begin = struct.unpack_from("!H", self.heard, 2)[0], 4
                if size != 126 and len(self.heard) >= begin + size:
                    opcode, payload = self.heard[0] & 15, self.heard[begin : begin + size]
                    self.heard = self.heard[begin + size :]
                    return opcode, payload
            try:
                part = self.socket.recv(65_536)
            except ConnectionError:
                return None
            if not part:
                return None
            self.heard += part

    def close_code(self) -> int | None:
        """The code that the service closes with, whatever it says before; none where it just ends."""
        while (found := self.next_frame()) is not None:
            if found[0] == CLOSE:
                return int(struct.unpack("!H", found[1][:2])[0])
        return None


@pytest.fixture(scope="module")
def guarded() -> Iterator[LiveServer]:
    """A service that loses its patience soon."""
    with serving(Settings(port=0, idle_timeout_ms=1000, handshake_timeout_ms=300, max_header_bytes=8192)) as server:
        yield server


BROKEN = {
    "unmasked": (frame(BINARY, b"x", masked=False), 1002),
    "reserved bit 1": (frame(BINARY, b"x", reserved=4), 1002),
    "reserved bit 2": (frame(BINARY, b"x", reserved=2), 1002),
    "reserved bit 3": (frame(TEXT, b"{}", reserved=1), 1002),
    "opcode 3": (frame(3, b"x"), 1002),
    "opcode 15": (frame(15), 1002),
    "ping of 126 bytes": (frame(PING, bytes(126)), 1002),
    "ping in fragments": (frame(PING, b"x", fin=False), 1002),
    "continuation of nothing": (frame(CONT, b"x"), 1002),
    "message within a message": (frame(BINARY, b"x", fin=False) + frame(BINARY, b"y"), 1002),
    "close within a message": (frame(BINARY, b"x", fin=False) + frame(CLOSE, b"\x03\xe8"), 1002),
    "close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "close with a code that is none": (frame(CLOSE, struct.pack("!H", 1005)), 1002),
    "close with bad UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "text with bad UTF-8": (frame(TEXT, b"\xff\xfe"), 1007),
    "text cut within a character": (frame(TEXT, "ä".encode()[:1], fin=False) + frame(CONT, b"."), 1007),
    "a message said to be too large": (frame(BINARY, b"x", size=2**40), 1009),
    "the largest size there is": (frame(BINARY, b"x", size=2**63 - 1), 1009),
    "fragments too large together": (
        frame(BINARY, bytes(2_000_000), fin=False) + frame(CONT, bytes(2_000_100), size=2_000_100),
        1009,
    ),
    "ping flood": (frame(PING, b"!") * 5000, 1008),
    "pong flood": (frame(PONG) * 5000, 1008),
    "one-byte fragments": (frame(BINARY, b"x", fin=False) + frame(CONT, b"x", fin=False) * 5000, 1008),
    "close, and on": (frame(CLOSE, b"\x03\xe8") + frame(BINARY, b"x") * 5000, 1000),
    "half a frame, then silence": (frame(BINARY, b"x" * 10, size=1000), 1008),
    "half a size, then silence": (b"\x82\xff\x00\x00", 1008),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_gets_its_code(guarded: LiveServer, name: str) -> None:
    """And a connection that keeps the rules beside it is answered before and after."""
    sent, code = BROKEN[name]
    with RawClient(guarded) as neighbour, RawClient(guarded) as breaker:
        assert neighbour.next_frame() is not None  # session.started
        breaker.socket.sendall(sent)
        assert breaker.close_code() == code
        neighbour.socket.sendall(frame(PING, b"still here"))
        while (found := neighbour.next_frame()) is not None and found[0] != PONG:
            pass
        # Its own silence may have ended it where the other's was waited for.
        assert found == (PONG, b"still here") or "silence" in name


def refused(server: LiveServer, code: str) -> float:
    """How many were refused with a code."""
    text = httpx.get(f"{server.url}/metrics", timeout=PATIENCE_S).text
    found = [line for line in text.splitlines() if line.startswith(f'timeconv_refused_total{{code="{code}"}}')]
    return float(found[0].rpartition(" ")[2]) if found else 0


def test_a_flood_is_told_and_counted(guarded: LiveServer) -> None:
    """An error comes before the close, and the metrics know of it."""
    before = refused(guarded, "rate_limited")
    with RawClient(guarded) as client:
        assert client.next_frame() is not None
        client.socket.sendall(frame(PING) * 5000)
        found = client.next_frame()
        while found is not None and found[0] == PONG:
            found = client.next_frame()
        assert found is not None
        error = json.loads(found[1])
        assert (error["code"], error["close_code"], error["retryable"]) == ("rate_limited", 1008, True)
        assert error["retry_after_ms"] == 1000
    assert refused(guarded, "rate_limited") == before + 1
    text = httpx.get(f"{guarded.url}/metrics", timeout=PATIENCE_S).text
    assert 'timeconv_sessions_ended_total{reason="rate_limited"}' in text


@pytest.mark.parametrize(
    ("sent", "status"), [(b"", 408), (b"GET / HTTP/1.1\r\nHost:", 408), (b"GET / HTTP/1.1\r\nx: " + b"y" * 20_000, 431)]
)
def test_a_header_that_is_not_whole(guarded: LiveServer, sent: bytes, status: int) -> None:
    """Silence and half a header end with 408, an endless one with 431."""
    url = httpx.URL(guarded.url)
    with socket.create_connection((url.host, url.port), timeout=PATIENCE_S) as client:
        client.sendall(sent)
        assert client.recv(4096).startswith(b"HTTP/1.1 %d" % status)


def test_a_header_of_200_mb_is_not_swallowed(guarded: LiveServer) -> None:
    """Its sender gets rid of no more than fits between the two: then nobody reads, and the connection is cut off."""
    url = httpx.URL(guarded.url)
    sent = 0
    with socket.create_connection((url.host, url.port), timeout=PATIENCE_S) as client:
        client.sendall(b"GET / HTTP/1.1\r\nx: ")
        with suppress(ConnectionError):
            while sent < 200_000_000:
                sent += client.send(b"y" * 65_536)
    assert sent < 50_000_000
