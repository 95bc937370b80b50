"""FER2013's pictures as a source: windows are made by moving them, PublicTest chooses and judges."""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.config import Config
from training.confusion import confusion
from training.datasets import FRAMES, fer2013
from training.datasets.fer2013 import COLUMN_OF_LABEL, NO_LABEL, VOTE_COLUMNS, Faces, Split
from training.datasets.motion import Motion, windows
from training.datasets.titles import FER2013
from training.scores import score_both
from training.sources import Draw, Verdict
from training.spoil import shrink_some, spoil_some

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class FaceSource:
    """Pictures to learn from, and PublicTest to choose by; PrivateTest is no part of it, for it is looked at once."""

    training: Faces
    public: Faces

    @classmethod
    def load(cls, path: Path) -> "FaceSource":
        """Read any of the three forms; pictures without a face are left out of the training half only.

        Where there are no FER+ votes, the FER labels stand in for them.
        """
        training, public = fer2013.load(path, Split.TRAINING), fer2013.load(path, Split.PUBLIC)
        if not training.votes.any():
            training, public = _agreed(training), _agreed(public)
        return cls(training.where(fer2013.is_face(training.votes)), public)

    def __len__(self) -> int:
        """Count the pictures to learn from."""
        return len(self.training)

    def drawer(self, config: Config) -> Draw:
        """Draw windows by `training.datasets.motion`, with soft targets."""
        pictures = torch.from_numpy(self.training.images).to(config.device)
        targets = torch.from_numpy(fer2013.targets(self.training, config.votes_weight)).to(config.device)
        motion = replace(
            Motion(),
            static_share=config.static_share,
            shift_px=config.shift_px,
            shaken_share=config.shaken_share,
        )

        def draw(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            moved = windows(pictures[rows], motion, generator)
            return _worsen(moved, config, generator), targets[rows]

        return draw

    def validate(self, network: nn.Module, device: str) -> Verdict:
        """Judge by the FER+ labels of PublicTest, without copies of Training pictures."""
        probabilities = answer(network, self.public, device)
        both = score_both(probabilities, self.public)
        scores = both["deduplicated"]
        truth = fer2013.ferplus_labels(self.public.votes)
        judged = (truth != NO_LABEL) & ~self.public.duplicate
        return Verdict(
            scores.ferplus_accuracy,
            {
                "fer_accuracy": scores.fer_accuracy,
                "ferplus_accuracy": scores.ferplus_accuracy,
                "ece": scores.ece,
            },
            {"part": "PublicTest", **{way: values.rounded() for way, values in both.items()}},
            confusion(probabilities[judged].argmax(axis=1), truth[judged]),
        )

    judge = validate

    def answers(self, network: nn.Module, device: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Judge PublicTest's pictures that have a FER+ label and are in no other split.

        Raises:
            ValueError: the pictures have no FER+ votes.
        """
        public = fer2013.with_votes(self.public)
        truth = fer2013.ferplus_labels(public.votes)
        judged = (truth != NO_LABEL) & ~public.duplicate
        return answer(network, public.where(judged), device), truth[judged]

    def prior(self, config: Config) -> NDArray[np.float64]:
        """Average the soft targets."""
        shares: NDArray[np.float64] = fer2013.targets(self.training, config.votes_weight).mean(axis=0, dtype=np.float64)
        return shares

    title = FER2013
    chosen_on = "PublicTest, de-duplicated"

    def provenance(self, config: Config) -> str:
        """Count the pictures and name the labels."""
        labels = "FER+ votes" if config.votes_weight == 1 else "labels mixed of FER+ votes and FER2013"
        return (
            f"{len(self):,} of the 28,709 pictures of FER2013's Training split (without those that have no votes, or "
            f"that half the annotators called not a face), {labels}; windows of five frames made by moving them"
        )

    def describe(self) -> dict[str, object]:
        """Count the pictures; the digest is of all that training and choosing see of them."""
        content = sha256()
        for faces in (self.training, self.public):
            for array in (faces.images, faces.labels, faces.votes):
                content.update(array.tobytes())
        counts = {"training": len(self.training), "public": len(self.public)}
        return {"kind": "fer2013", **counts, "digest": content.hexdigest()}


def _worsen(windows: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """Shrink and spoil as many windows float32 [n, 5, 48, 48] of whole gray levels as the config says."""
    if not (config.spoiled_share or config.shrunk_share):
        return windows
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    rng, worse = np.random.default_rng(seed), windows.byte().cpu().numpy()
    shrink_some(worse, config.shrunk_share, rng)
    spoil_some(worse, config.spoiled_share, rng)
    return torch.from_numpy(worse).to(windows.device).float()


def _agreed(faces: Faces) -> Faces:
    """Let ten annotators name each picture as its label does."""
    votes = np.zeros((len(faces), len(VOTE_COLUMNS)), np.uint8)
    votes[np.arange(len(faces)), COLUMN_OF_LABEL[faces.labels]] = 10
    return replace(faces, votes=votes)


@torch.no_grad()
def answer(network: nn.Module, faces: Faces, device: str = "cpu") -> NDArray[np.float32]:
    """Probabilities float32 [n, 7] for each picture shown five times, in full precision."""
    network.eval()
    parts = []
    for pictures in torch.split(torch.from_numpy(faces.images), EVALUATION_BATCH):
        window = pictures.to(device)[:, None].expand(-1, FRAMES, -1, -1) / 255
        parts.append(network(window).softmax(dim=1).cpu())
    probabilities: NDArray[np.float32] = torch.cat(parts).numpy()
    return probabilities
