"""A face from frame to frame: found by the detector now and then, followed in between.

Finding a face costs more than anything else done to a frame but decoding it, and a detector's box shakes a little from
frame to frame, which the network takes for motion. Between detections the face is looked for where it was, as a small
picture of itself (normalised cross-correlation, Lewis 1995), to a fraction of a pixel.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import Box, iou
from service.vision.detect import Detector, Face

Picture = NDArray[np.uint8]

LONGEST_FOLLOWED_S = 0.4
"""After that time the detector is asked, however few the frames were."""

SMALLEST_SHRUNK_PX = 64
"""A picture is not shrunk so far that its face is smaller."""

_FACE_PX = 20
_REACH_PX = 6  # a good quarter of the face, in each direction
_SEARCHED_PX = _FACE_PX + 2 * _REACH_PX
_LARGEST_STEP = 0.25  # of the face's size, from one frame to the next: a jump is the detector's to judge
_LEAST_LIKENESS = 0.85  # a talking face stays above 0.95; a turned, nearer, covered or other one falls below
_LEAST_LIKENESS_AT_ALL = 0.7  # of a face found that could not be followed there; after cuts it is mostly under 0.6
_LEAST_CONTRAST = 6.0  # gray levels (standard deviation) under which correlation is noise
_SAME_PLACE_IOU = 0.85
_SAME_FACE_IOU = 0.6
_MOST_GROWTH = 1.02
"""From one frame to the next, or shrinking by as much: who leans forward, not who jumps."""

_UNSTEADY_PX = 2  # by which two detections of a face may differ

_SHRINKS = (8, 4, 2)


class FollowedFace:
    """Where one face is, what it looks like and how it grows. Not thread-safe."""

    def __init__(self) -> None:
        """No face yet."""
        self.face: Face | None = None
        self.template: Picture | None = None
        self._growth = 1.0  # of the box, from frame to frame, by the last two detections
        self._found_px = 0.0

    def forget(self) -> None:
        """Follow no face."""
        self.face = self.template = None

    def find(self, found: Face, followed: Face | None, frames: int) -> None:
        """The detector found it, ``frames`` after it did last, where it was ``followed`` to (None: it was not).

        A face that is where the followed one is moves it half of the way, which keeps it steady.
        """
        box = found.box
        self._growth, found_px = 1.0, self._found_px
        overlap = 0.0 if followed is None else iou(followed.box, box)
        if followed is not None and overlap >= _SAME_PLACE_IOU:
            box = Box(*((one + other) / 2 for one, other in zip(followed.box, box, strict=True)))
        if overlap >= _SAME_FACE_IOU:
            growth = (_side(box) / found_px) ** (1 / frames)
            self._growth = min(max(growth, 1 / _MOST_GROWTH), _MOST_GROWTH)
        self._found_px = _side(box)
        self.face = Face(box, found.score)

    def remember(self, gray: NDArray[np.uint8], shrink: int) -> None:
        """Keep a small picture of the face; none of one too flat to be known again."""
        assert self.face is not None
        template = _sample(gray, shrink, self.face.box, _FACE_PX)
        self.template = template if template.std() >= _LEAST_CONTRAST else None

    def follow(self, gray: NDArray[np.uint8], shrink: int) -> Face | None:
        """The face where it looks most like its small picture, unless that is not like enough, or too far."""
        if self.face is None or self.template is None:
            return None
        box = _grown(self.face.box, self._growth)
        likeness = cv2.matchTemplate(_sample(gray, shrink, box, _SEARCHED_PX), self.template, cv2.TM_CCOEFF_NORMED)
        _, best, _, (column, row) = cv2.minMaxLoc(likeness)
        last = 2 * _REACH_PX
        if not (best >= _LEAST_LIKENESS and 0 < column < last and 0 < row < last):
            return None
        right = column - _REACH_PX + _peak(*likeness[row, column - 1 : column + 2].tolist())
        down = row - _REACH_PX + _peak(*likeness[row - 1 : row + 2, column].tolist())
        if math.hypot(right, down) > _LARGEST_STEP * _FACE_PX:
            return None
        pixel = _side(box) / _FACE_PX
        return Face(Box(box.x + right * pixel, box.y + down * pixel, box.w, box.h), self.face.score)

    def likeness(self, gray: NDArray[np.uint8], box: Box) -> float | None:
        """How much what is at ``box`` of a whole picture looks like the face, -1..1; None where it cannot be said."""
        return None if self.template is None else _likeness(self.template, gray, 1, box)


class Follower:
    """Where the face of one session is. Not thread-safe: a session is with one worker at a time."""

    def __init__(self, detector: Detector, every: int) -> None:
        """The detector looks at every ``every``-th frame, and at once where the face cannot be followed."""
        self._detector = detector
        self._every = every
        self._followed = FollowedFace()
        self._frames = 0
        self._found_s = -math.inf
        self._looked: Picture | None = None  # what the last face looked like that was not too flat
        self.is_another = False
        """Whether the face looks unlike the one before: somebody else at its place, as after a cut."""
        self.detections = self.losses = 0

    @property
    def shrink(self) -> int:
        """By how much (1, 2, 4 or 8) the next picture may be shrunk: its face stays `SMALLEST_SHRUNK_PX` wide."""
        face = self._followed.face
        return 1 if face is None or self._every == 1 else shrink_for(face.box)

    @property
    def picture(self) -> Picture | None:
        """The small picture of the last face, for who goes on with it; None of one that was too flat."""
        return self._looked if self._followed.template is None else self._followed.template

    def go_on_with(self, picture: Picture | None) -> None:
        """The face before the first looked so."""
        self._looked = picture

    def locate(self, gray: NDArray[np.uint8], time_s: float, shrink: int = 1) -> Face | None:
        """The face of a frame taken at ``time_s``, or None.

        ``gray`` is uint8 [height, width], one pixel of it ``shrink`` pixels of the frame; the box is in pixels of the
        frame. A followed face keeps the score it was found with.
        """
        known = self._followed
        self.is_another = False
        if known.template is not None:
            self._looked = known.template
        followed = known.follow(gray, shrink)
        due = self._frames >= self._every or not 0 <= time_s - self._found_s < LONGEST_FOLLOWED_S
        if followed is not None and not due:
            self._frames += 1
            known.face = followed
        else:
            self.losses += followed is None and known.template is not None
            self._detect(gray, shrink, followed)
            self._frames, self._found_s = 1, time_s
        return known.face

    def saw_enough(self, shrink: int) -> bool:
        """Whether a picture shrunk by ``shrink`` showed the face well enough; a new one may be smaller, or unseen."""
        face = self._followed.face
        return face is not None and _side(face.box) >= shrink * SMALLEST_SHRUNK_PX

    def forget(self) -> None:
        """Follow no face: the next picture is the detector's."""
        self._followed.forget()

    def _detect(self, gray: NDArray[np.uint8], shrink: int, followed: Face | None) -> None:
        """Know the largest face from now on, if there is one."""
        self.detections += 1
        faces = self._detector.detect(gray)
        known = self._followed
        known.forget()
        if faces:
            known.find(Face(faces[0].box.scaled(shrink, shrink), faces[0].score), followed, self._frames)
            if self._every > 1:
                known.remember(gray, shrink)
            if followed is None and self._looked is not None and known.template is not None:
                assert known.face is not None
                self.is_another = _likeness(self._looked, gray, shrink, known.face.box) < _LEAST_LIKENESS_AT_ALL


def shrink_for(box: Box) -> int:
    """By how much (1, 2, 4 or 8) a picture may be shrunk such that its face stays `SMALLEST_SHRUNK_PX` wide."""
    side = _side(box)
    return next((shrink for shrink in _SHRINKS if side >= shrink * SMALLEST_SHRUNK_PX), 1)


def _grown(box: Box, growth: float) -> Box:
    x, y = box.center
    width, height = box.w * growth, box.h * growth
    return Box(x - width / 2, y - height / 2, width, height)


def _side(box: Box) -> float:
    return (box.w + box.h) / 2


def _sample(gray: NDArray[np.uint8], shrink: int, box: Box, pixels: int) -> NDArray[np.uint8]:
    """The square around a box's centre in ``pixels`` x ``pixels``, such that the box's mean side is `_FACE_PX`."""
    step = _side(box) / _FACE_PX / shrink
    x, y = box.center
    middle = (pixels - 1) / 2
    # OpenCV counts from the centre of the first pixel, boxes from its edge.
    left, top = x / shrink - 0.5 - middle * step, y / shrink - 0.5 - middle * step
    sample = cv2.warpAffine(
        gray,
        np.array(((step, 0.0, left), (0.0, step, top))),
        (pixels, pixels),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(sample, np.uint8)


def _likeness(template: Picture, gray: NDArray[np.uint8], shrink: int, box: Box) -> float:
    """How much what is at ``box`` looks like a small picture of a face, -1..1."""
    shown = _sample(gray, shrink, box, _FACE_PX + 2 * _UNSTEADY_PX)
    return float(cv2.matchTemplate(shown, template, cv2.TM_CCOEFF_NORMED).max())


def _peak(before: float, at: float, after: float) -> float:
    """Where between its neighbours the parabola through three likenesses has its top, -0.5..0.5."""
    bend = before - 2 * at + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
