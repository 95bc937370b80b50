"""What integration tests share: a real server on a free port, and real pictures of a face."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from skimage import data

from loadtest.clips import moving_face
from service.serve import listen, serve
from service.settings import Settings


@dataclass(frozen=True)
class LiveServer:
    """A service that runs in a thread of this process."""

    url: str
    exits: list[int]

    @property
    def ws(self) -> str:
        """Address of the stream."""
        return self.url.replace("http", "ws", 1) + "/v1/stream"


@contextmanager
def serving(
    settings: Settings, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> Iterator[LiveServer]:
    """Serve in a thread, on a loop of asyncio's own unless another is given, until the block ends."""

    def run(listening: socket.socket) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main(listening))

    exits: list[int] = []
    ready = threading.Event()
    stops: list[Callable[[], object]] = []

    async def main(listening: socket.socket) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))
        await serve(settings, listening, stop, exit_process=exits.append, on_ready=ready.set)

    with listen(settings) as listening:
        thread = threading.Thread(target=run, args=[listening], daemon=True)
        thread.start()
        try:
            assert ready.wait(30), "the service did not get ready"
            yield LiveServer(f"http://127.0.0.1:{listening.getsockname()[1]}", exits)
        finally:
            for stop in stops:
                stop()
            thread.join(30)
    assert not thread.is_alive(), "the service did not stop"


@pytest.fixture(scope="session")
def live_server() -> Iterator[LiveServer]:
    """One service with default settings for all tests that do not change it."""
    with serving(Settings(port=0)) as server:
        yield server


def jpeg(picture: NDArray[np.uint8], quality: int = 90) -> bytes:
    """A JPEG of a gray [h, w] or RGB [h, w, 3] picture."""
    colorspace, pixels = ("GRAY", picture[:, :, np.newaxis]) if picture.ndim == 2 else ("RGB", picture)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality, colorspace=colorspace)


@pytest.fixture(scope="session")
def astronaut() -> NDArray[np.uint8]:
    """A smiling face, RGB [512, 512, 3] (NASA, public domain)."""
    return data.astronaut()


@pytest.fixture(scope="session")
def face_jpeg(astronaut: NDArray[np.uint8]) -> bytes:
    """The astronaut as a JPEG of 512x512 pixels."""
    return jpeg(astronaut)


@pytest.fixture(scope="session")
def empty_jpeg() -> bytes:
    """A picture without a face, 320x240."""
    gradient = np.tile(np.linspace(0, 255, 320, dtype=np.uint8), (240, 1))
    return jpeg(gradient)


@pytest.fixture(scope="session")
def face_clip() -> list[bytes]:
    """Twenty frames of a moving, smiling face, as JPEGs."""
    return [jpeg(frame) for frame in moving_face(20)]


@pytest.fixture
def heeded_interrupt() -> Iterator[None]:
    """Heed SIGINT, which who starts the tests in the background may have them ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
