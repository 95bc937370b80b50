"""Make the paper's Table II anew: `python -m training.table2 --data DIR --out runs/table2`.

Trains what `training.train_all` has not trained yet, exports each network and measures it. `OUT` receives `table2.md`,
`table2.png` and `table2.json`. Top-1 is on the test part, by the best epoch on the validation part; ms are of one
window in ONNX Runtime on one CPU core (the paper's were on a graphics card, so only their order can be compared).
"""

import json
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.figure import Figure
from torch import nn

from training import cli, latency, networks, run_folder
from training.config import Config
from training.export import FILE, Deployed, export
from training.latency import Latency
from training.networks.macs import count_macs
from training.provenance import commit, today
from training.sources.windows import WindowSource
from training.splits import LEAK
from training.train import Run, open_windows
from training.train_all import Finished, add_options, train_all

LATENCY, TABLE, PICTURE, ROWS = "latency.json", "table2.md", "table2.png", "table2.json"
COLUMNS = ("network", "top-1", "ms per window", "parameters", "MACs")


@dataclass(frozen=True)
class Row:
    """A line of the table; `top1` has a share in 0..1 for each seed, `macs` are of one window."""

    network: str
    top1: tuple[float, ...]
    latency: Latency
    parameters: int
    macs: int

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None with one seed, which has none."""
        return stdev(self.top1) if len(self.top1) > 1 else None


@dataclass(frozen=True)
class Heading:
    """What must be known to read the figures."""

    data: str
    facts: dict[str, Any]
    config: Config
    seeds: tuple[int, ...]
    largest_class: float

    def lines(self, rows: Sequence[Row]) -> Iterator[str]:
        """Say it, in sentences."""
        training, validation, test = self.facts["parts"]
        timed, several = rows[0].latency, len(self.seeds) > 1
        spread = "mean ± standard deviation over them; a row without ± has the first alone"
        yield f"# Table II on {self.data}"
        yield (
            f"Top-1 on {test:,} test windows (training {training:,}, validation {validation:,}; "
            f"{self.facts['subjects']} subjects). "
            f"Always naming the most frequent class reaches {self.largest_class:.3f}."
        )
        if self.config.split == "paper":
            yield LEAK
        else:
            yield "Split by subject: nobody in the test part was seen in training."
        yield (
            f"Recipe `{self.config.recipe}`, {self.config.epochs} epochs at most{self._epoch()}; seeds "
            f"{', '.join(map(str, self.seeds))} "
            f"({spread if several else 'one alone: the spread is not known'})."
        )
        yield f"Time: mean of {timed.runs} runs at batch 1, ONNX Runtime, CPU, {timed.threads} thread."
        if changed := self.config.changed_options():
            yield f"Options: `{' '.join(changed)}`."
        yield f"Made on {today()}, commit {commit() or 'unknown'}."

    def _epoch(self) -> str:
        return f" of {self.config.epoch_windows:,} windows" if self.config.epoch_windows else ""


def measure(runs: Sequence[Finished], repetitions: int) -> Row:
    """Export the first seed's network and measure it, unless that was done; all seeds have the same graph."""
    first = runs[0]
    network = Run.resume(first.checkpoint, device="cpu").averaged
    return Row(
        network=first.config.network,
        top1=tuple(run.scores["accuracy"] for run in runs),
        latency=_latency(network, first.folder.parent, repetitions),
        parameters=networks.count_parameters(network).total,
        macs=count_macs(network),
    )


def _latency(network: nn.Module, folder: Path, repetitions: int) -> Latency:
    path = folder / LATENCY
    if path.exists() and (known := Latency(**json.loads(path.read_text()))).runs == repetitions:
        return known
    export(Deployed(network), folder / FILE)
    timed = latency.measure(folder / FILE, repetitions)
    run_folder.write_json(path, asdict(timed))
    return timed


def table(rows: Sequence[Row]) -> str:
    """Lay out Markdown."""
    lines = [COLUMNS, ("---",) + ("---:",) * (len(COLUMNS) - 1), *map(_cells, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    top1 = f"{fmean(row.top1):.3f}" + ("" if row.spread is None else f" ± {row.spread:.3f}")
    return f"`{row.network}`", top1, f"{row.latency.mean_ms:.2f}", f"{row.parameters:,}", f"{row.macs / 1e6:,.2f} M"


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draw accuracy over time, with the spread over seeds."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        axes.errorbar(
            row.latency.mean_ms,
            fmean(row.top1),
            yerr=row.spread,
            marker="o",
            capsize=3,
            linestyle="",
            label=row.network,
        )
    axes.set(xscale="log", xlabel="ms per window, one CPU core", ylabel="top-1 on the test part", title=title)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path)


def make(
    base: Config,
    source: WindowSource,
    out: Path,
    names: Sequence[str],
    seeds: Sequence[int],
    runs: int,
    once: Sequence[str] = (),
) -> str:
    """Train, measure, write the three files, and give the Markdown."""
    by_network: dict[str, list[Finished]] = defaultdict(list)
    for run in train_all(base, source, out, names, seeds, once):
        by_network[run.config.network].append(run)
    rows = [measure(finished, runs) for finished in by_network.values()]
    majority = by_network[names[0]][0].scores["largest_class"]
    heading = Heading(source.title, source.describe(), base, tuple(seeds), majority)
    text = "\n\n".join([*heading.lines(rows), table(rows)]) + "\n"
    run_folder.replace_text(out / TABLE, text)
    run_folder.write_json(out / ROWS, [asdict(row) for row in rows])
    draw(rows, f"Table II on {source.title}", out / PICTURE)
    return text


def main() -> None:
    """Read the command line and make the table."""
    parser = ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--runs", type=int, default=latency.RUNS, help="how often each network is timed (%(default)s)")
    options = vars(parser.parse_args())
    base = Config.from_options(options)
    source = open_windows(options["data"], base)
    print(make(base, source, options["out"], options["networks"], options["seeds"], options["runs"], options["once"]))


if __name__ == "__main__":
    cli.run(main)
