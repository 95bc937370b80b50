"""Several faces from frame to frame: found by the detector now and then, each followed in between.

As with one face (`service.vision.follow`), detectors cost most and their boxes shake. Following is for faces that stand
clear of each other: where two come near, or one is missing, the detector looks at every frame, and `Tracks` tells who
is who.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import Box
from service.vision.detect import Detector, Face
from service.vision.follow import LONGEST_FOLLOWED_S, FollowedFace, Picture, shrink_for
from service.vision.track import Track, Tracks, distance

LEAST_FACE_PX = 32
"""Side of a face's box from which on it is taken up. Of a smaller one the network's 48 pixels would mostly be made up,
and it is most often someone in the background."""

_MOST_TRACKED = 16
"""More than are told, so that a passer-by in front of a face is known to be someone else."""
_CROWDED = 1.25  # faces from centre to centre; following reaches a third of a face
_LOYALTY = 1.2
"""Another face must be so much larger to take the place of one that is told."""


class Group:
    """Who is in the frames of one session. Not thread-safe: a session is with one worker at a time."""

    def __init__(self, detector: Detector, every: int, ids: Iterator[int], keep_s: float) -> None:
        """``every`` as of `Follower`, ``ids`` and ``keep_s`` as of `Tracks`."""
        self._detector = detector
        self._every = every
        self._tracks = Tracks(ids, keep_s)
        self._known: dict[int, FollowedFace] = {}
        self._shown: list[Track] = []
        self._most = 0
        self._frames = 0
        self._found_s = -math.inf
        self.losses = 0

    @property
    def ids(self) -> set[int]:
        """Faces that are seen, or may be seen again."""
        return set(self._known)

    @property
    def largest(self) -> int | None:
        """The id of the largest face of the last frame."""
        return self._shown[0].id if self._shown else None

    def picture(self, face_id: int) -> Picture | None:
        """The small picture of a face of `ids`; None of one that was too flat, or always near others."""
        return self._known[face_id].template

    def begin(self, face_id: int, box: Box, time_s: float, picture: Picture | None) -> None:
        """Go on with a face that was followed alone, and looked like ``picture``."""
        self._tracks.begin(Track(face_id, box, time_s, is_clear=True))
        known = self._known[face_id] = FollowedFace()
        known.template = picture

    def shrink(self, time_s: float, most: int) -> int:
        """By how much the picture of ``time_s`` may be shrunk; the detector gets whole ones, for who is new in them."""
        if self._is_due(time_s, most):
            return 1
        return min(shrink_for(track.box) for track in self._shown)

    def follow(self, gray: NDArray[np.uint8], shrink: int, time_s: float, most: int) -> list[tuple[int, Face]] | None:
        """Ids and faces, largest first, where each can be followed; None where the detector has to look.

        ``gray`` is uint8 [height, width], one pixel of it ``shrink`` pixels of the frame, boxes are in those of the
        frame.
        """
        if self._is_due(time_s, most):
            return None
        seen: list[tuple[Track, Face]] = []
        for track in self._shown:
            face = self._known[track.id].follow(gray, shrink)
            if face is None:
                self.losses += 1
                return None
            seen.append((track, face))
        for track, face in seen:
            self._known[track.id].face = face
            track.move(face.box, time_s)
        self._frames += 1
        return [(track.id, face) for track, face in seen]

    def detect(self, gray: NDArray[np.uint8], time_s: float, most: int) -> list[tuple[int, Face]]:
        """Ids and faces of a whole picture, uint8 [height, width], the ``most`` largest, largest first."""
        followed = self._followed(gray, time_s)
        faces = self._detector.detect(gray)[:_MOST_TRACKED]

        def likeness(track: Track, index: int) -> float | None:
            return self._known[track.id].likeness(gray, faces[index].box)

        tracks = self._tracks.update([face.box for face in faces], time_s, likeness)
        crowded = _crowded(tracks)
        for track, face in zip(tracks, faces, strict=True):
            known = self._known.setdefault(track.id, FollowedFace())
            known.find(face, followed.get(track.id), self._frames)
            assert known.face is not None
            track.box = known.face.box
            track.is_clear = track not in crowded
            if track.is_clear:  # Else the picture would be of two.
                known.remember(gray, 1)
        alive = {track.id for track in self._tracks.all}
        self._known = {face_id: known for face_id, known in self._known.items() if face_id in alive}
        self._shown = self._chosen(tracks, most)
        self._most, self._frames, self._found_s = most, 1, time_s
        return [(track.id, Face(track.box, self._score(track))) for track in self._shown]

    def _is_due(self, time_s: float, most: int) -> bool:
        return (
            not self._shown
            or most != self._most
            or self._frames >= self._every
            or not 0 <= time_s - self._found_s < LONGEST_FOLLOWED_S
            or self._tracks.some_are_missing
            or bool(_crowded(self._tracks.all))
        )

    def _followed(self, gray: NDArray[np.uint8], time_s: float) -> dict[int, Face]:
        """Where those are who stand clear of the others, as far as they can be followed."""
        if not 0 <= time_s - self._found_s < 2 * LONGEST_FOLLOWED_S:
            return {}
        crowded = _crowded(self._tracks.all)
        followed: dict[int, Face] = {}
        for track in self._shown:
            if track.present and track not in crowded:
                face = self._known[track.id].follow(gray, 1)
                if face is not None:
                    followed[track.id] = face
                    track.move(face.box, time_s)
        return followed

    def _chosen(self, tracks: list[Track], most: int) -> list[Track]:
        def weight(track: Track) -> float:
            return _side(track.box) * (_LOYALTY if track in self._shown else 1.0)

        usable = [track for track in tracks if track in self._shown or _side(track.box) >= LEAST_FACE_PX]
        largest = sorted(usable, key=weight, reverse=True)[:most]
        return sorted(largest, key=lambda track: _side(track.box), reverse=True)

    def _score(self, track: Track) -> float:
        face = self._known[track.id].face
        assert face is not None
        return face.score


def _crowded(tracks: list[Track]) -> set[Track]:
    """Those who are near another."""
    near: set[Track] = set()
    for index, track in enumerate(tracks):
        for other in tracks[index + 1 :]:
            if distance(track.box, other.box) < _CROWDED:
                near |= {track, other}
    return near


def _side(box: Box) -> float:
    return (box.w + box.h) / 2
