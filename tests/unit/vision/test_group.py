"""service.vision.group: several faces in pictures, followed in between detections, never taken for each other."""

from itertools import count

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest.people import Person, passing, scene, swapping, two_people
from service.vision.boxes import Box
from service.vision.detect import Face
from service.vision.group import LEAST_FACE_PX, Group
from service.vision.track import distance

FRAME_S = 0.04
Way = tuple[float, float, float]


class Seer:
    """A detector that knows where people are; one who is covered by a nearer one it does not see."""

    name = "seer"

    def __init__(self, people: list[Person], shake: float = 0.0) -> None:
        self.people = people
        self.time_s = 0.0
        self.asked = 0
        self._shakes = np.random.default_rng(3)
        self._shake = shake

    def places(self) -> list[Box]:
        """Where everybody in view is, the nearest last."""
        ways = [way for person in self.people if (way := person.way(self.time_s)) is not None]
        return [Box(x - side / 2, y - side / 2, side, side) for x, y, side in ways]

    def detect(self, gray: NDArray[np.uint8]) -> list[Face]:
        del gray
        self.asked += 1
        places = self.places()
        visible = [
            box
            for index, box in enumerate(places)
            if not any(distance(box, nearer) < 0.6 for nearer in places[index + 1 :])
        ]
        shaken = [Box(*(np.array(box) + self._shakes.normal(0, self._shake, 4)).tolist()) for box in visible]
        return sorted((Face(box, 0.9) for box in shaken), key=lambda face: -face.box.area)


def watched(
    people: list[Person], frames: int, *, most: int = 8, every: int = 8, shake: float = 0.0
) -> tuple[list[dict[int, Box]], Seer]:
    """Boxes by id of each frame, and the detector."""
    seer = Seer(people, shake)
    group = Group(seer, every, count(), keep_s=1.0)
    told = []
    for index in range(frames):
        seer.time_s = index * FRAME_S
        gray = cv2.cvtColor(scene(people, seer.time_s), cv2.COLOR_RGB2GRAY)
        shrink = group.shrink(seer.time_s, most)
        small = np.asarray(gray[::shrink, ::shrink], np.uint8)
        faces = group.follow(small, shrink, seer.time_s, most)
        if faces is None:
            faces = group.detect(np.asarray(gray, np.uint8), seer.time_s, most)
        told.append({face_id: face.box for face_id, face in faces})
    return told, seer


def still(x: float, side: float = 120, y: float = 240) -> Person:
    """The astronaut at rest."""
    return Person(two_people()[0], lambda _: (x, y, side))


def test_two_who_swap_places() -> None:
    """Each has an id of their own before and after, and no id is ever at another person's place."""
    people = swapping(2.0)
    told, seer = watched(people, 90)
    owners: dict[int, set[int]] = {}
    for index, faces in enumerate(told):
        seer.time_s = index * FRAME_S
        places = seer.places()
        for face_id, box in faces.items():
            apart = [distance(box, place) for place in places]
            assert min(apart) < 0.2
            owners.setdefault(face_id, set()).add(int(np.argmin(apart)))
    assert all(len(who) == 1 for who in owners.values())
    assert list(told[0]) == [0, 1]
    assert set(told[-1]) == {0, 1}
    assert owners[0] != owners[1]


@pytest.mark.parametrize("shake", [0.0, 2.0])
def test_the_detector_rests_while_faces_stand_clear(shake: float) -> None:
    """Two who are apart are found in every eighth frame and followed in between, also where boxes shake."""
    told, seer = watched([still(160), Person(two_people()[1], lambda _: (480, 240, 100))], 33, shake=shake)
    assert seer.asked == 5
    assert {tuple(faces) for faces in told} == {(0, 1)}


def test_the_detector_is_asked_while_faces_are_near() -> None:
    """Who could be taken for their neighbour is not followed."""
    _, seer = watched([still(250), Person(two_people()[1], lambda _: (370, 240, 120))], 12)
    assert seer.asked == 12


def test_the_detector_is_asked_when_faces_come_near() -> None:
    """Two who were followed are not, from where one could be taken for the other."""
    coming = Person(two_people()[1], passing(start_x=480, end_x=290, seconds=1.0))
    apart, seer = watched([still(160), coming], 34)
    far = seer.asked
    assert set(apart[-1]) == {0, 1}
    _, seer = watched([still(160), coming], 46)
    assert far < 10
    assert seer.asked - far >= 9


def test_the_detector_is_asked_while_someone_is_missing() -> None:
    """A face that is gone is looked for in each frame, until it is forgotten."""
    gone = Person(two_people()[1], lambda time_s: (480, 240, 120) if time_s < 0.5 else None)
    told, seer = watched([still(160), gone], 60)
    assert set(told[-1]) == {0}
    assert 25 <= seer.asked < 40


def test_followed_faces_go_along() -> None:
    """Between detections the boxes move as the people do, in pixels of the whole frame."""
    people = [
        Person(two_people()[0], passing(start_x=150, end_x=250, seconds=2.0)),
        Person(two_people()[1], passing(start_x=550, end_x=450, seconds=2.0, side=100)),
    ]
    told, seer = watched(people, 60)
    for index, faces in enumerate(told):
        seer.time_s = index * FRAME_S
        for box, place in zip(faces.values(), seer.places(), strict=True):
            assert distance(box, place) < 0.1


def test_the_largest_first() -> None:
    """As many as asked for, the largest, in the order of their size."""
    people = [still(100, 60), still(260, 110), still(420, 80), still(560, 100)]
    told, _ = watched(people, 3, most=3)
    assert [[round(box.w) for box in faces.values()] for faces in told] == [[110, 100, 80]] * 3


def test_the_largest_first_also_of_one_who_is_new() -> None:
    """Who was told before keeps their place among those told, not before who is larger."""
    new = Person(two_people()[1], lambda time_s: (480, 240, 110) if time_s > 0.1 else None)
    told, _ = watched([still(160, 100), new], 4, every=1)
    assert [round(box.w) for box in told[-1].values()] == [110, 100]


def test_about_as_large() -> None:
    """Two faces of about one size do not take turns where one is wanted."""
    people = [still(160, 100), Person(two_people()[1], lambda time_s: (480, 240, 100 + 5 * np.sin(20 * time_s)))]
    told, _ = watched(people, 40, most=1)
    assert len({tuple(faces) for faces in told}) == 1


@pytest.mark.parametrize(("side", "seen"), [(LEAST_FACE_PX - 2, 1), (LEAST_FACE_PX + 2, 2)])
def test_the_least_size(side: float, seen: int) -> None:
    """Who is far off in the background is not taken up."""
    told, _ = watched([still(160), still(480, side)], 2)
    assert len(told[0]) == seen


def test_who_goes_away_stays() -> None:
    """A face that was taken up is kept when it gets a little smaller than that."""
    leaving = Person(two_people()[1], lambda time_s: (480, 240, 36 - 10 * time_s))
    told, _ = watched([still(160), leaving], 25, every=1)
    assert len(told[-1]) == 2


def test_another_number_of_faces() -> None:
    """A change of how many are wanted holds from the next frame on, and ids stay."""
    seer = Seer([still(160, 120), still(480, 100)])
    group = Group(seer, 8, count(), keep_s=1.0)
    gray = np.asarray(cv2.cvtColor(scene(seer.people, 0.0), cv2.COLOR_RGB2GRAY), np.uint8)
    assert [face_id for face_id, _ in group.detect(gray, 0.0, 1)] == [0]
    assert group.follow(gray, 1, 0.04, 2) is None
    assert [face_id for face_id, _ in group.detect(gray, 0.04, 2)] == [0, 1]
