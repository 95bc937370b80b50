"""YuNet (Wu et al. 2023) by file path, through OpenCV's own reader."""

import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import Box
from service.vision.detect.face import Face, fit_scale, largest_first


class YuNet:
    """Faces by a YuNet ONNX file, e.g. ``face_detection_yunet_2023mar.onnx`` of OpenCV's model zoo (MIT).

    The frame is first brought down to ``max_side`` pixels. Key points 3 and 4 are the corners of the mouth, the
    picture's left one first. ``cv2.FaceDetectorYN`` keeps its input size and buffers, so each thread gets its own
    on its first call (about 3 ms).
    """

    name = "yunet"

    def __init__(self, file: Path, *, max_side: int = 320, min_score: float = 0.6, nms_iou: float = 0.3) -> None:
        """Load ``file`` once, so that a bad file is told at start.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no YuNet network.
        """
        if not file.is_file():
            msg = f"no YuNet network at {file}"
            raise FileNotFoundError(msg)
        self._file = file
        self._max_side = max_side
        self._min_score = min_score
        self._nms_iou = nms_iou
        self._local = threading.local()
        try:
            self._network().detect(np.zeros((64, 64, 3), np.uint8))
        except cv2.error as error:
            msg = f"{file} is no YuNet network that OpenCV can read"
            raise ValueError(msg) from error

    def detect(self, gray: NDArray[np.uint8]) -> list[Face]:
        """Find the faces of ``gray``, uint8 [height, width], largest first, with five key points each."""
        if not gray.size:
            return []
        scale = fit_scale(gray, self._max_side)
        height, width = (max(1, round(side * scale)) for side in gray.shape)
        small = gray if scale == 1 else cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
        network = self._network()
        network.setInputSize((width, height))
        _, rows = network.detect(cv2.cvtColor(small, cv2.COLOR_GRAY2BGR))
        if rows is None:
            return []
        sx, sy = gray.shape[1] / width, gray.shape[0] / height
        return largest_first(_face(row, sx, sy) for row in rows if row[2] > 0 and row[3] > 0)

    def _network(self) -> cv2.FaceDetectorYN:
        network: cv2.FaceDetectorYN | None = getattr(self._local, "network", None)
        if network is None:
            network = self._local.network = cv2.FaceDetectorYN.create(
                str(self._file), "", (64, 64), self._min_score, self._nms_iou, 100
            )
        return network


def _face(row: NDArray[np.float32], sx: float, sy: float) -> Face:
    """One face from YuNet's row of 15: x, y, w, h, five points, score."""
    x, y, w, h = (float(value) for value in row[:4])
    points = row[4:14].reshape(5, 2) * np.array([sx, sy], np.float32)
    return Face(Box(x, y, w, h).scaled(sx, sy), float(row[14]), points)
