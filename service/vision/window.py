"""The five most recent crops of one face, and which frames go into them."""

from collections import deque
from collections.abc import Iterator
from itertools import count
from statistics import median

import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import Box
from service.vision.track import same_face

FRAMES = 5

_INTERVALS_KEPT = 9


class Window:
    """The last five crops of one face.

    Five frames must be one motion of one face (TimeConvNets, section 3): a gap in time or a jump to another face
    empties the window and, for a jump, begins a new face id.
    """

    def __init__(self, gap_reset_s: float, ids: Iterator[int] | None = None, face_id: int = -1) -> None:
        """``gap_reset_s``: a longer time between two crops empties the window.

        ``ids``: what each new face is called, the first too unless it has a ``face_id``.
        """
        self._gap_reset_s = gap_reset_s
        self._ids = count() if ids is None else ids
        self._crops: deque[NDArray[np.uint8]] = deque(maxlen=FRAMES)
        self.last: tuple[Box, float] | None = None
        """Where the face was, and when."""
        self.face_id = face_id

    def push(self, crop: NDArray[np.uint8], box: Box, time_s: float, *, is_another: bool = False) -> None:
        """Add a crop [48, 48] of the face at ``box`` (pixels), taken at ``time_s``, whoever's it is.

        ``is_another``: it is known to be of another than the last.
        """
        if is_another or self.last is None or not same_face(self.last[0], box):
            self.face_id = next(self._ids)
            self._crops.clear()
        self.add(crop, box, time_s)

    def add(self, crop: NDArray[np.uint8], box: Box, time_s: float) -> None:
        """Add a crop of what is known to be the same face."""
        if self.last is not None and not 0 <= time_s - self.last[1] <= self._gap_reset_s:
            self._crops.clear()
        self._crops.append(crop)
        self.last = box, time_s

    def clear(self) -> None:
        """Forget the crops: what comes next is not the same motion."""
        self._crops.clear()

    @property
    def frames_needed(self) -> int:
        """Crops that are missing to a full window."""
        return FRAMES - len(self._crops)

    def crops(self) -> tuple[NDArray[np.uint8], ...]:
        """The full window, five crops uint8 [48, 48], oldest first. They are nobody's to write to."""
        assert self.frames_needed == 0
        return tuple(self._crops)


class Stride:
    """Which frames a window takes: every ``stride``-th.

    With capture times it goes by time, so that frames the network or the client dropped do not stretch the window:
    a frame is taken when it lies ``stride`` intervals after the last taken one, the interval being the median of the
    last few. Without them it counts frames.
    """

    def __init__(self, stride: int) -> None:
        """``stride``: 1 takes every frame."""
        self._stride = stride
        self._seen = 0
        self._taken_us: int | None = None
        self._captured_us: int | None = None
        self._intervals_us: deque[int] = deque(maxlen=_INTERVALS_KEPT)

    def takes(self, captured_us: int | None) -> bool:
        """Whether the window takes the next frame, captured at ``captured_us`` (None: no capture times)."""
        if self._stride == 1:
            return True
        if captured_us is None:
            self._seen += 1
            return (self._seen - 1) % self._stride == 0
        return self._takes_at(captured_us)

    def _takes_at(self, captured_us: int) -> bool:
        if self._captured_us is not None and captured_us > self._captured_us:
            self._intervals_us.append(captured_us - self._captured_us)
        elif self._captured_us is not None and captured_us < self._captured_us:
            self._taken_us = None  # The source began anew.
        self._captured_us = captured_us
        if self._taken_us is not None:
            # Half an interval of slack, so that jitter does not push the frame one further.
            due_us = (self._stride - 0.5) * median(self._intervals_us) if self._intervals_us else 0
            if captured_us - self._taken_us < due_us or captured_us == self._taken_us:
                return False
        self._taken_us = captured_us
        return True
