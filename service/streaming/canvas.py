"""Two ways to draw the same few shapes: SVG, and PNG through OpenCV. Places are in points from the top left."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np

from service.streaming.palette import Colour

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]
_ZOOM = 2
"""PNG pixels a point; drawn at twice that, since OpenCV's letters are lines of whole pixels."""
_FINE = 2 * _ZOOM
_PART_BITS = 4
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT = 30.0


class Canvas(Protocol):
    """A white picture to draw on."""

    def rect(self, x: float, y: float, w: float, h: float, colour: Colour) -> None:
        """A filled rectangle."""

    def area(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon."""

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """An open polygon."""

    def text(self, x: float, y: float, text: str, colour: Colour, size: float, anchor: Anchor = "start") -> None:
        """One line whose base is at ``y``."""

    def save(self, path: Path) -> None:
        """Write the file.

        Raises:
            OSError: it cannot be written.
        """


class SvgCanvas:
    """Shapes as text, sharp at any size."""

    def __init__(self, width: float, height: float) -> None:
        size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
        self._parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif">']
        self.rect(0, 0, width, height, (255, 255, 255))

    def rect(self, x: float, y: float, w: float, h: float, colour: Colour) -> None:
        """A filled rectangle."""
        self._parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" fill="{_hex(colour)}"/>')

    def area(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon."""
        self._parts.append(f'<polygon points="{_places(points)}" fill="{_hex(colour)}"/>')

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """An open polygon."""
        self._parts.append(
            f'<polyline points="{_places(points)}" fill="none" stroke="{_hex(colour)}" stroke-width="{width:g}" '
            'stroke-linejoin="round"/>'
        )

    def text(self, x: float, y: float, text: str, colour: Colour, size: float, anchor: Anchor = "start") -> None:
        """One line whose base is at ``y``."""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}" fill="{_hex(colour)}">'
            f"{escape(text)}</text>"
        )

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_text("\n".join([*self._parts, "</svg>\n"]), encoding="utf-8")


class PngCanvas:
    """Shapes as pixels, drawn larger and made smaller, which smooths them."""

    def __init__(self, width: float, height: float) -> None:
        self._picture = np.full((round(height * _FINE), round(width * _FINE), 3), 255, np.uint8)

    def rect(self, x: float, y: float, w: float, h: float, colour: Colour) -> None:
        """A filled rectangle."""
        left, top, right, bottom = (round(side * _FINE) for side in (x, y, x + w, y + h))
        self._picture[top:bottom, left : max(right, left + 1)] = colour[::-1]

    def area(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon."""
        cv2.fillPoly(self._picture, [_fixed(points)], colour[::-1], cv2.LINE_AA, _PART_BITS)

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """An open polygon."""
        thickness = max(1, round(width * _FINE))
        cv2.polylines(self._picture, [_fixed(points)], False, colour[::-1], thickness, cv2.LINE_AA, _PART_BITS)  # noqa: FBT003 - OpenCV's

    def text(self, x: float, y: float, text: str, colour: Colour, size: float, anchor: Anchor = "start") -> None:
        """One line whose base is at ``y``; letters that OpenCV's font has not are shown as question marks."""
        text = text.encode("ascii", "replace").decode()
        scale, thickness = size * _FINE / _FONT_HEIGHT, max(1, round(size * _FINE / 18))
        width = cv2.getTextSize(text, _FONT, scale, thickness)[0][0]
        left = x * _FINE - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
        place = (round(left), round(y * _FINE))
        cv2.putText(self._picture, text, place, _FONT, scale, colour[::-1], thickness, cv2.LINE_AA)

    def save(self, path: Path) -> None:
        """Write the file."""
        height, width = self._picture.shape[:2]
        half = cv2.resize(self._picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        path.write_bytes(cv2.imencode(".png", half)[1].tobytes())


CANVASES: dict[str, type[SvgCanvas | PngCanvas]] = {".svg": SvgCanvas, ".png": PngCanvas}


def _hex(colour: Colour) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)


def _places(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _fixed(points: Sequence[Point]) -> np.ndarray:
    """Places in parts of a pixel, as OpenCV takes them."""
    return np.round(np.array(points) * _FINE * (1 << _PART_BITS)).astype(np.int32)
