"""The paper's detector: OpenCV's cascade of Haar features for frontal faces (Viola and Jones 2001)."""

import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import Box
from service.vision.detect.face import Face, fit_scale, largest_first

_CASCADE = "haarcascade_frontalface_default.xml"
_MIN_FACE_PX = 24  # the cascade's own window


class Haar:
    """Faces by ``haarcascade_frontalface_default``, which ships inside OpenCV 4.

    The frame is first brought down to ``max_side`` pixels: time grows with the area, and the smallest face found is
    24 px of the smaller frame. ``min_neighbors`` windows must agree before a face counts. The score is n / (n + 10)
    for n windows that agreed. OpenCV would also give stage weights, but while it collects them it lets windows
    through that failed one of the last three stages, so boxes would no longer be those of the paper's plain
    ``detectMultiScale``.

    ``cv2.CascadeClassifier`` keeps state during a call, so each thread gets its own on its first call (about 13
    ms).
    """

    name = "haar"

    def __init__(self, *, max_side: int = 320, scale_factor: float = 1.1, min_neighbors: int = 5) -> None:
        """Find the cascade's file.

        Raises:
            FileNotFoundError: this OpenCV ships no Haar cascades (5.0 does not).
        """
        folder = getattr(getattr(cv2, "data", None), "haarcascades", None)
        self._file = Path(folder or "") / _CASCADE
        if not self._file.is_file():
            msg = f"OpenCV {cv2.__version__} ships no {_CASCADE}; opencv-python-headless 4.x does"
            raise FileNotFoundError(msg)
        self._max_side = max_side
        self._scale_factor = scale_factor
        self._min_neighbors = min_neighbors
        self._local = threading.local()

    def detect(self, gray: NDArray[np.uint8]) -> list[Face]:
        """Find the faces of ``gray``, uint8 [height, width], largest first, without key points."""
        if not gray.size:
            return []
        scale = fit_scale(gray, self._max_side)
        height, width = (round(side * scale) for side in gray.shape)
        if min(height, width) < _MIN_FACE_PX:
            return []
        small = gray if scale == 1 else cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
        rects, agreed = self._cascade().detectMultiScale2(
            small, scaleFactor=self._scale_factor, minNeighbors=self._min_neighbors
        )
        sx, sy = gray.shape[1] / width, gray.shape[0] / height
        return largest_first(
            Face(Box(*map(float, rect)).scaled(sx, sy), float(n / (n + 10)))
            for rect, n in zip(rects, agreed, strict=True)
        )

    def _cascade(self) -> cv2.CascadeClassifier:
        cascade: cv2.CascadeClassifier | None = getattr(self._local, "cascade", None)
        if cascade is None:
            cascade = self._local.cascade = cv2.CascadeClassifier(str(self._file))
        return cascade
