"""Request ids, and the line of the log that says what became of a session or a prediction."""

import json
import logging
import re
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from service.api import predict, stream
from service.telemetry.logs import JsonFormatter
from tests.conftest import LiveServer

HEADER = "X-Request-ID"
MADE = re.compile(r"[A-Za-z0-9_-]{16}")


@pytest.fixture(scope="module")
def client(live_server: LiveServer) -> Iterator[httpx.Client]:
    """A client of the service that keeps its connection."""
    with httpx.Client(base_url=live_server.url, timeout=20) as made:
        yield made


def line_of(caplog: pytest.LogCaptureFixture, request: str) -> dict[str, object]:
    """The one line about a request, as JSON says it."""
    (record,) = (record for record in caplog.records if getattr(record, "request", None) == request)
    line: dict[str, object] = json.loads(JsonFormatter().format(record))
    return line


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/nothing", "/v1/predict"])
def test_every_answer_has_an_id_of_its_own(client: httpx.Client, path: str) -> None:
    """Errors too; two requests never have the same."""
    first, second = client.get(path).headers[HEADER], client.get(path).headers[HEADER]
    assert MADE.fullmatch(first)
    assert first != second


def test_a_caller_may_choose_it(client: httpx.Client) -> None:
    """So that its log and ours can be searched for the same."""
    assert client.get("/healthz", headers={HEADER: "caller-7.b_2"}).headers[HEADER] == "caller-7.b_2"


@pytest.mark.parametrize("chosen", ["", "x" * 65, "a b", 'a"b', "a=b"])
def test_what_would_spoil_a_log_is_not_taken_over(client: httpx.Client, chosen: str) -> None:
    """An id that is too long, or has other characters, is replaced."""
    assert MADE.fullmatch(client.get("/healthz", headers={HEADER: chosen}).headers[HEADER])


def test_a_session(live_server: LiveServer, face_clip: list[bytes], caplog: pytest.LogCaptureFixture) -> None:
    """The upgrade's answer has it, and the one line of the session: how it went, in numbers, with no picture."""
    with (
        caplog.at_level(logging.INFO, stream.__name__),
        connect(live_server.ws, compression=None, additional_headers={HEADER: "session-1"}) as socket,
    ):
        assert socket.response is not None
        assert socket.response.headers[HEADER] == "session-1"
        started = json.loads(socket.recv(timeout=20))
        for frame in face_clip[:6]:
            socket.send(frame)
            socket.recv(timeout=20)
        socket.send('{"type":"session.close"}')
        socket.recv(timeout=20)
        with pytest.raises(Exception, match="1000"):
            socket.recv(timeout=20)
    line = line_of(caplog, "session-1")
    lasted_s = line.pop("lasted_s")
    assert isinstance(lasted_s, float)
    assert 0 < lasted_s < 60
    assert line.pop("time")
    assert line == {
        "level": "info",
        "logger": stream.__name__,
        "message": "Session ended",
        "session": started["session"],
        "request": "session-1",
        "reason": "closed",
        "resumed": False,
        "key": "",
        "model": f"{started['model']}@{started['version']}",
        "received": 6,
        "window_filling": 4,
        "prediction": 2,
    }


def test_a_refused_upgrade(live_server: LiveServer) -> None:
    """It has an id as well."""
    elsewhere = live_server.ws.replace("/v1/stream", "/v1/nothing")
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(elsewhere, additional_headers={HEADER: "refused-1"}),
    ):
        pass
    assert refused.value.response.status_code == 404
    assert refused.value.response.headers[HEADER] == "refused-1"


def test_a_prediction(client: httpx.Client, face_jpeg: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """One line for a prediction over REST, with its outcome and time; none for what was refused."""
    headers = {"Content-Type": "image/jpeg"}
    with caplog.at_level(logging.INFO, predict.__name__):
        client.post("/v1/predict", content=b"no picture", headers={**headers, HEADER: "bad-1"})
        client.post("/v1/predict", content=face_jpeg, headers={**headers, HEADER: "good-1"})
    line = line_of(caplog, "good-1")
    assert (line["message"], line["outcome"], line["key"]) == ("Prediction answered", "prediction", "")
    # What others log at the same time, of connections that an earlier test has left, is not of these.
    told = [record for record in caplog.records if record.name == predict.__name__]
    assert [getattr(record, "request", None) for record in told] == ["good-1"]
