"""Train all networks of Table II on one set of windows: `python -m training.train_all --data DIR --out runs/table2`.

Runs go one by one, into `OUT/NETWORK/seed-N`. Started again with the same command, finished ones are passed over and an
interrupted one goes on.
"""

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training import cli, run_folder
from training.config import Config
from training.networks import NETWORKS
from training.sources import Source
from training.train import BEST, open_windows, train


@dataclass(frozen=True)
class Finished:
    """A finished run: its `scores.json`, and its folder."""

    config: Config
    folder: Path
    scores: dict[str, Any]

    @property
    def checkpoint(self) -> Path:
        """The network that was scored."""
        return self.folder / BEST


def train_all(
    base: Config, source: Source, out: Path, names: Sequence[str], seeds: Sequence[int], once: Sequence[str] = ()
) -> Iterator[Finished]:
    """Train, or find finished, every network by the recipe of `base`: every seed, but the first alone for `once`."""
    for name in dict.fromkeys(names):
        for seed in dict.fromkeys(seeds[:1] if name in once else seeds):
            config = replace(base, network=name, seed=seed)
            folder = out / name / f"seed-{seed}"
            print(f"{folder}:")
            train(config, source, folder)
            scores = run_folder.read_scores(folder)
            assert scores is not None, "a finished run has scores"
            yield Finished(config, folder, scores)


def add_options(parser: ArgumentParser) -> None:
    """Add what says which runs there are."""
    parser.add_argument("--data", type=Path, required=True, help="a folder of windows")
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N")
    once = "networks too slow for several seeds: trained with the first alone"
    parser.add_argument("--once", nargs="+", choices=list(NETWORKS), default=[], metavar="NAME", help=once)
    Config.add_options(parser, fixed=frozenset({"network", "seed"}))


def main() -> None:
    """Read the command line and train."""
    parser = ArgumentParser(description=__doc__)
    add_options(parser)
    options = vars(parser.parse_args())
    base = Config.from_options(options)
    source = open_windows(options["data"], base)
    for run in train_all(base, source, options["out"], options["networks"], options["seeds"], options["once"]):
        print(f"{run.folder}: top-1 {run.scores['accuracy']:.4f}")


if __name__ == "__main__":
    cli.run(main)
