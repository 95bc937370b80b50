"""Make a top-1 probability mean what it says, and choose from where on an answer is trusted. NumPy only."""

from dataclasses import dataclass
from math import exp

import numpy as np
from numpy.typing import NDArray

TRUSTED_ACCURACY = 0.9
SEARCH_STEPS = 60


@dataclass(frozen=True)
class Trust:
    """Answers whose top-1 probability is `uncertain_below` or more are right in `accuracy` of the cases.

    `coverage` is the share of all answers that reach it.
    """

    uncertain_below: float
    accuracy: float
    coverage: float


def temper(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Give what softmax(logits / temperature) would, [n, 7], from the probabilities at temperature 1, [n, 7]."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-30)) / temperature
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    tempered: NDArray[np.float64] = scaled / scaled.sum(axis=1, keepdims=True)
    return tempered


def fit_temperature(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """Find the temperature (Guo et al. 2017) with the least negative log-likelihood of labels [n].

    The likelihood has one optimum in the temperature, so a golden-section search over 1/20..20 finds it.
    """
    rows = np.arange(len(truth))

    def cost(log_temperature: float) -> float:
        return -float(np.log(temper(probabilities, exp(log_temperature))[rows, truth] + 1e-30).mean())

    low, high = np.log(1 / 20), np.log(20)
    golden = (5**0.5 - 1) / 2
    for _ in range(SEARCH_STEPS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if cost(left) < cost(right):
            high = right
        else:
            low = left
    return exp((low + high) / 2)


def choose_threshold(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Trust:
    """Find the least threshold, in thousandths, from which on answers are right often enough (`TRUSTED_ACCURACY`).

    `ValueError` if no threshold reaches that.
    """
    for threshold in np.arange(0, 1, 0.001).round(3):
        trusted = confidence >= threshold
        if trusted.any() and right[trusted].mean() >= TRUSTED_ACCURACY:
            return Trust(float(threshold), float(right[trusted].mean()), float(trusted.mean()))
    raise ValueError(f"no threshold makes {TRUSTED_ACCURACY:.0%} of the answers right")
