"""How good a crop is: what a client shows beside an emotion, and what explains an uncertain one."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray


class CropQuality(NamedTuple):
    """Mean ``brightness`` 0..1, and ``sharpness``: variance of the Laplacian over the variance of the crop.

    The quotient makes sharpness independent of contrast and light; about 0 is a smear, above 1 is noise.
    """

    brightness: float
    sharpness: float


def crop_quality(crop: NDArray[np.uint8]) -> CropQuality:
    """Brightness and sharpness of a crop [48, 48]; a flat crop has sharpness 0."""
    mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(crop))
    if deviation == 0:
        return CropQuality(mean / 255, 0.0)
    _, edges = cv2.meanStdDev(cv2.Laplacian(crop, cv2.CV_16S))
    return CropQuality(mean / 255, (float(edges[0, 0]) / deviation) ** 2)
