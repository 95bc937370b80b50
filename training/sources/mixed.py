"""Pictures of people with rendered windows mixed in, for the motion that pictures lack; the people alone judge."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.config import Config
from training.sources import Draw, Verdict
from training.sources.faces import FaceSource
from training.sources.taught import TaughtSource
from training.sources.windows import WindowSource


@dataclass(frozen=True)
class MixedSource:
    """Faces to learn from, to choose and to judge by, and rendered windows in a share of each batch's places."""

    faces: FaceSource | TaughtSource
    rendered: WindowSource

    def __len__(self) -> int:
        """Count the pictures, which make an epoch."""
        return len(self.faces)

    def drawer(self, config: Config) -> Draw:
        """Put rendered windows, each label as often as another, in the place of the last of a batch's pictures."""
        draw_faces, draw_rendered = self.faces.drawer(config), self.rendered.drawer(config)
        labels = np.asarray(self.rendered.windows.label)[self.rendered.parts.training]
        weights = torch.from_numpy(1 / np.bincount(labels)[labels]).to(config.device)

        def draw(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            count = round(config.rendered_share * len(rows))
            if not count:
                return draw_faces(rows, generator)
            windows, targets = draw_faces(rows[: len(rows) - count], generator)
            chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
            other_windows, other_targets = draw_rendered(chosen, generator)
            return torch.cat([windows, other_windows]), torch.cat([targets, other_targets])

        return draw

    def validate(self, network: nn.Module, device: str) -> Verdict:
        """Judge by the faces, and note how the rendered validation part does."""
        verdict = self.faces.validate(network, device)
        accuracy = self.rendered.validate(network, device).row["accuracy"]
        return Verdict(verdict.figure, verdict.row | {"rendered_accuracy": accuracy}, verdict.report, verdict.confusion)

    def judge(self, network: nn.Module, device: str) -> Verdict:
        """Judge by the faces."""
        return self.faces.judge(network, device)

    def answers(self, network: nn.Module, device: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Calibrate on the faces."""
        return self.faces.answers(network, device)

    def prior(self, config: Config) -> NDArray[np.float64]:
        """Mix both priors by their shares; rendered labels are alike often."""
        rendered = np.full(len(self.faces.prior(config)), 1 / len(self.faces.prior(config)))
        shares: NDArray[np.float64] = (1 - config.rendered_share) * self.faces.prior(config)
        return shares + config.rendered_share * rendered

    @property
    def title(self) -> str:
        """Name the faces: they judge."""
        return self.faces.title

    @property
    def chosen_on(self) -> str:
        """Name what runs are chosen by."""
        return self.faces.chosen_on

    def provenance(self, config: Config) -> str:
        """Name both."""
        share = f"{config.rendered_share:.0%} of each batch from {self.rendered.provenance(config)}"
        return f"{self.faces.provenance(config)}; {share}"

    def describe(self) -> dict[str, object]:
        """Describe both."""
        return {"kind": "mixed", "faces": self.faces.describe(), "rendered": self.rendered.describe()}
