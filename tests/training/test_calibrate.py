"""Temperature and threshold."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.calibrate import (
    Trust,
    calibrate,
    choose_prior_part,
    choose_threshold,
    fit_temperature,
    temper,
    without_prior,
)

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


def rare_and_frequent() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]:
    """Answers of an ideal net to a rare label 0 and a frequent label 1, one brightness apart; truth; shares."""
    chance = np.random.default_rng(0)
    shares = np.array([0.1, 0.9])
    truth = (chance.random(20_000) < shares[1]).astype(np.int64)
    seen = chance.normal(2.0 * truth, 1.0)
    odds = np.stack([-(seen**2) / 2, -((seen - 2) ** 2) / 2], axis=1) + np.log(shares)
    return softmax(odds), truth, shares


def test_the_prior_comes_off_the_logits() -> None:
    """Taking an offset off probabilities equals a softmax of the logits without it (float32, to 1e-6)."""
    logits = np.array([[1.0, 2.0, -1.0], [0.0, 0.5, 3.0]])
    offset = np.array([0.5, -1.0, 2.0])
    np.testing.assert_allclose(without_prior(softmax(logits), offset), softmax(logits - offset), atol=1e-6)


def test_rare_labels_win_recall_at_the_allowed_price() -> None:
    """Some of the prior is taken off: the rare label is found more often, and accuracy falls by 0.005 at most."""
    probabilities, truth, shares = rare_and_frequent()
    part = choose_prior_part(probabilities, truth, shares)
    assert 0 < part < 1
    before, after = probabilities, without_prior(probabilities, part * np.log(shares))
    right = [answers.argmax(axis=1) == truth for answers in (before, after)]
    assert right[1][truth == 0].mean() > right[0][truth == 0].mean() + 0.02
    assert right[1].mean() >= right[0].mean() - 0.005


def test_calibration_is_of_the_corrected_answers() -> None:
    """Temperature and threshold are fitted to the answers after the prior's part is taken off."""
    probabilities, truth, shares = rare_and_frequent()
    found = calibrate(probabilities, truth, shares)
    corrected = without_prior(probabilities, np.array(found.offset))
    assert found.temperature == pytest.approx(fit_temperature(corrected, truth), abs=1e-4)
    tempered = temper(corrected, found.temperature)
    assert found.trust == choose_threshold(tempered.max(axis=1), tempered.argmax(axis=1) == truth)
