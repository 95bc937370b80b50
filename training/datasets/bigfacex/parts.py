"""Finished recordings on disk, one ``.npz`` each, so that a build that was stopped goes on where it was.

A part is written beside its place and moved there. It says what it was made from: one from other files, another OpenCV
or another rule does not count, nor does one that is damaged.
"""

import zipfile
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np

from training.datasets.bigfacex.cropping import CARRY, GEOMETRY, Crops
from training.datasets.bigfacex.recording import DatasetError, Recording


def origin(recording: Recording) -> str:
    """Name what a part is made from: the rule, OpenCV's version, the files' names and sizes.

    Raises:
        DatasetError: a file is gone.
    """
    try:
        files = [(file.name, file.stat().st_size) for file in recording.frames.files]
    except OSError as error:
        raise DatasetError(str(error)) from error
    stride = getattr(recording.frames, "skip", 0), getattr(recording.frames, "step", 1)
    return sha256(repr((GEOMETRY, CARRY, stride, cv2.__version__, files)).encode()).hexdigest()


def place(folder: Path, recording: Recording) -> Path:
    """Name the file of a recording's part."""
    return folder / f"{recording.name}.npz"


def save(path: Path, crops: Crops, made_from: str) -> None:
    """Write a part; the same crops give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    counts = np.array([crops.seen, crops.carried, crops.dropped])
    with partial.open("wb") as file:
        np.savez(file, frames=crops.frames, lengths=crops.lengths, counts=counts, origin=np.array(made_from))
    partial.replace(path)


def load(path: Path, made_from: str) -> Crops | None:
    """Read a part; None where there is none, it is damaged or it was made from something else."""
    try:
        with path.open("rb") as file, np.load(file) as stored:
            if str(stored["origin"]) != made_from:
                return None
            seen, carried, dropped = map(int, stored["counts"])
            return Crops(stored["frames"], stored["lengths"], seen, carried, dropped)
    except (FileNotFoundError, zipfile.BadZipFile, EOFError, KeyError, ValueError):
        return None
