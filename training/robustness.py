"""What a model loses when frames are bad: `python -m training.robustness MODEL ... --data fer2013.npz --out FILE`.

Pictures are PublicTest's that have a FER+ label and no copy in Training, each moved into one window of five frames as
training moves them (`training.datasets.motion`, without its blur, boxes and noise); every model sees the same windows.
Three things are done to them:

- One or two of the five frames are spoiled, the last among them or not (`training.spoil`).
- The box is off by a share of its side, in a random direction: one for all five frames, as a detector errs that is
  biased, or anew in each, as one that shakes. Beyond the picture its border is repeated, since FER2013 has no more.
- The face was only so many pixels wide.

`FILE` receives the accuracies as JSON, which `training.document` lays out.
"""

import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from training import cli, manifest, run_folder
from training.datasets import FRAMES, fer2013
from training.datasets.motion import Motion
from training.datasets.motion import windows as move
from training.evaluate import BATCH, Model, open_model
from training.provenance import made_by
from training.spoil import KINDS, SPOILERS, Kind, shrink

SEED = 0
BOX_OFF = (0.05, 0.10, 0.15)
FACE_PX = (40, 32, 24)
MOVED = replace(Motion(), static_share=0.0, blur_share=0.0, occlusion_share=0.0, noise_share=0.0)

Windows = NDArray[np.uint8]
Change = Callable[[Windows, np.random.Generator], Windows]


@dataclass(frozen=True)
class Condition:
    """Something done to every window; `group` and `title` name it in tables."""

    group: str
    title: str
    change: Change


@dataclass(frozen=True)
class Result:
    """FER+ accuracy under a condition, by model."""

    group: str
    title: str
    accuracy: dict[str, float]


def conditions() -> Iterator[Condition]:
    """Everything that is measured, in the order of the tables."""
    yield Condition("clean", "nothing", lambda windows, _: windows)
    for count, last in product((1, 2), (False, True)):
        where = "the last among them" if last else "not the last"
        for kind in KINDS:
            change = _spoiler(kind, count, last=last)
            yield Condition(f"{count} of 5 spoiled, {where}", kind.replace("_", " "), change)
    for group, alike in {"box off, all frames alike": True, "box off, each frame anew": False}.items():
        for share in BOX_OFF:
            yield Condition(group, f"{share:.0%}", _shifter(share, alike=alike))
    for side in FACE_PX:
        yield Condition("small face", f"{side} px", _shrinker(side))


def _spoiler(kind: Kind, count: int, *, last: bool) -> Change:
    def spoil(windows: Windows, rng: np.random.Generator) -> Windows:
        spoiled = windows.copy()
        for window in spoiled:
            others = rng.choice(FRAMES - 1, count - last, replace=False)
            for at in [*others, FRAMES - 1] if last else others:
                window[at] = SPOILERS[kind](window[at], rng)
        return spoiled

    return spoil


def _shifter(share: float, *, alike: bool) -> Change:
    def shift(windows: Windows, rng: np.random.Generator) -> Windows:
        return np.stack([_shift(window, share, rng, alike=alike) for window in windows])

    return shift


def _shift(window: Windows, share: float, rng: np.random.Generator, *, alike: bool) -> Windows:
    size = window.shape[-1]
    angles = np.repeat(rng.uniform(0, 2 * np.pi), FRAMES) if alike else rng.uniform(0, 2 * np.pi, FRAMES)
    moves = share * size * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    matrices = [np.array([[1, 0, x], [0, 1, y]]) for x, y in moves]
    return np.stack(
        [
            cv2.warpAffine(frame, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
            for frame, matrix in zip(window, matrices, strict=True)
        ]
    ).astype(np.uint8)


def _shrinker(side: int) -> Change:
    return lambda windows, _: np.stack([shrink(window, side) for window in windows])


def open_windows(data: Path) -> tuple[Windows, NDArray[np.int64]]:
    """Move the pictures into windows uint8 [n, 5, 48, 48]; the truth int64 [n]."""
    faces = fer2013.with_votes(fer2013.load(data, fer2013.Split.PUBLIC))
    truth = fer2013.ferplus_labels(faces.votes)
    judged = (truth != fer2013.NO_LABEL) & ~faces.duplicate
    generator = torch.Generator().manual_seed(SEED)
    moved = move(torch.from_numpy(faces.images[judged]), MOVED, generator)
    return moved.byte().numpy(), truth[judged]


def measure(models: dict[str, Model], windows: Windows, truth: NDArray[np.int64]) -> list[Result]:
    """Judge every model under every condition; a condition's chance is its own, so that one more changes no other."""
    results = []
    for condition in conditions():
        rng = np.random.default_rng([SEED, *condition.group.encode(), *condition.title.encode()])
        changed = condition.change(windows, rng)
        accuracy = {name: round(float((_say(model, changed) == truth).mean()), 4) for name, model in models.items()}
        results.append(Result(condition.group, condition.title, accuracy))
    return results


def _say(model: Model, windows: Windows) -> NDArray[np.int64]:
    parts = [model(windows[at : at + BATCH]).argmax(axis=1) for at in range(0, len(windows), BATCH)]
    said: NDArray[np.int64] = np.concatenate(parts)
    return said


def main() -> None:
    """Read the command line, measure and write."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+", help="version folders of networks trained on FER2013")
    parser.add_argument("--data", type=Path, required=True, help="FER2013 with FER+ votes, .npz")
    parser.add_argument("--out", type=Path, default=Path("docs/results/robustness.json"))
    options = parser.parse_args()
    described = [manifest.read(folder) for folder in options.models]
    names = [f"{each['name']}@{each['version']}" for each in described]
    windows, truth = open_windows(options.data)
    results = measure(dict(zip(names, map(open_model, options.models), strict=True)), windows, truth)
    command = " ".join(
        ["python -m training.robustness", *map(str, options.models), "--data fer2013.npz", f"--out {options.out}"]
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    run_folder.write_json(
        options.out,
        {
            "made_by": made_by(command),
            "windows": len(truth),
            "models": names,
            "results": [asdict(each) for each in results],
        },
    )
    print(json.dumps([asdict(each) for each in results], indent=2))


if __name__ == "__main__":
    cli.run(main)
