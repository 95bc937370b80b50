"""What every reader gives: recordings with their emotion, whose frames are decoded only when they are asked for."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


class DatasetError(Exception):
    """A data set's folder is not what its reader expects; the message names what is missing or cannot be read."""


@dataclass(frozen=True)
class Pictures:
    """A recording kept as one picture a frame, in order."""

    files: tuple[Path, ...]

    def gray(self) -> Iterator[NDArray[np.uint8]]:
        """Decode the frames, uint8 [height, width].

        Raises:
            DatasetError: a picture cannot be decoded.
        """
        for file in self.files:
            picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            if picture is None:
                raise DatasetError(f"{file} cannot be decoded")
            yield np.asarray(picture, np.uint8)


@dataclass(frozen=True)
class Video:
    """A recording kept as a video, of which the frames ``skip``, ``skip`` + ``step``, ... count."""

    file: Path
    skip: int
    step: int

    @property
    def files(self) -> tuple[Path, ...]:
        """What it is read from."""
        return (self.file,)

    def gray(self) -> Iterator[NDArray[np.uint8]]:
        """Decode the frames that count, uint8 [height, width].

        A video that breaks off ends there: containers announce their length too unreliably to tell.

        Raises:
            DatasetError: nothing in it can be decoded.
        """
        capture = cv2.VideoCapture(str(self.file))
        index = 0
        try:
            while capture.grab():
                if index >= self.skip and (index - self.skip) % self.step == 0:
                    decoded, frame = capture.retrieve()
                    if not decoded:
                        raise DatasetError(f"{self.file}: frame {index} cannot be decoded")
                    yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
                index += 1
        finally:
            capture.release()
        if index == 0:
            raise DatasetError(f"{self.file} cannot be decoded")


@dataclass(frozen=True)
class Recording:
    """One clip of a data set; all its windows bear its emotion, a number in the project's order.

    ``name`` and ``subject`` are unique among all sources, e.g. ``ck+/S005/001`` and ``ck+/S005``; the name is also the
    path of the recording's part.
    """

    name: str
    subject: str
    source: str
    emotion: int
    frames: Pictures | Video


@dataclass(frozen=True)
class Survey:
    """What a reader found, in a fixed order; what should be there and is not; what it set aside, and why."""

    source: str
    recordings: tuple[Recording, ...]
    missing: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()


def in_number_order(paths: Iterable[Path]) -> list[Path]:
    """Sort by name as people count: ``subject 2`` before ``subject 10``."""
    return sorted(paths, key=_number_order)


def _number_order(path: Path) -> tuple[list[tuple[int, str]], str]:
    # The name itself comes last, since 1 and 01 are one number.
    return [(int(digits or 0), text) for digits, text in re.findall(r"(\d+)|(\D+)", str(path))], str(path)


def subfolder(folder: Path, name: str) -> Path:
    """Find ``name`` in ``folder`` or one level below, where unpacking an archive often puts it.

    Raises:
        DatasetError: it is in neither place.
    """
    for place in (folder / name, *in_number_order(folder.glob(f"*/{name}"))):
        if place.is_dir() and "__MACOSX" not in place.parts:
            return place
    raise DatasetError(f"{folder} holds no folder {name}")
