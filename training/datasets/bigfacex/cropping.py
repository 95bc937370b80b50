"""The frames of one recording, cropped to the face, and what becomes of a frame in which none is found.

Such a frame is cropped at the box of the last face, for at most four frames in a row, so that every window has a frame
with a face of its own. Beyond that, and before the first face, frames are dropped, and no window reaches over the gap.
The paper does not say what it did; the report counts both.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import Box
from service.vision.crop import CROP_SIDE, CropGeometry, crop_face
from service.vision.detect.face import Detector
from training.datasets import FRAMES

# A tenth of the box more on each of its sides.
GEOMETRY = CropGeometry(scale=1.2)
CARRY = FRAMES - 1


@dataclass(frozen=True)
class Crops:
    """The crops of one recording, uint8 [k, 48, 48], in runs without a gap of ``lengths`` int64 [r] frames each.

    Runs too short for a window are not kept. ``seen`` frames were looked at; in ``carried`` of them the last face's box
    was taken for want of one, and ``dropped`` went.
    """

    frames: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    seen: int
    carried: int
    dropped: int

    def runs(self) -> list[NDArray[np.uint8]]:
        """Split into the runs, each uint8 [5 or more, 48, 48]."""
        return np.split(self.frames, np.cumsum(self.lengths)[:-1]) if len(self.lengths) else []


def crop_recording(frames: Iterable[NDArray[np.uint8]], detector: Detector) -> Crops:
    """Crop gray frames uint8 [height, width] to their largest face."""
    runs: list[list[NDArray[np.uint8]]] = [[]]
    box: Box | None = None
    seen = carried = dropped = without = 0
    for gray in frames:
        seen += 1
        faces = detector.detect(gray)
        without = 0 if faces else without + 1
        if faces:
            box = faces[0].box
        elif without > CARRY:
            box = None
        if box is None:
            dropped += 1
            runs.append([])
            continue
        carried += not faces
        runs[-1].append(crop_face(gray, box, GEOMETRY))
    kept = [run for run in runs if len(run) >= FRAMES]
    crops = np.array([crop for run in kept for crop in run], np.uint8).reshape(-1, CROP_SIDE, CROP_SIDE)
    return Crops(crops, np.array([len(run) for run in kept], np.int64), seen, carried, dropped)
