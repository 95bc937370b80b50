"""The one rule of scoring, with numbers worked out by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.datasets.fer2013 import VOTE_COLUMNS, Faces
from training.evaluate import answer, evaluate, table

pytestmark = pytest.mark.training

# What the hand-made model answers to a picture whose every pixel is the row's number.
ANSWERS = np.array(
    [
        [0.96, 0.04, 0, 0, 0, 0, 0],
        [0.96, 0, 0, 0.04, 0, 0, 0],
        [0, 0, 0, 0.56, 0.44, 0, 0],
        [0, 0, 0, 0, 0.4, 0, 0.6],
    ],
    dtype=np.float32,
)


def hand_made(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Answer by the first pixel, and only to five identical frames."""
    assert windows.dtype == np.uint8
    assert windows.shape[1:] == (5, 48, 48)
    assert (windows == windows[:, :1]).all()
    return ANSWERS[windows[:, 0, 0, 0]]


def votes(**given: int) -> list[int]:
    """Make a row of votes by column name."""
    return [given.get(column, 0) for column in VOTE_COLUMNS]


@pytest.fixture
def four() -> Faces:
    """Give one picture a row of `ANSWERS`: right, wrong, right (a copy from Training), and without a FER+ label."""
    return Faces(
        images=np.repeat(np.arange(4, dtype=np.uint8), 48 * 48).reshape(4, 48, 48),
        labels=np.array([0, 0, 4, 6]),
        votes=np.array(
            [votes(anger=10), votes(happiness=9, anger=1), votes(happiness=6, sadness=4), votes(neutral=5, unknown=5)],
            dtype=np.uint8,
        ),
        duplicate=np.array([False, False, True, False]),
    )


def test_pictures_are_shown_five_times(four: Faces) -> None:
    """The model sees each picture as five identical frames, once, and answers come back in order."""
    np.testing.assert_array_equal(answer(hand_made, four.images), ANSWERS)


def test_many_pictures_go_in_batches() -> None:
    """More pictures than one batch holds come back in their order, none lost."""
    images = np.repeat(np.arange(600) % 4, 48 * 48).reshape(600, 48, 48).astype(np.uint8)
    np.testing.assert_array_equal(answer(hand_made, images), ANSWERS[np.arange(600) % 4])


def test_plain_scores_by_hand(four: Faces) -> None:
    """FER: 3 of 4 right. FER+: 2 of 3. ECE: one bin off by |1 - 1.92|, one by |1 - 0.56|, over 3 answers."""
    scores = evaluate(hand_made, four)["plain"]
    assert (scores.pictures, scores.ferplus_pictures) == (4, 3)
    assert scores.fer_accuracy == pytest.approx(3 / 4)
    assert scores.ferplus_accuracy == pytest.approx(2 / 3)
    assert scores.ece == pytest.approx((0.92 + 0.44) / 3)
    assert scores.recall["angry"] == 1.0
    assert scores.recall["happy"] == 0.5
    assert scores.recall["fear"] is None
    assert scores.mean_recall == pytest.approx((1.0 + 0.5) / 2)


def test_deduplicated_scores_by_hand(four: Faces) -> None:
    """Without the copy: FER 3 of 3, FER+ 1 of 2, and one bin off by |1 - 1.92| over 2 answers."""
    scores = evaluate(hand_made, four)["deduplicated"]
    assert (scores.pictures, scores.ferplus_pictures) == (3, 2)
    assert scores.fer_accuracy == pytest.approx(1.0)
    assert scores.ferplus_accuracy == pytest.approx(1 / 2)
    assert scores.ece == pytest.approx(0.46)


def test_the_table_names_both_ways(four: Faces) -> None:
    """The printed table has a column each way and a dash where a class has no picture."""
    lines = table(evaluate(hand_made, four)).splitlines()
    assert lines[0].split() == ["plain", "deduplicated"]
    assert "FER+ accuracy               0.6667        0.5000" in lines
    assert "recall fear                      -             -" in lines
