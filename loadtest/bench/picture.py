"""The floor's parts on top of each other, and the service beside them."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from loadtest.bench.floor import FLOOR_PARTS, Result

_WIDTH = 0.38
_SERVICE_COLOR = "tab:gray"


def draw(results: Sequence[Result], file: Path) -> None:
    """Write a picture with two bars a case; over that of the service stands the ratio."""
    figure = Figure(figsize=(2.5 + 1.7 * len(results), 5), layout="constrained")
    axes = figure.subplots()
    places = range(len(results))
    below = [0.0] * len(results)
    for part in FLOOR_PARTS:
        heights = [result.floor[part] for result in results]
        axes.bar([place - _WIDTH / 2 for place in places], heights, _WIDTH, bottom=below, label=_LABELS.get(part, part))
        below = [bottom + height for bottom, height in zip(below, heights, strict=True)]
    services = [result.served.us for result in results]
    bars = axes.bar([place + _WIDTH / 2 for place in places], services, _WIDTH, color=_SERVICE_COLOR, label="service")
    axes.bar_label(bars, [f"x {result.ratio:.2f}" for result in results], padding=2)
    axes.set_xticks(places, [result.case.replace("/", "\n") for result in results])
    axes.set_ylabel("CPU time for one prediction, microseconds")
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize="small", loc="upper left")
    figure.savefig(file)


_LABELS = {"network": "network at its best batch", "detect": "detector x its share of frames"}
