"""service.inference.batch."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import RunnerFailed
from service.inference.batch import run_batch
from tests.fakes import LABELS, FailingOn, echo_runner


def windows(*marks: int) -> NDArray[np.uint8]:
    return np.stack([np.full((5, 48, 48), mark, np.uint8) for mark in marks])


def marks(results: Sequence[list[float] | RunnerFailed]) -> list[int | None]:
    return [round(float(row[0]) * 255) if isinstance(row, list) else None for row in results]


def test_each_window_gets_its_own_row() -> None:
    """Results come in the order of the windows."""
    assert marks(run_batch(echo_runner, windows(3, 1, 2))) == [3, 1, 2]


def test_probabilities_are_rounded() -> None:
    """A probability has six digits, which is short in JSON: 1/3 is 0.333333."""
    assert run_batch(lambda _: np.full((1, 3), 1 / 3, np.float32), windows(0)) == [[0.333333] * 3]


@pytest.mark.parametrize("culprit", range(8))
def test_only_the_culprit_fails(culprit: int) -> None:
    """A batch that raises is run again by halves, so every window but the one at fault gets its scores."""
    batch = windows(*range(8))
    expected: list[int | None] = list(range(8))
    expected[culprit] = None
    assert marks(run_batch(FailingOn(culprit), batch)) == expected


def test_halving_costs_no_more_than_it_must() -> None:
    """One culprit among eight is found in seven calls."""
    runner = FailingOn(5)
    run_batch(runner, windows(*range(8)))
    assert runner.sizes == [8, 4, 4, 2, 1, 1, 2]


def test_a_failing_network_fails_every_window() -> None:
    """A network that always raises fails each window, and the error says what was raised."""
    results = run_batch(FailingOn(0, 1, 2), windows(0, 1, 2))
    assert [str(result) for result in results] == ["RuntimeError: cannot stand this window"] * 3


def test_a_wrong_output_length_is_an_error() -> None:
    """An output with fewer rows than windows is not dealt out to them."""

    def one_short(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return echo_runner(batch)[:-1]

    assert all(isinstance(result, RunnerFailed) for result in run_batch(one_short, windows(1, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_fails_its_row_only(bad: float) -> None:
    """NaN or infinity in one row fails that window and no other."""

    def poisoned(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        output = echo_runner(batch)
        output[1, len(LABELS) - 1] = bad
        return output

    assert marks(run_batch(poisoned, windows(7, 8, 9))) == [7, None, 9]
