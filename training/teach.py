"""Let trained nets answer windows that others then learn from: `python -m training.teach --data DATA --out FOLDER ...`.

Each picture of FER2013's training half is moved into a window `--views` times, by the same options as in training, and
the teachers' mean answer is kept with it (Hinton et al. 2015, arXiv:1503.02531). So a teacher is paid for once, however
many nets learn from it. Started again with the same command, views that are there are left as they are.
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from training import cli, manifest, run_folder
from training.config import Config
from training.sources.faces import FaceSource
from training.sources.taught import FACTS, answers_file, windows_file
from training.train import Run

BATCH = 256
# What decides how a picture is moved; the rest of a recipe is the learner's.
MOTION = ("static_share", "shift_px", "shaken_share", "spoiled_share", "shrunk_share")


def teach(config: Config, faces: FaceSource, teachers: Sequence[nn.Module], views: int, folder: Path) -> None:
    """Write the views that the folder lacks."""
    for view in range(views):
        if answers_file(folder, view).exists():
            continue
        windows, answers = _view(config, faces, teachers, view)
        np.save(windows_file(folder, view), windows)
        # The answers come last, and whole or not at all: with them a view is finished.
        partial = folder / "partial.npy"
        np.save(partial, answers)
        partial.replace(answers_file(folder, view))


@torch.no_grad()
def _view(
    config: Config, faces: FaceSource, teachers: Sequence[nn.Module], view: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + view)
    draw, moved, answered = faces.drawer(config), [], []
    # Which windows of a batch stand still goes by their place in it, so pictures are shuffled as in training.
    order = torch.randperm(len(faces), generator=generator)
    for rows in tqdm(torch.split(order, BATCH), desc=f"view {view}", leave=False, disable=None):
        windows, _ = draw(rows, generator)
        moved.append(windows.byte())
        scaled = (windows / 255).contiguous(memory_format=torch.channels_last)
        answered.append(torch.stack([teacher(scaled).softmax(dim=1) for teacher in teachers]).mean(dim=0))
    back = order.argsort()
    return torch.cat(moved)[back].numpy(), torch.cat(answered)[back].numpy()


def open_teacher(path: Path, faces: FaceSource) -> nn.Module:
    """Open a run's network.

    Raises:
        FileNotFoundError: it is no run's folder.
        ValueError: it learnt from other pictures.
    """
    run_folder.begun(path.parent, faces)
    return Run.resume(path, device="cpu").averaged.eval()


def main() -> None:
    """Read the command line, answer and write."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="FER2013")
    parser.add_argument("--teachers", type=Path, nargs="+", required=True, help="best.pt of each")
    parser.add_argument("--views", type=cli.positive, default=12)
    parser.add_argument("--out", type=Path, required=True, help="folder of the windows; 330 MB a view")
    Config.add_options(parser, fixed=frozenset(asdict(Config())) - {*MOTION, "seed"})
    options = vars(parser.parse_args())
    config, faces = Config.from_options(options), FaceSource.load(options["data"])
    teachers = [open_teacher(path, faces) for path in options["teachers"]]
    facts = {
        "faces": faces.describe(),
        "teachers": [manifest.digest(path) for path in options["teachers"]],
        "seed": config.seed,
        "motion": {name: value for name, value in asdict(config).items() if name in MOTION},
    }
    folder: Path = options["out"]
    folder.mkdir(parents=True, exist_ok=True)
    begun = folder / "begun.json"
    if begun.exists() and run_folder.read_json(begun) != facts:
        raise ValueError(f"{folder} was begun otherwise: {run_folder.read_json(begun)}")
    run_folder.write_json(begun, facts)
    teach(config, faces, teachers, options["views"], folder)
    run_folder.write_json(folder / FACTS, facts | {"views": options["views"]})


if __name__ == "__main__":
    cli.run(main)
