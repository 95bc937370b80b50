"""Axis-aligned boxes in the pixels of a frame."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle: left edge, top edge, width, height, floats in pixels.

    A pixel is a square of side 1, so the box of a whole frame is ``(0, 0, width, height)`` and its first pixel's
    centre lies at (0.5, 0.5). A box may lie partly or wholly outside of its frame.
    """

    x: float
    y: float
    w: float
    h: float

    @property
    def area(self) -> float:
        """Square pixels; 0 for a box without width or height."""
        return max(self.w, 0.0) * max(self.h, 0.0)

    @property
    def center(self) -> tuple[float, float]:
        """The middle as (x, y)."""
        return self.x + self.w / 2, self.y + self.h / 2

    def scaled(self, sx: float, sy: float) -> Box:
        """The same box in a frame resized by ``sx`` and ``sy``."""
        return Box(self.x * sx, self.y * sy, self.w * sx, self.h * sy)


def iou(a: Box, b: Box) -> float:
    """Intersection over union, 0..1; 0 where both boxes are empty."""
    width = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    height = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    shared = max(width, 0.0) * max(height, 0.0)
    union = a.area + b.area - shared
    return shared / union if union > 0 else 0.0
