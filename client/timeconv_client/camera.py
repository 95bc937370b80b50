"""Frames of cameras and video files as JPEG; needs OpenCV, which the extra ``camera`` brings.

Both are context managers and iterators, with and without ``async``. They read and encode on threads of their own.
"""

import asyncio
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from timeconv_client.errors import TimeConvClientError
from timeconv_client.feeding import Frame

FALLBACK_FPS = 25.0
MAX_FPS = 1000.0
DEFAULT_QUALITY = 90
DEFAULT_LONGEST_SIDE = 1280
"""Well under what the service takes, and enough for a face that fills a fifth of the picture."""
_LOG_LEVEL_SILENT = 0

Picture = NDArray[np.uint8]


class CannotRead(TimeConvClientError):
    """There is no such camera or file, or nothing in it that OpenCV can read."""


class Capture(Protocol):
    """What gives pictures: a `cv2.VideoCapture`."""

    def grab(self) -> bool:
        """Wait for the next picture and take it; False after the last."""
        ...

    def retrieve(self) -> tuple[bool, Any]:
        """Decode the picture taken last, BGR [h, w, 3]."""
        ...

    def get(self, property_id: int, /) -> float:
        """A property of the source."""
        ...

    def release(self) -> None:
        """Give the source back."""
        ...


class _Source:
    """What cameras and videos share: `read` blocks, the rest is built on it."""

    def __init__(self, capture: Capture, quality: int, longest_side: int) -> None:
        self._capture = capture
        self._quality = quality
        self._longest_side = longest_side
        self._reader: ThreadPoolExecutor | None = None

    def read(self) -> Frame | None:
        """The next frame, or None after the last, or once it is closed. Blocks."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the source back once a read in progress is done. Blocks."""
        if self._reader is not None:
            self._reader.shutdown(wait=False)

    def _encoded(self, captured_us: int) -> Frame | None:
        """The picture taken last as a frame."""
        found, picture = self._capture.retrieve()
        if not found:
            return None
        return Frame(encode(picture, self._quality, self._longest_side), captured_us)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        frame = self.read()
        if frame is None:
            raise StopIteration
        return frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="timeconv-client-camera")
        frame = await asyncio.get_running_loop().run_in_executor(self._reader, self.read)
        if frame is None:
            raise StopAsyncIteration
        return frame

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # To its end, even if it is cancelled: what is closed is closed.
        closing = asyncio.ensure_future(asyncio.to_thread(self.close))
        try:
            await asyncio.shield(closing)
        finally:
            await asyncio.wait([closing])


class Camera(_Source):
    """A live source: each frame is one taken after it was asked for, so none is ever old. No frame waits anywhere.

    A thread takes every picture, which keeps the driver's own queue empty, and decodes and encodes those asked for.
    ``captured_us`` is of `time.monotonic_ns`.
    """

    def __init__(self, capture: Capture, *, quality: int, longest_side: int) -> None:
        """Take over an open capture."""
        super().__init__(capture, quality, longest_side)
        self._condition = threading.Condition()
        self._wanted = False
        self._frame: Frame | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._grabber = threading.Thread(target=self._grab, name="timeconv-client-grabber")
        self._grabber.start()

    def read(self) -> Frame | None:
        """Wait for the next frame; None once the camera gives no more, or is closed."""
        with self._condition:
            self._frame, self._wanted = None, True
            self._condition.wait_for(lambda: self._frame is not None or self._ended)
            if self._error is not None:
                raise self._error
            return self._frame

    def close(self) -> None:
        """Stop, and give the camera back. Waits for the picture that is being taken."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()
        self._grabber.join()
        super().close()

    def _grab(self) -> None:
        try:
            while not self._ended and self._capture.grab():
                captured_us = time.monotonic_ns() // 1000
                if self._wanted:
                    self._wanted = False
                    self._give(self._encoded(captured_us))
        except BaseException as error:  # noqa: BLE001 - raised to whoever reads
            self._error = error
        finally:
            self._capture.release()
            with self._condition:
                self._ended = True
                self._condition.notify_all()

    def _give(self, frame: Frame | None) -> None:
        with self._condition:
            self._frame = frame
            self._wanted = self._wanted or frame is None
            self._condition.notify_all()


class Video(_Source):
    """A file: every frame, as fast as they are asked for, or with ``realtime`` each at its time.

    In real time, a frame whose time is over when it is asked for is left out. ``captured_us`` is its time in the video.
    """

    def __init__(
        self,
        capture: Capture,
        *,
        quality: int,
        longest_side: int,
        realtime: bool,
    ) -> None:
        """Take over an open capture."""
        super().__init__(capture, quality, longest_side)
        self.fps = frame_rate(capture)
        self._realtime = realtime
        self._index = 0
        self._began_s: float | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def read(self) -> Frame | None:
        """The next frame, or None after the last, or once it is closed."""
        with self._lock:
            while not self._closed.is_set() and self._capture.grab():
                # Not the container's time stamps: CAP_PROP_POS_MSEC repeats or jumps with some formats.
                time_s, self._index = self._index / self.fps, self._index + 1
                if self._realtime and not self._is_due(time_s):
                    continue
                if (frame := self._encoded(round(time_s * 1_000_000))) is not None:
                    return frame
            return None

    def close(self) -> None:
        """Give the file back, once a read in progress is done."""
        self._closed.set()
        with self._lock:
            self._capture.release()
        super().close()

    def _is_due(self, time_s: float) -> bool:
        """Wait for a frame's time; False if the next one's has come."""
        now_s = time.monotonic()
        if self._began_s is None:
            self._began_s = now_s
        left_s = self._began_s + time_s - now_s
        if left_s > 0:
            return not self._closed.wait(left_s)
        return left_s > -1 / self.fps


def camera(
    source: int | str = 0, *, quality: int = DEFAULT_QUALITY, longest_side: int = DEFAULT_LONGEST_SIDE
) -> Camera:
    """Open a camera, by its index, or a live stream, by its URL. Blocks while the driver starts.

    Args:
        source: 0 is the first camera; a URL is whatever OpenCV reads, such as ``rtsp://...``.
        quality: of the JPEGs, 1..100.
        longest_side: in pixels; larger pictures are scaled down.

    Raises:
        CannotRead: there is no such camera.
    """
    _require_sizes(quality, longest_side)
    return Camera(_open(source, f"Camera {source}"), quality=quality, longest_side=longest_side)


def video(
    path: str | Path,
    *,
    realtime: bool = False,
    quality: int = DEFAULT_QUALITY,
    longest_side: int = DEFAULT_LONGEST_SIDE,
) -> Video:
    """Open a video file.

    Args:
        path: a file that OpenCV reads.
        realtime: give each frame at its time, as a camera would; else all, as fast as they are asked for.
        quality: of the JPEGs, 1..100.
        longest_side: in pixels; larger pictures are scaled down.

    Raises:
        CannotRead: there is no such file, or OpenCV cannot read it.
    """
    _require_sizes(quality, longest_side)
    if not Path(path).is_file():
        raise CannotRead(f"No such file: {path}")
    return Video(_open(str(path), str(path)), quality=quality, longest_side=longest_side, realtime=realtime)


def encode(picture: Picture, quality: int = DEFAULT_QUALITY, longest_side: int = DEFAULT_LONGEST_SIDE) -> bytes:
    """JPEG of a picture, uint8 BGR [h, w, 3] or gray [h, w], scaled down to at most ``longest_side`` pixels."""
    height, width = picture.shape[:2]
    scale = longest_side / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return jpeg.tobytes()


def _open(source: int | str, name: str) -> cv2.VideoCapture:
    with quiet_opencv():
        capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        capture.release()
        raise CannotRead(f"{name} gives no picture that OpenCV can read")
    return capture


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """OpenCV reports every format it has tried on stderr; an error says in one line what is wrong."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(_LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def frame_rate(capture: Capture) -> float:
    """Frames per second, or `FALLBACK_FPS` where the source tells none that can be."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if math.isfinite(fps) and 0 < fps <= MAX_FPS else FALLBACK_FPS


def _require_sizes(quality: int, longest_side: int) -> None:
    if longest_side < 1:
        raise ValueError(f"longest_side must be 1 or more, not {longest_side}")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, not {quality}")
