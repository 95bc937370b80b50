"""FER2013 (Goodfellow et al. 2013) with the FER+ votes (Barsoum et al. 2016, arXiv:1608.01041).

The pictures come from image search and their rights were never cleared: they are read from a path, never stored. The
path is an `.npz` of `images` uint8 [n, 48, 48], `label` 0..6, `usage` 0..2 and `ferplus_votes` uint8 [n, 10]; or
Kaggle's `fer2013.csv`, with FERPlus's `fer2013new.csv` beside it if there is one; or Kaggle's folder of `train` and
`test`. The latter two have no votes of their own.
"""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.datasets import kaggle

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
VOTE_COLUMNS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)
# The column of each of our seven labels, in their order.
COLUMN_OF_LABEL = np.array([4, 5, 6, 1, 3, 2, 0])
NO_LABEL = -1
VOTES_FILE = "fer2013new.csv"


class Split(IntEnum):
    """The three parts FER2013 was published in; `PRIVATE` is for the last look only."""

    TRAINING = 0
    PUBLIC = 1
    PRIVATE = 2


@dataclass(frozen=True)
class Faces:
    """Pictures with both kinds of label; every array has the same first axis.

    `images` uint8 [n, 48, 48], `labels` int64 [n] (FER, 0..6), `votes` uint8 [n, 10] (FER+; all zero where the data
    came without them), `duplicate` bool [n]: the pixels are those of a Training picture too (always false for Training
    itself).
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    votes: NDArray[np.uint8]
    duplicate: NDArray[np.bool_]

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.images)

    def where(self, chosen: NDArray[np.bool_]) -> "Faces":
        """Keep the pictures for which `chosen` bool [n] is true."""
        return Faces(self.images[chosen], self.labels[chosen], self.votes[chosen], self.duplicate[chosen])


def load(path: Path, split: Split) -> Faces:
    """Read one split of any of the three forms.

    Raises:
        ValueError: the file is not as this module expects it, or has no picture of the split.
    """
    pictures, votes = _read(path)
    chosen = pictures.usage == split
    if not chosen.any():
        raise ValueError(f"{path} holds no picture of {kaggle.USAGES[split]}")
    images = pictures.images[chosen]
    copied = np.zeros(len(images), dtype=bool)
    if split is not Split.TRAINING:
        copied = copies_of(images, pictures.images[pictures.usage == Split.TRAINING])
    return Faces(images, pictures.label[chosen], votes[chosen], copied)


def _read(path: Path) -> tuple[kaggle.Pictures, NDArray[np.uint8]]:
    """Read the pictures of all splits and their votes."""
    if path.is_dir():
        pictures = kaggle.read_folders(path, LABELS)
        return pictures, _no_votes(pictures)
    if path.suffix.lower() == ".csv":
        pictures, votes = kaggle.read_table(path), path.with_name(VOTES_FILE)
        if votes.is_file():
            return pictures, kaggle.read_votes(votes, VOTE_COLUMNS, pictures.usage)
        return pictures, _no_votes(pictures)
    with np.load(path) as stored:
        if tuple(stored["labels"]) != LABELS or tuple(stored["ferplus_columns"]) != VOTE_COLUMNS:
            raise ValueError(f"{path}: labels or vote columns are in another order than {LABELS}, {VOTE_COLUMNS}")
        label, usage = stored["label"].astype(np.int64), stored["usage"].astype(np.int64)
        return kaggle.Pictures(stored["images"], label, usage), stored["ferplus_votes"]


def _no_votes(pictures: kaggle.Pictures) -> NDArray[np.uint8]:
    return np.zeros((len(pictures.label), len(VOTE_COLUMNS)), np.uint8)


def copies_of(pictures: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mark, bool [n], the pictures whose pixels are identical to any of `others`."""
    known = {other.tobytes() for other in others}
    return np.array([picture.tobytes() in known for picture in pictures], dtype=bool)


def ferplus_labels(votes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Find the label int64 [n] whose column has strictly the most of all ten columns' votes, else `NO_LABEL`.

    A tie, or a win of contempt, unknown or not-a-face, gives no label: such a picture does not count.
    """
    most = votes.max(axis=1, keepdims=True)
    alone = (votes == most).sum(axis=1) == 1
    of_the_seven = votes[:, COLUMN_OF_LABEL]
    won = (of_the_seven == most).any(axis=1) & alone
    return np.where(won, of_the_seven.argmax(axis=1), NO_LABEL)


def with_votes(faces: "Faces") -> "Faces":
    """The same faces, for what is measured by FER+.

    Raises:
        ValueError: they have no votes.
    """
    if not faces.votes.any():
        raise ValueError("these pictures have no FER+ votes, by which scores and calibration go")
    return faces


def is_face(votes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell, bool [n], where fewer than half the annotators saw no face: the others teach nothing.

    Pictures without any vote are no faces either: FER+ left them out for that. Where none of them has a vote there is
    no FER+ to ask, and all count as faces.
    """
    if not votes.any():
        return np.ones(len(votes), dtype=bool)
    seen: NDArray[np.bool_] = 2 * votes[:, VOTE_COLUMNS.index("NF")].astype(int) < votes.sum(axis=1)
    return seen


def targets(faces: Faces, votes_weight: float) -> NDArray[np.float32]:
    """Soft targets float32 [n, 7]: `votes_weight` of the FER+ votes, the rest on the FER label.

    A lone vote is taken for a slip, as Barsoum et al. do. The share of votes that went outside the seven (contempt,
    unknown, not a face) falls to the FER label, so a picture nobody could name is learnt by its FER label alone.
    """
    kept = np.where(faces.votes > 1, faces.votes, 0).astype(np.float32)
    share = kept[:, COLUMN_OF_LABEL] / np.maximum(kept.sum(axis=1, keepdims=True), 1)
    mixed: NDArray[np.float32] = votes_weight * share
    mixed[np.arange(len(faces)), faces.labels] += 1 - mixed.sum(axis=1)
    return mixed
