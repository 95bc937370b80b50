"""The search for the highest load, and the knee of a curve."""

import pytest

from loadtest.ramp import highest, knee


@pytest.mark.parametrize("limit", [0.031, 0.4, 1.0, 1.3, 17.0])
def test_the_highest_is_found_within_the_resolution(limit: float) -> None:
    """Whatever the limit, the search ends just under it, and asks for nothing twice."""
    asked: list[float] = []

    def meets(scale: float) -> bool:
        asked.append(scale)
        return scale <= limit

    found = highest(meets, growth=1.5, resolution=0.05)
    assert found is not None
    assert found <= limit < found * 1.05
    assert len(asked) == len(set(asked))


def test_the_ramp_rises_step_by_step_and_then_halves() -> None:
    """Loads rise by the growth until one is too much; then the gap is halved on a scale of ratios."""
    asked: list[float] = []

    def meets(scale: float) -> bool:
        asked.append(scale)
        return scale <= 5

    assert highest(meets, growth=2.0, resolution=0.5) == 4
    assert asked == pytest.approx([1, 2, 4, 8, 32**0.5])


def test_a_load_that_is_never_met() -> None:
    """Where no load meets the thresholds there is none, after a bounded number of attempts."""
    asked: list[float] = []

    def meets(scale: float) -> bool:
        asked.append(scale)
        return False

    assert highest(meets, growth=1.5, resolution=0.05) is None
    assert len(asked) == 13


def test_a_load_that_is_always_met() -> None:
    """Where every load meets them the highest tried is returned, after a bounded number of attempts."""
    assert highest(lambda _: True, growth=2.0, resolution=0.05) == 2.0**12


def test_the_knee_is_where_latency_begins_to_rise_faster_than_load() -> None:
    """Of a curve that is flat and then steep the knee is the last load of the flat part."""
    assert knee([100, 200, 300, 400, 500], [5, 5.5, 6, 40, 300]) == 400
    assert knee([100, 200, 300, 400], [5, 5.5, 6, 300]) == 300


@pytest.mark.parametrize(
    ("loads", "latencies"),
    [
        ([], []),
        ([100, 200], [5, 50]),
        ([100, 200, 300], [5, 4, 6]),
        ([100, 200, 300], [5, 10, 15]),
        ([100, 200, 300], [5, 40, 50]),
    ],
    ids=["nothing", "two points", "noise", "a straight line", "no flat part"],
)
def test_no_knee(loads: list[float], latencies: list[float]) -> None:
    """Where latency hardly rises, or rises evenly, no load stands out."""
    assert knee(loads, latencies) is None


def test_equal_loads_have_no_knee() -> None:
    """The same load several times, in a noisy minute, is no curve."""
    assert knee([10, 10, 10], [1, 2, 3]) is None
