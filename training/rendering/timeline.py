"""How strong an expression is in each frame: neutral, onset, apex, offset, neutral.

The phases are FACS's. A frame is 1/25 s; onsets of 4 to 14 frames and offsets of 6 to 20 span what is reported for
spontaneous and posed smiles (Schmidt, Cohn & Tian, "Signal characteristics of spontaneous facial expressions", 2003).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.rendering.geometry import Floats


@dataclass(frozen=True)
class Timeline:
    """Lengths in frames; ``begin`` is where the onset begins, before the first frame if negative; ``peak`` in 0..1."""

    begin: int
    onset: int
    apex: int
    offset: int
    peak: float

    def intensity(self, frames: int) -> Floats:
        """Intensity of each of ``frames`` frames, float32 [frames], eased in and out of the phases."""
        at = np.cumsum([self.begin, self.onset, self.apex, self.offset])
        line = np.interp(np.arange(frames), at, [0, 1, 1, 0])
        return (self.peak * ease(line)).astype(np.float32)


def ease(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bend a straight way from 0 to 1 so that it starts and ends slowly (3x² - 2x³)."""
    return line * line * (3 - 2 * line)


def random_timeline(frames: int, chance: np.random.Generator) -> Timeline:
    """Draw a timeline whose apex, in whole or in part, falls into ``frames`` frames."""
    onset, offset = int(chance.integers(4, 15)), int(chance.integers(6, 21))
    apex = int(chance.integers(1, 15))
    begin = int(chance.integers(-onset - apex // 2, max(1, frames - onset - 5)))
    return Timeline(begin, onset, apex, offset, float(chance.uniform(0.6, 1.0)))


def weak_timeline(frames: int, chance: np.random.Generator) -> Timeline:
    """Draw one that never holds still and hardly passes the threshold of a label: its peak is 0.3 to 0.5."""
    onset, offset = int(chance.integers(5, 11)), int(chance.integers(6, 13))
    begin = int(chance.integers(0, max(1, frames - onset - 4)))
    return Timeline(begin, onset, 1, offset, float(chance.uniform(0.3, 0.5)))


def drift(frames: int, chance: np.random.Generator, channels: int = 1, every: int = 10) -> Floats:
    """Smooth random curves, float32 [frames, channels], with a new aim of N(0, 1) each ``every`` frames."""
    aims = chance.normal(size=(frames // every + 2, channels))
    time = np.arange(frames) / every + chance.random()
    whole = np.minimum(time.astype(int), len(aims) - 2)
    way = ease(time - whole)[:, None]
    curves: Floats = (aims[whole] * (1 - way) + aims[whole + 1] * way).astype(np.float32)
    return curves


def blinks(frames: int, chance: np.random.Generator) -> Floats:
    """How closed the lids are, float32 [frames]: a blink of about six frames, every three seconds or so."""
    closed = np.zeros(frames, np.float32)
    shape = np.array([0.35, 0.9, 1.0, 0.75, 0.4, 0.15], np.float32)
    for start in np.flatnonzero(chance.random(frames) < 1 / 75).tolist():
        end = min(frames, start + len(shape))
        closed[start:end] = np.maximum(closed[start:end], shape[: end - start])
    return closed


def talking(frames: int, chance: np.random.Generator) -> Floats:
    """Opening, rounding and spreading of a speaking mouth, float32 [frames, 3] in 0..1."""
    curves = drift(frames, chance, channels=3, every=int(chance.integers(2, 4)))
    opened: Floats = np.clip(0.25 + 0.3 * curves, 0, 1)
    return opened
