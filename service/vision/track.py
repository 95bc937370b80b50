"""Which faces of successive frames are the same face."""

from math import hypot

from service.vision.boxes import Box

_LARGEST_STEP = 0.75
_LARGEST_ZOOM = 1.8


def same_face(before: Box, now: Box) -> bool:
    """Whether two boxes of successive frames can be one face: it moved and grew little, measured in its own size."""
    size_before, size_now = (before.w + before.h) / 2, (now.w + now.h) / 2
    size = (size_before + size_now) / 2
    across = (now.x + now.w / 2) - (before.x + before.w / 2)
    down = (now.y + now.h / 2) - (before.y + before.h / 2)
    larger, smaller = max(size_before, size_now), min(size_before, size_now)
    return hypot(across, down) <= _LARGEST_STEP * size and larger <= _LARGEST_ZOOM * smaller
