"""Stand-ins that tests hand to the code in the place of clocks, networks, detectors and event loops."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.inference.batch import Runner
from service.inference.models import LoadedNetwork
from service.inference.scheduler import Batch, Delivery, Fate, WindowItem
from service.protocol import FaceResult, Outcome
from service.vision.boxes import Box
from service.vision.crop import CropGeometry
from service.vision.detect import Face
from service.vision.look import StageTimes

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

NETWORK = LoadedNetwork(
    name="fake",
    version="1",
    lane="fake@1",
    labels=LABELS,
    uncertain_below=0.5,
    geometry=CropGeometry(),
    max_batch=4,
)

UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
"""A request for a WebSocket, without the empty line at its end."""


class ManualClock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


def echo_runner(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities that name the window: its first pixel / 255 for the first label, the rest for the last."""
    probabilities = np.zeros((len(windows), len(LABELS)), np.float32)
    probabilities[:, 0] = windows[:, 0, 0, 0] / 255
    probabilities[:, -1] = 1 - probabilities[:, 0]
    return probabilities


class GatedRunner:
    """A network that stands still in each call until it is let go; counts what it was given."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.sizes: list[int] = []

    def __call__(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.sizes.append(len(windows))
        self.entered.release()
        assert self.gate.acquire(timeout=30)
        return echo_runner(windows)

    def await_call(self) -> None:
        """Wait until a call has begun."""
        assert self.entered.acquire(timeout=30)

    def let_go(self, calls: int = 1) -> None:
        """Let calls return."""
        self.gate.release(calls)


def assert_answers_in_threads(network: Runner, batches: Sequence[NDArray[np.uint8]]) -> None:
    """A thread for each batch asks for it ten times, all at once; each gets what its batch gets alone."""
    expected = [network(batch) for batch in batches]
    outputs: dict[int, list[NDArray[np.float32]]] = {}

    def work(number: int) -> None:
        outputs[number] = [network(batches[number]) for _ in range(10)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, alone in enumerate(expected):
        for output in outputs[number]:
            np.testing.assert_array_equal(alone, output)


class FailingOn:
    """A network that raises for any batch that holds a window whose first pixel is one of ``marks``."""

    def __init__(self, *marks: int) -> None:
        self.marks = set(marks)
        self.sizes: list[int] = []

    def __call__(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.sizes.append(len(windows))
        if self.marks & set(windows[:, 0, 0, 0].tolist()):
            raise RuntimeError("cannot stand this window")
        return echo_runner(windows)


class FixedDetector:
    """Finds the faces it was told to."""

    name = "fixed"

    def __init__(self, *boxes: Box) -> None:
        self.faces = [Face(box, 0.9) for box in boxes]

    def detect(self, gray: NDArray[np.uint8]) -> list[Face]:  # noqa: ARG002 - the protocol's
        return self.faces


class Letterbox:
    """Collects the fates of windows, in the order they were delivered."""

    def __init__(self) -> None:
        self.fates: list[tuple[str, Fate]] = []
        self.arrived = threading.Semaphore(0)

    def item(
        self,
        name: str,
        *,
        key: object = None,
        face: int = 0,
        mark: int = 0,
        replaces: bool = False,
        expires_s: float | None = None,
    ) -> WindowItem:
        """A window called ``name`` whose first pixel is ``mark``; its key is its name unless another is given."""

        def deliver(fate: Fate) -> None:
            self.fates.append((name, fate))
            self.arrived.release()

        return WindowItem(
            key=name if key is None else key,
            lane="fake@1",
            window=[np.full((48, 48), mark, np.uint8)] * 5,
            replaces=replaces,
            deliver=deliver,
            expires_s=expires_s,
            face=face,
        )

    def await_fates(self, count: int) -> None:
        """Wait until ``count`` more have come."""
        for _ in range(count):
            assert self.arrived.acquire(timeout=30)

    @property
    def names(self) -> list[str]:
        """Whose fates came, in order."""
        return [name for name, _ in self.fates]


class ScriptedSource:
    """A source whose steps the test wrote; a step that is a function is called on the worker."""

    def __init__(self, *steps: object) -> None:
        self.steps = list(steps)
        self.abortions: list[Exception | None] = []

    @property
    def has_frames(self) -> bool:
        return bool(self.steps)

    def work(self) -> WindowItem | Delivery | None:
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step  # type: ignore[return-value] # the test gave what a source may return

    def aborted(self, error: Exception | None) -> Delivery:
        return lambda: self.abortions.append(error)


def post_at_once(deliveries: Sequence[Delivery]) -> None:
    """An outbox without an event loop: deliveries run where they are posted."""
    for delivery in deliveries:
        delivery()


class Recorder:
    """An observer of frames and batches that writes down what it is told."""

    def __init__(self) -> None:
        self.received = 0
        self.outcomes: list[Outcome] = []
        self.faces: list[FaceResult] = []
        self.batches: list[tuple[int, str]] = []

    def frame_received(self, size_bytes: int) -> None:  # noqa: ARG002 - the protocol's
        self.received += 1

    def frame_done(
        self,
        outcome: Outcome,
        times: StageTimes,  # noqa: ARG002 - the protocol's, as those below
        total_s: float,  # noqa: ARG002
        age_s: float,  # noqa: ARG002
        faces: Sequence[FaceResult] = (),
    ) -> None:
        self.outcomes.append(outcome)
        self.faces += faces

    def batch_ran(self, batch: Batch, queue_s: Sequence[float], infer_s: float) -> None:  # noqa: ARG002
        self.batches.append((len(batch.items), batch.reason))


class Pipe(asyncio.Transport):
    """A transport whose client takes nothing: what is written stays, and closing waits until it is cut off."""

    def __init__(self, address: str = "192.0.2.1", *, half_closes: bool = True) -> None:
        super().__init__(extra={"peername": (address, 1)})
        self.protocol: asyncio.BaseProtocol
        self.half_closes = half_closes
        self.written = b""
        self.closing = self.ended_writing = self.is_reading_paused = False
        self.cut_off = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        if not self.cut_off.is_set():
            self.closing = True
            self.cut_off.set()
            self.protocol.connection_lost(None)

    def can_write_eof(self) -> bool:
        return self.half_closes

    def write_eof(self) -> None:
        self.ended_writing = True

    def pause_reading(self) -> None:
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        self.is_reading_paused = False

    def answers(self) -> list[int]:
        """The HTTP statuses of what was answered."""
        return [int(part[:3]) for part in self.written.split(b"HTTP/1.1 ")[1:]]
