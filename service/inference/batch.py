"""One batch through a network, such that a bad window harms no other."""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.errors import RunnerFailed


class Runner(Protocol):
    """A network on a device. Called from several threads at once."""

    def __call__(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities [n, classes] of windows [n, 5, 48, 48]."""
        ...


_DIGITS = 6
"""Of a probability: more than a float32 of a softmax holds, and short in JSON."""


def run_batch(runner: Runner, windows: NDArray[np.uint8]) -> Sequence[list[float] | RunnerFailed]:
    """Probabilities of each window [n, 5, 48, 48], rounded to six digits, or why it has none.

    A batch that fails is run again by halves until the window at fault is alone, so only that one fails. A row with a
    number that is not finite fails alone.
    """
    try:
        rows = _rows(runner(windows), len(windows))
    except Exception as error:  # noqa: BLE001 - a runner may raise anything; its error is part of the answer
        if len(windows) == 1:
            failure = error if isinstance(error, RunnerFailed) else RunnerFailed(f"{type(error).__name__}: {error}")
            return [failure]
        half = len(windows) // 2
        return [*run_batch(runner, windows[:half]), *run_batch(runner, windows[half:])]
    results: list[list[float]] = rows.astype(np.float64).round(_DIGITS).tolist()
    if np.isfinite(rows).all():
        return results
    return [
        result if all(map(math.isfinite, result)) else RunnerFailed("A probability is not finite") for result in results
    ]


def _rows(output: NDArray[np.float32], expected: int) -> NDArray[np.float32]:
    if output.ndim != 2 or len(output) != expected:
        raise RunnerFailed(f"{expected} windows went in, an output of shape {output.shape} came back")
    return output
