"""The recipes of a training run, and the command line made of them."""

from argparse import ArgumentParser
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

RecipeName = Literal["default", "paper"]
Schedule = Literal["cosine", "steps"]
AugmentationName = Literal["default", "paper", "none"]
Split = Literal["subject", "paper"]
Precision = Literal["bf16", "float32"]


@dataclass(frozen=True)
class Config:
    """What a run follows. As it stands, this is the recipe `default`: that of the first network that shipped.

    Paper: Lee & Wong 2020 (TimeConvNets); its network, but our optimiser and data, since its clips need agreements.

    Command: `python -m training.train --data fer2013.npz --out runs/mini-xception`.
    Time: about 30 minutes on two idle CPU cores with bf16 matrix units (36 to 40 s an epoch).
    Expected: FER+ accuracy 0.815 on PublicTest without the pictures that are also in Training (one seed measured).

    A network this small underfits: a high peak rate, light decay, moderate motion and averaged weights.

    `votes_weight`, `static_share`, `shift_px`, `shaken_share` (of moving windows, whose box shakes), `spoiled_share`
    (of windows, one or two frames: `training.spoil`), `shrunk_share` (windows of small faces), `rendered` and
    `rendered_share` (a folder of rendered windows, and their share in each batch) are for FER2013's pictures alone;
    `augmentation`, `split` and `split_seed` for sets of windows alone. An epoch has `epoch_windows` windows at most,
    drawn anew each time; 0 is all.

    `mixup` (Zhang et al. 2018, arXiv:1710.09412) is the parameter of its beta distribution. For the first `low_share`
    of the epochs windows are made `low_side` pixels wide, at 44 % of the cost for 32. `taught` is a folder of windows
    that other nets have answered (`training.teach`), in the place of moving the pictures anew; `teacher_weight` of the
    target is its answer (Hinton et al. 2015, arXiv:1503.02531; Beyer et al. 2022, arXiv:2106.05237). `start` is a
    checkpoint to go on from.
    A run stops early after `patience` epochs without a better validation score; 0 is never.
    `precision` is float32 for the 3-D networks on the CPU whatever it says (`training.train.Run.precision`). `seed`
    decides on everything but the split, so that runs of several seeds are judged by the same windows.
    """

    recipe: RecipeName = "default"
    network: str = "timeconv-mini-xception"
    epochs: int = 45
    batch: int = 128
    epoch_windows: int = 0
    schedule: Schedule = "cosine"
    peak_learning_rate: float = 6e-3
    warmup_share: float = 0.1
    weight_decay: float = 1e-2
    averaging: float = 0.999
    votes_weight: float = 0.75
    static_share: float = 0.5
    shift_px: float = 3.0
    shaken_share: float = 0.0
    spoiled_share: float = 0.0
    shrunk_share: float = 0.0
    mixup: float = 0.0
    low_side: int = 48
    low_share: float = 0.0
    taught: str = ""
    teacher_weight: float = 0.0
    start: str = ""
    rendered: str = ""
    rendered_share: float = 0.0
    augmentation: AugmentationName = "default"
    split: Split = "subject"
    split_seed: int = 0
    patience: int = 0
    precision: Precision = "bf16"
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what no run can follow.

        Raises:
            ValueError: a number is outside its range, or one of two options that only work together is missing.
        """
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name.replace('_', '-')} {value} is not in {least} to {most}")
        if 0 < self.epoch_windows < self.batch:
            raise ValueError(f"an epoch of {self.epoch_windows} windows is less than a batch of {self.batch}")
        for one, other in (("low_side", "low_share"), ("rendered", "rendered_share"), ("taught", "teacher_weight")):
            default = Config.__dataclass_fields__
            if (getattr(self, one) == default[one].default) != (getattr(self, other) == default[other].default):
                raise ValueError(f"{one} and {other} only work together".replace("_", "-"))

    @staticmethod
    def stored(values: dict[str, Any]) -> "Config":
        """Read what a run has stored of its config; fields that came later have their defaults.

        Raises:
            ValueError: it has a field that there is no more.
        """
        if unknown := set(values) - {field.name for field in fields(Config)}:
            raise ValueError(f"the run was made by another version: it has {', '.join(sorted(unknown))}")
        return Config(**values)

    @classmethod
    def add_options(cls, parser: ArgumentParser, fixed: frozenset[str] = frozenset()) -> None:
        """Give the parser one option a field that is not `fixed`, e.g. `--peak-learning-rate`."""
        types = get_type_hints(cls)
        for field in (field for field in fields(cls) if field.name not in fixed):
            choices = get_args(types[field.name]) or None
            values = {name: getattr(recipe, field.name) for name, recipe in RECIPES.items()}
            one = len(set(values.values())) == 1
            parser.add_argument(
                "--" + field.name.replace("_", "-"),
                type=type(field.default),
                choices=choices,
                help=f"({field.default})" if one else ", ".join(f"{name}: {value}" for name, value in values.items()),
            )

    @staticmethod
    def from_options(options: dict[str, Any], **chosen: object) -> "Config":
        """Take the named recipe, with the fields that parsed options give and those `chosen` by the caller."""
        given = {field.name: options.get(field.name) for field in fields(Config)} | chosen
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return replace(RECIPES[changes.get("recipe", "default")], **changes)

    def changed_options(self) -> list[str]:
        """Name the options that differ from the default, or from the recipe once it is named, e.g. `["--seed=1"]`."""
        base = replace(RECIPES[self.recipe], recipe="default")
        return [
            f"--{field.name.replace('_', '-')}={getattr(self, field.name)}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(base, field.name)
        ]


INFINITY = float("inf")
RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, INFINITY),
    "batch": (1, INFINITY),
    "epoch_windows": (0, INFINITY),
    "peak_learning_rate": (1e-12, 10),
    "warmup_share": (0, 1),
    "weight_decay": (0, 10),
    "averaging": (0, 1),
    "votes_weight": (0, 1),
    "static_share": (0, 1),
    "shift_px": (0, 24),
    "shaken_share": (0, 1),
    "spoiled_share": (0, 1),
    "shrunk_share": (0, 1),
    "mixup": (0, 100),
    # On maps wider than 48 torch 2.13's 1x1 convolution of stride 2, channels last, writes beyond its memory.
    "low_side": (16, 48),
    "low_share": (0, 1),
    "teacher_weight": (0, 1),
    "rendered_share": (0, 0.9),
    "patience": (0, INFINITY),
}

# The paper's own, as far as it is told; its text names neither batch nor ranges (those are in `training.augment`), and
# the batch is Keras' own. AdamW without decay is Adam, and an average that remembers nothing is the network itself.
PAPER = Config(
    recipe="paper",
    epochs=200,
    batch=32,
    schedule="steps",
    peak_learning_rate=1e-3,
    warmup_share=0.0,
    weight_decay=0.0,
    averaging=0.0,
    votes_weight=0.0,
    augmentation="paper",
    split="paper",
    precision="float32",
)
RECIPES: dict[str, Config] = {"default": Config(), "paper": PAPER}
