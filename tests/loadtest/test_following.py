"""loadtest.following: how following is held against detecting."""

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest.following import compare, drifting, row, tremble
from service.vision.boxes import Box
from service.vision.crop import CropGeometry
from service.vision.follow import Follower
from tests.fakes import FixedDetector, echo_runner

FACE = Box(230.0, 150.0, 180.0, 180.0)


def test_even_motion_does_not_tremble() -> None:
    """A box that moves and grows evenly has no tremble; one that jumps to and fro by a tenth of its side has a lot."""
    even = [Box(3.0 * index, 2.0 * index, 100.0, 100.0) for index in range(10)]
    shaking = [Box(10.0 * (index % 2), 0.0, 100.0, 100.0) for index in range(10)]
    assert tremble(even) == pytest.approx(0)
    assert tremble(shaking) == pytest.approx(0.2)


def test_both_ways_through_a_clip() -> None:
    """A detector that stands still on a picture that does is followed at the same place, at a part of its runs."""
    frames: list[NDArray[np.uint8]] = list(drifting(0.0, frames=9))
    detector = FixedDetector(FACE)
    compared = compare("still", frames, detector, Follower(detector, 4), echo_runner, CropGeometry())
    assert (compared.frames, compared.detections) == (9, pytest.approx(3 / 9))
    assert compared.least_iou > 0.97
    assert compared.agreement == 1
    assert row(compared).startswith("| still | 9 | 0.9")
