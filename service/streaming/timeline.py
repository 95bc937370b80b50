"""A picture of the emotions of a clip over its time."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.streaming.canvas import CANVASES, Canvas
from service.streaming.errors import cannot_write, require_writable
from service.streaming.palette import GAP, INK, LINE, SOFT, WHITE, Colour, colour_of
from service.streaming.results import NOT_SURE, FrameResult

_WIDTH, _LEFT, _RIGHT, _TOP = 960.0, 84.0, 16.0, 44.0
_STRIP, _ROW, _ROW_GAP, _LANE_GAP, _FOOT = 18.0, 36.0, 5.0, 30.0, 46.0
_BINS = round(_WIDTH - _LEFT - _RIGHT)
_HATCH = 4
_LONGEST_STEP_S = 1.0
_MOST_IDS = 3
_TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
_MOST_TICKS = 10
_NARROWEST_WORD = 58.0
_LABEL_SIZE, _TITLE_SIZE = 12.0, 14.0


@dataclass
class _Track:
    """One face id: when it was seen, its scores, and which label was said (-1: not sure). 40 bytes a frame."""

    times_s: "array[float]" = field(default_factory=lambda: array("d"))
    scores: "array[float]" = field(default_factory=lambda: array("f"))
    said: "array[int]" = field(default_factory=lambda: array("b"))


class Timeline:
    """Seven rows over time, under a strip that says the winner; one such block for all faces that follow each other.

    Where no face was there the ground is grey, and where a frame has no scores there is nothing.
    """

    def __init__(self, path: Path, title: str, labels: Sequence[str], fps: float) -> None:
        """Collect for a file whose suffix is one of `CANVASES`.

        Raises:
            StreamError: the file cannot be written.
        """
        self._path, self._title, self._labels = path, title, tuple(labels)
        self._frame_s = 1 / fps
        self._tracks: dict[int, _Track] = {}
        self._no_face_s = array("d")
        self._last_s = 0.0
        require_writable(path)

    def write(self, results: Iterable[FrameResult]) -> None:
        """Take the scores of these frames."""
        for result in results:
            self._last_s = result.time_s
            if result.outcome == "no_face":
                self._no_face_s.append(result.time_s)
            for face in result.faces:
                if face.emotion is None:
                    continue
                track = self._tracks.setdefault(-1 if face.id is None else face.id, _Track())
                track.times_s.append(result.time_s)
                track.scores.extend(face.smoothed.get(label, 0.0) for label in self._labels)
                track.said.append(self._labels.index(face.emotion) if face.said in self._labels else -1)

    def close(self) -> None:
        """Draw it.

        Raises:
            StreamError: the file cannot be written.
        """
        lanes = _lanes(self._tracks) or [{}]
        lane_height = _STRIP + _ROW_GAP + len(self._labels) * (_ROW + _ROW_GAP)
        height = _TOP + len(lanes) * (lane_height + _LANE_GAP) - _LANE_GAP + _FOOT
        canvas = CANVASES[self._path.suffix.lower()](_WIDTH, height)
        canvas.text(_LEFT, 26, self._title, INK, _TITLE_SIZE)
        for place, lane in enumerate(lanes):
            self._draw_lane(canvas, _TOP + place * (lane_height + _LANE_GAP), lane)
        self._draw_times(canvas, height - _FOOT)
        try:
            canvas.save(self._path)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def _draw_lane(self, canvas: Canvas, top: float, lane: Mapping[int, _Track]) -> None:
        rows_top = top + _STRIP + _ROW_GAP
        height = _STRIP + _ROW_GAP + len(self._labels) * (_ROW + _ROW_GAP)
        for start_s, end_s in _spans(np.array(self._no_face_s), self._frame_s):
            x, width = self._x(start_s), self._x(end_s) - self._x(start_s)
            canvas.rect(x, top, width, height - _ROW_GAP, GAP)
            if width >= _NARROWEST_WORD:
                canvas.text(x + width / 2, top + _STRIP - 5, "no face", SOFT, _LABEL_SIZE, "middle")
        canvas.text(_LEFT - 8, top + _STRIP - 5, _name(lane), SOFT, _LABEL_SIZE, "end")
        for place, label in enumerate(self._labels):
            base = rows_top + place * (_ROW + _ROW_GAP) + _ROW
            canvas.line([(_LEFT, base), (_WIDTH - _RIGHT, base)], LINE, 1)
            canvas.line([(_LEFT, base - _ROW), (_WIDTH - _RIGHT, base - _ROW)], LINE, 0.5)
            canvas.rect(_LEFT - 14, base - _ROW / 2 - 4, 8, 8, colour_of(label))
            canvas.text(_LEFT - 20, base - _ROW / 2 + 4, label, INK, _LABEL_SIZE, "end")
        for track in lane.values():
            for run in self._runs(track):
                self._draw_run(canvas, top, rows_top, run)

    def _draw_run(self, canvas: Canvas, top: float, rows_top: float, run: "_Run") -> None:
        ends_s = [*run.times_s[1:], run.times_s[-1] + self._frame_s]
        for place, label in enumerate(self._labels):
            base, colour = rows_top + place * (_ROW + _ROW_GAP) + _ROW, colour_of(label)
            curve = [
                (self._x(time_s), base - _ROW * float(score))
                for time_s, score in zip(run.times_s, run.scores[:, place], strict=True)
            ]
            curve.append((self._x(ends_s[-1]), curve[-1][1]))
            canvas.area([(curve[0][0], base), *curve, (curve[-1][0], base)], _tint(colour))
            canvas.line(curve, colour, 1.5)
        begin = 0
        for end in range(1, len(run.said) + 1):
            if end == len(run.said) or run.said[end] != run.said[begin]:
                self._draw_said(canvas, top, run.times_s[begin], ends_s[end - 1], int(run.said[begin]))
                begin = end

    def _draw_said(self, canvas: Canvas, top: float, start_s: float, end_s: float, said: int) -> None:
        x, width = self._x(start_s), self._x(end_s) - self._x(start_s)
        word, colour = (NOT_SURE, WHITE) if said < 0 else (self._labels[said], colour_of(self._labels[said]))
        canvas.rect(x, top, width, _STRIP, colour)
        if said < 0:
            for step in range(0, int(width), _HATCH):
                canvas.rect(x + step, top, 1, _STRIP, SOFT)
        if width >= _NARROWEST_WORD:
            if said < 0:
                canvas.rect(x + width / 2 - _NARROWEST_WORD / 2 + 2, top, _NARROWEST_WORD - 4, _STRIP, WHITE)
            canvas.text(x + width / 2, top + _STRIP - 5, word, _ink_on(colour), _LABEL_SIZE, "middle")

    def _draw_times(self, canvas: Canvas, top: float) -> None:
        for time_s in _ticks(self._end_s):
            canvas.line([(self._x(time_s), top), (self._x(time_s), top + 5)], SOFT, 1)
            canvas.text(self._x(time_s), top + 18, _clock(time_s), SOFT, _LABEL_SIZE, "middle")
        key = "height of a row: probability, 0 to 1   |   grey ground: no face   |   stripes: not sure"
        canvas.text(_LEFT, top + 38, key, SOFT, _LABEL_SIZE)

    @property
    def _end_s(self) -> float:
        return self._last_s + self._frame_s

    def _x(self, time_s: float) -> float:
        return _LEFT + _BINS * time_s / self._end_s

    def _runs(self, track: _Track) -> "Iterator[_Run]":
        """The track in parts without a gap in them, at most a point for each of the picture's own."""
        run = _Run(np.array(track.times_s), np.array(track.scores).reshape(-1, len(self._labels)), np.array(track.said))
        no_face = np.searchsorted(np.array(self._no_face_s), run.times_s)
        is_new = (np.diff(run.times_s) > _LONGEST_STEP_S) | (np.diff(no_face) > 0)
        places = [0, *(np.flatnonzero(is_new) + 1).tolist(), len(run.times_s)]
        for start, end in pairwise(places):
            yield _thinned(run.part(start, end), self._end_s / _BINS)


@dataclass(frozen=True)
class _Run:
    """Times in seconds [n], scores 0..1 [n, labels] and what was said [n]."""

    times_s: NDArray[np.float64]
    scores: NDArray[np.float32]
    said: NDArray[np.int8]

    def part(self, start: int, end: int) -> "_Run":
        """From one place to before another."""
        return _Run(self.times_s[start:end], self.scores[start:end], self.said[start:end])


def _thinned(run: _Run, bin_s: float) -> _Run:
    """Means, and what was said most, of all that lies in the same ``bin_s``."""
    bins = np.floor(run.times_s / bin_s).astype(int)
    places = [0, *(np.flatnonzero(np.diff(bins)) + 1).tolist(), len(bins)]
    if len(places) == len(bins) + 1:
        return run
    parts = [run.part(start, end) for start, end in pairwise(places)]
    return _Run(
        np.array([part.times_s[0] for part in parts]),
        np.array([part.scores.mean(axis=0) for part in parts]),
        np.array([Counter(part.said.tolist()).most_common(1)[0][0] for part in parts]),
    )


def _lanes(tracks: Mapping[int, _Track]) -> list[dict[int, _Track]]:
    """Faces that were never there together share a lane: mostly one person, found again."""
    lanes: list[dict[int, _Track]] = []
    for face_id, track in sorted(tracks.items(), key=lambda item: item[1].times_s[0]):
        free = (lane for lane in lanes if list(lane.values())[-1].times_s[-1] < track.times_s[0])
        lane = next(free, None)
        if lane is None:
            lanes.append(lane := {})
        lane[face_id] = track
    return lanes


def _name(lane: Mapping[int, _Track]) -> str:
    ids = [str(face_id) for face_id in lane if face_id >= 0]
    more = ", .." if len(ids) > _MOST_IDS else ""
    return f"face {', '.join(ids[:_MOST_IDS])}{more}" if ids else ""


def _spans(times_s: NDArray[np.float64], frame_s: float) -> Iterator[tuple[float, float]]:
    """Times that follow each other as frames do, as spans."""
    if len(times_s):
        places = [0, *(np.flatnonzero(np.diff(times_s) > 1.5 * frame_s) + 1).tolist(), len(times_s)]
        for start, end in pairwise(places):
            yield float(times_s[start]), float(times_s[end - 1]) + frame_s


def _ticks(end_s: float) -> list[float]:
    step = next((step for step in _TICKS_S if end_s / step <= _MOST_TICKS), end_s / _MOST_TICKS)
    return [place * step for place in range(int(end_s / step) + 1)]


def _clock(time_s: float) -> str:
    if time_s < 60:
        return f"{time_s:g} s"
    minutes, seconds = divmod(round(time_s), 60)
    return f"{minutes}:{seconds:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def _tint(colour: Colour) -> Colour:
    red, green, blue = (round(255 - (255 - part) * 0.35) for part in colour)
    return red, green, blue


def _ink_on(colour: Colour) -> Colour:
    red, green, blue = colour
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else WHITE
