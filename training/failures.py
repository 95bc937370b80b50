"""Draw a model's worst mistakes on rendered faces: `python -m training.failures MODEL ... --data data/rendered`.

FER2013's pictures may not be shown, rendered ones may. A row an expression, with the windows of the test part that the
model is most confident and wrong about, one a clip: first and last frame, and what it said. Needs no torch.
"""

from argparse import ArgumentParser
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training import cli, manifest
from training.datasets.fer2013 import LABELS
from training.evaluate import Answers, answers, open_model, open_part

SHOWN = 4


def worst(judged: Answers, clips: NDArray[np.int64], label: int) -> list[int]:
    """Rows of the most confident wrong answers to windows of a label, at most one a clip, at most `SHOWN`."""
    wrong = np.flatnonzero(~judged.right & (judged.truth == label))
    ordered = wrong[np.argsort(-judged.confidence[wrong], kind="stable")]
    _, first = np.unique(clips[ordered], return_index=True)
    return [int(row) for row in ordered[np.sort(first)][:SHOWN]]


def draw(judged: Answers, clips: NDArray[np.int64], windows: NDArray[np.uint8], title: str) -> Figure:
    """Draw the sheet from answers [n], clips [n] and windows uint8 [n, 5, 48, 48]."""
    figure = Figure(figsize=(9, 9.5), layout="constrained")
    axes = figure.subplots(len(LABELS), SHOWN)
    for label, row in enumerate(axes):
        chosen = worst(judged, clips, label)
        for at, place in enumerate(row):
            place.axis("off")
            if at < len(chosen):
                _show(place, windows[chosen[at]], judged, chosen[at])
        row[0].text(-0.15, 0.5, LABELS[label], transform=row[0].transAxes, rotation=90, va="center", ha="right")
    figure.suptitle(f"{title}: most confident mistakes on rendered faces (rows: truth)")
    return figure


def _show(axes: Axes, window: NDArray[np.uint8], judged: Answers, row: int) -> None:
    axes.imshow(np.hstack([window[0], window[-1]]), cmap="gray", vmin=0, vmax=255)
    said = LABELS[judged.probabilities[row].argmax()]
    axes.set_title(f"{said} {judged.confidence[row]:.0%}", fontsize=9)


def main() -> None:
    """Read the command line and draw."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+", help="version folders")
    parser.add_argument("--data", type=Path, required=True, help="a folder of rendered windows")
    parser.add_argument("--out", type=Path, default=Path("docs/images/models"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for folder in options.models:
        described = manifest.read(folder)
        windows, rows = open_part(options.data, "test", described["training"].get("cut"))
        if windows.names["sources"] != ["rendered"]:
            raise ValueError(
                f"{options.data} holds {', '.join(windows.names['sources'])}: only rendered faces may be shown"
            )
        judged = answers(open_model(folder), described, options.data, "test")
        clips = np.asarray(windows.clip)[rows]
        sheet = draw(judged, clips, windows.windows(rows), f"{described['name']} {described['version']}")
        sheet.savefig(options.out / f"{described['name']}-failures.png", dpi=70)


if __name__ == "__main__":
    cli.run(main)
