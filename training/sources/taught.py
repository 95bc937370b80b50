"""FER2013's pictures in windows that other nets have answered: `training.teach` writes the folder this reads.

A folder holds, for each of its views v of the training half, `windows-v.npy` uint8 [n, 5, 48, 48] and `answers-v.npy`
float32 [n, 7], and `taught.json`, which comes last and says of which pictures, by which teachers and how.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.config import Config
from training.datasets import fer2013
from training.sources import Draw, Verdict
from training.sources.faces import FaceSource

FACTS = "taught.json"


def windows_file(folder: Path, view: int) -> Path:
    """Where a view's windows lie."""
    return folder / f"windows-{view}.npy"


def answers_file(folder: Path, view: int) -> Path:
    """Where the teachers' answers to a view lie."""
    return folder / f"answers-{view}.npy"


@dataclass(frozen=True)
class TaughtSource:
    """The faces that judge, and the views that are learnt from, memory-mapped."""

    faces: FaceSource
    windows: Sequence[NDArray[np.uint8]]
    taught: Sequence[NDArray[np.float32]]
    facts: dict[str, object]

    @classmethod
    def load(cls, folder: Path, faces: FaceSource, config: Config) -> "TaughtSource":
        """Open the folder.

        Raises:
            FileNotFoundError: it is not finished, or is none.
            ValueError: it was made of other pictures, or its windows were moved otherwise than the config says.
        """
        facts = json.loads((folder / FACTS).read_text())
        if facts["faces"] != faces.describe():
            raise ValueError(f"{folder} was made of other pictures: {facts['faces']}")
        for name, value in facts["motion"].items():
            if getattr(config, name) != value:
                raise ValueError(
                    f"{folder} was made with {name} {value}, not {getattr(config, name)}".replace("_", "-")
                )
        views = range(facts["views"])
        windows = [np.load(windows_file(folder, view), mmap_mode="r") for view in views]
        return cls(faces, windows, [np.load(answers_file(folder, view)) for view in views], facts)

    def __len__(self) -> int:
        """Count the pictures, which make an epoch."""
        return len(self.faces)

    def drawer(self, config: Config) -> Draw:
        """Take each picture in one of its views, by chance, with its soft target and the teachers' answer mixed."""
        targets = torch.from_numpy(fer2013.targets(self.faces.training, config.votes_weight)).to(config.device)

        def draw(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            views = torch.randint(len(self.windows), (len(rows),), generator=generator, device=generator.device)
            places = list(zip(views.tolist(), rows.tolist(), strict=True))
            windows = torch.from_numpy(np.stack([self.windows[view][row] for view, row in places]))
            answers = torch.from_numpy(np.stack([self.taught[view][row] for view, row in places]))
            target = targets[rows].lerp(answers.to(config.device), config.teacher_weight)
            return windows.to(config.device).float(), target

        return draw

    def validate(self, network: nn.Module, device: str) -> Verdict:
        """Judge by PublicTest."""
        return self.faces.validate(network, device)

    judge = validate

    def answers(self, network: nn.Module, device: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Calibrate on PublicTest."""
        return self.faces.answers(network, device)

    def prior(self, config: Config) -> NDArray[np.float64]:
        """Average the soft targets and the teachers' answers."""
        answered = np.mean([answers.mean(axis=0, dtype=np.float64) for answers in self.taught], axis=0)
        shares: NDArray[np.float64] = (1 - config.teacher_weight) * self.faces.prior(config)
        return shares + config.teacher_weight * answered

    @property
    def title(self) -> str:
        """Name the faces."""
        return self.faces.title

    @property
    def chosen_on(self) -> str:
        """Name what runs are chosen by."""
        return self.faces.chosen_on

    def provenance(self, config: Config) -> str:
        """Name the pictures and the teachers."""
        return (
            f"{self.faces.provenance(config)}; {config.teacher_weight:.0%} of each target is the answer of other "
            "networks of this project, trained on the same pictures"
        )

    def describe(self) -> dict[str, object]:
        """Say what the folder says of itself."""
        return {"kind": "taught", **self.facts}
