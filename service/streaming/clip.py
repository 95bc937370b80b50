"""Frames of a video file or camera, as JPEG, decoded and encoded ahead of time on a thread."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from service.streaming.errors import USAGE, StreamError

FALLBACK_FPS = 25.0
MAX_FPS = 1000.0
_LOOK_AHEAD = 8
_LOG_LEVEL_SILENT = 0


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """A picture and when it is shown, or was taken, in microseconds since the first."""

    time_us: int
    jpeg: bytes


class Clip:
    """An open video. Its methods block, and may be called from any thread.

    ``total`` is how many frames it says it has, or None. ``is_live``: its pictures come at their own time.
    """

    def __init__(self, capture: cv2.VideoCapture, first: NDArray[np.uint8], *, is_live: bool, quality: int) -> None:
        """Take over a capture whose first frame has been read."""
        self.fps = _frame_rate(capture)
        self.total = None if is_live else _frame_count(capture)
        self.is_live = is_live
        self._capture = capture
        self._first: NDArray[np.uint8] | None = first
        self._quality = quality
        self._index = 0
        self._started_ns = time.monotonic_ns()
        self._lock = threading.Lock()

    def read(self) -> ClipFrame | None:
        """The next frame, or None after the last."""
        with self._lock:
            picture = self._first if self._first is not None else _read(self._capture)
            self._first = None
            if picture is None:
                return None
            frame = ClipFrame(self._time_us(), self._encode(picture))
            self._index += 1
            return frame

    def close(self) -> None:
        """Give the file or camera back, once a read in progress is done; there are no more frames then."""
        with self._lock:
            self._first = None
            self._capture.release()

    def _time_us(self) -> int:
        # Not the container's time stamps: CAP_PROP_POS_MSEC repeats or jumps with some formats.
        if self.is_live:
            return (time.monotonic_ns() - self._started_ns) // 1000
        return round(self._index * 1_000_000 / self.fps)

    def _encode(self, picture: NDArray[np.uint8]) -> bytes:
        # The service works on gray, so colour at half resolution loses nothing.
        jpeg: bytes = simplejpeg.encode_jpeg(
            np.ascontiguousarray(picture), quality=self._quality, colorspace="BGR", colorsubsampling="420"
        )
        return jpeg


def open_clip(source: str, quality: int) -> Clip:
    """Open a video file, a picture, a URL or, by its index, a camera.

    Raises:
        StreamError: there is no such file or camera, or nothing in it that OpenCV can read.
    """
    is_camera = source.isdecimal() and not Path(source).exists()
    if not is_camera and "://" not in source:
        _require_file(Path(source))
    with _quiet_opencv():
        capture = cv2.VideoCapture(int(source)) if is_camera else cv2.VideoCapture(source)
        first = _read(capture) if capture.isOpened() else None
    if first is None:
        capture.release()
        what = f"Camera {source} gives no picture" if is_camera else f"OpenCV can read no video in {source}"
        raise StreamError(f"{what}.\nGive a video file, or the index of a camera, such as 0.", exit_code=USAGE)
    is_live = is_camera or ("://" in source and _frame_count(capture) is None)
    return Clip(capture, first, is_live=is_live, quality=quality)


async def look_ahead(clip: Clip) -> AsyncGenerator[ClipFrame, None]:
    """Frames of ``clip``, read on a thread of their own, up to `_LOOK_AHEAD` ahead (live: one).

    Close the generator (`contextlib.aclosing`) to stop early; that does not wait for a read in progress.
    """
    loop = asyncio.get_running_loop()
    decoder = ThreadPoolExecutor(1, thread_name_prefix="timeconv-clip")
    ahead = 1 if clip.is_live else _LOOK_AHEAD
    reads = deque(loop.run_in_executor(decoder, clip.read) for _ in range(ahead))
    try:
        while (frame := await reads.popleft()) is not None:
            reads.append(loop.run_in_executor(decoder, clip.read))
            yield frame
    finally:
        for read in reads:
            read.cancel()
        decoder.shutdown(wait=False)


def _require_file(path: Path) -> None:
    if not path.exists():
        raise StreamError(f"No such file: {path}", exit_code=USAGE)
    if path.is_dir():
        raise StreamError(f"{path} is a directory; give a video file in it.", exit_code=USAGE)


def _read(capture: cv2.VideoCapture) -> NDArray[np.uint8] | None:
    found, picture = capture.read()
    return np.asarray(picture, dtype=np.uint8) if found else None


def _frame_rate(capture: cv2.VideoCapture) -> float:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if math.isfinite(fps) and 0 < fps <= MAX_FPS else FALLBACK_FPS


def _frame_count(capture: cv2.VideoCapture) -> int | None:
    """What the container says; some say nothing, or a negative number."""
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if count >= 1 else None


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV reports every format it has tried on stderr; we say in one line what is wrong."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(_LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
