"""Timing of an exported network, on the one that is shipped."""

from itertools import count
from pathlib import Path

import pytest

from training.latency import WARM_UP, Latency, measure

MODEL = Path(__file__).parents[2] / "model_store" / "timeconv-mini-xception" / "1" / "model.onnx"


class StepClock:
    """Says that runs take 1 ms and 3 ms in turn, after warm-up runs of a second."""

    def __init__(self) -> None:
        self._now = 0.0
        self._calls = count()

    def __call__(self) -> float:
        run, is_end = divmod(next(self._calls), 2)
        if is_end:
            self._now += 1.0 if run < WARM_UP else (0.001, 0.003)[run % 2]
        return self._now


def test_mean_and_deviation_are_of_single_runs_without_the_warm_up() -> None:
    """Runs of 1 ms and 3 ms give 2 ms with a deviation of 1 ms; slow first calls do not count."""
    latency = measure(MODEL, runs=10, clock=StepClock())
    assert (latency.mean_ms, latency.std_ms) == pytest.approx((2, 1))


def test_a_real_clock_gives_milliseconds() -> None:
    """A small network takes more than a microsecond and less than a second, on one thread."""
    latency = measure(MODEL, runs=5)
    assert 0.001 < latency.mean_ms < 1000
    assert latency == Latency(latency.mean_ms, latency.std_ms, runs=5, threads=1)


def test_one_run_has_no_deviation() -> None:
    """A single run is its own mean."""
    assert measure(MODEL, runs=1).std_ms == 0


def test_no_runs_are_refused() -> None:
    """A mean over nothing is an error."""
    with pytest.raises(ValueError, match="at least one"):
        measure(MODEL, runs=0)
