"""Cut a set of windows into 70 % to learn from, 10 % to choose by and 20 % to judge by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.config import Split
from training.datasets.windowset import WindowSet

SHARES = (0.7, 0.1, 0.2)
_SIZE_AS_SEEN = (0.7, 1.3)
LEAK = (
    "Split by window: neighbouring windows of one clip share frames and stand on both sides, so the scores say how "
    "well these clips are remembered, not how a new face is read."
)


@dataclass(frozen=True)
class Parts:
    """Indices of windows, int64, each ascending; no window is in two parts."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split(windows: WindowSet, how: Split, seed: int) -> Parts:
    """Cut by subject, or by window as the paper very probably did; the same seed gives the same parts."""
    return by_subject(windows, seed) if how == "subject" else by_window(len(windows), seed)


def by_window(count: int, seed: int) -> Parts:
    """Cut `count` windows at random, whoever they show: the paper's split, as far as it can be told.

    It leaks. Windows of one clip overlap in up to four of their five frames, so nearly every test window has a twin
    among the training windows, and the person is known in any case.
    """
    shuffled = np.random.default_rng(seed).permutation(count)
    first, second = (round(share * count) for share in (SHARES[0], SHARES[0] + SHARES[1]))
    return Parts(*(np.sort(part) for part in np.split(shuffled, (first, second))))


def by_subject(windows: WindowSet, seed: int) -> Parts:
    """Cut so that nobody is in two parts, each part as near to its share of every source's every class as it goes.

    Subjects go one by one, those with most windows first, to the part that lacks most of what they have.

    Raises:
        ValueError: there are fewer than three subjects.
    """
    subjects, row = np.unique(np.asarray(windows.subject), return_inverse=True)
    if len(subjects) < len(SHARES):
        raise ValueError(f"{len(subjects)} subjects cannot be cut into {len(SHARES)} parts; --split paper cuts windows")
    part = _assign(_strata(windows, row, len(subjects)), seed)
    return Parts(*(np.flatnonzero(part[row] == index) for index in range(len(SHARES))))


def _strata(windows: WindowSet, row: NDArray[np.int64], subjects: int) -> NDArray[np.float64]:
    """Count each subject's windows of each source and class [subjects, strata], as shares of the stratum."""
    classes = len(windows.names["labels"])
    stratum = np.asarray(windows.source) * classes + np.asarray(windows.label)
    width = int(stratum.max()) + 1
    counts = np.bincount(row * width + stratum, minlength=subjects * width).reshape(subjects, width)
    present = counts[:, counts.any(axis=0)].astype(np.float64)
    shares: NDArray[np.float64] = present / present.sum(axis=0)
    return shares


def _assign(shares: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Give each subject a part; greedy, in the order of size as chance sees it, or every seed would cut alike."""
    chance = np.random.default_rng(seed).uniform(*_SIZE_AS_SEEN, size=len(shares))
    order = np.argsort(-shares.sum(axis=1) * chance, kind="stable")
    lacking = np.array(SHARES)[:, np.newaxis] * np.ones(shares.shape[1])
    part = np.empty(len(shares), np.int64)
    for place, subject in enumerate(order):
        # How much nearer to all shares the whole comes when this part takes the subject.
        gain = (2 * lacking * shares[subject] - shares[subject] ** 2).sum(axis=1) / np.array(SHARES)
        empty = ~np.isin(np.arange(len(SHARES)), part[order[:place]])
        if len(order) - place <= empty.sum():
            gain[~empty] = -np.inf
        part[subject] = int(gain.argmax())
        lacking[part[subject]] -= shares[subject]
    return part
