"""What the parts of the renderer speak of: arrays, and what a vertex belongs to."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Region(IntEnum):
    """What a vertex belongs to. Hidden ones are not drawn: tear fluid, lashes and the glassy outside of the eye."""

    FACE = 0
    HEAD = 1
    MOUTH = 2
    SOCKET = 3
    GUMS = 4
    TEETH = 5
    EYE = 6
    HIDDEN = 7
