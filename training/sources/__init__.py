"""What a run learns from and is judged by: pictures of FER2013 (`faces`), or a set of windows on disk (`windows`)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.config import Config

# Row numbers int64 [k] and chance, both on the run's device, to windows float32 [k, 5, 48, 48] of gray levels 0..255,
# free to be changed in place, and targets float32 [k, 7].
Draw = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Verdict:
    """How a network did on one part of the data.

    `figure` is what runs are chosen by, more is better; `row` goes into the log, `report` into JSON; `confusion` int64
    [7, 7] counts answers, a row each truth.
    """

    figure: float
    row: dict[str, float]
    report: dict[str, object]
    confusion: NDArray[np.int64]


class Source(Protocol):
    """Windows to learn from, and two judges; networks come to these in evaluation mode, on any device."""

    def __len__(self) -> int:
        """Count what there is to learn from."""

    def drawer(self, config: Config) -> Draw:
        """Get ready for an epoch; what it gives makes batches by the config's recipe, on its device."""

    def validate(self, network: nn.Module, device: str) -> Verdict:
        """Judge on what runs are chosen by."""

    def judge(self, network: nn.Module, device: str) -> Verdict:
        """Judge a finished run's chosen network."""

    def answers(self, network: nn.Module, device: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Give probabilities [n, 7] and truth [n] of what runs are chosen by: what a network is calibrated on."""

    def prior(self, config: Config) -> NDArray[np.float64]:
        """Share of each label [7] in what the config makes a network learn."""

    @property
    def title(self) -> str:
        """Name the data for a reader, who must not take rendered faces for people."""

    @property
    def chosen_on(self) -> str:
        """Name what runs are chosen by."""

    def provenance(self, config: Config) -> str:
        """Say in a sentence, without its full stop, what a network learnt from."""

    def describe(self) -> dict[str, object]:
        """Say in JSON what the source holds, such that another source says something else."""
