"""Temperature and threshold."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.calibrate import Trust, choose_threshold, fit_temperature, temper

pytestmark = pytest.mark.training


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    """Normalise rows."""
    raised = np.exp(logits)
    shares: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return shares.astype(np.float32)


def test_temper_divides_the_logits() -> None:
    """Tempering probabilities equals a softmax of the divided logits (float32, to 1e-6)."""
    logits = np.array([[1.0, 2.0, -1.0], [0.0, 0.5, 3.0]])
    np.testing.assert_allclose(temper(softmax(logits), 2.5), softmax(logits / 2.5), atol=1e-6)


def test_the_temperature_of_a_boaster_is_found() -> None:
    """Labels drawn from a softmax whose logits were then tripled give a temperature near three."""
    chance = np.random.default_rng(0)
    logits = chance.normal(0, 1.5, (4000, 7))
    truth = np.array([chance.choice(7, p=row / row.sum()) for row in softmax(logits).astype(np.float64)])
    assert fit_temperature(softmax(3 * logits), truth) == pytest.approx(3.0, rel=0.06)


def test_the_least_threshold_is_chosen() -> None:
    """Ten answers of which the least sure is wrong are trusted from the first on: nine in ten are right."""
    confidence = np.linspace(0.5, 0.95, 10)
    right = np.arange(10) > 0
    assert choose_threshold(confidence, right) == Trust(uncertain_below=0.0, accuracy=0.9, coverage=1.0)


def test_unsure_answers_are_cut_off() -> None:
    """With the lower half wrong the threshold lies between, with one wrong answer left among ten."""
    confidence = np.array([0.4] * 9 + [0.6] + [0.8] * 9)
    right = np.array([False] * 10 + [True] * 9)
    assert choose_threshold(confidence, right) == Trust(uncertain_below=0.401, accuracy=0.9, coverage=10 / 19)


def test_a_hopeless_model_has_no_threshold() -> None:
    """If no threshold makes nine in ten right, that is said."""
    with pytest.raises(ValueError, match="no threshold"):
        choose_threshold(np.array([0.4, 0.9]), np.array([False, False]))
