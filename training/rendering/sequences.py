"""Labelled clips: which person shows what, how strongly, in which frame; the same seed gives the same bytes.

The rule of the label, fixed before any network was trained on these: a window bears the emotion when the intensity of
its last frame is at least 0.3, else it is neutral.

Some clips are hard on purpose. *Ambiguous* ones have stills that tell little: either an emotion blended with another
one that hardly passes the threshold and never holds still, or a resting face that looks like a weak emotion but does
not move and so is neutral. *Twins* reach each frame twice, on the way up and on the way down, the two byte for byte
equal.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from training.datasets import FRAMES
from training.datasets.fer2013 import LABELS
from training.datasets.windowset import Clip
from training.rendering.camera import random_camera
from training.rendering.expressions import PROTOTYPES, Shapes, blend, random_shapes
from training.rendering.geometry import Floats
from training.rendering.mesh import Mesh, load
from training.rendering.scene import SIDE, Renderer, random_scene
from training.rendering.timeline import Timeline, blinks, random_timeline, talking, weak_timeline

Split = Literal["train", "val", "test"]
Kind = Literal["plain", "ambiguous", "twin"]
# The last digit of a person's number says which split has them.
DIGITS: dict[Split, tuple[int, ...]] = {"train": tuple(range(8)), "val": (8,), "test": (9,)}

CLIP_FRAMES = 24
CLIPS_PER_PERSON = 14  # each emotion twice
THRESHOLD = 0.3
SHARES: dict[Kind, float] = {"plain": 0.7, "ambiguous": 0.15, "twin": 0.15}
TALKING_SHARE = 0.35
NEUTRAL = LABELS.index("neutral")


@dataclass(frozen=True)
class Performance:
    """What a clip shows: ``emotion`` at ``intensity`` float32 [n] of each frame, by shape weights float32 [n, e]."""

    emotion: str
    kind: Kind
    intensity: Floats
    weights: Floats


def person_number(split: Split, index: int) -> int:
    """Number of the person in clip ``index`` of a split; no number is in two splits."""
    tens, digit = divmod(index // CLIPS_PER_PERSON, len(DIGITS[split]))
    return 10 * tens + DIGITS[split][digit]


def labels(emotion: str, intensity: Floats) -> NDArray[np.uint8]:
    """The label of each window of a clip, uint8 [n - 4], by the rule in this module's docstring."""
    shown = intensity[FRAMES - 1 :] >= THRESHOLD
    return np.where(shown, LABELS.index(emotion), NEUTRAL).astype(np.uint8)


def perform(mesh: Mesh, emotion: str, chance: np.random.Generator) -> Performance:
    """Draw a clip's kind and what its face does."""
    kind: Kind = chance.choice(np.array(get_args(Kind)), p=list(SHARES.values())).item()
    frames = CLIP_FRAMES // 2 if kind == "twin" else CLIP_FRAMES
    shapes, resting = random_shapes(emotion, chance), Shapes()
    intensity = random_timeline(frames, chance).intensity(frames)
    if kind == "twin":
        onset = int(chance.integers(5, frames))
        intensity = Timeline(frames - 1 - onset, onset, 1, 1, float(chance.uniform(0.4, 1))).intensity(frames)
    elif kind == "ambiguous" and (emotion == "neutral" or chance.random() < 0.5):
        looks = shapes or random_shapes(_another("neutral", chance), chance)
        resting = blend({}, looks, chance.uniform(0.2, 0.45))
        emotion = "neutral"
    elif kind == "ambiguous":
        shapes = blend(shapes, random_shapes(_another(emotion, chance), chance), chance.uniform(0.2, 0.4))
        intensity = weak_timeline(frames, chance).intensity(frames)
    if emotion == "neutral":
        intensity = np.zeros_like(intensity)
    weights = intensity[:, None] * mesh.weights(shapes) + mesh.weights(resting) + _other_motion(mesh, frames, chance)
    return Performance(emotion, kind, intensity, weights)


def _another(emotion: str, chance: np.random.Generator) -> str:
    """An emotion other than ``emotion`` and neutral."""
    others = [name for name in PROTOTYPES if name not in {emotion, "neutral"}]
    return others[chance.integers(len(others))]


def _other_motion(mesh: Mesh, frames: int, chance: np.random.Generator) -> Floats:
    """Shape weights float32 [n, e] of what no emotion moves: blinks, and in some clips speech."""
    closed = blinks(frames, chance)
    moved = closed[:, None] * mesh.weights({"eyeBlink_L": 1, "eyeBlink_R": 1})
    if chance.random() < TALKING_SHARE:
        opened, rounded, spread = talking(frames, chance).T[..., None]
        moved = moved + 0.35 * opened * mesh.weights({"jawOpen": 1, "mouthLowerDown_L": 0.6, "mouthLowerDown_R": 0.6})
        moved = moved + 0.3 * rounded * mesh.weights({"mouthFunnel": 1, "mouthPucker": 0.3})
        moved = moved + 0.25 * spread * mesh.weights({"mouthStretch_L": 1, "mouthStretch_R": 1})
    return moved.astype(np.float32)


def render_clip(renderer: Renderer, split: Split, seed: int, index: int) -> Clip:
    """Render clip ``index`` of a split; depends on nothing but these numbers and the mesh."""
    mesh, number = renderer.mesh, person_number(split, index)
    person = renderer.person(seed, number)
    take = index % CLIPS_PER_PERSON
    chance = np.random.default_rng([seed, number, 1 + take])
    acted = perform(mesh, LABELS[take % len(LABELS)], chance)
    frames = len(acted.intensity)
    scene, camera = random_scene(frames, chance), random_camera(SIDE, chance)
    offsets = np.tensordot(acted.weights, mesh.expressions, axes=1)
    pictures = [camera.shoot(renderer.draw(person, offsets[at], scene, at), chance) for at in range(frames)]
    crops, intensity = np.stack(pictures), acted.intensity
    if acted.kind == "twin":
        crops, intensity = np.concatenate([crops, crops[::-1]]), np.concatenate([intensity, intensity[::-1]])
    subject = f"rendered/{seed}-{number:05}"
    name = f"{subject}/{take:02}-{acted.emotion}-{acted.kind}"
    return Clip(name, subject, "rendered", crops, labels(acted.emotion, intensity))


@dataclass(frozen=True)
class Order:
    """Clips to render in another process: it loads the mesh once, then renders clips by their index."""

    mesh: Path
    split: Split
    seed: int

    def __call__(self, index: int) -> Clip:
        """Render clip ``index``."""
        return render_clip(_renderer(self.mesh), self.split, self.seed, index)


@cache
def _renderer(mesh: Path) -> Renderer:
    return Renderer(load(mesh))
