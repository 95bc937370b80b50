"""What integration tests share: a real server on a free port, and real pictures of a face."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import simplejpeg
import uvicorn
from numpy.typing import NDArray
from skimage import data

from service.app import create_app
from service.serve import listen, uvicorn_config
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
def serving(settings: Settings) -> Iterator[LiveServer]:
    """Serve in a thread until the block ends."""
    exits: list[int] = []
    with listen(settings) as listening:
        started = threading.Event()
        app = create_app(settings, exit_process=exits.append, on_ready=started.set)
        server = uvicorn.Server(uvicorn_config(app, settings))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            assert started.wait(30), "the service did not get ready"
            yield LiveServer(f"http://127.0.0.1:{listening.getsockname()[1]}", exits)
        finally:
            server.should_exit = True
            thread.join(15)
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


def moving_face(astronaut: NDArray[np.uint8], frames: int) -> list[bytes]:
    """A clip as JPEGs of 320x240: the astronaut's face drifts and comes nearer."""
    clip = []
    for index in range(frames):
        zoom = 0.75 + 0.15 * index / max(frames - 1, 1)
        shift = np.array([[zoom, 0, -30 + 20 * np.sin(index / 8)], [0, zoom, -10 + 8 * np.cos(index / 6)]])
        clip.append(jpeg(np.asarray(cv2.warpAffine(astronaut, shift, (320, 240)), np.uint8)))
    return clip


@pytest.fixture(scope="session")
def face_clip(astronaut: NDArray[np.uint8]) -> list[bytes]:
    """Twenty frames of a moving, smiling face."""
    return moving_face(astronaut, 20)
