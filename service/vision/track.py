"""Which faces of successive frames are the same face.

Faces are told apart by their motion, and by their look where motion does not tell. Where neither does, a face gets a
new id: that costs its client five frames, while two people's crops in one window would be a wrong answer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import hypot

from service.vision.boxes import Box

_LARGEST_STEP = 0.75
_LARGEST_ZOOM = 1.8

_DRIFT_PER_S = 1.0  # of the face's size: how much less is known of where a face is while it is not seen
_LONGEST_AHEAD_S = 0.3  # that a face is taken to go on as it went
_CLEARLY_NEARER = 0.25  # of the face's size; detections of one face differ by a tenth of that
_CLEARLY_LIKER = 0.15
_LEAST_LIKENESS_NEAR = 0.5
_LEAST_LIKENESS_CLEAR = 0.7
"""Correlation with what the face looked like: of one near another, whose picture is not renewed, and of any other."""
MOST_KNOWN = 32
"""Twice as many as are found in a picture; beyond that whoever was away longest is forgotten before their time, since a
client can show new faces in every frame, and say that no time passes."""


def same_face(before: Box, now: Box) -> bool:
    """Whether two boxes of successive frames can be one face: it moved and grew little, measured in its own size."""
    return _like_sized(before, now) and distance(before, now) <= _LARGEST_STEP


def distance(one: Box, other: Box) -> float:
    """How far two boxes' centres are apart, in faces."""
    (x, y), (other_x, other_y) = one.center, other.center
    return hypot(other_x - x, other_y - y) / ((_side(one) + _side(other)) / 2)


@dataclass(eq=False, slots=True)
class Track:
    """One face: its ``box`` as it was seen last, at ``seen_s``, and its ``velocity`` in pixels a second.

    ``present``: whether it was seen in the last picture that was searched; ``is_clear``: whether it stood clear of the
    others there, so that what is known of its look is new.
    """

    id: int
    box: Box
    seen_s: float
    velocity: tuple[float, float] = (0.0, 0.0)
    present: bool = True
    is_clear: bool = False

    def expected(self, time_s: float) -> Box:
        """Where it is at ``time_s`` if it goes on as it went."""
        ahead_s = min(time_s - self.seen_s, _LONGEST_AHEAD_S)
        right, down = self.velocity
        return self.box._replace(x=self.box.x + right * ahead_s, y=self.box.y + down * ahead_s)

    def move(self, box: Box, time_s: float) -> None:
        """It was seen at ``box``."""
        passed_s = time_s - self.seen_s
        if passed_s > 0:
            (x, y), (x_before, y_before) = box.center, self.box.center
            right, down = self.velocity
            self.velocity = (right + (x - x_before) / passed_s) / 2, (down + (y - y_before) / passed_s) / 2
        self.box, self.seen_s, self.present = box, time_s, True


Likeness = Callable[[Track, int], float | None]
"""How much the face found with that index looks like a track's, -1..1; None where it cannot be said."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """A track and a face found that may be one; ``apart``: how far from where it was expected, in faces."""

    track: Track
    index: int
    apart: float
    likeness: float | None


class Tracks:
    """The faces of one session, and their ids."""

    def __init__(self, ids: Iterator[int], keep_s: float) -> None:
        """``ids``: what new faces are called. A face that was not seen for longer than ``keep_s`` is forgotten."""
        self._ids = ids
        self._keep_s = keep_s
        self._last_s: float | None = None
        self.all: list[Track] = []

    @property
    def some_are_missing(self) -> bool:
        """Whether there are faces that were there a moment ago."""
        return not all(track.present for track in self.all)

    def begin(self, track: Track) -> None:
        """Go on with a face that was known before."""
        self._last_s = track.seen_s
        self.all.append(track)

    def update(self, boxes: Sequence[Box], time_s: float, likeness: Likeness) -> list[Track]:
        """The track of each face that was found in a picture taken at ``time_s``."""
        self._pass_time(time_s)
        pairs = [pair for track in self.all for pair in _pairs(track, boxes, time_s, likeness)]
        here = [pair for pair in pairs if pair.track.present and not _is_another(pair, pairs)]
        matched = _clear(here)
        # Those who were covered take what those in view have left.
        matched |= _clear([pair for pair in pairs if not pair.track.present and pair.index not in matched])
        for track in self.all:
            track.present = False
        tracks = []
        for index, box in enumerate(boxes):
            track = matched.get(index) or self._new(box, time_s)
            track.move(box, time_s)
            tracks.append(track)
        self.all = sorted(self.all, key=lambda track: (track.present, track.seen_s))[-MOST_KNOWN:]
        return tracks

    def _new(self, box: Box, time_s: float) -> Track:
        track = Track(next(self._ids), box, time_s)
        self.all.append(track)
        return track

    def _pass_time(self, time_s: float) -> None:
        """Forget who was not seen for too long; after a pause without pictures whoever was there may still be."""
        if self._last_s is not None and not 0 <= time_s - self._last_s <= self._keep_s:
            for track in self.all:
                track.seen_s, track.velocity, track.present = time_s, (0.0, 0.0), False
        self._last_s = time_s
        self.all = [track for track in self.all if time_s - track.seen_s <= self._keep_s]


def _pairs(track: Track, boxes: Sequence[Box], time_s: float, likeness: Likeness) -> Iterator[_Pair]:
    """The faces that a track may be, by place, size and look."""
    expected = track.expected(time_s)
    reach, least = _LARGEST_STEP, _LEAST_LIKENESS_NEAR
    if not track.present:
        reach += _DRIFT_PER_S * (time_s - track.seen_s)
    if not track.present or track.is_clear:
        least = _LEAST_LIKENESS_CLEAR
    for index, box in enumerate(boxes):
        apart = distance(expected, box)
        if not track.present:
            apart = min(apart, distance(track.box, box))  # It may have stood still behind what covered it.
        if apart <= reach and _like_sized(expected, box):
            like = likeness(track, index)
            if (track.present and like is None) or (like is not None and like >= least):
                yield _Pair(track, index, apart, like)


def _clear(pairs: list[_Pair]) -> dict[int, Track]:
    """The track of each face of which there is no doubt: neither of them could nearly as well be in another pair."""
    matched: dict[int, Track] = {}
    left = sorted(pairs, key=lambda pair: pair.apart)
    while (sure := next((pair for pair in left if all(_beats(pair, rival) for rival in left)), None)) is not None:
        matched[sure.index] = sure.track
        left = [pair for pair in left if pair.track is not sure.track and pair.index != sure.index]
    return matched


def _beats(pair: _Pair, rival: _Pair) -> bool:
    """Whether a pair is clearly the better of two that exclude each other, by place or look and by neither worse."""
    if (pair.track is rival.track) == (pair.index == rival.index):
        return True  # The same pair, or one that has nothing to do with it.
    nearer, liker = rival.apart - pair.apart, (pair.likeness or 0.0) - (rival.likeness or 0.0)
    if nearer <= -_CLEARLY_NEARER or liker <= -_CLEARLY_LIKER:
        return False
    return nearer >= _CLEARLY_NEARER or liker >= _CLEARLY_LIKER


def _is_another(pair: _Pair, pairs: list[_Pair]) -> bool:
    """Whether a face looks clearly more like one that was covered: who was in view is covered now."""
    return any(
        other.index == pair.index
        and not other.track.present
        and (other.likeness or 0.0) >= (pair.likeness or 0.0) + _CLEARLY_LIKER
        for other in pairs
    )


def _like_sized(one: Box, other: Box) -> bool:
    sides = _side(one), _side(other)
    return max(sides) <= _LARGEST_ZOOM * min(sides)


def _side(box: Box) -> float:
    return (box.w + box.h) / 2
