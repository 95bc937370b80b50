"""Frames with several people who move, pass each other and cover each other, and who is where in each of them.

Made of pictures of faces: each is cut out as an ellipse and drawn where its person is, the nearest last.

Run as a program it follows such people as the service does, and says how many ids they were given, whether one of them
was ever of two people, and what it cost: ``python -m loadtest.people [PICTURE...]``. Without pictures people are made
of the astronaut picture (NASA, public domain), plain and altered.
"""

import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

from loadtest.clips import FRAMES_PER_S, encoded
from service.cli import read_settings
from service.engine import open_detector
from service.inference.artifact import ModelStore
from service.vision.boxes import Box
from service.vision.crop import CropGeometry
from service.vision.detect import Detector
from service.vision.look import Look, StageTimes
from service.vision.track import distance

Picture = NDArray[np.uint8]
_CUT = 256
_HEAD = 2.2  # sides of a detector's box that are cut out

SIZE = 640, 480


@dataclass(frozen=True, slots=True)
class Person:
    """A face [256, 256, 3], and ``way``: by seconds, the centre and side of its box in pixels; None: out of view."""

    face: Picture
    way: Callable[[float], tuple[float, float, float] | None]


def two_people() -> tuple[Picture, Picture]:
    """The astronaut, and the same face mirrored, lengthened and darker, so that the two differ."""
    picture = data.astronaut()  # type: ignore[no-untyped-call] # scikit-image has not typed it
    face = cut_out(picture, Box(170, 60, 110, 110))
    other = cv2.resize(face[:, ::-1], (_CUT, 300))[22:278]
    other = cv2.convertScaleAbs(other, alpha=0.55, beta=10)
    return face, np.asarray(other, np.uint8)


def cut_out(picture: Picture, box: Box) -> Picture:
    """A head from an RGB picture [h, w, 3], by the box of its face."""
    (x, y), side = box.center, _HEAD * (box.w + box.h) / 2
    zoom = _CUT / side
    place = np.array([[zoom, 0, _CUT / 2 - zoom * x], [0, zoom, _CUT / 2 - zoom * y]])
    return np.asarray(cv2.warpAffine(picture, place, (_CUT, _CUT), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def scene(people: Sequence[Person], time_s: float, size: tuple[int, int] = SIZE) -> Picture:
    """The RGB frame [h, w, 3] of a moment; later people stand in front of earlier ones. ``size``: width, height."""
    frame = np.full((size[1], size[0], 3), 120, np.uint8)
    ellipse = np.zeros((_CUT, _CUT), np.float32)
    cv2.ellipse(ellipse, (_CUT // 2, _CUT // 2), (round(_CUT * 0.33), round(_CUT * 0.44)), 0, 0, 360, 1.0, -1)
    ellipse = np.asarray(cv2.GaussianBlur(ellipse, (0, 0), 4), np.float32)
    for person in people:
        if (place := person.way(time_s)) is None:
            continue
        x, y, side = place
        zoom = _HEAD * side / _CUT
        to_frame = np.array([[zoom, 0, x - zoom * _CUT / 2], [0, zoom, y - zoom * _CUT / 2]])
        shown = cv2.warpAffine(person.face, to_frame, size)
        share = cv2.warpAffine(ellipse, to_frame, size)[:, :, np.newaxis]
        frame = np.asarray(frame * (1 - share) + shown * share, np.uint8)
    return frame


def passing(
    *, start_x: float, end_x: float, seconds: float, y: float = 240, side: float = 120
) -> Callable[[float], tuple[float, float, float]]:
    """Someone who walks straight, and stands before and after."""

    def way(time_s: float) -> tuple[float, float, float]:
        done = min(max((time_s - 0.5) / seconds, 0.0), 1.0)
        return start_x + (end_x - start_x) * done, y, side

    return way


def swapping(seconds: float, side: float = 120, taller: float = 0.0) -> list[Person]:
    """Two who swap places, the second in front; ``taller``: by how many faces it is higher up."""
    one, other = two_people()
    return [
        Person(one, passing(start_x=160, end_x=480, seconds=seconds, side=side)),
        Person(other, passing(start_x=480, end_x=160, seconds=seconds, side=side, y=240 - taller * side)),
    ]


@dataclass(slots=True)
class Told:
    """What was told of a clip: ids by person, which ids were of several, and the share of frames with each person."""

    ids: list[set[int]]
    mixed: set[int]
    seen: list[float]
    detections: float
    us: float


def follow(
    people: Sequence[Person], seconds: float, detector: Detector, *, every: int = 8, fps: float = FRAMES_PER_S
) -> Told:
    """Follow people for some seconds; ``us``: CPU time of a frame, decoding and crops included."""
    look = Look(detector, detect_every=every, max_bytes=10**7, max_pixels=10**7, clock=time.perf_counter)
    group = look.group(itertools.count(), 1.0)
    times_s = [index / fps for index in range(round(seconds * fps))]
    clip = encoded(scene(people, time_s) for time_s in times_s)
    owners: dict[int, set[int]] = {}
    seen: Counter[int] = Counter()
    detections, spent_s = 0, 0.0
    for time_s, jpeg in zip(times_s, clip, strict=True):
        stages, start_s = StageTimes(), time.thread_time()
        faces = look.several(
            jpeg, CropGeometry(1.127, 0, -0.106), stages, group=group, time_s=time_s, most=max(2, len(people))
        )
        spent_s += time.thread_time() - start_s
        detections += stages.detected
        for face_id, sighting in faces:
            person = _who(people, time_s, sighting.box)
            if person is not None:
                owners.setdefault(face_id, set()).add(person)
                seen[person] += 1
    numbers = range(len(people))
    return Told(
        ids=[{face_id for face_id, who in owners.items() if person in who} for person in numbers],
        mixed={face_id for face_id, who in owners.items() if len(who) > 1},
        seen=[seen[person] / len(clip) for person in numbers],
        detections=detections / len(clip),
        us=spent_s / len(clip) * 1e6,
    )


def _who(people: Sequence[Person], time_s: float, box: Box) -> int | None:
    """Whose face a box is; None where people cover each other, so that it could be of either."""
    places = [(number, person.way(time_s)) for number, person in enumerate(people)]
    boxes = [(number, Box(p[0] - p[2] / 2, p[1] - p[2] / 2, p[2], p[2])) for number, p in places if p is not None]
    near = sorted((distance(box, other), number) for number, other in boxes)
    if len(near) > 1 and near[1][0] < 2 * near[0][0] + 0.2:
        return None
    return near[0][1] if near and near[0][0] < 0.5 else None


def _faces_of(files: Sequence[str], detector: Detector) -> list[Picture]:
    faces = []
    for file in files:
        read = cv2.imread(file)
        assert read is not None, file
        picture = np.asarray(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), np.uint8)
        found = detector.detect(np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8))
        faces.append(cut_out(picture, found[0].box))
    return faces


def main(files: Sequence[str]) -> None:
    """Print a line for each way of passing each other, over all pairs of people."""
    settings = read_settings()
    detector = open_detector(settings, ModelStore(settings.model_store))
    faces = _faces_of(files, detector) or list(two_people())
    print(f"{'':34} people  ids  mixed  seen  detected    us")
    for seconds, taller, fps, every in itertools.product((1.0, 2.0, 4.0), (0.0, 0.5), (25.0, 10.0), (8,)):
        told = [
            follow(
                [
                    Person(one, passing(start_x=160, end_x=480, seconds=seconds)),
                    Person(other, passing(start_x=480, end_x=160, seconds=seconds, y=240 - taller * 120)),
                ],
                seconds + 1.5,
                detector,
                every=every,
                fps=fps,
            )
            for one, other in itertools.permutations(faces, 2)
        ]
        ids, mixed = sum(len(ids) for each in told for ids in each.ids), sum(len(each.mixed) for each in told)
        seen = np.mean([share for each in told for share in each.seen])
        detected, us = np.mean([each.detections for each in told]), np.median([each.us for each in told])
        name = f"swap in {seconds:.0f} s, {taller:.1f} higher, {fps:.0f} frames/s"
        print(f"{name:34} {2 * len(told):6}  {ids:3}  {mixed:5}  {seen:.2f}  {detected:8.2f}  {us:4.0f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
