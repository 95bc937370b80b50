"""Motion JPEG from a pipe: pictures one after the other, passed on as they are, without decoding."""

import os
import re
import select
import sys
import threading
import time
from pathlib import Path
from typing import Self

from service.streaming.errors import USAGE, ClipError
from service.streaming.frame import ClipFrame

STDIN = "-"
_START = b"\xff\xd8\xff"
# What ends a run of entropy-coded bytes: a marker that is neither a stuffed 0xFF nor a restart (ITU-T T.81, B.1.1).
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_END = 0xD9
_READ_BYTES = 1 << 18
_MOST_BYTES = 1 << 25
_LOOK_MS = 100


class JpegPipe:
    """Pictures from standard input or a FIFO. Its methods block, and may be called from any thread.

    Bytes between pictures, such as the headers of a multipart stream, are passed over. A picture that is cut off by the
    end of the input is passed on: the service says what is wrong with it.
    """

    total = None

    def __init__(self, source: str, fps: float, *, is_live: bool) -> None:
        """``fps``: by which pictures are timed, unless they come at their own time (``is_live``)."""
        self.fps, self.is_live = fps, is_live
        self._name = "Standard input" if source == STDIN else source
        # A FIFO is opened without waiting for who writes to it; `read` waits.
        self._file = 0 if source == STDIN else os.open(source, os.O_RDONLY | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLIN)
        self._bytes = bytearray()
        self._index = 0
        self._started_ns: int | None = None
        self._ended = False
        self._closed = threading.Event()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, source: str, fps: float, *, is_live: bool) -> Self | None:
        """Of ``-`` or a FIFO; None if ``source`` is neither.

        Raises:
            ClipError: there is no standard input.
        """
        if source == STDIN and sys.__stdin__ is None:  # Its descriptor may be another file's by now.
            raise ClipError("There is no standard input.", exit_code=USAGE)
        is_pipe = source == STDIN or Path(source).is_fifo()
        return cls(source, fps, is_live=is_live) if is_pipe else None

    def fit(self, most_pixels: int) -> None:
        """Pictures are never made smaller: they are not decoded."""

    def read(self) -> ClipFrame | None:
        """The next picture, or None after the last.

        Raises:
            ClipError: there is no JPEG in what comes.
        """
        with self._lock:
            jpeg = self._next()
            if jpeg is None:
                return None
            self._started_ns = self._started_ns or time.monotonic_ns()
            by_rate = round(self._index * 1e6 / self.fps)
            time_us = (time.monotonic_ns() - self._started_ns) // 1000 if self.is_live else by_rate
            frame = ClipFrame(self._index, time_us, jpeg)
            self._index += 1
            return frame

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()
        with self._lock:
            if self._file:
                os.close(self._file)
                self._file = 0

    def _next(self) -> bytes | None:
        while True:
            start = self._bytes.find(_START)
            del self._bytes[: max(0, len(self._bytes) - len(_START)) if start < 0 and self._index else max(start, 0)]
            if start >= 0 and (end := picture_end(self._bytes)) is not None:
                jpeg = bytes(self._bytes[:end])
                del self._bytes[:end]
                return jpeg
            if (start < 0 and len(self._bytes) > _READ_BYTES) or len(self._bytes) > _MOST_BYTES:
                raise self._no_jpeg()
            if self._ended or not self._fill():
                return self._rest()

    def _rest(self) -> bytes | None:
        """What is left at the end: nothing, or a picture that is cut off."""
        rest, self._bytes = bytes(self._bytes), bytearray()
        if not self._index and not self._closed.is_set() and not rest.startswith(_START):
            raise self._no_jpeg()
        return rest if rest.startswith(_START) else None

    def _fill(self) -> bool:
        """Wait for bytes; False at their end."""
        while not self._closed.is_set():
            if self._poll.poll(_LOOK_MS):
                more = os.read(self._file, _READ_BYTES)
                self._bytes += more
                self._ended = not more
                return bool(more)
        return False

    def _no_jpeg(self) -> ClipError:
        return ClipError(
            f"{self._name} brings no Motion JPEG.\n"
            "ffmpeg makes it: ffmpeg -i CLIP -q:v 2 -f mjpeg - | timeconv stream -",
            exit_code=USAGE,
        )


def picture_end(data: bytes | bytearray) -> int | None:
    """Where the JPEG ends that ``data`` begins with, or None if not all of it is there.

    Segments are walked, since a thumbnail in one has an end of its own.
    """
    place = 2
    while (found := _MARKER.search(data, place)) is not None:
        marker, place = data[found.start() + 1], found.end()
        if marker == _END:
            return place
        if len(data) < place + 2:
            return None
        # Behind the header of a scan its bytes follow, up to the next marker.
        place += int.from_bytes(data[place : place + 2], "big")
    return None
