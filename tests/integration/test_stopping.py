"""A service that is told to stop: a real process, real signals, and frames counted at the clients."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from timeconv_client import (
    FrameOutcome,
    FramesOutcome,
    GoAway,
    Prediction,
    ServiceStopping,
    SessionClosed,
    connect,
)

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60
JPEG = {"Content-Type": "image/jpeg"}
SESSIONS = 12


@dataclass
class Process:
    """A service of its own."""

    process: "subprocess.Popen[str]"
    url: str

    @property
    def ws(self) -> str:
        """Address of the stream."""
        return self.url.replace("http", "ws", 1) + "/v1/stream"

    def signal(self) -> None:
        """Ask it to stop."""
        self.process.send_signal(signal.SIGTERM)


ENDLESS = "timeconv-mini-xception"
WITH_AN_ENDLESS_LOAD = f"""
import sys, threading
from service import cli
from service.inference import models
opened = models.open_network
def open_network(artifact, *args, **kwargs):
    if artifact.manifest.name == "{ENDLESS}":
        print("Loading without end", file=sys.stderr, flush=True)
        threading.Event().wait()
    return opened(artifact, *args, **kwargs)
models.open_network = open_network
cli.main()
"""


def line_with(process: "subprocess.Popen[str]", text: str) -> str:
    """The next line of its log that holds a text."""
    assert process.stderr is not None
    return next(line for line in process.stderr if text in line)


@contextmanager
def launched(*code: str, **settings: str) -> Iterator["subprocess.Popen[str]"]:
    """The command on a free port, with settings by variable; it is killed if the block does not end it."""
    environment = os.environ | {f"TIMECONV_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, *(code or ("-m", "service.cli")), "serve", "--port", "0"]
    with subprocess.Popen(  # noqa: S603 - our own command
        command, cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    ) as process:
        end = threading.Timer(PATIENCE_S, process.kill)  # Of who waits for a line that does not come.
        end.start()
        try:
            yield process
        finally:
            end.cancel()
            process.kill()


@contextmanager
def started(*code: str, **settings: str) -> Iterator[Process]:
    """The same once it is ready."""
    with launched(*code, **settings) as process:
        yield Process(process, line_with(process, " Ready ").rpartition("address=")[2].strip())


@dataclass
class Seen:
    """What one client saw."""

    sent: int = 0
    answered: list[int] = field(default_factory=list)
    told: int = 0
    received: int | None = None
    stopped: bool = False


async def stream_until_stopped(url: str, clip: list[bytes], busy: asyncio.Semaphore) -> Seen:
    """Send without end, as fast as answered, until the service stops; ``busy`` is released at the first prediction."""
    seen, was_busy = Seen(), False
    async with connect(url, freshness="every") as session:
        try:
            async for event in session.stream(itertools.cycle(clip)):
                match event:
                    case Prediction() | FrameOutcome() | FramesOutcome():
                        seen.answered += event.seqs
                        if isinstance(event, Prediction) and not was_busy:
                            was_busy = True
                            busy.release()
                    case GoAway():
                        seen.told += 1
                    case SessionClosed():
                        seen.received = event.totals.received
        except ServiceStopping:
            seen.stopped = True
        seen.sent = session.next_seq
    return seen


def test_sigterm_under_load_loses_no_frame(face_clip: list[bytes]) -> None:
    """Every frame that any client sent has its one outcome, every session is told and closed, and the exit is 0."""

    async def load(process: Process) -> list[Seen]:
        busy = asyncio.Semaphore(0)
        clients = [asyncio.create_task(stream_until_stopped(process.url, face_clip, busy)) for _ in range(SESSIONS)]
        for _ in clients:
            await busy.acquire()
        process.signal()
        return await asyncio.gather(*clients)

    with started() as process:
        clients = asyncio.run(asyncio.wait_for(load(process), 60))
        assert process.process.wait(30) == 0
    for seen in clients:
        assert sorted(seen.answered) == list(range(seen.sent))
        assert (seen.told, seen.received, seen.stopped) == (1, seen.sent, True)
        assert seen.sent > 0


def test_frames_over_a_rate_are_not_left_unread(face_jpeg: bytes) -> None:
    """A stopping service reads what an `every` client has sent within its credit, however low the rate is."""

    async def test(process: Process) -> list[dict[str, Any]]:
        async with open_websocket(process.ws + "?freshness=every", compression=None) as socket:
            started = json.loads(await socket.recv())
            for _ in range(started["max_in_flight"]):
                await socket.send(face_jpeg)
            await socket.recv()
            process.signal()
            heard = []
            with contextlib.suppress(ConnectionClosed):
                while True:
                    heard.append(json.loads(await socket.recv()))
            return heard

    with started(max_frames_per_s="0.1") as process:
        heard = asyncio.run(asyncio.wait_for(test(process), 60))
        assert process.process.wait(30) == 0
    assert heard[-1]["type"] == "session.closed"
    assert heard[-1]["totals"]["received"] == 8
    assert sum(message["type"] in ("prediction", "frame") for message in heard) == 7


async def heard_until_closed(socket: Any, jpeg: bytes) -> tuple[list[dict[str, Any]], int]:
    """A client that does not mind the goaway: it sends a frame for each answer until it is closed."""
    heard: list[dict[str, Any]] = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            heard.append(json.loads(await socket.recv()))
            if heard[-1]["type"] in ("prediction", "frame"):
                with contextlib.suppress(ConnectionClosed):  # What came before the close is still to be heard.
                    await socket.send(jpeg)
    return heard, socket.close_code


def test_who_stays_is_answered_until_it_is_closed(face_jpeg: bytes) -> None:
    """Frames sent after the goaway are answered; then come the totals and 1001, while the newly come get 503."""

    async def test(process: Process) -> tuple[list[dict[str, Any]], int]:
        async with open_websocket(process.ws + "?freshness=every", compression=None) as socket:
            assert json.loads(await socket.recv())["type"] == "session.started"
            await socket.send(face_jpeg)
            assert json.loads(await socket.recv())["type"] == "frame"
            process.signal()
            goaway = json.loads(await socket.recv())
            assert goaway["type"] == "goaway"
            assert 1500 < goaway["time_left_ms"] < 3000
            with pytest.raises(InvalidStatus) as refused:
                await open_websocket(process.ws)
            problem = json.loads(refused.value.response.body)
            assert refused.value.response.status_code == 503
            assert (problem["code"], problem["retryable"], problem["retry_after_ms"]) == ("unavailable", True, 1000)
            async with httpx.AsyncClient(base_url=process.url) as http:
                ready = await http.get("/readyz")
                assert (ready.status_code, ready.json()["stopping"]) == (503, True)
                assert (await http.get("/healthz")).status_code == 200
            await socket.send(face_jpeg)
            return await heard_until_closed(socket, face_jpeg)

    with started(drain_ms="3000") as process:
        (*answers, closed), code = asyncio.run(asyncio.wait_for(test(process), 60))
        assert process.process.wait(30) == 0
    assert [answer["seq"] for answer in answers] == list(range(1, len(answers) + 1))
    assert {answer["type"] for answer in answers} == {"frame", "prediction"}
    assert (closed["type"], closed["totals"]["received"], code) == ("session.closed", len(answers) + 1, 1001)
    assert sum(closed["totals"]["outcomes"].values()) == closed["totals"]["received"]


def test_a_second_signal_cuts_it_short() -> None:
    """The second signal ends what the first one would have waited for; clients are told why, and the exit is 0."""

    async def test(process: Process) -> tuple[dict[str, Any], int]:
        async with open_websocket(process.ws, compression=None) as socket:
            assert json.loads(await socket.recv())["type"] == "session.started"
            process.signal()
            assert json.loads(await socket.recv())["type"] == "goaway"
            process.signal()
            error = json.loads(await socket.recv())
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            return error, closed.value.rcvd.code

    with started(drain_ms="600000") as process:
        error, code = asyncio.run(asyncio.wait_for(test(process), 60))
        assert process.process.wait(30) == 0
    assert (error["code"], error["retryable"], error["close_code"], code) == ("going_away", True, 1001, 1001)


def test_a_load_that_does_not_end_is_left_behind(face_jpeg: bytes) -> None:
    """Any client can have a model loaded, by WebSocket and by REST, and the exit waits for neither: 0."""

    async def test(process: Process) -> None:
        async with (
            open_websocket(f"{process.ws}?model={ENDLESS}"),
            httpx.AsyncClient(base_url=process.url, timeout=60) as http,
        ):
            await asyncio.to_thread(line_with, process.process, "Loading without end")
            with pytest.raises(httpx.TimeoutException):  # A second one waits for the first.
                await http.post(f"/v1/predict?model={ENDLESS}", content=face_jpeg, headers=JPEG, timeout=0.1)
            process.signal()
            process.signal()
            await asyncio.to_thread(line_with, process.process, "Left behind while at work: loading")

    with started("-c", WITH_AN_ENDLESS_LOAD, drain_ms="0", predict_timeout_ms="60000") as process:
        asyncio.run(asyncio.wait_for(test(process), 60))
        assert process.process.wait(30) == 0


def test_stopped_while_it_starts() -> None:
    """A signal that comes before the service is ready ends it, whatever its start waits for: 0."""
    with launched("-c", WITH_AN_ENDLESS_LOAD, model=ENDLESS) as process:
        line_with(process, "Loading without end")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_both_ports_close_at_once(face_jpeg: bytes) -> None:
    """The port for operations does not begin to close only when the other one has waited for its slow clients."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        ops_port = free.getsockname()[1]
    with started(ops_port=str(ops_port), drain_ms="0", predict_timeout_ms="60000") as process:
        url = httpx.URL(process.url)
        with socket.create_connection((url.host, url.port), timeout=30) as upload:
            upload.sendall(
                f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
                f"Content-Length: {len(face_jpeg)}\r\nExpect: 100-continue\r\n\r\n".encode()
            )
            assert upload.recv(4096).startswith(b"HTTP/1.1 100")
            process.signal()
            with contextlib.suppress(OSError):  # Refused, or reset as it closes.
                while True:
                    socket.create_connection(("127.0.0.1", ops_port), timeout=30).close()
            upload.sendall(face_jpeg)
            assert upload.recv(4096).startswith(b"HTTP/1.1 200")
        assert process.process.wait(30) == 0
