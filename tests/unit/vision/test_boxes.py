"""Boxes: area, centre, scaling and overlap."""

import pytest

from service.vision.boxes import Box, iou


def test_center_and_area_are_those_of_the_rectangle() -> None:
    """A box knows its middle and its area."""
    box = Box(10, 20, 4, 6)

    assert box.center == (12, 23)
    assert box.area == 24


def test_scaling_moves_and_stretches_by_axis() -> None:
    """A box follows its frame when that is resized."""
    assert Box(10, 20, 4, 6).scaled(2, 0.5) == Box(20, 10, 8, 3)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (Box(0, 0, 10, 10), Box(0, 0, 10, 10), 1.0),
        (Box(0, 0, 10, 10), Box(5, 0, 10, 10), 1 / 3),
        (Box(0, 0, 10, 10), Box(2, 2, 5, 5), 0.25),
        (Box(0, 0, 10, 10), Box(10, 0, 10, 10), 0.0),
        (Box(0, 0, 10, 10), Box(50, 50, 1, 1), 0.0),
        (Box(0, 0, 0, 0), Box(0, 0, 0, 0), 0.0),
        (Box(0, 0, 10, 10), Box(2, 2, -5, 5), 0.0),
    ],
)
def test_iou_is_shared_area_over_joint_area(a: Box, b: Box, expected: float) -> None:
    """Overlap is 1 for equal boxes, 0 for boxes that only touch or are empty, and the same both ways."""
    assert iou(a, b) == pytest.approx(expected)
    assert iou(b, a) == pytest.approx(expected)
