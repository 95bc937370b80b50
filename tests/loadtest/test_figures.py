"""From accounts to figures."""

import pytest

from loadtest.figures import group_figures, jain, usage
from loadtest.generate import Generated
from loadtest.servers import Sample
from tests.loadtest.examples import LOAD, account, times


@pytest.mark.parametrize(
    ("values", "index"),
    [([1, 1, 1, 1], 1), ([0.3, 0.3], 1), ([1, 0, 0, 0], 0.25), ([1, 1, 0, 0], 0.5), ([0, 0], 1), ([], 1)],
)
def test_jain(values: list[float], index: float) -> None:
    """Jain's index is 1 where all have the same, k/n where k of n have all."""
    assert jain(values) == pytest.approx(index)


def test_figures_of_a_group() -> None:
    """Rates go by the time that is measured, shares and fairness by what each session was due."""
    accounts = (
        account(outcomes={"prediction": 50}, measured={"prediction": 50, "not_sent": 50}),
        account(outcomes={"prediction": 100, "superseded": 100}),
        account(group=1, outcomes={"prediction": 19, "overloaded": 1}),
    )
    generated = Generated(1000.0, accounts, {0: times(1, 2, 3), 1: times(30)}, {0: times(0.5)}, (0.1,))
    judged, calls = group_figures(LOAD, generated)
    assert (judged.offered_per_s, judged.answered_per_s, judged.answered, judged.jain) == (30.0, 15.0, 0.5, 1.0)
    assert judged.outcomes == {"prediction": 150, "superseded": 100, "not_sent": 50}
    assert judged.latency_ms.max == pytest.approx(3, rel=1e-3)
    assert (calls.answered, calls.latency_ms.count, calls.lateness_ms.max) == (0.95, 1, None)


def test_broken_sessions_are_counted_by_why() -> None:
    """The report says how many sessions broke, and why."""
    accounts = [account(broken_by=reason) for reason in ("slow_reader", "slow_reader", None)]
    judged, _ = group_figures(LOAD, Generated(0.0, tuple(accounts), {}, {}, (0.1,)))
    assert judged.broken == {"slow_reader": 2}


def test_a_group_of_which_nothing_was_due() -> None:
    """Without a frame there is no percentile, nothing is answered, and nobody is treated unfairly."""
    judged, _ = group_figures(LOAD, Generated(0.0, (account(outcomes={}),), {}, {}, (0.1,)))
    assert (judged.answered, judged.jain, judged.latency_ms.p99) == (0.0, 1.0, None)


def test_usage_goes_by_what_was_measured() -> None:
    """CPU time and growth count from the end of the warm-up; memory before is that before the sessions connected."""
    samples = [
        Sample(998.0, 5.0, 100),
        Sample(1000.0, 6.0, 150),
        Sample(1002.0, 8.0, 200),
        Sample(1003.0, 9.5, 240),
        Sample(1004.0, 11.0, 220),
    ]
    used = usage(samples, start_s=1000.0, measured_from_s=1002.0)
    assert used is not None
    assert (used.cores, used.rss_before_bytes, used.rss_growth_bytes, used.rss_peak_bytes) == (1.5, 100, 20, 240)
    assert used.samples[0] == (-2.0, 5.0, 100)


def test_no_usage() -> None:
    """Of a process that is not known nothing is said."""
    assert usage([], 0.0, 1.0) is None
    assert usage([Sample(0.5, 1.0, 100)], 0.0, 1.0) is None
