"""REST callers that begin an upload and do not end it."""

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from service.settings import Settings
from tests.conftest import LiveServer, serving

PATIENCE_S = 30
BEGUN = (
    b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\n\xff\xd8"
)


@pytest.fixture(scope="module")
def narrow() -> Iterator[LiveServer]:
    """A service that takes one prediction at a time, for a fifth of a second."""
    with serving(Settings(port=0, max_waiting_predictions=1, predict_timeout_ms=200)) as server:
        yield server


def begun(server: LiveServer) -> socket.socket:
    """A caller that has sent the beginning of a picture."""
    url = httpx.URL(server.url)
    caller = socket.create_connection((url.host, url.port), timeout=PATIENCE_S)
    caller.sendall(BEGUN)
    return caller


def refused(server: LiveServer, code: str) -> float:
    """How many requests were refused with a code."""
    for line in httpx.get(f"{server.url}/metrics", timeout=PATIENCE_S).text.splitlines():
        if line.startswith(f'timeconv_refused_total{{code="{code}"}}'):
            return float(line.rpartition(" ")[2])
    return 0


def test_the_deadline_is_for_the_upload_too(narrow: LiveServer, face_jpeg: bytes) -> None:
    """Half an upload gets 504 after the deadline, and its place is free for the next call."""
    with begun(narrow) as caller:
        answer = caller.recv(4096)
        while b"}" not in answer:  # Header and body may come apart.
            answer += caller.recv(4096)
    assert answer.startswith(b"HTTP/1.1 504")
    assert b'"code":"timeout"' in answer
    response = httpx.post(
        f"{narrow.url}/v1/predict", content=face_jpeg, headers={"Content-Type": "image/jpeg"}, timeout=PATIENCE_S
    )
    assert response.status_code == 200


def test_a_caller_that_leaves_during_its_upload_is_no_error_of_ours(
    live_server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken upload is counted, and logged as no failure."""
    before = refused(live_server, "client_gone")
    caplog.clear()
    begun(live_server).close()
    deadline_s = time.monotonic() + PATIENCE_S
    while refused(live_server, "client_gone") == before:
        assert time.monotonic() < deadline_s
    assert [record.getMessage() for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []
