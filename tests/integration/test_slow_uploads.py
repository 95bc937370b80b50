"""REST callers that begin an upload and do not end it."""

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from service.access import new_key
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


def begun(server: LiveServer, **headers: str) -> socket.socket:
    """A caller that has sent the beginning of a picture."""
    url = httpx.URL(server.url)
    caller = socket.create_connection((url.host, url.port), timeout=PATIENCE_S)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    caller.sendall(BEGUN.replace(b"Content-Type", lines + b"Content-Type"))
    return caller


def predicted(server: LiveServer, jpeg: bytes, **headers: str) -> httpx.Response:
    """The answer to a whole picture."""
    headers |= {"Content-Type": "image/jpeg"}
    return httpx.post(f"{server.url}/v1/predict", content=jpeg, headers=headers, timeout=PATIENCE_S)


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
    assert predicted(narrow, face_jpeg).status_code == 200


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


def test_uploads_of_one_caller_hold_no_more_than_its_places(empty_jpeg: bytes) -> None:
    """A key, or an address that a proxy names, holds its own places only; the next caller is answered.

    Nor does it help to write more addresses into the header: the one that the proxy adds counts.
    """
    (key, line), (other, other_line) = new_key("mine"), new_key("other")
    bearers = [{"Authorization": f"Bearer {secret}"} for secret in (key, other)]
    settings = {"keys": f"{line} sessions=1;{other_line}", "trusted_proxies": "127.0.0.1", "port": 0, "workers": 1}
    settings |= {"max_waiting_predictions": 2, "max_waiting_predictions_per_caller": 1, "predict_timeout_ms": 60_000}
    with serving(Settings.model_validate(settings)) as server:
        for mine, theirs in (
            (bearers[0], bearers[1]),
            (bearers[0] | {"X-Forwarded-For": "203.0.113.5"}, bearers[1] | {"X-Forwarded-For": "203.0.113.6"}),
            (bearers[0] | {"X-Forwarded-For": "198.51.100.1, 203.0.113.5"}, bearers[1]),
        ):
            with begun(server, **mine):
                deadline_s = time.monotonic() + PATIENCE_S
                while (answer := predicted(server, empty_jpeg, **mine)).status_code == 200:
                    assert time.monotonic() < deadline_s
                assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (
                    429,
                    "rate_limited",
                    "1",
                )
                if same := mine.get("X-Forwarded-For"):
                    forged = bearers[1] | {"X-Forwarded-For": f"192.0.2.1, {same.rpartition(' ')[2]}"}
                    assert predicted(server, empty_jpeg, **forged).status_code == 429
                assert predicted(server, empty_jpeg, **theirs).status_code == 200
            while predicted(server, empty_jpeg, **mine).status_code != 200:  # Free once the caller is missed.
                assert time.monotonic() < deadline_s


def test_the_rate_of_a_key(empty_jpeg: bytes) -> None:
    """A call costs a key's rate as many frames as it brings, and the refusal says when the next may come."""
    (one, one_line), (five, five_line) = new_key("one"), new_key("five")
    keys = f"{one_line} frames_per_s=0.01;{five_line} frames_per_s=0.01"
    with serving(Settings.model_validate({"port": 0, "workers": 1, "keys": keys})) as server:
        for key, pictures, longest_s in ((one, 1, 100), (five, 5, 500)):
            bearer = {"Authorization": f"Bearer {key}"}
            files = [("frames", (f"{number}.jpg", empty_jpeg)) for number in range(pictures)]
            first, second = (
                httpx.post(f"{server.url}/v1/predict", files=files, headers=bearer, timeout=PATIENCE_S) for _ in "12"
            )
            assert (first.status_code, second.status_code) == (200, 429)
            assert second.json()["code"] == "rate_limited"
            assert longest_s - PATIENCE_S <= int(second.headers["retry-after"]) <= longest_s
