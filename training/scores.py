"""What the networks are measured by: accuracy against FER and FER+, recall per class, calibration. NumPy only."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from training.datasets.fer2013 import LABELS, NO_LABEL, Faces, ferplus_labels

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Scores:
    """Shares in 0..1 over `pictures` pictures, of which `ferplus_pictures` have a FER+ label.

    `recall` and `ece` are against FER+; recall is None for a class that no picture has, which `mean_recall` leaves out.
    """

    pictures: int
    ferplus_pictures: int
    fer_accuracy: float
    ferplus_accuracy: float
    recall: dict[str, float | None]
    mean_recall: float
    ece: float

    def rounded(self) -> dict[str, object]:
        """Give the fields as JSON can hold them, shares to four digits."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def score(probabilities: NDArray[np.float32], faces: Faces) -> Scores:
    """Score probabilities float32 [n, 7] of all n faces, copies of Training pictures among them."""
    said, truth = probabilities.argmax(axis=1), ferplus_labels(faces.votes)
    judged = truth != NO_LABEL
    right = said[judged] == truth[judged]
    recall = _recall(said[judged], truth[judged])
    return Scores(
        pictures=len(faces),
        ferplus_pictures=int(judged.sum()),
        fer_accuracy=float((said == faces.labels).mean()),
        ferplus_accuracy=float(right.mean()),
        recall=recall,
        mean_recall=float(np.mean([share for share in recall.values() if share is not None])),
        ece=calibration_error(probabilities[judged].max(axis=1), right),
    )


def score_both(probabilities: NDArray[np.float32], faces: Faces) -> dict[str, Scores]:
    """Score all pictures (`plain`) and those that are no copy of a Training picture (`deduplicated`)."""
    fresh = ~faces.duplicate
    return {"plain": score(probabilities, faces), "deduplicated": score(probabilities[fresh], faces.where(fresh))}


def certain(confidence: NDArray[np.float32], right: NDArray[np.bool_], threshold: float) -> dict[str, float | None]:
    """Share of answers [n] at or above the threshold (`coverage`), and of those that are right (`accuracy`)."""
    trusted = confidence >= threshold
    accuracy = round(float(right[trusted].mean()), 4) if trusted.any() else None
    return {"coverage": round(float(trusted.mean()), 4), "accuracy": accuracy}


def calibration_error(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """Compute the expected calibration error (Guo et al. 2017) of top-1 probabilities [n] that were right or not [n].

    There are 15 bins of equal width; a bin holds what lies above its lower edge up to its upper one, and its weight is
    the share of answers in it.
    """
    which = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    gaps = np.bincount(which, weights=right - confidence.astype(np.float64), minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def _recall(said: NDArray[np.int64], truth: NDArray[np.int64]) -> dict[str, float | None]:
    shown = {label: truth == index for index, label in enumerate(LABELS)}
    return {
        label: float((said[rows] == index).mean()) if rows.any() else None
        for index, (label, rows) in enumerate(shown.items())
    }
