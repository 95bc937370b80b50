"""Faces drawn into a picture: a box with what it shows, and a small bar for each emotion."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from service.streaming.palette import BLACK, GREY, WHITE, Colour, colour_of
from service.streaming.results import NOT_SURE, Face, FrameResult

STALE_S = 1.0
"""For so long a face whose frame has no answer is shown as it was, in grey and with its age."""
_NO_FACE = "no_face"
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SHADE = 0.22
_NEUTRAL: Colour = (205, 205, 205)
"""Lighter than the palette's, which is what is old or not there yet here."""
_SMALLEST_UNIT = 1.0
_UNIT_OF_SIDE = 1 / 360


class Overlay:
    """Draws a clip's results in its order. It remembers the last faces, for frames without an answer."""

    def __init__(self) -> None:
        """No face was seen."""
        self._faces: tuple[Face, ...] = ()
        self._seen_s = 0.0

    def draw(self, picture: NDArray[np.uint8], result: FrameResult) -> None:
        """Draw into a BGR picture [h, w, 3] what is known of its frame.

        A face's emotion is that of this very frame, unless it is grey and says how old it is.
        """
        if result.faces or result.outcome == _NO_FACE:
            self._faces, self._seen_s = result.faces, result.time_s
        age_s = result.time_s - self._seen_s
        pen = _Pen(picture)
        if not result.faces:
            pen.note(result.outcome.replace("_", " "))
        if age_s > STALE_S:
            return
        # The largest last, so that no other covers it.
        for face in reversed(self._faces):
            pen.face(face, result.frame.shrunk, None if result.faces else age_s)


class _Pen:
    """Draws in sizes that follow the picture's."""

    def __init__(self, picture: NDArray[np.uint8]) -> None:
        self._picture = picture
        self._height, self._width = picture.shape[:2]
        self._unit: float = max(_SMALLEST_UNIT, min(self._height, self._width) * _UNIT_OF_SIDE)

    def note(self, text: str) -> None:
        """A line at the bottom left."""
        height = self._px(15)
        left, top = self._px(4), self._height - height - self._px(4)
        self._shade(left, top, self._text_width(text) + self._px(8), height)
        self._text(text, left + self._px(4), top + self._px(11), WHITE)

    def face(self, face: Face, shrunk: float, age_s: float | None) -> None:
        """A face's box and panel; in grey if it is ``age_s`` old."""
        x, y, w, h = (round(side / shrunk) for side in face.box)
        is_current = age_s is None and face.emotion is not None
        colour = _colour(face.said) if is_current else GREY
        for line, ink in ((self._px(4), BLACK), (self._px(2), colour)):
            cv2.rectangle(self._picture, (x, y), (x + w, y + h), ink[::-1], line, cv2.LINE_AA)
        title = _title(face, age_s)
        labels = list(face.smoothed)
        row, bar = self._px(11), self._px(40)
        names = max((self._text_width(label) for label in labels), default=0)
        width = max(self._text_width(title), names + self._px(6) + bar if labels else 0) + self._px(10)
        height = self._px(17) + row * len(labels) + (self._px(3) if labels else 0)
        left, top = self._beside(x, y, w, width, height)
        self._shade(left, top, width, height)
        self._text(title, left + self._px(5), top + self._px(12), WHITE if is_current else GREY)
        for place, label in enumerate(labels):
            base = top + self._px(17) + row * place
            self._text(label, left + self._px(5), base + self._px(8), WHITE if is_current else GREY)
            start = left + self._px(5) + names + self._px(6)
            for share, ink in ((1.0, (70, 70, 70)), (face.smoothed[label], _colour(label) if is_current else GREY)):
                corner = start + round(bar * share), base + self._px(8)
                cv2.rectangle(self._picture, (start, base + self._px(2)), corner, ink[::-1], cv2.FILLED)

    def _beside(self, x: int, y: int, w: int, width: int, height: int) -> tuple[int, int]:
        """A corner for a panel: right of the box, else left, else over it where the picture ends."""
        gap = self._px(5)
        if x + w + gap + width <= self._width:
            left = x + w + gap
        elif x - gap - width >= 0:
            left = x - gap - width
        else:
            left = max(0, min(x, self._width - width))
        return left, max(0, min(y, self._height - height))

    def _shade(self, left: int, top: int, width: int, height: int) -> None:
        """Darken, so that light ink is readable over anything."""
        area = self._picture[max(top, 0) : top + height, max(left, 0) : left + width]
        area[:] = (area * _SHADE).astype(np.uint8)

    def _text(self, text: str, left: int, base: int, ink: Colour) -> None:
        scale, line = self._font()
        cv2.putText(self._picture, text, (left, base), _FONT, scale, ink[::-1], line, cv2.LINE_AA)

    def _text_width(self, text: str) -> int:
        scale, line = self._font()
        width: int = cv2.getTextSize(text, _FONT, scale, line)[0][0]
        return width

    def _font(self) -> tuple[float, int]:
        return 0.36 * self._unit, max(1, round(0.9 * self._unit))

    def _px(self, units: float) -> int:
        return max(1, round(units * self._unit))


def _colour(said: str | None) -> Colour:
    return {NOT_SURE: WHITE, "neutral": _NEUTRAL}.get(said or "") or colour_of(said)


def _title(face: Face, age_s: float | None) -> str:
    parts: Sequence[str | None] = (
        None if face.id is None else f"{face.id}:",
        face.said if face.emotion is not None else f"{face.frames_needed or 'some'} more frames",
        None if face.probability is None or face.said == NOT_SURE else f"{face.probability:.2f}",
        None if age_s is None else f"({age_s:.2f} s ago)",
    )
    return " ".join(part for part in parts if part)
