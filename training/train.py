"""Train one network: `python -m training.train --data DATA --out runs/NAME`, with `--recipe paper` for the paper's way.

DATA is FER2013 (in any form that `training.datasets.fer2013` reads), of whose pictures windows are made, or a folder of
windows (`training.datasets.windowset`).
`--out` receives `last.pt` after every epoch, `best.pt` (the best on what is chosen by: for FER2013 most FER+ answers
right on PublicTest, copies of Training pictures left out; for windows top-1 on the validation part) and what
`training.run_folder` names. Started again with the same command, an interrupted run goes on and ends as an unbroken
one: on the CPU bit for bit, with the same number of threads. `--device cuda` is written and has not been run.
"""

from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from pickle import UnpicklingError
from time import monotonic
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from training import cli, networks, run_folder
from training.config import Config, Precision
from training.schedule import learning_rate
from training.sources import Source
from training.sources.faces import FaceSource
from training.sources.mixed import MixedSource
from training.sources.taught import TaughtSource
from training.sources.windows import WindowSource
from training.splits import LEAK

LAST, BEST = "last.pt", "best.pt"
# By the number of a kernel's dimensions.
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class Run:
    """Network, averaged network, optimiser and log between two epochs; all that a checkpoint holds."""

    def __init__(self, config: Config) -> None:
        """Start fresh from the config's seed."""
        torch.manual_seed(config.seed)
        self.config = config
        self.epoch = 0
        self.best = -1.0
        self.best_epoch = 0
        self.log: list[dict[str, float]] = []
        self.network = _place(networks.build(config.network), config.device)
        self.averaged = _place(networks.build(config.network), config.device)
        self.averaged.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.AdamW(_decay_groups(self.network, config.weight_decay), fused=True)

    @property
    def finished(self) -> bool:
        """Whether the last epoch is over, or too many brought nothing better."""
        patience = self.config.patience
        return self.epoch >= self.config.epochs or 0 < patience <= self.epoch - self.best_epoch

    @property
    def precision(self) -> Precision:
        """What convolutions are computed in: the config's, but float32 for the 3-D networks on the CPU.

        In bfloat16 torch 2.13's gradients of a 3-D convolution over two frames are wrong on the CPU: unlike float32's
        in direction (cosine 0), or not finite. To be dropped when `test_gradients_in_bfloat16_are_right` passes then.
        """
        on_volumes = any(isinstance(layer, nn.Conv3d) for layer in self.network.modules())
        return "float32" if on_volumes and torch.device(self.config.device).type == "cpu" else self.config.precision

    @classmethod
    def begin(cls, config: Config) -> "Run":
        """Begin with fresh weights, or with the averaged ones of the checkpoint `config.start`."""
        run = cls(config)
        if config.start:
            state = read_checkpoint(Path(config.start))
            if state["config"]["network"] != config.network:
                raise ValueError(f"{config.start} holds a {state['config']['network']}, not a {config.network}")
            run.network.load_state_dict(state["averaged"])
            run.averaged.load_state_dict(state["averaged"])
        return run

    def save(self, path: Path) -> None:
        """Write the checkpoint beside its place and move it there, so that a killed run leaves a whole one."""
        state = {
            "config": asdict(self.config),
            "epoch": self.epoch,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "log": self.log,
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
        state = read_checkpoint(path)
        config = Config.stored(state["config"])
        run = cls(replace(config, device=device or config.device))
        run.epoch, run.best = state["epoch"], state["best"]
        # Checkpoints of version 1 have neither.
        run.best_epoch, run.log = state.get("best_epoch", run.epoch), state.get("log", [])
        run.network.load_state_dict(state["network"])
        run.averaged.load_state_dict(state["averaged"])
        run.optimizer.load_state_dict(state["optimizer"])
        return run

    def train_epoch(self, source: Source) -> float:
        """Learn from everything once and return the mean loss.

        All chance in an epoch follows from the seed and the epoch's number, so a resumed run repeats an unbroken one.
        """
        config = self.config
        seed = config.seed * 1_000_003 + self.epoch
        # Dropout and blending draw from torch's own generator, all else from ours.
        torch.manual_seed(seed)
        generator = torch.Generator(config.device).manual_seed(seed)
        draw = source.drawer(config)
        batches = list(_batches(len(source), config.batch, generator))
        if config.epoch_windows:
            batches = batches[: max(1, config.epoch_windows // config.batch)]
        self.network.train()
        losses = []
        for index, rows in enumerate(_bar(batches, f"epoch {self.epoch + 1}/{config.epochs}")):
            step = self.epoch * len(batches) + index
            rate = learning_rate(config, step, config.epochs * len(batches))
            losses.append(self._step(*draw(rows, generator), rate, step))
        self.epoch += 1
        return float(torch.stack(losses).mean())

    def _step(self, window: Tensor, target: Tensor, rate: float, step: int) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        scaled = window.div_(255)
        if self.config.mixup:
            scaled, target = _mix(scaled, target, self.config.mixup)
        scaled = scaled.contiguous(memory_format=torch.channels_last)
        if self.epoch < self.config.low_share * self.config.epochs:
            side = self.config.low_side
            scaled = functional.interpolate(scaled, (side, side), mode="bilinear", antialias=True)
        with torch.autocast(scaled.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.network(scaled)
        loss = functional.cross_entropy(logits.float(), target)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        # A shorter memory at first, or the average would keep the random start.
        _average(self.averaged, self.network, min(self.config.averaging, (1 + step) / (10 + step)))
        return loss.detach()

    def note(self, loss: float, figure: float, row: dict[str, float], seconds: float) -> bool:
        """Add an epoch to the log, and tell whether it is the best so far."""
        self.log.append(
            {"epoch": self.epoch, "loss": round(loss, 4)}
            | {name: round(value, 4) for name, value in row.items()}
            | {"seconds": round(seconds, 1)}
        )
        improved = figure > self.best
        if improved:
            self.best, self.best_epoch = figure, self.epoch
        return improved


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `Run.save` wrote.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is no checkpoint") from error
    if not isinstance(state, dict) or not {"config", "network", "averaged"} <= set(state):
        raise ValueError(f"{path} is no checkpoint of a run")
    return state


def _place(network: nn.Module, device: str) -> nn.Module:
    """Move to the device, kernels channels last: on CPU a quarter faster for these shapes, a tenth in 3-D."""
    network = network.to(device)
    for weights in network.parameters():
        if weights.ndim in CHANNELS_LAST:
            weights.data = weights.data.contiguous(memory_format=CHANNELS_LAST[weights.ndim])
    return network


def _mix(windows: Tensor, targets: Tensor, parameter: float) -> tuple[Tensor, Tensor]:
    """Blend each window and target with another of the batch, by torch's own chance."""
    drawn = torch.distributions.Beta(parameter, parameter).sample((len(windows),)).to(windows.device)
    # The larger part stays in its place.
    kept = torch.maximum(drawn, 1 - drawn)
    other = torch.randperm(len(windows), device=windows.device)
    return (
        windows[other].lerp(windows, kept[:, None, None, None]),
        targets[other].lerp(targets, kept[:, None]),
    )


def _bar(batches: list[Tensor], title: str) -> "tqdm[Tensor]":
    """Show progress on a terminal; a log file gets one line an epoch instead."""
    return tqdm(batches, desc=title, leave=False, disable=None)


def _decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay on kernels alone: on biases and batch norms it only slows."""
    kernels = [weights for weights in network.parameters() if weights.ndim > 1]
    others = [weights for weights in network.parameters() if weights.ndim <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _batches(n: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffled indices in equal batches; the few left over sit this epoch out, since batch norm wants full ones.

    On the CPU they are even: on two threads or more, torch 2.13 writes beyond its memory in the backward pass of a 1x1
    convolution of stride 2, channels last, over an odd batch.
    """
    shuffled = torch.randperm(n, generator=generator, device=generator.device)
    size = min(batch, n)
    if generator.device.type == "cpu":
        size = size - size % 2 or size
    return iter(torch.split(shuffled[: n // size * size], size))


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, memory: float) -> None:
    """Move the average towards the network's weights and batch-norm statistics by 1 - `memory`."""
    held, now = averaged.state_dict(), network.state_dict()
    floats = [name for name, value in held.items() if value.is_floating_point()]
    torch._foreach_lerp_([held[name] for name in floats], [now[name] for name in floats], 1 - memory)


def train(config: Config, source: Source, out: Path, until: int | None = None) -> Run:
    """Train to the end (or stop after epoch `until`), resuming from `out` if a run began there.

    `ValueError` if the run in `out` had another config, or other data.
    """
    out.mkdir(parents=True, exist_ok=True)
    last = out / LAST
    if (out / run_folder.CONFIG).exists():
        run_folder.begun(out, source)
    run = Run.resume(last) if last.exists() else _fresh(config, out)
    if run.config != config:
        raise ValueError(f"{last} was made with another config: {run.config}")
    run_folder.write_config(out, config, source)
    while not run.finished and run.epoch < (until or config.epochs):
        _epoch(run, source, out)
    # A finished run of version 1 has no log, and is left as it is.
    if run.finished and run.log and run_folder.read_scores(out) is None:
        conclude(run, source, out)
    return run


def _fresh(config: Config, out: Path) -> Run:
    """Begin a run; what an earlier one, whose checkpoint was taken away, left is not its."""
    run = Run.begin(config)
    for name in (run_folder.SCORES, run_folder.LOG, run_folder.CURVE, run_folder.CONFUSION, BEST):
        (out / name).unlink(missing_ok=True)
    return run


def _epoch(run: Run, source: Source, out: Path) -> None:
    """Train, judge and store one epoch; `last.pt` comes after `best.pt`, or a kill between them could lose the best."""
    started = monotonic()
    loss = run.train_epoch(source)
    seconds = monotonic() - started
    verdict = source.validate(run.averaged, run.config.device)
    if run.note(loss, verdict.figure, verdict.row, seconds):
        run.save(out / BEST)
    run.save(out / LAST)
    run_folder.write_log(out, run.log)
    tqdm.write("  ".join(f"{name} {value}" for name, value in run.log[-1].items()))


def conclude(run: Run, source: Source, out: Path) -> None:
    """Judge the best epoch's network once, and draw."""
    best = Run.resume(out / BEST, run.config.device)
    run_folder.write_log(out, run.log)
    run_folder.draw_curve(out, run.log)
    run_folder.write_scores(out, source.judge(best.averaged, run.config.device), best.epoch)


def open_source(data: Path, config: Config) -> Source:
    """Open a folder of windows; or FER2013, with a teacher's answers and rendered windows if the config says so."""
    if (data / "names.json").exists():
        return open_windows(data, config)
    faces = FaceSource.load(data)
    people = TaughtSource.load(Path(config.taught), faces, config) if config.taught else faces
    return MixedSource(people, WindowSource.load(Path(config.rendered), config)) if config.rendered else people


FOR_FACES = ("taught", "rendered")


def open_windows(folder: Path, config: Config) -> WindowSource:
    """Open a folder of windows, and say on the terminal what a reader of the scores must know.

    Raises:
        ValueError: the config has an option that is for FER2013's pictures alone.
    """
    if given := [name for name in FOR_FACES if getattr(config, name)]:
        raise ValueError(f"{', '.join(given)} is for FER2013, not for a folder of windows")
    source = WindowSource.load(folder, config)
    for part, absent in source.absent_classes().items():
        print(f"The {part} part has no window of: {', '.join(absent)}")
    print(f"{source.title}: {source.describe()}")
    if config.split == "paper":
        print(LEAK)
    return source


def main() -> None:
    """Read the command line and train."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of windows, or FER2013")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    Config.add_options(parser)
    options = vars(parser.parse_args())
    config = Config.from_options(options)
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {config.device} cannot be had: this torch sees no GPU")
    train(config, open_source(options["data"], config), options["out"])


if __name__ == "__main__":
    cli.run(main)
