"""The files of a run: its table, its figures and its pictures."""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter

from loadtest.ops.checks import Run, runnable
from loadtest.ops.panels import Panel
from loadtest.ops.prometheus import SCRAPE_S, Series
from training.provenance import short

_COLUMNS = 3
_PANEL_INCHES = (5.2, 2.5)
_MOST_LINES = 8
_COLOURS = {"normal": "tab:green", "overload": "tab:orange", "fault": "tab:red"}
_UNITS = {
    "s": "s",
    "bytes": "B",
    "decbytes": "B",
    "Bps": "B/s",
    "binBps": "B/s",
    "cps": "/s",
    "reqps": "/s",
    "ops": "/s",
}


def write(run: Run, wrong: Sequence[str], folder: Path) -> None:
    """Write panels.md, ops.json, and a picture of each dashboard."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "made_by": run.made_by,
        "seconds": {phase.name: round(phase.end_s - phase.start_s, 1) for phase in run.phases},
        "exit_status_of_what_hung": run.exit_status,
        "firing": {phase.name: sorted(run.alerts(phase, "firing")) for phase in run.phases},
        "pending": {phase.name: sorted(run.alerts(phase, "pending")) for phase in run.phases},
        "rules": len(run.prometheus.rules()),
        "panels": len(run.panels),
        "wrong": list(wrong),
    }
    (folder / "ops.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / "panels.md").write_text("\n".join(_table(run)) + "\n", encoding="utf-8")
    for dashboard, panels in groupby(run.panels, key=lambda panel: panel.dashboard):
        _draw(run, list(panels), folder / f"{dashboard.rpartition('· ')[2].split()[0].lower()}.png")


def _table(run: Run) -> list[str]:
    names = [phase.name for phase in run.phases]
    made = f"{run.made_by['date']}, commit {short(run.made_by['commit'])}, `make ops-test`"
    lines = [f"Largest values that a real Prometheus saw; of several series that of the largest. {made}."]
    for dashboard, panels in groupby(run.panels, key=lambda panel: panel.dashboard):
        lines += [
            "",
            f"## {dashboard}",
            "",
            f"| panel | query | {' | '.join(names)} |",
            "|---|---|" + "---|" * len(names),
        ]
        for panel in panels:
            for query, _ in panel.queries:
                seen = (_largest(panel, run.series(query, phase)) for phase in run.phases)
                lines.append(f"| {panel.title} | `{_escaped(query)}` | {' | '.join(seen)} |")
    return lines


def _largest(panel: Panel, series: Sequence[Series]) -> str:
    if not series:
        return "-"
    largest = max(value for one in series for _, value in one.points)
    return written(largest, _unit(panel)) + (f" ({len(series)} series)" if len(series) > 1 else "")


def _escaped(query: str) -> str:
    return " ".join(query.split()).replace("|", "\\|")


def written(value: float, unit: str) -> str:
    """A number of a unit of Grafana's, with as many digits as say something."""
    if not math.isfinite(value):
        return str(value)
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    return str(EngFormatter(_UNITS.get(unit, ""), places=None)(float(f"{value:.3g}"))).strip()


def _draw(run: Run, panels: Sequence[Panel], file: Path) -> None:
    """All panels of a dashboard over the whole run, in their order."""
    rows = -(-len(panels) // _COLUMNS)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * _COLUMNS, height * rows), layout="constrained")
    every = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for axes, panel in zip(every, panels, strict=False):
        _draw_panel(run, panel, axes)
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel(
        "minutes; " + ", ".join(f"{phase.name} {_COLOURS[phase.name].removeprefix('tab:')}" for phase in run.phases)
    )
    figure.savefig(file, dpi=70)


def _draw_panel(run: Run, panel: Panel, axes: Axes) -> None:
    start_s, end_s = run.phases[0].start_s, run.phases[-1].end_s
    found = [
        (_named(legend, one.labels), one)
        for query, legend in panel.queries
        for one in run.prometheus.over(runnable(query), start_s, end_s, SCRAPE_S)
    ]
    axes.set_title(panel.title, fontsize=9)
    axes.tick_params(labelsize=7)
    if panel.kind == "heatmap":
        _draw_heat([one for _, one in found], start_s, axes)
        return
    _draw_lines([(name, one.points) for name, one in found], start_s, axes)
    for phase in run.phases:
        axes.axvspan(
            _minutes(phase.start_s, start_s), _minutes(phase.end_s, start_s), alpha=0.08, color=_COLOURS[phase.name]
        )
    low, high = axes.get_ylim()
    for value, _ in panel.thresholds:
        if low <= value <= high:
            axes.axhline(value, color="tab:gray", linestyle=":", linewidth=1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value, panel.unit)))
    axes.grid(alpha=0.3)


def _draw_lines(found: list[tuple[str, Sequence[tuple[float, float]]]], start_s: float, axes: Axes) -> None:
    """The largest of them; what was 0 all the time only where all were."""
    peaks = sorted(((_peak(points), name, points) for name, points in found), reverse=True)
    shown = [(name, points) for peak, name, points in peaks if peak or not peaks[0][0]]
    for name, points in shown[:_MOST_LINES]:
        axes.plot([_minutes(at, start_s) for at, _ in points], [value for _, value in points], linewidth=1, label=name)
    if len(shown) > _MOST_LINES:
        axes.plot([], [], " ", label=f"and {len(shown) - _MOST_LINES} more")
    if any(name for name, _ in shown):
        axes.legend(fontsize=6, loc="upper left")
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))


def _draw_heat(buckets: Sequence[Series], start_s: float, axes: Axes) -> None:
    """What fell into each bucket; those of Prometheus hold all below them too."""
    ends = sorted(buckets, key=lambda one: float(one.labels["le"]))
    times = sorted({at for one in ends for at, _ in one.points})
    below = np.array([[dict(one.points).get(at, 0.0) for at in times] for one in ends])
    inside = np.diff(below, axis=0, prepend=0.0).clip(0.0)
    minutes = [_minutes(at, start_s) for at in times]
    axes.pcolormesh(minutes, range(len(ends)), np.sqrt(inside), cmap="Blues", shading="nearest")
    axes.set_yticks(range(len(ends)), [one.labels["le"] for one in ends], fontsize=5)


def _minutes(at_s: float, start_s: float) -> float:
    return (at_s - start_s) / 60


def _peak(points: Sequence[tuple[float, float]]) -> float:
    return max((abs(value) for _, value in points if math.isfinite(value)), default=0.0)


def _unit(panel: Panel) -> str:
    """Of the numbers that its queries give: those of a heatmap are counts, whatever is counted."""
    return "none" if panel.kind == "heatmap" else panel.unit


def _named(legend: str, labels: Mapping[str, str]) -> str:
    """A legend of Grafana's, filled in."""
    for name, value in labels.items():
        legend = legend.replace("{{" + name + "}}", value).replace("{{ " + name + " }}", value)
    return legend.lstrip("_")
