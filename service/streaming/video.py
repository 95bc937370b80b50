"""A clip with its results drawn in, at the clip's length and rate."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from service.errors import BadImage
from service.streaming.errors import FAILED, USAGE, StreamError, cannot_write
from service.streaming.overlay import Overlay
from service.streaming.results import FrameResult
from service.vision.decode import read_header, upright
from timeconv_client.camera import FALLBACK_FPS, quiet_opencv

CODECS = {".mp4": "mp4v", ".mkv": "mp4v", ".avi": "MJPG", ".webm": "VP80"}
"""Of the encoders in OpenCV's own build: MPEG-4 is fast, WebM is what browsers play."""
_MOST_FPS = 240.0


class AnnotatedVideo:
    """A video file of constant rate. A picture stays until the next one's time, as in the clip.

    So a clip of varying rate keeps its length. Of pictures that come faster than the rate, some are left out.
    """

    def __init__(self, path: Path, fps: float) -> None:
        """The file is begun with the first picture, whose size it has; ``fps`` is the clip's.

        Raises:
            StreamError: the file cannot be written.
        """
        try:
            path.open("wb").close()
        except OSError as error:
            raise cannot_write(path, error, USAGE) from error
        self._path = path
        # Some containers have the unit of their stamps in place of a rate.
        self._fps = fps if fps <= _MOST_FPS else FALLBACK_FPS
        self._overlay = Overlay()
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._last: NDArray[np.uint8] | None = None
        self._written = 0

    def write(self, results: Iterable[FrameResult]) -> None:
        """Draw and add these frames, whose JPEGs are there.

        Raises:
            StreamError: OpenCV cannot encode such a video.
        """
        for result in results:
            due = round(result.time_s * self._fps)
            picture = self._picture(result)
            while self._last is not None and self._written < due:
                self._add(self._last)
            if self._written <= due + 1:
                self._add(picture)
            self._last = picture

    def close(self) -> None:
        """End the file.

        Raises:
            StreamError: it cannot be read again, as after a full disk, of which OpenCV says nothing.
        """
        if self._writer is None:
            return
        self._writer.release()
        if _frames_in(self._path) != self._written:
            raise StreamError(f"Cannot write {self._path}: the video was not written whole", exit_code=FAILED)

    def _picture(self, result: FrameResult) -> NDArray[np.uint8]:
        picture = self._decoded(result.frame.jpeg)
        # Before it is fitted, since the boxes are in its own pixels.
        self._overlay.draw(picture, result)
        return self._fitted(picture)

    def _decoded(self, jpeg: bytes) -> NDArray[np.uint8]:
        """The picture, upright; black in the video's size if it is damaged."""
        try:
            return upright(simplejpeg.decode_jpeg(jpeg, colorspace="BGR"), read_header(jpeg).orientation)
        except (ValueError, BadImage):
            width, height = self._size if self._writer is not None else (320, 240)
            return np.zeros((height, width, 3), np.uint8)

    def _fitted(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture in the video's size, which is that of the first."""
        if self._writer is None:
            # Encoders that halve the colours take even sizes only.
            self._size = max(2, picture.shape[1] & ~1), max(2, picture.shape[0] & ~1)
            self._writer = self._opened()
        if picture.shape[1::-1] != self._size:
            picture = np.asarray(cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        return picture

    def _opened(self) -> cv2.VideoWriter:
        with quiet_opencv():  # An absolute path, since FFmpeg takes what is before a colon for a protocol.
            codec = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
            writer = cv2.VideoWriter(str(self._path.absolute()), codec, self._fps, self._size)
        if not writer.isOpened():
            raise StreamError(
                f"OpenCV cannot encode {self._path} here; give another of {', '.join(CODECS)}", exit_code=FAILED
            )
        return writer

    def _add(self, picture: NDArray[np.uint8]) -> None:
        assert self._writer is not None
        with quiet_opencv():
            self._writer.write(picture)
        self._written += 1


def _frames_in(path: Path) -> int:
    """How many pictures a video has. MP4 knows, since its table comes last; in others they are counted."""
    with quiet_opencv():
        video = cv2.VideoCapture(str(path.absolute()))
        count = round(video.get(cv2.CAP_PROP_FRAME_COUNT)) if path.suffix.lower() == ".mp4" else 0
        while path.suffix.lower() != ".mp4" and video.grab():
            count += 1
        video.release()
    return count
