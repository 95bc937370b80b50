"""Many loads, one after the other."""

import dataclasses

from loadtest.figures import Point
from loadtest.run import ramp, sweep
from loadtest.thresholds import Thresholds
from tests.loadtest.examples import figures, point


def measured(scale: float) -> Point:
    """A service that is slow from four times the load on."""
    return point(figures(10 if scale < 4 else 500, offered_per_s=20 * scale), scale)


def echoed(of: Point) -> Point:
    """The point with an echo beside it."""
    return dataclasses.replace(of, echo=(figures(1),))


def test_a_sweep_goes_from_the_lightest_load_to_the_heaviest() -> None:
    """Whatever the order they were given in: what a heavy load leaves behind must not weigh on a light one."""
    told: list[Point] = []
    points = sweep((3.0, 1.0, 2.0), measured, echoed, told.append)
    assert [one.scale for one in points] == [1.0, 2.0, 3.0]
    assert all(one.echo for one in points)
    assert told == points


def test_a_ramp_finds_the_highest_load_within_the_thresholds() -> None:
    """All loads tried come back in order; the one that was found has the echo beside it."""
    told: list[Point] = []
    points, best = ramp(Thresholds(max_p99_ms=100), 2.0, 0.1, measured, echoed, told.append)
    assert best is not None
    assert best < 4 <= best * 1.1
    assert [one.scale for one in points] == sorted(one.scale for one in points)
    assert [one.scale for one in points if one.echo] == [best]
    assert [one.scale for one in told][:3] == [1.0, 2.0, 4.0]
    assert told[-1] == echoed(measured(best))


def test_a_ramp_that_finds_nothing() -> None:
    """Where no load is within the thresholds nothing is found, and everything tried is still told."""
    told: list[Point] = []
    points, best = ramp(Thresholds(max_p99_ms=1), 2.0, 0.1, measured, echoed, told.append)
    assert best is None
    assert len(points) == len(told) > 1
    assert not any(one.echo for one in points)
