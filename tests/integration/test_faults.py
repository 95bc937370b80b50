"""What breaks inside the service, and clients that vanish at any point: who is hurt, and what is left."""

import asyncio
import contextlib
import json
import shutil
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service import engine
from service.inference.batch import Runner
from service.inference.workers import WorkerPool
from service.settings import Settings, shipped_model_store
from service.watchdog import EXIT_STUCK
from tests.conftest import LiveServer, serving
from tests.fakes import echo_runner
from timeconv_client import FrameOutcome, Prediction, connect

PATIENCE_S = 30


class Switch:
    """A network that does what the test says, until it says otherwise."""

    def __init__(self) -> None:
        self.now: Runner = echo_runner

    def __call__(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.now(windows)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Switch:
    """In the place of every network."""
    switch = Switch()

    class SwitchedPool(WorkerPool):
        def add_lane(self, name: str, runner: Runner, max_batch: int, *, parallel: bool = True) -> None:
            del runner, max_batch
            super().add_lane(name, switch, 8, parallel=parallel)

    monkeypatch.setattr(engine, "WorkerPool", SwitchedPool)
    return switch


async def outcomes(server: LiveServer, clip: list[bytes]) -> list[str]:
    """What becomes of a clip, frame by frame."""
    found: list[str] = []
    async with connect(server.url, freshness="every") as session:
        async for event in session.stream(clip):
            if isinstance(event, Prediction):
                found.append("prediction")
            elif isinstance(event, FrameOutcome):
                found.append(event.outcome)
    return found


def raises(_: NDArray[np.uint8]) -> NDArray[np.float32]:
    raise RuntimeError("broken")


def dies(_: NDArray[np.uint8]) -> NDArray[np.float32]:
    raise SystemExit  # Which a thread takes for its end, in silence.


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(raises, id="raises"),
        pytest.param(lambda windows: np.full((len(windows), 7), np.nan, np.float32), id="not a number"),
        pytest.param(lambda _: np.zeros((0, 7), np.float32), id="too few rows"),
        pytest.param(lambda windows: np.zeros((len(windows) + 1, 7), np.float32), id="too many rows"),
        pytest.param(lambda windows: np.zeros((len(windows), 6), np.float32), id="too few classes"),
        pytest.param(lambda windows: np.zeros(len(windows), np.float32), id="other shape"),
        pytest.param(lambda _: None, id="nothing"),
    ],
)
def test_a_network_that_breaks_and_recovers(network: Switch, broken: Runner, face_clip: list[bytes]) -> None:
    """Every frame of a broken network is `failed`, the service stays healthy, and then predicts as before."""
    with serving(Settings(port=0)) as server:
        network.now = broken
        during = asyncio.run(outcomes(server, face_clip[:8]))
        network.now = echo_runner
        after = asyncio.run(outcomes(server, face_clip[:8]))
        health = httpx.get(f"{server.url}/healthz")
    assert during == ["window_filling"] * 4 + ["failed"] * 4
    assert after == ["window_filling"] * 4 + ["prediction"] * 4
    assert (health.status_code, server.exits) == (200, [])


@contextlib.contextmanager
def red(server: LiveServer) -> Iterator[None]:
    """At the end of the block the service is not healthy and not ready, and asks to be ended, once."""
    yield
    until(lambda: server.exits != [])
    assert server.exits == [EXIT_STUCK]
    assert httpx.get(f"{server.url}/healthz").status_code == 503
    assert httpx.get(f"{server.url}/readyz").status_code == 503


def until(holds: Callable[[], bool]) -> None:
    """Ask again until something holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, "it did not come about"


def test_a_network_that_hangs(network: Switch, face_clip: list[bytes]) -> None:
    """Its frame is `failed`, the service is red and ends itself for its supervisor."""
    gate = threading.Event()

    def hangs(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert gate.wait(PATIENCE_S)
        return echo_runner(windows)

    network.now = hangs
    with serving(Settings(port=0, stuck_ms=200, workers=1)) as server:
        with red(server):
            assert asyncio.run(outcomes(server, face_clip[:5]))[4:] == ["failed"]
        gate.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_dies(network: Switch, face_clip: list[bytes]) -> None:
    """The frame that was with it is `failed`, the service is red and ends itself for its supervisor."""
    network.now = dies
    with serving(Settings(port=0, workers=1)) as server, red(server):
        assert asyncio.run(outcomes(server, face_clip[:5]))[4:] == ["failed"]


def test_a_process_that_hangs_exits(face_jpeg: bytes) -> None:
    """A process with a worker that hangs ends with the status for a supervisor; its caller is told before."""
    program = """
        import threading
        from service import engine
        from service.inference.workers import WorkerPool
        from service.serve import run
        from service.settings import Settings
        from service.telemetry.logs import configure_logging

        class HangingPool(WorkerPool):
            def add_lane(self, name, runner, max_batch, *, parallel=True):
                super().add_lane(name, lambda windows: threading.Event().wait(), max_batch, parallel=parallel)

        engine.WorkerPool = HangingPool
        settings = Settings(port=0, stuck_ms=200)
        configure_logging(settings)
        run(settings)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:  # noqa: S603 - ours
        assert process.stderr is not None
        address = next(line for line in process.stderr if "address=" in line).partition("address=")[2].strip()
        answer = httpx.post(f"{address}/v1/predict", content=face_jpeg, headers={"Content-Type": "image/jpeg"})
        process.stderr.read()
        assert process.wait(PATIENCE_S) == EXIT_STUCK
    assert answer.status_code == 500


def missing(model: Path) -> None:
    (model / "model.onnx").unlink()


def damaged(model: Path) -> None:
    content = bytearray((model / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (model / "model.onnx").write_bytes(content)


def of_another_shape(model: Path) -> None:
    manifest = json.loads((model / "manifest.json").read_text())
    manifest["input"]["shape"][-1] += 1
    (model / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("break_it", [missing, damaged, of_another_shape])
def test_a_bad_model_stops_the_start(break_it: Callable[[Path], None], tmp_path: Path) -> None:
    """A default network that is not as it should be ends the start with one line that names it."""
    for name in ("blazeface-short", "mini-xception-2d"):
        shutil.copytree(shipped_model_store() / name, tmp_path / name)
    break_it(tmp_path / "mini-xception-2d" / "1")
    environment = {"TIMECONV_MODEL_STORE": str(tmp_path), "TIMECONV_DEVICE": "cpu", "TIMECONV_LOG_LEVEL": "error"}
    command = [sys.executable, "-m", "service.cli", "serve", "--port", "0", "--model", "mini-xception-2d"]
    done = subprocess.run(  # noqa: S603 - ours
        command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "mini-xception-2d@1" in line


UPGRADE = (
    "GET /v1/stream?freshness=every&model={model} HTTP/1.1\r\nHost: localhost\r\n"
    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PREDICT = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {size}\r\n\r\n"
UNLOADED = "timeconv-mini-xception"


def frame(opcode: int, payload: bytes) -> bytes:
    """A WebSocket frame of a client, its mask 0."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 127]) + struct.pack("!Q", size)
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def steps(point: str, jpeg: bytes) -> list[bytes | str]:
    """What a client sends before it vanishes at this point; a text is waited for."""
    upgrade = UPGRADE.format(model="").encode()
    update = json.dumps({"type": "session.update", "options": {"model": UNLOADED}})
    post = PREDICT.format(size=len(jpeg)).encode()
    picture = frame(2, jpeg)
    started: list[bytes | str] = [upgrade, "session.started"]
    return {
        "connected": [],
        "within the upgrade": [upgrade[:60]],
        "before the accept": [upgrade],
        "while its network is loaded": [UPGRADE.format(model=UNLOADED).encode()],
        "after bad options": [UPGRADE.format(model="none").encode()],
        "started": started,
        "within a frame": [*started, picture[:-100]],
        "frames in work": [*started, picture * 8],
        "between answers": [*started, picture * 8, '"seq":0'],
        "while a new network is loaded": [*started, frame(1, update.encode())],
        "while it closes": [*started, picture * 8, frame(1, b'{"type":"session.close"}')],
        "within an upload": [post + jpeg[:-100]],
        "while its call is worked on": [post + jpeg],
    }[point]  # fmt: skip


POINTS = [
    "connected", "within the upgrade", "before the accept", "while its network is loaded", "after bad options",
    "started", "within a frame", "frames in work", "between answers", "while a new network is loaded",
    "while it closes", "within an upload", "while its call is worked on",
]  # fmt: skip


NARROW = Settings(port=0, max_sessions=1, max_waiting_predictions=1, resume_grace_ms=0)
"""One place of each kind: who leaves his taken is found by the next."""


@pytest.fixture(scope="module")
def narrow() -> Iterator[LiveServer]:
    """A service with one place."""
    with serving(NARROW) as server:
        yield server


@pytest.mark.parametrize("way", ["reset", "end"])
@pytest.mark.parametrize("point", POINTS)
def test_a_client_that_vanishes(
    point: str, way: str, narrow: LiveServer, face_jpeg: bytes, face_clip: list[bytes]
) -> None:
    """Wherever it was, its place is free again, nothing of it is left, and the next client is served."""
    # A network is loaded once in the life of a service.
    with serving(NARROW) if point.endswith("loaded") else contextlib.nullcontext(narrow) as server:
        url = httpx.URL(server.url)
        with socket.create_connection((url.host, url.port or 80), PATIENCE_S) as client:
            if way == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for step in steps(point, face_jpeg):
                if isinstance(step, bytes):
                    client.sendall(step)
                    continue
                heard = b""
                while step.encode() not in heard:
                    heard += client.recv(65_536)
        with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as http:
            until(lambda: held(http) == 0)
            until(lambda: http.post("/v1/predict", content=face_jpeg, headers=JPEG).status_code == 200)
            assert asyncio.run(outcomes(server, face_clip[:5]))[-1] == "prediction"
            assert http.get("/healthz").status_code == 200


JPEG = {"Content-Type": "image/jpeg"}


def held(http: httpx.Client) -> float:
    """Sessions, frames, and what waits, as the service counts them."""
    names = ("timeconv_sessions", "timeconv_frames_in_flight", "timeconv_waiting_sources", "timeconv_waiting_windows")
    lines = [line for line in http.get("/metrics").text.splitlines() if line.startswith(names)]
    return sum(float(line.rpartition(" ")[2]) for line in lines if "_total" not in line)
