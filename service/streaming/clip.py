"""Frames of a video file, camera or pipe, as JPEG, decoded and encoded ahead of time on a thread."""

import asyncio
import math
import os
import stat
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.streaming.errors import USAGE, ClipError, require_utf8
from service.streaming.frame import Clip, ClipFrame
from service.streaming.pipe import JpegPipe
from service.streaming.times import FrameTimes
from timeconv_client.camera import FALLBACK_FPS, encode, frame_rate, quiet_opencv

MOST_PIXELS = 1 << 26
"""Twice 8K: 200 MB of memory a picture."""
_LOOK_AHEAD = 8
_LONGEST_JPEG_SIDE = 65_500


class Video:
    """An open video file, URL or camera."""

    def __init__(self, capture: cv2.VideoCapture, first: NDArray[np.uint8], *, is_live: bool, quality: int) -> None:
        """Take over a capture whose first frame has been read."""
        self.fps = frame_rate(capture)
        self.total = None if is_live else _frame_count(capture)
        self.is_live = is_live
        self._capture = capture
        self._first: NDArray[np.uint8] | None = first
        self._quality = quality
        self._most_pixels = MOST_PIXELS
        self._index = 0
        self._times = FrameTimes(self.fps)
        self._started_ns = time.monotonic_ns()
        self._lock = threading.Lock()

    def fit(self, most_pixels: int) -> None:
        """Send no picture of more pixels than this: make it smaller."""
        self._most_pixels = most_pixels

    def read(self) -> ClipFrame | None:
        """The next frame, or None after the last."""
        with self._lock:
            picture = self._first if self._first is not None else _read(self._capture)
            self._first = None
            if picture is None:
                return None
            small, shrunk = _at_most(picture, self._most_pixels)
            jpeg = encode(small, self._quality, _LONGEST_JPEG_SIDE)
            frame = ClipFrame(self._index, self._time_us(), jpeg, shrunk)
            self._index += 1
            return frame

    def close(self) -> None:
        """Give the file or camera back, once a read in progress is done; there are no more frames then."""
        with self._lock:
            self._first = None
            self._capture.release()

    def _time_us(self) -> int:
        if self.is_live:
            return (time.monotonic_ns() - self._started_ns) // 1000
        return self._times.after(self._capture.get(cv2.CAP_PROP_POS_MSEC))


def open_clip(source: str, quality: int, *, fps: float = FALLBACK_FPS, every: bool = True) -> Clip:
    """Open a video file, a picture, a URL, a camera by its index, or Motion JPEG from a FIFO or, as ``-``, from stdin.

    ``fps`` times the pictures of a pipe if ``every`` is asked for; else they come at their own time.

    Raises:
        ClipError: there is no such file or camera, or nothing in it that OpenCV can read.
    """
    if (pipe := JpegPipe.of(source, fps, is_live=not every)) is not None:
        return pipe
    is_camera = source.isdecimal() and not Path(source).exists()
    if not is_camera and "://" not in source:
        _require_file(Path(source))
    # Of damaged files FFmpeg says much on stderr; read when it is first used.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    with quiet_opencv():  # An absolute path, since FFmpeg takes what is before a colon for a protocol.
        place = source if "://" in source else str(Path(source).absolute())
        capture = cv2.VideoCapture(int(source)) if is_camera else cv2.VideoCapture(place)
        _require_size(capture, source)
        first = _read(capture) if capture.isOpened() else None
    if first is None:
        capture.release()
        what = f"Camera {source} gives no picture" if is_camera else f"OpenCV can read no video in {source}"
        raise ClipError(f"{what}.\nGive a video file, or the index of a camera, such as 0.", exit_code=USAGE)
    is_live = is_camera or ("://" in source and _frame_count(capture) is None)
    return Video(capture, first, is_live=is_live, quality=quality)


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
    require_utf8(path)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        why = "No such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise ClipError(f"{why}: {path}", exit_code=USAGE) from error
    if stat.S_ISDIR(mode):
        raise ClipError(f"{path} is a directory; --out FOLDER goes through all videos in it.", exit_code=USAGE)
    if not stat.S_ISREG(mode):
        raise ClipError(f"{path} is neither a file nor a pipe.", exit_code=USAGE)


def _require_size(capture: cv2.VideoCapture, source: str) -> None:
    """Refuse pictures that take gigabytes, before one is decoded."""
    width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if width * height > MOST_PIXELS:
        capture.release()
        raise ClipError(
            f"The pictures of {source} are {width:.0f}x{height:.0f}; more than {MOST_PIXELS / 1e6:.0f} million pixels "
            "are not decoded.",
            exit_code=USAGE,
        )


def _at_most(picture: NDArray[np.uint8], most_pixels: int) -> tuple[NDArray[np.uint8], float]:
    """The picture made smaller if it has more pixels, and how many of its pixels a side make one of the result."""
    height, width = picture.shape[:2]
    side = max(math.sqrt(width * height / most_pixels), max(width, height) / _LONGEST_JPEG_SIDE)
    if side <= 1:
        return picture, 1.0
    size = max(1, math.floor(width / side)), max(1, math.floor(height / side))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8), width / size[0]


def _read(capture: cv2.VideoCapture) -> NDArray[np.uint8] | None:
    found, picture = capture.read()
    return np.asarray(picture, dtype=np.uint8) if found else None


def _frame_count(capture: cv2.VideoCapture) -> int | None:
    """What the container says; some say nothing, or a negative number."""
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if count >= 1 else None
