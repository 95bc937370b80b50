"""Small sets of windows to learn from: a stripe whose row tells the emotion, as `fake_faces` has."""

from pathlib import Path

import numpy as np

from training.datasets import windowset
from training.datasets.fer2013 import LABELS
from training.datasets.windowset import Clip


def fake_clip(subject: int, label: int, source: str, frames: int = 7) -> Clip:
    """Make noise with a stripe that is brighter in each frame than in the one before it."""
    chance = np.random.default_rng(subject * len(LABELS) + label)
    pictures = chance.integers(0, 100, (frames, 48, 48), dtype=np.uint8)
    pictures[:, 6 * label : 6 * label + 6] += np.linspace(60, 150, frames).astype(np.uint8)[:, None, None]
    name = f"{source}/{subject}"
    return Clip(f"{name}/{label}", name, source, pictures, np.full(frames - 4, label, np.uint8))


def write_fake_set(folder: Path, subjects: int = 10, sources: tuple[str, ...] = ("rendered",), frames: int = 7) -> Path:
    """Write a clip of `frames` - 4 windows for each subject and label; subjects take the sources in turn."""
    clips = [
        fake_clip(subject, label, sources[subject % len(sources)], frames)
        for subject in range(subjects)
        for label in range(len(LABELS))
    ]
    windowset.write(folder, clips, LABELS, sum(len(clip.frames) for clip in clips))
    return folder
