"""Draw a contact sheet: `python -m training.rendering.sheet --mesh mesh.npz --out docs/images/rendered.png`.

Each of the seven classes at its apex, several persons, in the scenes that training has but with a clean camera; below,
frames of one clip as it is written, with their windows' labels.
"""

from argparse import ArgumentParser
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.datasets import FRAMES
from training.datasets.fer2013 import LABELS
from training.rendering.camera import Camera
from training.rendering.expressions import PROTOTYPES, shapes_of
from training.rendering.mesh import load
from training.rendering.person import random_person
from training.rendering.scene import Renderer, random_scene
from training.rendering.sequences import render_clip

COLUMNS = 8
ZOOM, MARGIN = 2, 76
CLIP = 10  # of train: a smile that comes and goes, with a blink


def apex(renderer: Renderer, emotion: str, number: int, seed: int) -> NDArray[np.uint8]:
    """One person at full strength, uint8 [48, 48]."""
    chance = np.random.default_rng([seed, number])
    person = random_person(renderer.mesh, chance)
    variants = PROTOTYPES[emotion]
    weights = renderer.mesh.weights(shapes_of(variants[number % len(variants)]))
    offsets = np.tensordot(weights, renderer.mesh.expressions, axes=1)
    scene = random_scene(1, np.random.default_rng([seed, number, LABELS.index(emotion)]))
    return Camera().shoot(renderer.draw(person, offsets, scene, 0), chance)


def sheet(renderer: Renderer, seed: int) -> NDArray[np.uint8]:
    """Lay the pictures out, a row a class and a row for the clip, uint8 [height, width]."""
    rows = [_strip(emotion, [apex(renderer, emotion, n, seed) for n in range(COLUMNS)]) for emotion in LABELS]
    clip = render_clip(renderer, "train", seed, CLIP)
    shown = [at * len(clip.labels) // COLUMNS for at in range(COLUMNS)]
    rows.append(_strip("in time", [clip.frames[at + FRAMES - 1] for at in shown]))
    named = np.full((22, rows[0].shape[1]), 255, np.uint8)
    for column, at in enumerate(shown):
        _write(named, LABELS[clip.labels[at]], MARGIN + column * rows[0].shape[0] + 6, 14)
    # 64 levels of gray are enough to the eye, and make the file a third smaller.
    return np.vstack([*rows, named]) | np.uint8(3)


def _strip(title: str, pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures side by side, enlarged, with their name on the left."""
    large = cv2.resize(np.hstack(pictures), None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
    margin = np.full((len(large), MARGIN), 255, np.uint8)
    _write(margin, title, 6, len(large) // 2 + 4)
    return np.hstack([margin, np.asarray(large, np.uint8)])


def _write(picture: NDArray[np.uint8], text: str, x: int, y: int) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 0, 1, cv2.LINE_AA)


def main() -> None:
    """Read the command line and draw."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--mesh", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    cv2.imwrite(str(args.out), sheet(Renderer(load(args.mesh)), args.seed), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
