"""Traces of a real service, at a collector of the test's own, which reads OTLP as the SDK's proto package says it."""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.proto.trace.v1.trace_pb2 import Status as SpanStatus
from pydantic import SecretStr
from websockets.sync.client import connect

from service.access import new_key
from service.settings import Settings
from tests.conftest import LiveServer, serving
from tests.fakes import LABELS

ROOT = Path(__file__).parents[2]
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
TRACE_ID, SPAN_ID = bytes.fromhex("0af7651916cd43dd8448eb211c80319c"), bytes.fromhex("b7ad6b7169203331")
SECRET, LINE = new_key("camera")
LOOK = ["wait", "decode", "detect", "crop"]


class Collector(ThreadingHTTPServer):
    """Takes spans, once ``gate`` is open."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.gate = threading.Event()
        self.entered = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def requests(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies]

    def spans(self, name: str) -> list[Span]:
        """All of a name, in the order of their begin."""
        found = [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
            if span.name == name
        ]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    @property
    def resource(self) -> dict[str, Any]:
        return attributes(self.requests[0].resource_spans[0].resource.attributes)


class Taking(BaseHTTPRequestHandler):
    """One request of an exporter."""

    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.entered.set()
        assert self.server.gate.wait(60)
        self.server.bodies.append(body)
        self.server.headers.append({"path": self.path, **self.headers})
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that takes spans at once."""
    with Collector() as server:
        server.gate.set()
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield server
        finally:
            server.gate.set()
            server.shutdown()
            thread.join(30)


@contextmanager
def traced(
    monkeypatch: pytest.MonkeyPatch, address: str, share: float = 1.0, **environment: str
) -> Iterator[LiveServer]:
    """A service that sends traces there; at the end of the block they have come."""
    settings = Settings(port=0, device="cpu", trace_share=share, keys=SecretStr(LINE))
    for name, value in {"OTEL_EXPORTER_OTLP_ENDPOINT": address, **environment}.items():
        monkeypatch.setenv(name, value)
    logger = logging.getLogger("opentelemetry")
    level = logger.level
    try:
        with serving(settings) as server:
            yield server
    finally:
        logger.setLevel(level)


def stream(server: LiveServer, frames: Sequence[bytes], **headers: str) -> list[dict[str, Any]]:
    """Stream frames one after the other, and end in order: all that the service says."""
    with connect(
        server.ws, compression=None, additional_headers={"Authorization": f"Bearer {SECRET}", **headers}
    ) as socket:
        said = [json.loads(socket.recv(timeout=20))]
        for frame in frames:
            socket.send(frame)
            said.append(json.loads(socket.recv(timeout=20)))
        socket.send('{"type":"session.close"}')
        said.append(json.loads(socket.recv(timeout=20)))
    return said


def predict(server: LiveServer, frames: Sequence[bytes], **headers: str) -> httpx.Response:
    files = [("frames", (f"{index}.jpg", frame, "image/jpeg")) for index, frame in enumerate(frames)]
    headers = {"Authorization": f"Bearer {SECRET}", **headers}
    return httpx.post(f"{server.url}/v1/predict", files=files, headers=headers, timeout=20)


def attributes(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}


def stages(span: Span) -> list[str]:
    return [event.name for event in span.events]


def test_a_streamed_clip(monkeypatch: pytest.MonkeyPatch, collector: Collector, face_clip: list[bytes]) -> None:
    """Each frame is a span with its stages, as the client was told of them, at their true times."""
    before_ns = time.time_ns()
    with traced(monkeypatch, collector.address) as server:
        started, *answers, _ = stream(server, face_clip[:6], traceparent=TRACEPARENT, **{"X-Request-ID": "upgrade-1"})
    after_ns = time.time_ns()
    spans = collector.spans("frame")
    assert [attributes(span.attributes)["timeconv.seq"] for span in spans] == list(range(6))
    assert [stages(span) for span in spans] == [
        *[[*LOOK, "encode", "send"]] * 4,
        *[[*LOOK, "queue", "infer", "encode", "send"]] * 2,
    ]
    for span in spans:
        times = [
            before_ns,
            span.start_time_unix_nano,
            *[event.time_unix_nano for event in span.events],
            span.end_time_unix_nano,
            after_ns,
        ]
        assert times == sorted(times)
        assert [(link.trace_id, link.span_id) for link in span.links] == [(TRACE_ID, SPAN_ID)]
        assert span.parent_span_id == b""
        assert span.kind == Span.SPAN_KIND_SERVER
        about = attributes(span.attributes)
        assert about["session.id"] == started["session"]
        assert about["timeconv.request"] == "upgrade-1"
    told, span = answers[-1], spans[-1]
    took_ms = {event.name: attributes(event.attributes)["duration_ms"] for event in span.events}
    assert {name: took_ms[name] for name in (*LOOK, "queue", "infer")} == {
        name: told["timing_ms"][name] for name in (*LOOK, "queue", "infer")
    }
    assert attributes(span.attributes)["timeconv.outcome"] == "prediction"
    assert attributes(span.attributes)["timeconv.bytes"] == len(face_clip[5])
    assert attributes(span.attributes)["timeconv.batch_size"] == 1
    assert attributes(span.attributes)["timeconv.model"] == f"{started['model']}@{started['version']}"


def test_rest(monkeypatch: pytest.MonkeyPatch, collector: Collector, face_clip: list[bytes], empty_jpeg: bytes) -> None:
    """A prediction is a child of the caller's span, with the look at each of its frames; without a caller's, a root."""
    with traced(monkeypatch, collector.address) as server:
        assert predict(server, face_clip[:5], traceparent=TRACEPARENT).status_code == 200
        assert predict(server, [face_clip[0], *[b"no picture"] * 4], **{"X-Request-ID": "bad-1"}).status_code == 422
        assert predict(server, [empty_jpeg]).status_code == 200
    good, bad, empty = collector.spans("POST /v1/predict")
    assert (good.trace_id, good.parent_span_id) == (TRACE_ID, SPAN_ID)
    assert stages(good) == ["upload", "wait", *["decode", "detect", "crop"] * 5, "queue", "infer"]
    frames = [attributes(event.attributes).get("frame") for event in good.events]
    assert frames == [None, None, *[index for index in range(5) for _ in range(3)], None, None]
    times = [good.start_time_unix_nano, *[event.time_unix_nano for event in good.events], good.end_time_unix_nano]
    assert times == sorted(times)
    about = attributes(good.attributes)
    assert (about["timeconv.outcome"], about["http.response.status_code"]) == ("prediction", 200)
    assert about["timeconv.bytes"] == sum(map(len, face_clip[:5]))
    assert about["timeconv.batch_size"] == 1
    about = attributes(bad.attributes)
    assert (about["timeconv.outcome"], about["http.response.status_code"]) == ("bad_image", 422)
    assert about["timeconv.request"] == "bad-1"
    assert bad.status.code == SpanStatus.STATUS_CODE_UNSET
    assert bad.trace_id != TRACE_ID
    assert bad.parent_span_id == b""
    assert attributes(empty.attributes)["timeconv.outcome"] == "no_face"


def test_what_no_span_holds(monkeypatch: pytest.MonkeyPatch, collector: Collector, face_clip: list[bytes]) -> None:
    """No picture, key, token, address or emotion, in whatever place."""
    with traced(monkeypatch, collector.address, OTEL_EXPORTER_OTLP_HEADERS="x-token=collectors") as server:
        started, *_ = stream(server, face_clip[:6])
        predict(server, face_clip[:5])
    sent = b"".join(collector.bodies)
    scopes = {scope.scope.name for request in collector.requests for scope in request.resource_spans[0].scope_spans}
    assert scopes == {"timeconv"}  # Not FastAPI's own spans, which have the address.
    assert collector.headers[0]["x-token"] == "collectors"
    assert collector.headers[0]["path"] == "/v1/traces"
    for secret in (SECRET, "camera", started["resume_token"], "127.0.0.1", "collectors", *LABELS):
        assert secret.encode() not in sent
    assert face_clip[0][:3] not in sent


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "timeconv"),
        ({"OTEL_SERVICE_NAME": "faces"}, "faces"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=emotions,deployment.environment=test"}, "emotions"),
    ],
)
def test_resource(
    monkeypatch: pytest.MonkeyPatch,
    collector: Collector,
    face_jpeg: bytes,
    environment: dict[str, str],
    name: str,
) -> None:
    """Who sends is called as OpenTelemetry's variables say, or `timeconv`, and says on what device it runs."""
    with traced(monkeypatch, collector.address, **environment) as server:
        stream(server, [face_jpeg])
    assert collector.resource["service.name"] == name
    assert collector.resource["timeconv.device"] == "cpu"
    assert ("deployment.environment" in collector.resource) == (name == "emotions")


def test_a_share(monkeypatch: pytest.MonkeyPatch, collector: Collector, face_clip: list[bytes]) -> None:
    """With a tiny share chance picks none of a few frames, and the service answers as ever."""
    with traced(monkeypatch, collector.address, 1e-12) as server:
        stream(server, face_clip[:6])
        assert predict(server, face_clip[:5]).status_code == 200
    assert collector.bodies == []


def test_no_collector(
    monkeypatch: pytest.MonkeyPatch, face_clip: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Where none listens, every frame is answered, one line says that spans are lost, and they are counted."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nowhere = f"http://name:secret@127.0.0.1:{taken.getsockname()[1]}"
    hurried = {"OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.01"}
    with traced(monkeypatch, nowhere, **hurried) as server:
        answers = stream(server, face_clip)[1:-1]
        dropped = 'timeconv_spans_dropped_total{reason="not_taken"} '
        deadline_s = time.monotonic() + 30
        while f"{dropped}{len(answers)}.0" not in (metrics := httpx.get(f"{server.url}/metrics").text):
            assert time.monotonic() < deadline_s, metrics
    assert len(answers) == len(face_clip)
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in lines] == ["service.telemetry.traces"]
    assert "secret" not in caplog.text


def test_a_collector_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, face_clip: list[bytes]
) -> None:
    """Frames are answered, and the service stops in its time, without the collector's answer."""
    collector.gate.clear()
    endless = {"OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_EXPORTER_OTLP_TIMEOUT": "3600"}
    with traced(monkeypatch, collector.address, **endless) as server:
        assert len(stream(server, face_clip)) == len(face_clip) + 2
        assert collector.entered.wait(30)
    assert collector.bodies == []


def run(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


SERVE_AND_STOP = """
import asyncio, sys
from service import cli, serve
from service.settings import Settings

async def main():
    stop = asyncio.Event()
    settings = Settings(port=0)
    with serve.listen(settings) as listening:
        await serve.serve(settings, listening, stop, on_ready=stop.set)

asyncio.run(main())
extra = (
    "opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto",
    "google.protobuf", "service.telemetry.traces"
)
print(*sorted(name for name in sys.modules if name.startswith(extra)))
"""


def test_off_nothing_is_imported() -> None:
    """A service without traces, which is the default, has none of the extra. FastAPI itself has OpenTelemetry's API."""
    done = run(SERVE_AND_STOP)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize("missing", ["opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"])
def test_without_the_extra(missing: str) -> None:
    """Asked for traces that cannot be had the service does not start, and says what to install."""
    code = f"import sys; sys.modules[{missing!r}] = None; from service import cli; sys.argv[1:] = ['serve']; cli.main()"
    done = run(code, TIMECONV_TRACE_SHARE="0.5", TIMECONV_PORT="0")
    assert done.returncode == 1
    assert "pip install 'timeconv[otel]'" in done.stderr
    assert "Traceback" not in done.stderr
