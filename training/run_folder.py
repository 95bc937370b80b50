"""The files of a run that people read: `config.json`, `log.csv`, `curve.png`, `confusion.png`, `scores.json`."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.config import Config
from training.datasets.fer2013 import LABELS
from training.provenance import commit, processor
from training.sources import Source, Verdict

CONFIG, LOG, CURVE, CONFUSION, SCORES = "config.json", "log.csv", "curve.png", "confusion.png", "scores.json"
Row = Mapping[str, float]


def begun(folder: Path, source: Source) -> dict[str, Any]:
    """Read what a run said of itself when it began.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: it is on other data.
    """
    facts = read_json(folder / CONFIG)
    if facts["data"] != source.describe():
        raise ValueError(f"{folder}: the run was on other data: {facts['data']}, not {source.describe()}")
    return facts


def write_config(folder: Path, config: Config, source: Source) -> None:
    """Write what the run follows and reads, and where and by which code it was begun."""
    path = folder / CONFIG
    if path.exists() and read_json(path)["config"] == asdict(config):
        return
    facts = {
        "config": asdict(config),
        "data": source.describe(),
        "learnt_from": source.provenance(config),
        "machine": {"torch": torch.__version__, "processor": processor(), "threads": torch.get_num_threads()},
        "commit": commit(),
    }
    write_json(path, facts)


def write_log(folder: Path, rows: Sequence[Row]) -> None:
    """Write a row an epoch, all anew, so that a run killed at any moment has each epoch once."""
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_text(folder / LOG, text.getvalue())


def write_scores(folder: Path, verdict: Verdict, epoch: int) -> None:
    """Write how the network of `epoch` did, as JSON and as a picture; `scores.json` is last: with it a run is done."""
    draw_confusion(folder / CONFUSION, verdict.confusion)
    write_json(folder / SCORES, {"chosen_epoch": epoch, **verdict.report, "confusion": verdict.confusion.tolist()})


def read_scores(folder: Path) -> dict[str, Any] | None:
    """Read a finished run's scores; None if it is not finished."""
    path = folder / SCORES
    return read_json(path) if path.exists() else None


def draw_curve(folder: Path, rows: Sequence[Row]) -> None:
    """Draw the loss, and beneath it every accuracy of the log, over the epochs."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    epochs = [row["epoch"] for row in rows]
    above.plot(epochs, [row["loss"] for row in rows], marker=".")
    above.set_ylabel("training loss")
    for name in (name for name in rows[0] if name.endswith("accuracy")):
        below.plot(epochs, [row[name] for row in rows], marker=".", label=name)
    below.set(xlabel="epoch", ylabel="validation")
    below.legend()
    figure.savefig(folder / CURVE)


def draw_confusion(path: Path, counts: NDArray[np.int64]) -> None:
    """Draw counts [7, 7]: a row each truth, coloured by its share of the row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(LABELS)), LABELS, rotation=45)
    axes.set_yticks(range(len(LABELS)), LABELS)
    axes.set(xlabel="answer", ylabel="truth")
    for (row, column), share in np.ndenumerate(shares):
        axes.text(
            column, row, f"{share:.0%}\n{counts[row, column]}", ha="center", va="center", fontsize=7,
            color="white" if share > 0.5 else "black",
        )  # fmt: skip
    figure.savefig(path)


def write_json(path: Path, value: object) -> None:
    """Write JSON as people read it."""
    replace_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read an object of JSON."""
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def replace_text(path: Path, text: str) -> None:
    """Write beside the place and move there, so that a killed run leaves a whole file."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
