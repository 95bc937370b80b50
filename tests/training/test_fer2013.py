"""FER2013: splits, copies, truth and targets."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.datasets import fer2013
from training.datasets.fer2013 import NO_LABEL, VOTE_COLUMNS, Faces, Split

pytestmark = pytest.mark.training


def votes(**given: int) -> NDArray[np.uint8]:
    """Make one row of votes by column name."""
    return np.array([[given.get(column, 0) for column in VOTE_COLUMNS]], dtype=np.uint8)


def test_a_split_holds_its_own_pictures(fer2013_file: Path) -> None:
    """Each split gives the pictures of its usage, with their labels, in the order of the file."""
    public = fer2013.load(fer2013_file, Split.PUBLIC)
    assert public.images.shape == (4, 48, 48)
    assert public.labels.tolist() == [4, 5, 6, 0]


def test_a_copy_of_a_training_picture_is_marked(fer2013_file: Path) -> None:
    """Only a picture whose pixels are all those of a Training picture is a duplicate."""
    assert fer2013.load(fer2013_file, Split.PUBLIC).duplicate.tolist() == [True, False, False, False]
    assert not fer2013.load(fer2013_file, Split.PRIVATE).duplicate.any()
    assert not fer2013.load(fer2013_file, Split.TRAINING).duplicate.any()


def test_a_file_in_another_order_is_refused(fer2013_file: Path) -> None:
    """A file whose labels stand in another order is not read as if they were ours."""
    with np.load(fer2013_file) as stored:
        changed = dict(stored) | {"labels": stored["labels"][::-1]}
    np.savez(fer2013_file, **changed)
    with pytest.raises(ValueError, match="another order"):
        fer2013.load(fer2013_file, Split.PUBLIC)


@pytest.mark.parametrize(
    ("row", "label"),
    [
        (votes(anger=6, fear=4), 0),
        (votes(neutral=4, sadness=3, unknown=3), 6),
        (votes(sadness=5, neutral=5), NO_LABEL),
        (votes(happiness=5, contempt=5), NO_LABEL),
        (votes(contempt=6, happiness=4), NO_LABEL),
        (votes(), NO_LABEL),
    ],
)
def test_truth_is_the_column_with_strictly_most_votes(row: NDArray[np.uint8], label: int) -> None:
    """A FER+ label needs more votes than any of the other nine columns, and one of the seven emotions."""
    assert fer2013.ferplus_labels(row).tolist() == [label]


def test_half_the_votes_make_it_no_face() -> None:
    """A picture is no face when half the annotators say so, or when FER+ left it out."""
    rows = [votes(NF=4, fear=6), votes(unknown=10), votes(NF=5, fear=5), votes()]
    assert fer2013.is_face(np.concatenate(rows)).tolist() == [True, True, False, False]


def one(row: NDArray[np.uint8], label: int) -> Faces:
    """Make one black picture with these votes and this FER label."""
    return Faces(np.zeros((1, 48, 48), np.uint8), np.array([label]), row, np.zeros(1, bool))


def test_targets_mix_votes_and_label() -> None:
    """Three quarters follow the votes and a quarter the FER label."""
    mixed = fer2013.targets(one(votes(anger=6, fear=4), label=2), votes_weight=0.75)
    np.testing.assert_allclose(mixed, [[0.45, 0, 0.55, 0, 0, 0, 0]], atol=1e-6)


def test_a_lone_vote_does_not_count() -> None:
    """One annotator against nine is taken for a slip."""
    mixed = fer2013.targets(one(votes(anger=9, fear=1), label=0), votes_weight=1.0)
    np.testing.assert_allclose(mixed, [[1, 0, 0, 0, 0, 0, 0]], atol=1e-6)


def test_votes_outside_the_seven_fall_to_the_label() -> None:
    """A picture nobody could name is learnt by its FER label alone."""
    mixed = fer2013.targets(one(votes(unknown=6, contempt=4), label=5), votes_weight=0.75)
    np.testing.assert_allclose(mixed, [[0, 0, 0, 0, 0, 1, 0]], atol=1e-6)


def test_targets_are_distributions(faces: Callable[..., Faces]) -> None:
    """Every row sums to one, float32."""
    mixed = fer2013.targets(faces(20), votes_weight=0.6)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed.sum(axis=1), np.ones(20), atol=1e-6)
