"""The recipe of a training run, and the command line made of it."""

from argparse import ArgumentParser
from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True)
class Config:
    """Paper: Lee & Wong 2020 (TimeConvNets); its network, but our optimiser and data, since its clips need agreements.

    Command: `python -m training.train --data fer2013.npz --out runs/mini-xception`.
    Time: about 30 minutes on two idle CPU cores with bf16 matrix units (36 to 40 s an epoch).
    Expected: FER+ accuracy 0.815 on PublicTest without the pictures that are also in Training (one seed measured).

    A network this small underfits: a high peak rate, light decay, moderate motion and averaged weights.
    """

    network: str = "timeconv-mini-xception"
    epochs: int = 45
    batch: int = 128
    peak_learning_rate: float = 6e-3
    warmup_share: float = 0.1
    weight_decay: float = 1e-2
    averaging: float = 0.999
    votes_weight: float = 0.75
    static_share: float = 0.5
    seed: int = 0
    device: str = "cpu"

    @classmethod
    def add_options(cls, parser: ArgumentParser) -> None:
        """Give the parser one option a field, e.g. `--peak-learning-rate`."""
        for field in fields(cls):
            option = "--" + field.name.replace("_", "-")
            parser.add_argument(option, type=type(field.default), default=field.default, help="(%(default)s)")

    @classmethod
    def from_options(cls, options: dict[str, object]) -> Self:
        """Pick this class's fields out of parsed options."""
        return cls(**{field.name: options[field.name] for field in fields(cls)})  # type: ignore[arg-type]

    def changed_options(self) -> list[str]:
        """Name the options that differ from the recipe, e.g. `["--seed=1"]`."""
        return [
            f"--{field.name.replace('_', '-')}={getattr(self, field.name)}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
