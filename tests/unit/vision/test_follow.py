"""A face is followed between detections, and never further than it can be recognised."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from service.vision.boxes import Box
from service.vision.detect import Face
from service.vision.follow import LONGEST_FOLLOWED_S, Follower

FACE = Box(170, 60, 110, 110)  # in the astronaut picture
ASTRONAUT = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)
FRAME_S = 0.04


class ScriptedDetector:
    """Finds what the test says, and counts how often it was asked."""

    name = "scripted"

    def __init__(self, *boxes: Box) -> None:
        self.boxes = list(boxes)
        self.asked = 0

    def detect(self, gray: NDArray[np.uint8]) -> list[Face]:
        del gray
        self.asked += 1
        return [Face(box, 0.9) for box in self.boxes]


def moved(right: float, down: float) -> NDArray[np.uint8]:
    """The astronaut, moved by fractions of a pixel."""
    place = np.array([[1, 0, right], [0, 1, down]], np.float64)
    return np.asarray(cv2.warpAffine(ASTRONAUT, place, (512, 512), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def centre(face: Face | None) -> tuple[float, float]:
    assert face is not None
    return face.box.center


def test_the_detector_looks_at_every_so_many_frames() -> None:
    """The first frame and every fourth after it are the detector's."""
    detector = ScriptedDetector(FACE)
    follower = Follower(detector, every=4)
    asked = []
    for index in range(9):
        assert follower.locate(ASTRONAUT, index * FRAME_S) is not None
        asked.append(detector.asked)
    assert asked == [1, 1, 1, 1, 2, 2, 2, 2, 3]
    assert follower.losses == 0


def test_a_followed_face_moves_with_the_picture() -> None:
    """The box goes where the face goes, to a hundredth of its side, and keeps its size and score."""
    follower = Follower(ScriptedDetector(FACE), every=100)
    follower.locate(ASTRONAUT, 0.0)
    for index, (right, down) in enumerate([(3.0, -2.0), (7.5, 1.25), (15.0, 6.0), (9.25, 10.5)], start=1):
        face = follower.locate(moved(right, down), index * FRAME_S)
        np.testing.assert_allclose(centre(face), np.add(FACE.center, (right, down)), atol=FACE.w / 100)
        assert face is not None
        assert (face.box.w, face.box.h, face.score) == (FACE.w, FACE.h, 0.9)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(np.full((512, 512), 90, np.uint8), id="nothing"),
        pytest.param(np.ascontiguousarray(ASTRONAUT[::-1]), id="another scene"),
        pytest.param(moved(60, 0), id="a jump"),
        pytest.param(np.asarray(cv2.resize(ASTRONAUT, (730, 730)), np.uint8), id="another size"),
        pytest.param(np.asarray(cv2.rectangle(ASTRONAUT.copy(), (170, 100), (280, 170), 0, -1), np.uint8), id="a hand"),
    ],
)
def test_what_cannot_be_followed_is_detected_at_once(frame: NDArray[np.uint8]) -> None:
    """A frame in which the face is not where and what it was goes to the detector, which may find none."""
    detector = ScriptedDetector(FACE)
    follower = Follower(detector, every=100)
    follower.locate(ASTRONAUT, 0.0)
    detector.boxes = []
    assert follower.locate(frame, FRAME_S) is None
    assert (detector.asked, follower.losses) == (2, 1)


def test_after_a_frame_without_a_face_every_frame_is_detected() -> None:
    """While there is no face there is nothing to follow."""
    detector = ScriptedDetector()
    follower = Follower(detector, every=100)
    for index in range(3):
        assert follower.locate(ASTRONAUT, index * FRAME_S) is None
    assert (detector.asked, follower.losses) == (3, 0)


@pytest.mark.parametrize("later_s", [LONGEST_FOLLOWED_S, 3600.0, -FRAME_S])
def test_no_face_is_followed_for_long(later_s: float) -> None:
    """After a while, or when the clock went back, the detector is asked however like the face still is."""
    detector = ScriptedDetector(FACE)
    follower = Follower(detector, every=100)
    follower.locate(ASTRONAUT, 0.0)
    follower.locate(ASTRONAUT, LONGEST_FOLLOWED_S / 2)
    assert detector.asked == 1
    follower.locate(ASTRONAUT, later_s)
    assert detector.asked == 2


def test_another_at_the_same_place() -> None:
    """A face that looks unlike the one before is another, also if there was none in between, and only once."""
    follower = Follower(ScriptedDetector(FACE), every=8)
    other = np.asarray(cv2.flip(ASTRONAUT, 0), np.uint8)
    told = []
    for index, frame in enumerate((ASTRONAUT, ASTRONAUT, other, other, ASTRONAUT)):
        follower.locate(frame, index * FRAME_S)
        told.append(follower.is_another)
    assert told == [False, False, True, False, True]
    follower = Follower(detector := ScriptedDetector(FACE), every=8)
    follower.locate(ASTRONAUT, 0.0)
    detector.boxes = []
    follower.locate(other, FRAME_S)
    detector.boxes = [FACE]
    follower.locate(other, 2 * FRAME_S)
    assert follower.is_another


def test_another_is_told_of_the_frame_that_is_looked_at_twice() -> None:
    """Where a shrunk picture did not show the face well the whole one says whether it is another."""
    follower = Follower(ScriptedDetector(FACE), every=8)
    follower.locate(ASTRONAUT, 0.0)
    other = np.asarray(cv2.flip(ASTRONAUT, 0), np.uint8)
    for frame, is_another in ((other, True), (other, False)):
        follower.locate(np.asarray(frame[::2, ::2], np.uint8), FRAME_S, 2)
        follower.forget()
        follower.locate(frame, FRAME_S)
        assert follower.is_another == is_another


@pytest.mark.parametrize("step", [(60.0, 0.0), (0.0, -40.0), None])
def test_who_is_lost_is_not_another(step: tuple[float, float] | None) -> None:
    """A face that moved too far to be followed is the same where it is found again; of a flat one nothing is known."""
    follower = Follower(detector := ScriptedDetector(FACE), every=8)
    follower.locate(ASTRONAUT, 0.0)
    right, down = step or (0.0, 0.0)
    detector.boxes = [FACE._replace(x=FACE.x + right, y=FACE.y + down)]
    follower.locate(np.full_like(ASTRONAUT, 90) if step is None else moved(right, down), FRAME_S)
    assert (detector.asked, follower.is_another) == (2, False)


def test_a_flat_face_is_not_followed() -> None:
    """What has no contrast cannot be known again, so the detector looks at every frame."""
    detector = ScriptedDetector(FACE)
    follower = Follower(detector, every=100)
    for index in range(3):
        follower.locate(np.full((512, 512), 128, np.uint8), index * FRAME_S)
    assert detector.asked == 3


def test_a_detector_that_shakes_is_steadied() -> None:
    """A detection beside the followed face moves it half of the way; one further off moves it all the way."""
    detector = ScriptedDetector(FACE)
    follower = Follower(detector, every=2)
    follower.locate(ASTRONAUT, 0.0)
    follower.locate(ASTRONAUT, FRAME_S)
    detector.boxes = [FACE._replace(x=FACE.x + 4)]
    np.testing.assert_allclose(centre(follower.locate(ASTRONAUT, 2 * FRAME_S)), np.add(FACE.center, (2, 0)), atol=0.1)
    follower.locate(ASTRONAUT, 3 * FRAME_S)
    detector.boxes = [FACE._replace(x=FACE.x + 40)]
    assert centre(follower.locate(ASTRONAUT, 4 * FRAME_S)) == (FACE.center[0] + 40, FACE.center[1])


def test_every_frame_is_detected_where_that_is_asked_for() -> None:
    """With every=1 each box is the detector's own, and pictures are not shrunk."""
    detector = ScriptedDetector(FACE)
    follower = Follower(detector, every=1)
    for index in range(3):
        detector.boxes = [FACE._replace(x=FACE.x + index)]
        face = follower.locate(ASTRONAUT, index * FRAME_S)
        assert face is not None
        assert face.box == detector.boxes[0]
        assert follower.shrink == 1
    assert detector.asked == 3


@pytest.mark.parametrize(("side", "shrink"), [(100, 1), (127, 1), (128, 2), (255, 2), (256, 4), (512, 8), (4000, 8)])
def test_pictures_are_shrunk_as_far_as_the_face_allows(side: float, shrink: int) -> None:
    """The face stays 64 pixels wide; before one is found nothing is shrunk."""
    follower = Follower(ScriptedDetector(Box(10, 10, side, side)), every=5)
    assert follower.shrink == 1
    follower.locate(ASTRONAUT, 0.0)
    assert follower.shrink == shrink


def test_boxes_are_of_the_frame_however_far_it_was_shrunk() -> None:
    """A face found in the whole picture is followed, and found again, in one of half the size."""
    detector = ScriptedDetector(FACE)
    follower = Follower(detector, every=2)
    follower.locate(ASTRONAUT, 0.0)
    half = np.asarray(cv2.resize(moved(6, -4), (256, 256), interpolation=cv2.INTER_AREA), np.uint8)
    np.testing.assert_allclose(centre(follower.locate(half, FRAME_S, shrink=2)), np.add(FACE.center, (6, -4)), atol=0.6)
    detector.boxes = [Box(88, 28, 55, 55)]
    np.testing.assert_allclose(
        centre(follower.locate(half, 2 * FRAME_S, shrink=2)), np.add(FACE.center, (6, -4)), atol=0.6
    )
    assert detector.asked == 2


def grown(growth: float) -> tuple[NDArray[np.uint8], Box]:
    """The astronaut and the face in it, so many times as large around the face's centre."""
    x, y = FACE.center
    place = np.array([[growth, 0, x - growth * x], [0, growth, y - growth * y]], np.float64)
    frame = cv2.warpAffine(ASTRONAUT, place, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    side = FACE.w * growth
    return np.asarray(frame, np.uint8), Box(x - side / 2, y - side / 2, side, side)


@pytest.mark.parametrize("rate", [1.006, 1 / 1.006])
def test_a_face_that_comes_nearer_grows_between_detections(rate: float) -> None:
    """The box grows, or shrinks, from frame to frame as fast as it did between the last two detections."""
    detector = ScriptedDetector(FACE)
    follower = Follower(detector, every=4)
    errors = []
    for index in range(40):
        frame, box = grown(rate**index)
        detector.boxes = [box]
        face = follower.locate(frame, index * FRAME_S)
        assert face is not None
        errors.append(abs(face.box.w / box.w - 1))
    assert detector.asked == 10
    assert max(errors[:8]) > 0.015  # before it is known
    assert max(errors[16:]) < 0.008


def test_a_face_found_elsewhere_does_not_grow() -> None:
    """Of a face in another place it is not known how fast it grows."""
    detector = ScriptedDetector(FACE)
    follower = Follower(detector, every=2)
    follower.locate(ASTRONAUT, 0.0)
    follower.locate(ASTRONAUT, FRAME_S)
    elsewhere = Box(FACE.x + 90, FACE.y + 20, 140, 140)
    detector.boxes = [elsewhere]
    faces = [follower.locate(ASTRONAUT, index * FRAME_S) for index in (2, 3)]
    assert [face and (face.box.w, face.box.h) for face in faces] == [(elsewhere.w, elsewhere.h)] * 2
