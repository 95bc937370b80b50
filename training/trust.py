"""Draw how far a model's confidence can be trusted: `python -m training.trust MODEL ... --data DATA --split SPLIT`.

A picture a model and split in `--out`: on the left the risk-coverage curve (El-Yaniv & Wiener 2010): the share of wrong
answers among those at least as confident as a threshold, over the share of answers that are; on the right accuracy over
confidence in the bins of the calibration error. Needs ONNX Runtime, not torch.
"""

from argparse import ArgumentParser
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training import cli, manifest
from training.evaluate import SPLITS, WINDOW_SPLITS, Answers, answers, open_model
from training.scores import CALIBRATION_BINS, certain

TITLES = {
    "public": "PublicTest, de-duplicated",
    "private": "PrivateTest, de-duplicated",
    "validation": "validation part, rendered data",
    "test": "test part, rendered data",
}

Shares = NDArray[np.float64]


def risk_coverage(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> tuple[Shares, Shares]:
    """Coverage [k] and risk [k], both in 0..1, at every threshold that tells answers [n] apart, the strictest first."""
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(~right[order])
    answered = np.arange(1, len(order) + 1)
    # Equally confident answers pass a threshold together.
    last = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    return answered[last] / len(order), wrong[last] / answered[last]


def reliability(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> tuple[Shares, Shares, NDArray[np.int64]]:
    """Mean confidence [k], accuracy [k] and number of answers [k] of the calibration error's bins that have any."""
    which = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    filled = np.unique(which)
    means = [np.array([values[which == each].mean() for each in filled]) for values in (confidence, right)]
    return means[0], means[1], np.array([(which == each).sum() for each in filled])


def draw(judged: Answers, described: manifest.Manifest, split: str) -> Figure:
    """Draw both."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_risk(left, judged, described["uncertain_below"])
    _draw_reliability(right, judged, described["scores"][split])
    figure.suptitle(f"{described['name']} {described['version']}: {TITLES[split]}")
    return figure


def _draw_risk(axes: Axes, judged: Answers, threshold: float) -> None:
    coverage, risk = risk_coverage(judged.confidence, judged.right)
    axes.plot(coverage, risk)
    trusted = certain(judged.confidence, judged.right, threshold)
    if trusted["accuracy"] is not None and trusted["coverage"] is not None:
        axes.plot(trusted["coverage"], 1 - trusted["accuracy"], "o", label=f"threshold {threshold}")
        axes.legend(loc="upper left")
    axes.set(xlabel="coverage: share that is answered", ylabel="risk: share of these that is wrong", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)


def _draw_reliability(axes: Axes, judged: Answers, scores: dict[str, dict[str, float]]) -> None:
    confidence, accuracy, counts = reliability(judged.confidence, judged.right)
    axes.plot([0, 1], [0, 1], color="gray", linewidth=1)
    axes.bar(confidence, counts / counts.sum(), width=0.04, alpha=0.3, label="share of the answers")
    axes.plot(confidence, accuracy, marker="o", label="accuracy")
    error = scores.get("deduplicated", scores)["ece"]
    axes.set(xlabel=f"confidence (ECE {error:.3f})", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)


def main() -> None:
    """Read the command line and draw."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "models", type=Path, nargs="+", help="version folders, scored on the split by training.evaluate"
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="FER2013 with FER+ votes, .npz; or a folder of windows"
    )
    parser.add_argument("--split", choices=[*SPLITS, *WINDOW_SPLITS], default="private")
    parser.add_argument("--out", type=Path, default=Path("docs/images/models"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for folder in options.models:
        described = manifest.read(folder)
        if options.split not in described.get("scores", {}):
            raise ValueError(f"{folder} has no scores of {options.split} yet: run training.evaluate first")
        judged = answers(open_model(folder), described, options.data, options.split)
        draw(judged, described, options.split).savefig(options.out / f"{described['name']}-{options.split}.png")


if __name__ == "__main__":
    cli.run(main)
