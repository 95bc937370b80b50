"""From a face's box to the network's picture: square, gray, 48x48.

The one copy of this code: training data sets, the geometry measurement and the service all crop with it, because
the same face reads as another emotion when its margin differs from what the network was trained on. It needs numpy
and OpenCV only.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import Box
from service.vision.pyramid import halve, halvings

CROP_SIDE = 48
_LARGEST_BLOCK = 4  # samples a side that are averaged into one pixel
_MOST_SAMPLES = CROP_SIDE * _LARGEST_BLOCK  # a side


@dataclass(frozen=True, slots=True)
class CropGeometry:
    """Which square around a detector's box is cropped; chosen per detector and written in the network's manifest.

    The square's side is ``scale`` times the box's mean side, (width + height) / 2; its centre is the box's centre
    moved by ``dx`` and ``dy`` times the square's side, right and down.
    """

    scale: float = 1.0
    dx: float = 0.0
    dy: float = 0.0

    def region(self, box: Box) -> Box:
        """The square that ``crop_face`` cuts out, in pixels of the frame; it may reach over the frame's edges."""
        side = self.scale * (box.w + box.h) / 2
        x, y = box.center
        return Box(x + self.dx * side - side / 2, y + self.dy * side - side / 2, side, side)


def crop_face(gray: NDArray[np.uint8], box: Box, geometry: CropGeometry) -> NDArray[np.uint8]:
    """Cut the face at ``box`` out of the frame ``gray``, uint8 [height, width]; returns uint8 [48, 48].

    Where the square reaches over the frame's edge, the edge's pixels are repeated.

    Raises:
        ValueError: the frame is empty, or the square has no finite place and positive size.
    """
    return crop_square(gray, geometry.region(box))


def crop_whole(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Squeeze a frame that was already cropped to the face, its centre square if it is not square, into uint8 [48, 48].

    A picture of 48x48 comes back as it is, which is how training pictures pass.

    Raises:
        ValueError: the frame is empty.
    """
    height, width = gray.shape
    side = min(height, width)
    return crop_square(gray, Box((width - side) / 2, (height - side) / 2, side, side))


def crop_square(gray: NDArray[np.uint8], region: Box) -> NDArray[np.uint8]:
    """Resample the square ``region`` of ``gray`` to uint8 [48, 48], at fractions of a pixel, edges repeated.

    Enlarging is bilinear. Shrinking averages n x n bilinear samples a pixel, at most one frame pixel apart: that is
    INTER_AREA by a whole factor, with the sub-pixel place that INTER_AREA alone cannot give. Against the exact area
    mean it is off by about one gray level; a place rounded to whole pixels would be off by two to six, and shake
    with the box. A square that would need n over 4 is halved beforehand: cheaper, and coarser.

    Raises:
        ValueError: the frame is empty, or the square has no finite place and positive size.
    """
    x, y, side, _ = region
    if not gray.size or not all(map(math.isfinite, region)) or side <= 0:
        msg = f"cannot crop {region} from a frame of shape {gray.shape}"
        raise ValueError(msg)
    if (block := _block(gray, region)) is not None and len(block) < _MOST_SAMPLES:
        return np.asarray(cv2.resize(block, (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    frame, x, y, side = _shrunk(gray, x, y, side)
    samples_a_side = CROP_SIDE * min(_LARGEST_BLOCK, math.ceil(side / CROP_SIDE))
    step = side / samples_a_side
    # Sample i lies in the middle of its step; OpenCV counts from the centre of the first pixel, boxes from its edge.
    to_frame = np.array([[step, 0, x + step / 2 - 0.5], [0, step, y + step / 2 - 0.5]])
    samples = cv2.warpAffine(
        frame,
        to_frame,
        (samples_a_side, samples_a_side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if samples_a_side > CROP_SIDE:
        samples = cv2.resize(samples, (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(samples, np.uint8)


def _block(gray: NDArray[np.uint8], region: Box) -> NDArray[np.uint8] | None:
    """The square itself where it lies on whole pixels and has a whole factor: no sample of it is between pixels."""
    x, y, side = int(region.x), int(region.y), int(region.w)
    if (x, y, side) != region[:3] or side % CROP_SIDE or x < 0 or y < 0:
        return None
    block = gray[y : y + side, x : x + side]
    return block if block.shape == (side, side) else None


def _shrunk(gray: NDArray[np.uint8], x: float, y: float, side: float) -> tuple[NDArray[np.uint8], float, float, float]:
    """Halve what a large square needs of the frame, to a side of at most 4 x 48; returns it and the square in it."""
    height, width = gray.shape
    # Beyond the frame everything repeats its edge, so a square further off shows the same as one that just misses it.
    x, y = min(max(x, -side - 1), width + 1.0), min(max(y, -side - 1), height + 1.0)
    times = min(halvings(2 * side / _MOST_SAMPLES), max(height, width).bit_length())
    left, right = _span(x, side, width, 2**times)
    top, bottom = _span(y, side, height, 2**times)
    part = halve(gray[top:bottom, left:right], times)
    return part, (x - left) / 2**times, (y - top) / 2**times, side / 2**times


def _span(start: float, length: float, limit: int, cell: int) -> tuple[int, int]:
    """The frame's pixels that ``length`` pixels from ``start`` need: two cells more on each side, at least one."""
    first = min(max(math.floor(start) - 2 * cell, 0), limit - 1)
    last = max(min(math.ceil(start + length) + 2 * cell, limit), first + 1)
    return first, last
