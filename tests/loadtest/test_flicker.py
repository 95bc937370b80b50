"""loadtest.flicker: how flicker and lag are counted."""

import math

import numpy as np
import pytest

from loadtest.flicker import changes, labels, lag_s, row

SAD, GLAD = (np.tile(np.array(each, np.float32), (50, 1)) for each in ([0.9, 0.1], [0.2, 0.8]))
RESTLESS = np.stack([GLAD[0] if index % 10 == 5 else SAD[0] for index in range(50)])


def test_flicker() -> None:
    """A frame now and then of another emotion changes the label there and back, and no more where it is smoothed."""
    assert changes(labels(RESTLESS, 0.0, 0.1)) == 10
    assert changes(labels(RESTLESS, 0.5, 0.1)) == 0


def test_lag() -> None:
    """A step is shown once the smoothed probabilities have crossed, and the margin besides."""
    crossing_s = -0.5 * math.log(0.6 / 1.4)  # From 0.8 apart to 0.6 apart the other way.
    assert lag_s(SAD, GLAD, 0.5, 0.0) == pytest.approx(crossing_s, abs=0.04)
    assert lag_s(SAD, GLAD, 0.5, 0.1) > lag_s(SAD, GLAD, 0.5, 0.0)
    assert lag_s(SAD, GLAD, 0.0, 0.0) == 0
    assert math.isnan(lag_s(SAD, SAD, 0.5, 0.1))


def test_row() -> None:
    """Nothing smoothed: ten changes in two seconds, no lag."""
    assert row([RESTLESS], GLAD, 0.0, 0.0) == "| 0 | 0.00 | 300 | 1.00 | 0 | 0 |"
