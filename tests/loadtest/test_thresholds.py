"""What a load must come to."""

import pytest

from loadtest.thresholds import Thresholds, failures
from tests.loadtest.examples import figures, point

BOUNDS = Thresholds(max_p99_ms=100.0, min_jain=0.98, min_answered=0.9)


def test_a_load_within_its_bounds() -> None:
    """A load that meets every bound has no failure."""
    assert failures(point(figures(99, answered=0.9, jain=0.98)), BOUNDS) == ()


@pytest.mark.parametrize(
    ("p99_ms", "answered", "jain", "said"),
    [
        (150, 1.0, 1.0, "The 99th percentile is 150.0 ms, over 100 ms"),
        (None, 1.0, 1.0, "Nothing was predicted, so nothing can be judged"),
        (50, 1.0, 0.9, "Jain's index is 0.9000, under 0.98"),
        (50, 0.5, 1.0, "0.5000 of the frames were answered, under 0.9"),
    ],
)
def test_a_load_over_a_bound(p99_ms: float | None, answered: float, jain: float, said: str) -> None:
    """A failure says what was found and what the bound is."""
    judged = figures(p99_ms, answered=answered, jain=jain)
    assert failures(point(judged), BOUNDS) == (said,)
    assert failures(point(judged), Thresholds()) == ()


def test_only_the_first_group_is_judged() -> None:
    """A flooder beside may have what latency it likes."""
    assert failures(point(figures(50), groups=(figures(50), figures(5000, answered=0.01))), BOUNDS) == ()


def test_sums_must_always_add_up() -> None:
    """Without any bound a frame that is not accounted for is a failure."""
    assert failures(point(figures(1), discrepancies=("a frame is missing",)), Thresholds()) == ("a frame is missing",)
