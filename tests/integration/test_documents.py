"""The documents of the interface as a service serves them, and what it says held against them."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from service import engine
from service.access import new_key
from service.api.asyncapi import document
from service.inference.batch import Runner
from service.inference.workers import WorkerPool
from service.settings import Settings
from tests.conftest import LiveServer, serving
from tests.documents import Json, problems_of, problems_of_answer

PATIENCE_S = 30


def said(server: LiveServer, query: str, *messages: bytes | str) -> list[Json]:
    """Everything that is said in a session to which these messages are sent at once, and its end."""
    heard: list[Json] = []
    with connect(server.ws + query, compression=None) as socket:
        try:
            for message in (*messages, '{"type":"session.close"}'):
                socket.send(message)
        except ConnectionClosed:
            pass  # It was ended first; what came before that is still to be read.
        try:
            while True:
                heard.append(json.loads(socket.recv(PATIENCE_S)))
        except ConnectionClosed:
            return heard


def raises(_: NDArray[np.uint8]) -> NDArray[np.float32]:
    raise RuntimeError("broken")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    """A service whose networks fail, that takes twenty frames a second."""

    class FailingPool(WorkerPool):
        def add_lane(self, name: str, runner: Runner, max_batch: int, *, parallel: bool = True) -> None:
            del runner
            super().add_lane(name, raises, max_batch, parallel=parallel)

    monkeypatch.setattr(engine, "WorkerPool", FailingPool)
    with serving(Settings(port=0, max_frames_per_s=20)) as server:
        yield server


def test_outcomes(failing: LiveServer, face_clip: list[bytes], empty_jpeg: bytes) -> None:
    """What is said of frames that come too fast, too late, or to a network that fails, fits the AsyncAPI document."""
    early, late = ((time_us).to_bytes(8, "big") + face_clip[0] for time_us in (1_000_000, 500_000))
    heard = [
        *said(failing, "?freshness=every", *face_clip[:5], empty_jpeg, b"", b"GIF89a"),
        *said(failing, "?freshness=latest", *face_clip[:1] * 60),
    ]
    with connect(failing.ws + "?timestamps=1&max_age_ms=100", compression=None) as socket:
        heard.append(json.loads(socket.recv(PATIENCE_S)))
        for frame in (early, late):
            socket.send(frame)
            heard.append(json.loads(socket.recv(PATIENCE_S)))
    told = {str(message.get("outcome", message["type"])) for message in heard}
    assert told >= {"window_filling", "failed", "no_face", "bad_image", "expired", "superseded", "rate_limited"}
    assert {message["type"] for message in heard} >= {"session.started", "frame", "frames", "session.closed"}
    assert [problem for message in heard for problem in problems_of(message)] == []


def test_texts(live_server: LiveServer) -> None:
    """What is said to texts, good and bad, to another network and to bad options, fits it too."""
    updates = ({"model": "timeconv-mini-xception"}, {"stride": 9}, {"smoothing_ms": 1, "freshness": "every"})
    texts = [json.dumps({"type": "session.update", "options": options}) for options in updates]
    heard = [
        *said(live_server, "", "?", '{"type":"hello"}', *texts),
        *said(live_server, "?model=nobody"),
        *said(live_server, "?subprotocol=v2"),
    ]
    assert [message["type"] for message in heard].count("session.updated") == 2
    assert [message.get("code") for message in heard].count("bad_option") == 2
    assert [problem for message in heard for problem in problems_of(message)] == []
    assert {message["code"] for message in heard if message["type"] == "error"} <= set(
        document(guarded=False)["x-error-codes"]
    )


def test_rest(live_server: LiveServer, face_jpeg: bytes, empty_jpeg: bytes) -> None:
    """Every answer over HTTP fits the OpenAPI document."""
    image = {"Content-Type": "image/jpeg"}
    calls: list[tuple[str, str, dict[str, Any], int]] = [
        ("get", "/v1/models", {}, 200),
        ("get", "/healthz", {}, 200),
        ("get", "/readyz", {}, 200),
        ("post", "/v1/tokens", {}, 200),
        ("post", "/v1/predict", {"content": face_jpeg, "headers": image}, 200),
        ("post", "/v1/predict", {"content": empty_jpeg, "headers": image}, 200),
        ("post", "/v1/predict", {"content": b"GIF89a", "headers": image}, 422),
        ("post", "/v1/predict", {"content": b"?"}, 422),
        ("post", "/v1/predict", {"content": face_jpeg, "headers": image, "params": {"model": "nobody"}}, 422),
        ("post", "/v1/predict", {"content": face_jpeg, "headers": image, "params": {"speed": "1"}}, 422),
        ("post", "/v1/predict", {"content": bytes(3_000_000), "headers": image}, 413),
        ("post", "/v1/tokens", {"headers": {"Origin": "https://elsewhere.example"}}, 403),
        ("post", "/v1/models/{name}/load", {}, 403),
    ]
    with httpx.Client(base_url=live_server.url, timeout=PATIENCE_S) as client:
        for method, path, call, status in calls:
            response = client.request(method, path.format(name="timeconv-resnet20"), **call)
            kind = response.headers["content-type"]
            assert response.status_code == status, (path, response.text)
            assert problems_of_answer(response.json(), path, method, status, kind) == [], (path, status)


def test_asyncapi(live_server: LiveServer) -> None:
    """The document is served to GET and HEAD, as what it is, and is the one that is tested; /docs leads to it."""
    response = httpx.get(f"{live_server.url}/asyncapi.json")
    assert response.headers["content-type"] == "application/vnd.aai.asyncapi+json;version=3.0.0"
    assert response.json() == document(guarded=False)
    head = httpx.head(f"{live_server.url}/asyncapi.json")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(response.content))
    described = httpx.get(f"{live_server.url}/openapi.json").json()
    assert "[asyncapi.json](asyncapi.json)" in described["info"]["description"]


def test_no_key_is_asked_for_a_document() -> None:
    """As OpenAPI's, it is for who has no key yet; it says which are asked for."""
    with serving(Settings(port=0, keys=new_key("anyone")[1])) as server:
        answers = [httpx.get(f"{server.url}/{name}.json") for name in ("openapi", "asyncapi")]
    assert [answer.status_code for answer in answers] == [200, 200]
    openapi, asyncapi = (answer.json() for answer in answers)
    assert set(openapi["components"]["securitySchemes"]) == {"HTTPBearer"}
    assert asyncapi == document(guarded=True)
