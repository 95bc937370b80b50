"""Who is taken for whom, and what follows from it. NumPy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.datasets.fer2013 import LABELS
from training.scores import calibration_error


def confusion(said: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count answers int64 [7, 7]: a row each truth, a column each answer, from labels 0..6 [n] of both kinds."""
    size = len(LABELS)
    counts: NDArray[np.int64] = np.bincount(truth * size + said, minlength=size * size).reshape(size, size)
    return counts


def top1(counts: NDArray[np.int64]) -> float:
    """Share of answers that are right, 0..1."""
    return float(np.trace(counts) / counts.sum())


def recall(counts: NDArray[np.int64]) -> dict[str, float | None]:
    """Share of each class that is found, 0..1; None for a class that has no window."""
    shown = counts.sum(axis=1)
    return {
        label: float(counts[index, index] / shown[index]) if shown[index] else None
        for index, label in enumerate(LABELS)
    }


@dataclass(frozen=True)
class WindowScores:
    """How a network did on `windows` windows; shares in 0..1, to four digits.

    `largest_class` is the share of the most frequent class: what an answer that never changes would reach. `recall` is
    None for a class that no window has, and `mean_recall` leaves it out.
    """

    windows: int
    accuracy: float
    largest_class: float
    recall: dict[str, float | None]
    mean_recall: float
    ece: float


def score(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> WindowScores:
    """Score probabilities [n, 7] against labels 0..6 [n]."""
    said = probabilities.argmax(axis=1)
    counts = confusion(said, truth)
    found = recall(counts)
    return WindowScores(
        windows=len(truth),
        accuracy=round(top1(counts), 4),
        largest_class=round(float(counts.sum(axis=1).max() / counts.sum()), 4),
        recall={label: value if value is None else round(value, 4) for label, value in found.items()},
        mean_recall=round(float(np.mean([value for value in found.values() if value is not None])), 4),
        ece=round(calibration_error(probabilities.max(axis=1), said == truth), 4),
    )
