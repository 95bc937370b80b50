"""A set of windows on disk as a source: one part to learn from, one to choose by, one to judge by."""

from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training import splits
from training.augment import AUGMENTATIONS, augment
from training.config import Config, Split
from training.confusion import confusion, score, top1
from training.datasets import windowset
from training.datasets.fer2013 import LABELS
from training.datasets.titles import RENDERED
from training.datasets.windowset import WindowSet
from training.sources import Draw, Verdict
from training.splits import Parts

# Small enough that the maps of the 3-D networks fit beside everything else: about 50 MB each.
EVALUATION_BATCH = 64
RENDERER = "rendered"


@dataclass(frozen=True)
class WindowSource:
    """An open set and how it is cut."""

    windows: WindowSet
    parts: Parts
    how: Split
    seed: int

    @classmethod
    def load(cls, folder: Path, config: Config) -> "WindowSource":
        """Open the set and cut it as the config says.

        Raises:
            FileNotFoundError: a part of the set is missing.
            ValueError: its labels are not the project's, or a part would be empty.
        """
        windows = windowset.load(folder)
        if tuple(windows.names["labels"]) != LABELS:
            raise ValueError(f"{folder}: the labels are {windows.names['labels']}, not {LABELS}")
        parts = splits.split(windows, config.split, config.split_seed)
        if not all(map(len, (parts.training, parts.validation, parts.test))):
            raise ValueError(f"{folder}: {len(windows)} windows are too few to be cut into three parts")
        return cls(windows, parts, config.split, config.split_seed)

    def __len__(self) -> int:
        """Count the windows to learn from."""
        return len(self.parts.training)

    def drawer(self, config: Config) -> Draw:
        """Read a batch's windows and change them by the recipe's augmentation."""
        how = AUGMENTATIONS[config.augmentation]
        labels = torch.from_numpy(np.asarray(self.windows.label)[self.parts.training]).to(config.device)
        targets = functional.one_hot(labels, len(LABELS)).float()

        def draw(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            read = self.windows.windows(self.parts.training[rows.cpu().numpy()])
            return augment(torch.from_numpy(read).to(config.device), how, generator), targets[rows]

        return draw

    def validate(self, network: nn.Module, device: str) -> Verdict:
        """Judge on the validation part, by top-1 accuracy."""
        return self._judge("validation", self.parts.validation, network, device)

    def judge(self, network: nn.Module, device: str) -> Verdict:
        """Judge on the test part, by top-1 accuracy."""
        return self._judge("test", self.parts.test, network, device)

    def describe(self) -> dict[str, object]:
        """Count windows, subjects and the parts; the digest is of all that says what a window is."""
        windows = self.windows
        columns = (windows.first, windows.label, windows.subject, windows.source)
        content = b"".join(np.asarray(column).tobytes() for column in columns) + windows.frames_sha256.encode()
        return {
            "kind": "windows",
            "sources": self.windows.names["sources"],
            "windows": len(self.windows),
            "subjects": len(self.windows.names["subjects"]),
            "parts": [len(part) for part in (self.parts.training, self.parts.validation, self.parts.test)],
            "digest": sha256(content).hexdigest(),
        }

    def absent_classes(self) -> dict[str, list[str]]:
        """Classes of which a part has no window, by part; small sets cannot give every part all."""
        labels = self.windows.names["labels"]
        parts = {"training": self.parts.training, "validation": self.parts.validation, "test": self.parts.test}
        held = {part: set(np.asarray(self.windows.label)[rows].tolist()) for part, rows in parts.items()}
        missing = {part: [label for row, label in enumerate(labels) if row not in held[part]] for part in parts}
        return {part: absent for part, absent in missing.items() if absent}

    @property
    def title(self) -> str:
        """Name the data for a reader, who must not take rendered faces for people."""
        names = self.windows.names["sources"]
        return RENDERED if names == [RENDERER] else ", ".join(names)

    chosen_on = "validation part"

    def answers(self, network: nn.Module, device: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Answer the validation part."""
        rows = self.parts.validation
        return self._answer(rows, network, device), np.asarray(self.windows.label)[rows]

    def prior(self, config: Config) -> NDArray[np.float64]:  # noqa: ARG002 - as `Source` asks
        """Count the training part's labels."""
        counts = np.bincount(np.asarray(self.windows.label)[self.parts.training], minlength=len(LABELS))
        shares: NDArray[np.float64] = counts / counts.sum()
        return shares

    @property
    def cut(self) -> dict[str, object]:
        """How the parts were cut out of which frames, so that who judges judges by the same."""
        return {"split": self.how, "seed": self.seed, "frames_sha256": self.windows.frames_sha256}

    def provenance(self, config: Config) -> str:  # noqa: ARG002 - as `Source` asks
        """Count windows and persons."""
        subjects = np.asarray(self.windows.subject)[self.parts.training]
        return f"{len(self):,} windows of {len(np.unique(subjects)):,} persons ({self.title})"

    def _judge(self, part: str, rows: NDArray[np.int64], network: nn.Module, device: str) -> Verdict:
        probabilities = self._answer(rows, network, device)
        truth = np.asarray(self.windows.label)[rows]
        counts = confusion(probabilities.argmax(axis=1), truth)
        scores = score(probabilities, truth)
        report = {"part": part, "data": self.title, **asdict(scores)}
        return Verdict(top1(counts), {"accuracy": scores.accuracy, "ece": scores.ece}, report, counts)

    @torch.no_grad()
    def _answer(self, rows: NDArray[np.int64], network: nn.Module, device: str) -> NDArray[np.float32]:
        """Probabilities float32 [n, 7] for the windows as they are, in full precision."""
        network.eval()
        parts = []
        for at in range(0, len(rows), EVALUATION_BATCH):
            read = torch.from_numpy(self.windows.windows(rows[at : at + EVALUATION_BATCH]))
            parts.append(network(read.to(device).float() / 255).softmax(dim=1).cpu())
        probabilities: NDArray[np.float32] = torch.cat(parts).numpy()
        return probabilities
