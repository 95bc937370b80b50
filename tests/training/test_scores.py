"""Calibration error, and how scores are stored."""

import numpy as np
import pytest

from training.scores import Scores, calibration_error

pytestmark = pytest.mark.training


def test_calibration_error_by_hand() -> None:
    """Two answers at 0.95, one right, and two at 0.55, both right: (|1 - 1.9| + |2 - 1.1|) / 4."""
    confidence = np.array([0.95, 0.95, 0.55, 0.55], dtype=np.float32)
    assert calibration_error(confidence, np.array([True, False, True, True])) == pytest.approx(0.45)


def test_a_certain_answer_that_is_right_has_no_error() -> None:
    """A probability of exactly one falls into the last bin."""
    assert calibration_error(np.ones(3, dtype=np.float32), np.ones(3, dtype=bool)) == 0


def test_scores_are_stored_to_four_digits() -> None:
    """JSON gets rounded shares, whole counts and null where there was nothing to count."""
    scores = Scores(3, 2, 2 / 3, 0.5, {"angry": 1 / 3, "fear": None}, 1 / 3, 0.123456)
    assert scores.rounded() == {
        "pictures": 3,
        "ferplus_pictures": 2,
        "fer_accuracy": 0.6667,
        "ferplus_accuracy": 0.5,
        "recall": {"angry": 0.3333, "fear": None},
        "mean_recall": 0.3333,
        "ece": 0.1235,
    }
