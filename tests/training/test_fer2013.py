"""FER2013: splits, copies, truth and targets."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training.datasets import fer2013
from training.datasets.fer2013 import LABELS, NO_LABEL, VOTE_COLUMNS, Faces, Split
from training.datasets.kaggle import USAGES

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


def write_table(path: Path, made: Faces, usages: Sequence[str], heading: str = "emotion,pixels,Usage") -> None:
    """Write Kaggle's csv, in the order of its columns."""
    lines = [heading]
    for image, label, usage in zip(made.images, made.labels, usages, strict=True):
        cells = {"emotion": str(label), "pixels": " ".join(map(str, image.ravel())), "Usage": usage}
        lines.append(",".join(cells[name.strip()] for name in heading.split(",")))
    path.write_text("\n".join(lines) + "\n")


def write_votes(path: Path, made: Faces, usages: Sequence[str]) -> None:
    """Write FERPlus's csv."""
    lines = [",".join(("Usage", "Image name", *VOTE_COLUMNS))]
    for number, (row, usage) in enumerate(zip(made.votes, usages, strict=True)):
        lines.append(",".join((usage, f"fer{number:07}.png", *map(str, row))))
    path.write_text("\n".join(lines) + "\n")


FOUR_EACH = [usage for usage in USAGES for _ in range(4)]


def assert_same(left: Faces, right: Faces) -> None:
    """Compare two lots of faces, types of arrays included."""
    for one_array, other in zip(vars(left).values(), vars(right).values(), strict=True):
        assert one_array.dtype == other.dtype
        np.testing.assert_array_equal(one_array, other)


@pytest.mark.parametrize("heading", ["emotion,pixels,Usage", "emotion, Usage, pixels"])
def test_the_table_with_votes_reads_as_the_npz(
    faces: Callable[..., Faces], fer2013_file: Path, tmp_path: Path, heading: str
) -> None:
    """Kaggle's csv, joined with FERPlus's beside it by row, gives what the npz of the same pictures gives."""
    made = faces(12)
    made.images[4] = made.images[0]
    write_table(tmp_path / "fer2013.csv", made, FOUR_EACH, heading)
    write_votes(tmp_path / "fer2013new.csv", made, FOUR_EACH)
    for split in Split:
        assert_same(fer2013.load(tmp_path / "fer2013.csv", split), fer2013.load(fer2013_file, split))


def test_without_votes_the_fer_labels_teach(faces: Callable[..., Faces], tmp_path: Path) -> None:
    """No votes at all: every picture is a face, learnt by its FER label, and none has a FER+ label."""
    write_table(tmp_path / "fer2013.csv", faces(12), FOUR_EACH)
    training = fer2013.load(tmp_path / "fer2013.csv", Split.TRAINING)
    assert not training.votes.any()
    assert fer2013.is_face(training.votes).all()
    np.testing.assert_array_equal(fer2013.targets(training, votes_weight=0.75), np.eye(7)[training.labels])
    assert (fer2013.ferplus_labels(training.votes) == NO_LABEL).all()


def test_votes_of_another_table_are_refused(faces: Callable[..., Faces], tmp_path: Path) -> None:
    """Rows that differ in number or in usage are not joined."""
    write_table(tmp_path / "fer2013.csv", faces(12), FOUR_EACH)
    for usages in (FOUR_EACH[:11], FOUR_EACH[::-1]):
        write_votes(tmp_path / "fer2013new.csv", faces(len(usages)), usages)
        with pytest.raises(ValueError, match="are not those of the table"):
            fer2013.load(tmp_path / "fer2013.csv", Split.TRAINING)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("9,1 2,Training", "row 1: cannot reshape"),
        (f"7,{'0 ' * 2304},Training", "'7' is none of 0, 1"),
        (f"1,{'0 ' * 2303}256,Training", "row 1: .*256"),
        (f"1,{'0 ' * 2304},Test", "'Test' is none of Training"),
        ("1,Training", "2 cells under 3 headings"),
    ],
)
def test_a_wrong_row_is_named(row: str, why: str, tmp_path: Path) -> None:
    """A row that is none of FER2013's stops the reading, with its number."""
    (tmp_path / "fer2013.csv").write_text(f"emotion,pixels,Usage\n{row}\n")
    with pytest.raises(ValueError, match=why):
        fer2013.load(tmp_path / "fer2013.csv", Split.TRAINING)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """Kaggle's test.csv of the competition, for one, has no emotions."""
    (tmp_path / "test.csv").write_text("pixels\n")
    with pytest.raises(ValueError, match="has no column emotion, Usage"):
        fer2013.load(tmp_path / "test.csv", Split.TRAINING)


def write_folders(root: Path, made: Faces, names: Sequence[str]) -> None:
    """Write the pictures as PNG, whose pixels stay, under the names given as ``train/{}/Training_1``."""
    for part in ("train", "test"):
        for label in LABELS:
            (root / part / label).mkdir(parents=True)
    for image, label, name in zip(made.images, made.labels, names, strict=True):
        cv2.imwrite(str(root / f"{name.format(LABELS[label])}.png"), image)


def test_folders_tell_emotion_and_split(faces: Callable[..., Faces], tmp_path: Path) -> None:
    """A folder is an emotion; within test the names tell the split, and one that tells none is PublicTest's."""
    made = faces(5)
    made.images[2] = made.images[0]
    names = ["train/{}/Training_1", "train/{}/2", "test/{}/PublicTest_3", "test/{}/PrivateTest_4", "test/{}/5"]
    write_folders(tmp_path, made, names)
    training, public, private = (fer2013.load(tmp_path, split) for split in Split)
    assert [part.labels.tolist() for part in (training, public, private)] == [[0, 1], [2, 4], [3]]
    np.testing.assert_array_equal(private.images[0], made.images[3])
    assert public.duplicate.tolist() == [True, False]
    assert not public.votes.any()


def test_a_missing_folder_or_split_is_named(faces: Callable[..., Faces], tmp_path: Path) -> None:
    """Without a folder, a picture of the split, or with one of another size, the message says which."""
    write_folders(tmp_path, faces(1), ["train/{}/Training_1"])
    with pytest.raises(ValueError, match="holds no picture of PublicTest"):
        fer2013.load(tmp_path, Split.PUBLIC)
    cv2.imwrite(str(tmp_path / "test/happy/1.png"), np.zeros((10, 10), np.uint8))
    with pytest.raises(ValueError, match=r"1\.png is no picture of 48x48"):
        fer2013.load(tmp_path, Split.PUBLIC)
    (tmp_path / "train" / "fear").rmdir()
    with pytest.raises(ValueError, match=r"there is no folder .*fear"):
        fer2013.load(tmp_path, Split.PUBLIC)
