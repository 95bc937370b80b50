"""FER2013 as Kaggle gives it: one table of pixels, or a folder of pictures an emotion.

The table is ``fer2013.csv`` with the columns emotion, pixels and Usage (``icml_face_data.csv`` has them too);
FERPlus's ``fer2013new.csv`` has its rows in the same order. The folders are ``train/angry/Training_123.jpg`` and
``test/angry/PublicTest_123.jpg`` or ``PrivateTest_123.jpg``: their numbers are not the table's rows, so no FER+ votes
can be joined to them.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 48
USAGES = ("Training", "PublicTest", "PrivateTest")
EMOTIONS = ("0", "1", "2", "3", "4", "5", "6")
PICTURES = {".png", ".jpg", ".jpeg"}


@dataclass(frozen=True)
class Pictures:
    """``images`` uint8 [n, 48, 48], ``label`` int64 [n], ``usage`` int64 [n] (0..2, as in ``USAGES``)."""

    images: NDArray[np.uint8]
    label: NDArray[np.int64]
    usage: NDArray[np.int64]


def read_table(path: Path) -> Pictures:
    """Read the csv.

    Raises:
        ValueError: a column is missing, or a row is none of FER2013's; the message names it.
    """
    images, labels, usages = [], [], []
    for number, row in _rows(path, ("emotion", "pixels", "Usage")):
        try:
            pixels = np.array(row["pixels"].split(), np.uint8)
            images.append(pixels.reshape(SIDE, SIDE))
            labels.append(_one_of(EMOTIONS, row["emotion"]))
            usages.append(_one_of(USAGES, row["Usage"]))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{path}, row {number}: {error}") from None
    return _pictures(path, images, labels, usages)


def read_votes(path: Path, columns: Sequence[str], usage: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Read FERPlus's votes, uint8 [n, 10], for the table whose ``usage`` int64 [n] is given.

    Raises:
        ValueError: its rows are not that table's, as far as their usage tells, or a column is missing.
    """
    rows = list(_rows(path, ("Usage", *columns)))
    if [row["Usage"] for _, row in rows] != [USAGES[index] for index in usage]:
        raise ValueError(f"{path}: its {len(rows)} rows are not those of the table with {len(usage)}")
    return np.array([[row[column] for column in columns] for _, row in rows], np.uint8).reshape(-1, len(columns))


def read_folders(path: Path, labels: Sequence[str]) -> Pictures:
    """Read ``train`` and ``test``, pictures in the order of their names; ``labels`` are the folders in each.

    Where a name in ``test`` tells no usage, it is taken for PublicTest: PrivateTest is for the last look only.

    Raises:
        ValueError: a folder is missing, or a picture is not 48x48.
    """
    images, found, usages = [], [], []
    for part in ("train", "test"):
        for index, label in enumerate(labels):
            folder = path / part / label
            if not folder.is_dir():
                raise ValueError(f"there is no folder {folder}")
            for file in sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES):
                images.append(_picture(file))
                found.append(index)
                usages.append(_usage(part, file.name))
    return _pictures(path, images, found, usages)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Number rows from 1, the heading not counted. One edition has spaces before its headings."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        heading = [name.strip() for name in next(lines, [])]
        if missing := [column for column in columns if column not in heading]:
            raise ValueError(f"{path} has no column {', '.join(missing)}")
        for number, cells in enumerate(lines, start=1):
            if len(cells) != len(heading):
                raise ValueError(f"{path}, row {number}: {len(cells)} cells under {len(heading)} headings")
            yield number, dict(zip(heading, cells, strict=True))


def _one_of(names: Sequence[str], text: str) -> int:
    if text not in names:
        raise ValueError(f"{text!r} is none of {', '.join(names)}")
    return names.index(text)


def _picture(file: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if picture is None or picture.shape != (SIDE, SIDE):
        raise ValueError(f"{file} is no picture of {SIDE}x{SIDE}")
    return np.asarray(picture, np.uint8)


def _usage(part: str, name: str) -> int:
    if part == "train":
        return USAGES.index("Training")
    return USAGES.index("PrivateTest" if name.startswith("PrivateTest") else "PublicTest")


def _pictures(path: Path, images: list[NDArray[np.uint8]], labels: list[int], usages: list[int]) -> Pictures:
    if not images:
        raise ValueError(f"{path} holds no picture")
    return Pictures(np.stack(images), np.array(labels, np.int64), np.array(usages, np.int64))
