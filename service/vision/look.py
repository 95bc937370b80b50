"""One look at a frame: from JPEG bytes to the crop of the face in it, or of the faces."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import Box
from service.vision.crop import CropGeometry, crop_face, crop_whole
from service.vision.decode import decode_gray
from service.vision.detect import BlazeFace, Detector, Face
from service.vision.follow import Follower
from service.vision.group import Group
from service.vision.quality import CropQuality, crop_quality

_LEAST_CONTRAST = 8
"""Gray levels between the darkest and the brightest pixel."""


@dataclass(slots=True)
class StageTimes:
    """Seconds a frame spent in each stage so far, and how its face was found.

    ``detected``: whether the detector was asked. ``followed``: whether the face of the frame before was followed
    without it, or lost; None where there was none to follow, or the detector was due. ``ran_s``: when its batch began
    to run, on the clock that the rest is measured by; None if none did.
    """

    wait: float = 0.0
    decode: float = 0.0
    detect: float = 0.0
    crop: float = 0.0
    queue: float = 0.0
    infer: float = 0.0
    detected: bool = False
    followed: bool | None = None
    ran_s: float | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """The face in a frame: its ``box``, the square ``crop_box`` that was cut (pixels), and the crop [48, 48]."""

    box: Box
    crop_box: Box
    score: float
    crop: NDArray[np.uint8]
    quality: CropQuality


class Look:
    """Decodes, finds the face and crops. Holds no state of a frame: all workers share one."""

    def __init__(
        self,
        detector: Detector,
        *,
        detect_every: int = 1,
        max_bytes: int,
        max_pixels: int,
        clock: Callable[[], float],
    ) -> None:
        """Limits are those of `decode_gray`; ``detect_every`` is of `Follower`; ``clock``: seconds, monotonic."""
        self.detector = detector
        self._detect_every = detect_every
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._clock = clock

    def follower(self) -> Follower:
        """What a session keeps from frame to frame."""
        return Follower(self.detector, self._detect_every)

    def group(self, ids: Iterator[int], keep_s: float) -> Group:
        """The same for several faces; see `Group`."""
        detector = self.detector.for_several() if isinstance(self.detector, BlazeFace) else self.detector
        return Group(detector, self._detect_every, ids, keep_s)

    def __call__(
        self,
        jpeg: bytes,
        region: Literal["detect", "whole"],
        geometry: CropGeometry,
        times: StageTimes,
        *,
        follower: Follower,
        time_s: float,
    ) -> Sighting | None:
        """The largest face of a frame taken at ``time_s``, or None; ``times`` gets decode, detect and crop.

        Raises:
            BadImage: see `decode_gray`.
        """
        start_s = self._clock()
        shrink = follower.shrink if region == "detect" else 1
        gray = self._decoded(jpeg, shrink)
        decoded_s = self._clock()
        times.decode = decoded_s - start_s
        if region == "whole":
            sighting = _whole(gray)
            times.crop = self._clock() - decoded_s
            return sighting
        detections, losses = follower.detections, follower.losses
        face = follower.locate(gray, time_s, shrink)
        if shrink > 1 and not follower.saw_enough(shrink):
            # A face in another's place, or none: it may be too small for a picture shrunk for the other.
            again_s = self._clock()
            gray, shrink = self._decoded(jpeg, 1), 1
            again_s = self._clock() - again_s
            times.decode += again_s
            decoded_s += again_s  # It is no part of finding the face.
            follower.forget()
            face = follower.locate(gray, time_s)
        located_s = self._clock()
        times.detect, times.detected = located_s - decoded_s, follower.detections > detections
        if not times.detected:
            times.followed = True
        elif follower.losses > losses:
            times.followed = False
        if face is None:
            return None
        sighting = _cropped(gray, shrink, face, geometry)
        times.crop = self._clock() - located_s
        return sighting

    def several(
        self, jpeg: bytes, geometry: CropGeometry, times: StageTimes, *, group: Group, time_s: float, most: int
    ) -> list[tuple[int, Sighting]]:
        """Ids and faces of a frame taken at ``time_s``, the ``most`` largest, largest first; ``times`` as for one.

        Raises:
            BadImage: see `decode_gray`.
        """
        start_s, losses = self._clock(), group.losses
        shrink = group.shrink(time_s, most)
        gray = self._decoded(jpeg, shrink)
        decoded_s = self._clock()
        times.decode = decoded_s - start_s
        faces = group.follow(gray, shrink, time_s, most)
        times.followed = True if faces is not None else False if group.losses > losses else None
        if faces is None:
            if shrink > 1:
                again_s = self._clock()
                gray, shrink = self._decoded(jpeg, 1), 1
                again_s = self._clock() - again_s
                times.decode += again_s
                decoded_s += again_s  # It is no part of finding the faces.
            times.detected = True
            faces = group.detect(gray, time_s, most)
        located_s = self._clock()
        times.detect = located_s - decoded_s
        sightings = [(face_id, _cropped(gray, shrink, face, geometry)) for face_id, face in faces]
        times.crop = self._clock() - located_s
        return sightings

    def _decoded(self, jpeg: bytes, shrink: int) -> NDArray[np.uint8]:
        return decode_gray(jpeg, max_bytes=self._max_bytes, max_pixels=self._max_pixels, shrink=shrink)


def _whole(gray: NDArray[np.uint8]) -> Sighting | None:
    darkest, brightest, *_ = cv2.minMaxLoc(gray)
    if brightest - darkest < _LEAST_CONTRAST:
        return None  # A lens cap, not a face.
    height, width = gray.shape
    side = min(height, width)
    square = Box((width - side) / 2, (height - side) / 2, side, side)
    crop = crop_whole(gray)
    return Sighting(Box(0.0, 0.0, float(width), float(height)), square, 1.0, crop, crop_quality(crop))


def _cropped(gray: NDArray[np.uint8], shrink: int, face: Face, geometry: CropGeometry) -> Sighting:
    crop = crop_face(gray, face.box.scaled(1 / shrink, 1 / shrink), geometry)
    return Sighting(face.box, geometry.region(face.box), face.score, crop, crop_quality(crop))
