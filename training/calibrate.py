"""Make a top-1 probability mean what it says, and choose from where on an answer is trusted. NumPy only.

Rare classes lose against frequent ones in a net trained by likelihood. Taking a part of the training data's log prior
off the logits (Menon et al. 2021, arXiv:2007.07314) gives them back some recall for little accuracy.
"""

from dataclasses import dataclass
from math import exp

import numpy as np
from numpy.typing import NDArray

TRUSTED_ACCURACY = 0.9
SEARCH_STEPS = 60
# How much top-1 accuracy the rare classes may cost, and the parts of the prior that are tried.
ACCURACY_TO_SPEND = 0.005
PARTS = np.arange(0, 1.01, 0.05).round(2)


@dataclass(frozen=True)
class Trust:
    """Answers whose top-1 probability is `uncertain_below` or more are right in `accuracy` of the cases.

    `coverage` is the share of all answers that reach it.
    """

    uncertain_below: float
    accuracy: float
    coverage: float


@dataclass(frozen=True)
class Calibration:
    """What stands between a network's logits and its answer: (logits - offset) / temperature, and the trust in it.

    `offset` has a number for each label: `prior_part` of the log prior.
    """

    temperature: float
    offset: tuple[float, ...]
    prior_part: float
    trust: Trust


def calibrate(probabilities: NDArray[np.float32], truth: NDArray[np.int64], prior: NDArray[np.float64]) -> Calibration:
    """Fit all of it to answers [n, 7] as the net gives them, the truth [n] and the training data's shares [7].

    Raises:
        ValueError: no threshold makes enough of the answers right.
    """
    part = choose_prior_part(probabilities, truth, prior)
    offset = tuple(round(float(value), 4) for value in part * np.log(np.maximum(prior, 1e-6)))
    corrected = without_prior(probabilities, np.array(offset))
    temperature = round(fit_temperature(corrected, truth), 4)
    tempered = temper(corrected, temperature)
    trust = choose_threshold(tempered.max(axis=1), tempered.argmax(axis=1) == truth)
    return Calibration(temperature, offset, part, trust)


def choose_prior_part(
    probabilities: NDArray[np.float32], truth: NDArray[np.int64], prior: NDArray[np.float64]
) -> float:
    """Find the part, 0..1 in steps of 0.05, of most mean recall that costs at most `ACCURACY_TO_SPEND`."""

    def judge(part: float) -> tuple[float, float]:
        said = without_prior(probabilities, part * np.log(np.maximum(prior, 1e-6))).argmax(axis=1)
        right = said == truth
        return float(right.mean()), float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))

    judged = {float(part): judge(part) for part in PARTS}
    allowed = judged[0.0][0] - ACCURACY_TO_SPEND
    return max((part for part in judged if judged[part][0] >= allowed), key=lambda part: judged[part][1])


def without_prior(probabilities: NDArray[np.float32], offset: NDArray[np.float64]) -> NDArray[np.float32]:
    """Give what softmax(logits - offset) would, [n, 7], from the probabilities at offset 0."""
    weighted = probabilities * np.exp(-offset)
    shares: NDArray[np.float32] = (weighted / weighted.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


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
