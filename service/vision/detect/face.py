"""What every face detector takes and gives."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import Box


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face found in a frame.

    ``box`` is in pixels of the frame given to the detector and may reach over its edges. ``score`` is 0..1 and says
    how sure this detector is; scores of different detectors cannot be compared. ``keypoints`` is float32 [k, 2], x
    and y in pixels: first the eye on the picture's left, the eye on its right and the tip of the nose, then what
    the detector's own docstring says; None where the detector has none.
    """

    box: Box
    score: float
    keypoints: NDArray[np.float32] | None = None


class Detector(Protocol):
    """Finds faces in gray frames; one instance may be called from several threads at once."""

    @property
    def name(self) -> str:
        """The detector's name in settings, manifests and metrics."""
        ...

    def detect(self, gray: NDArray[np.uint8]) -> list[Face]:
        """Find the faces of ``gray``, uint8 [height, width] of any size, largest box first.

        Returns an empty list where there is no face, however small or oddly shaped the frame is.
        """
        ...


def largest_first(faces: Iterable[Face]) -> list[Face]:
    """Sort by area: the largest face is the one nearest to the camera, while scores saturate on every clear face."""
    return sorted(faces, key=lambda face: face.box.area, reverse=True)


def fit_scale(gray: NDArray[np.uint8], max_side: int) -> float:
    """The factor (at most 1) that brings the longest side of ``gray`` down to ``max_side`` pixels."""
    return min(1.0, float(max_side / max(gray.shape)))
