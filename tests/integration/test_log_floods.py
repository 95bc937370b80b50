"""Strangers cannot fill the disk: what a connection can do wrong is counted, and is no line in the log."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 20
EACH = 12

UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: %d\r\n%s\r\n"
)
POST = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: image/jpeg\r\n"
HOSTILE = {
    "garbage": b"\x16\x03\x01\x00hello\r\n\r\n",
    "another upgrade": b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, close\r\n\r\n",
    "upgrade without a key": UPGRADE % (b"/v1/stream", 13, b""),
    "upgrade with a wrong key": UPGRADE % (b"/v1/stream", 13, b"Authorization: Bearer tc_wrong\r\n"),
    "upgrade of another version": UPGRADE % (b"/v1/stream", 99, b""),
    "upgrade elsewhere": UPGRADE % (b"/nothing", 13, b""),
    "upgrade with many headers": UPGRADE % (b"/v1/stream", 13, b"x: y\r\n" * 200),
    "bad chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "half a body": POST + b"Content-Length: 1000\r\n\r\nabc",
    "requests far ahead": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 40,
    "wrong key": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer tc_wrong\r\nConnection: close\r\n\r\n",
    "no such path": b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "endless header": b"GET / HTTP/1.1\r\nx: " + b"y" * 40_000,
}


@contextmanager
def served() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service with a key, in a process of its own, and where it is; its log is read by whoever asks for it."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TIMECONV_")},
        "TIMECONV_PORT": "0",
        "TIMECONV_LOG_FORMAT": "json",
        "TIMECONV_WORKERS": "1",
        "TIMECONV_KEYS": "a sha256:" + "0" * 64,
    }
    command = [sys.executable, "-m", "service.cli", "serve"]
    process = subprocess.Popen(  # noqa: S603 - our own
        command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        ready = next(line for line in map(json.loads, process.stderr) if line["message"] == "Ready")
        yield process, ready["address"]
    finally:
        process.kill()
        process.communicate()


def lines(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """What the process logs until it has stopped."""
    process.terminate()
    _, text = process.communicate(timeout=PATIENCE_S)
    return [json.loads(line) for line in text.splitlines()]


def send(address: str, content: bytes) -> None:
    """Say something, wait for the first of the answer where one is due, and leave."""
    url = httpx.URL(address)
    with socket.create_connection((url.host, url.port), timeout=PATIENCE_S) as client, suppress(ConnectionError):
        client.sendall(content)
        if not content.endswith(b"abc"):
            client.recv(65_536)


@pytest.mark.skipif(sys.platform == "win32", reason="stops it with SIGTERM")
def test_hostile_connections_are_no_lines() -> None:
    """However often a stranger does what is not allowed, the log says only that the service runs and stops."""
    with served() as (process, address):
        for content in HOSTILE.values():
            for _ in range(EACH):
                send(address, content)
        metrics = httpx.get(f"{address}/metrics", timeout=PATIENCE_S).text
        logged = lines(process)
    assert [line["message"] for line in logged if not line["logger"].startswith("uvicorn")] == [
        "Stopping; 0 sessions are sent away within 5 s",
        "Stopped",
    ]
    assert len(logged) < EACH
    counts = dict(re.findall(r'timeconv_refused_total\{code="(\w+)"\} ([\d.]+)', metrics))
    least = {"bad_http": 2, "unauthorized": 3, "not_found": 2, "header_too_large": 2, "rate_limited": 1}
    assert {code: float(counts[code]) >= kinds * EACH for code, kinds in least.items()} == dict.fromkeys(least, True)
