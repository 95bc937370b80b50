"""Windows on disk: each frame once, windows as places among them, all memory-mapped.

A folder holds ``frames.npy`` uint8 [m, 48, 48] and, one entry a window, ``first.npy`` int64 (the window is frames first
to first + 4), ``label.npy``, ``subject.npy``, ``clip.npy`` and ``source.npy``, which count into the lists of
``names.json`` (``labels``, ``subjects``, ``clips``, ``sources``). The builder of BigFaceX and the renderer write it;
training reads it. ``names.json`` has the ``frames_sha256``, too, by which a run knows its data.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from training.datasets import FRAMES, SIZE

COLUMNS = ("first", "label", "subject", "clip", "source")


@dataclass(frozen=True)
class Clip:
    """The crops of one clip, uint8 [k, 48, 48], in order, and the emotion of each of its k - 4 windows.

    ``subject`` is unique among all sources, e.g. ``ck+/S005``; ``labels`` are numbers in the project's order.
    """

    name: str
    subject: str
    source: str
    frames: NDArray[np.uint8]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class WindowSet:
    """An open set; the arrays are as the module says."""

    frames: NDArray[np.uint8]
    first: NDArray[np.int64]
    label: NDArray[np.int64]
    subject: NDArray[np.int64]
    clip: NDArray[np.int64]
    source: NDArray[np.int64]
    names: dict[str, list[str]]
    frames_sha256: str

    def __len__(self) -> int:
        """Windows."""
        return len(self.first)

    def windows(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Copies of windows, uint8 [k, 5, 48, 48]."""
        places: NDArray[np.int64] = self.first[indices][:, np.newaxis] + np.arange(FRAMES)
        return np.asarray(self.frames[places], np.uint8)


def load(folder: Path) -> WindowSet:
    """Open a set; nothing is read before it is used.

    Raises:
        FileNotFoundError: a part is missing; the message names it.
    """
    names = json.loads((folder / "names.json").read_text())
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("frames", *COLUMNS)}
    return WindowSet(**arrays, frames_sha256=names.pop("frames_sha256"), names=names)


def write(folder: Path, clips: Iterable[Clip], labels: Iterable[str], frame_count: int) -> None:
    """Write a set from its clips, in their order; ``frame_count`` is how many frames they have in all.

    The same clips give the same bytes. ``names.json`` comes last: a folder without it is unfinished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "names.json").unlink(missing_ok=True)
    frames = open_memmap(folder / "frames.npy", mode="w+", dtype=np.uint8, shape=(frame_count, SIZE, SIZE))
    columns: dict[str, list[NDArray[np.int64]]] = {name: [] for name in COLUMNS}
    names: dict[str, list[str]] = {"labels": list(labels), "subjects": [], "clips": [], "sources": []}
    end, digest = 0, hashlib.sha256()
    for clip in clips:
        windows = len(clip.labels)
        if windows != max(0, len(clip.frames) - FRAMES + 1):
            raise ValueError(f"{clip.name}: {len(clip.frames)} frames make no {windows} windows")
        frames[end : end + len(clip.frames)] = clip.frames
        digest.update(clip.frames.tobytes())
        columns["first"].append(np.arange(end, end + windows))
        columns["label"].append(clip.labels.astype(np.int64))
        for column, name in (("subject", clip.subject), ("clip", clip.name), ("source", clip.source)):
            known = names[f"{column}s"]
            if name not in known:
                known.append(name)
            columns[column].append(np.full(windows, known.index(name)))
        end += len(clip.frames)
    if end != frame_count:
        raise ValueError(f"{end} frames came, {frame_count} were announced")
    frames.flush()
    for name, parts in columns.items():
        np.save(folder / f"{name}.npy", np.concatenate([np.empty(0, np.int64), *parts]))
    unfinished = folder / "names.json.partial"
    unfinished.write_text(json.dumps({**names, "frames_sha256": digest.hexdigest()}, indent=2) + "\n")
    unfinished.replace(folder / "names.json")
