"""Distributions of times."""

import pytest

from loadtest.histogram import Times


def times(*milliseconds: float) -> Times:
    """A distribution of these."""
    recorded = Times()
    for value in milliseconds:
        recorded.record(value / 1000)
    return recorded


def test_percentiles() -> None:
    """Percentiles have three digits, and the hundredth is the maximum."""
    recorded = times(*range(1, 1001))
    found = recorded.percentiles_ms((50, 99, 99.9, 100))
    assert found == pytest.approx((500, 990, 999, 1000), rel=1e-3)


def test_nothing_recorded() -> None:
    """Without a time there is no percentile and no curve, before and after the transport."""
    for empty in (Times(), Times.merged([]), Times.merged([Times().encoded()])):
        assert (empty.count, empty.percentiles_ms((50, 100)), empty.curve()) == (0, (None, None), [])


def test_histograms_of_processes_add_up() -> None:
    """The sum of encoded histograms is the histogram of all times."""
    together, apart = times(1, 2, 3, 400), [times(1, 2), times(), times(3, 400)]
    merged = Times.merged(one.encoded() for one in apart)
    assert merged.encoded() == together.encoded()
    assert merged.count == 4
    assert merged.percentiles_ms((25, 100)) == together.percentiles_ms((25, 100))


def test_no_time_is_lost() -> None:
    """Less than nothing counts as nothing, more than an hour as an hour."""
    recorded = times(-5, 0, 10**9)
    assert recorded.count == 3
    lowest, highest = recorded.percentiles_ms((1, 100))
    assert lowest == 0
    assert highest == pytest.approx(3_600_000, rel=1e-3)


def test_the_curve_ends_at_the_maximum() -> None:
    """The curve ascends to all times and the longest of them."""
    curve = times(*range(1, 101)).curve()
    assert curve == sorted(curve)
    assert curve[-1].share == 1
    assert curve[-1].ms == pytest.approx(100, rel=1e-3)
