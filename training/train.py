"""Train one network on windows made of FER2013 pictures: `python -m training.train --data fer2013.npz --out runs/NAME`.

`--out` receives `last.pt` after every epoch, `best.pt` (most FER+ answers right on PublicTest, copies of Training
pictures left out) and `log.csv`. Started again with the same command, an interrupted run goes on and ends as an
unbroken one.
"""

import csv
import math
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from training import networks
from training.config import Config
from training.datasets import FRAMES, fer2013
from training.datasets.fer2013 import Faces, Split
from training.datasets.motion import Motion, windows
from training.scores import Scores, score_both

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Corpus:
    """What a run reads: pictures to learn from, and PublicTest to choose by."""

    training: Faces
    public: Faces

    @classmethod
    def load(cls, path: Path) -> "Corpus":
        """Read the `.npz`; pictures without a face are left out of the training half only."""
        training = fer2013.load(path, Split.TRAINING)
        return cls(training.where(fer2013.is_face(training.votes)), fer2013.load(path, Split.PUBLIC))


def learning_rate(config: Config, step: int, steps: int) -> float:
    """Rise in a line to the peak, then fall along half a cosine to zero; pure, so that resuming needs no state."""
    warmup = max(1, round(config.warmup_share * steps))
    if step < warmup:
        return config.peak_learning_rate * (step + 1) / warmup
    return config.peak_learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class Run:
    """Network, averaged network and optimiser between two epochs; all that a checkpoint holds."""

    def __init__(self, config: Config) -> None:
        """Start fresh from the config's seed."""
        torch.manual_seed(config.seed)
        self.config = config
        self.epoch = 0
        self.best = -1.0
        self.network = _place(networks.build(config.network), config.device)
        self.averaged = _place(networks.build(config.network), config.device)
        self.averaged.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.AdamW(_decay_groups(self.network, config.weight_decay), fused=True)

    def save(self, path: Path) -> None:
        """Write the checkpoint beside its place and move it there, so that a killed run leaves a whole one."""
        state = {
            "config": asdict(self.config),
            "epoch": self.epoch,
            "best": self.best,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    @classmethod
    def resume(cls, path: Path, device: str | None = None) -> "Run":
        """Take up a run from its checkpoint, on the device it was on unless another is given."""
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        config = Config(**state["config"])
        run = cls(replace(config, device=device or config.device))
        run.epoch, run.best = state["epoch"], state["best"]
        run.network.load_state_dict(state["network"])
        run.averaged.load_state_dict(state["averaged"])
        run.optimizer.load_state_dict(state["optimizer"])
        return run

    def train_epoch(self, faces: Faces) -> float:
        """Learn from every picture once and return the mean loss.

        All chance in an epoch follows from the seed and the epoch's number, so a resumed run repeats an unbroken one.
        """
        config = self.config
        generator = torch.Generator(config.device).manual_seed(config.seed * 1_000_003 + self.epoch)
        pictures = torch.from_numpy(faces.images).to(config.device)
        targets = torch.from_numpy(fer2013.targets(faces, config.votes_weight)).to(config.device)
        motion = replace(Motion(), static_share=config.static_share)
        batches = list(_batches(len(faces), config.batch, generator))
        self.network.train()
        losses = []
        for index, rows in enumerate(_bar(batches, f"epoch {self.epoch + 1}/{config.epochs}")):
            step = self.epoch * len(batches) + index
            rate = learning_rate(config, step, config.epochs * len(batches))
            losses.append(self._step(windows(pictures[rows], motion, generator), targets[rows], rate, step))
        self.epoch += 1
        return float(torch.stack(losses).mean())

    def _step(self, window: Tensor, target: Tensor, rate: float, step: int) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        scaled = window.div_(255).contiguous(memory_format=torch.channels_last)
        with torch.autocast(scaled.device.type, torch.bfloat16):
            logits = self.network(scaled)
        loss = functional.cross_entropy(logits.float(), target)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        # A shorter memory at first, or the average would keep the random start.
        _average(self.averaged, self.network, min(self.config.averaging, (1 + step) / (10 + step)))
        return loss.detach()


def _place(network: nn.Module, device: str) -> nn.Module:
    """Move to the device, channels last: a quarter faster for these shapes on CPU."""
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _bar(batches: list[Tensor], title: str) -> "tqdm[Tensor]":
    """Show progress on a terminal; a log file gets one line an epoch instead."""
    return tqdm(batches, desc=title, leave=False, disable=None)


def _decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay on kernels alone: on biases and batch norms it only slows."""
    kernels = [weights for weights in network.parameters() if weights.ndim > 1]
    others = [weights for weights in network.parameters() if weights.ndim <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _batches(n: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffled indices in equal batches; the few left over sit this epoch out, since batch norm wants full ones."""
    shuffled = torch.randperm(n, generator=generator, device=generator.device)
    size = min(batch, n)
    return iter(torch.split(shuffled[: n // size * size], size))


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, memory: float) -> None:
    """Move the average towards the network's weights and batch-norm statistics by 1 - `memory`."""
    held, now = averaged.state_dict(), network.state_dict()
    floats = [name for name, value in held.items() if value.is_floating_point()]
    torch._foreach_lerp_([held[name] for name in floats], [now[name] for name in floats], 1 - memory)


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


def train(config: Config, corpus: Corpus, out: Path, until: int | None = None) -> Run:
    """Train to the config's last epoch (or stop after epoch `until`), resuming from `out` if a run began there.

    `ValueError` if the run in `out` had another config.
    """
    out.mkdir(parents=True, exist_ok=True)
    last = out / "last.pt"
    run = Run.resume(last) if last.exists() else Run(config)
    if run.config != config:
        raise ValueError(f"{last} was made with another config: {run.config}")
    while run.epoch < min(config.epochs, until or config.epochs):
        started = monotonic()
        loss = run.train_epoch(corpus.training)
        seconds = monotonic() - started
        scores = score_both(answer(run.averaged, corpus.public, config.device), corpus.public)["deduplicated"]
        improved = scores.ferplus_accuracy > run.best
        run.best = max(run.best, scores.ferplus_accuracy)
        run.save(last)
        if improved:
            run.save(out / "best.pt")
        _log(out / "log.csv", run.epoch, loss, scores, seconds)
    return run


def _log(path: Path, epoch: int, loss: float, scores: Scores, seconds: float) -> None:
    row = {
        "epoch": epoch,
        "loss": round(loss, 4),
        "fer_accuracy": round(scores.fer_accuracy, 4),
        "ferplus_accuracy": round(scores.ferplus_accuracy, 4),
        "ece": round(scores.ece, 4),
        "seconds": round(seconds, 1),
    }
    tqdm.write("  ".join(f"{name} {value}" for name, value in row.items()))
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    """Read the command line and train."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="FER2013 with FER+ votes, .npz")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    Config.add_options(parser)
    options = vars(parser.parse_args())
    train(Config.from_options(options), Corpus.load(options["data"]), options["out"])


if __name__ == "__main__":
    main()
