"""The pictures of a report, as SVG in ``data:`` addresses. All but the last are of the judged group."""

import base64
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from loadtest.figures import GroupFigures, Point
from loadtest.histogram import Times
from loadtest.tally import NOT_SENT, PREDICTION

_SIZE_INCHES = (7.0, 4.2)
_MOST_CURVES = 8
_PERCENTILES = ("p50", "p90", "p99", "p99_9")
_NINES = (0.0, 0.9, 0.99, 0.999, 0.9999)


def draw(points: Sequence[Point], knee: float | None, capacity: Point | None) -> Iterator[tuple[str, str]]:
    """Title and address of each picture."""
    yield "Latency over load", _picture(lambda axes: _latency_over_load(axes, points, knee, capacity))
    yield "Latency by percentile", _picture(lambda axes: _latency_by_percentile(axes, points))
    yield "Outcomes over load", _picture(lambda axes: _outcomes_over_load(axes, points))
    if any(point.usage for point in points):
        yield "Memory of the service's process", _picture(lambda axes: _memory_over_time(axes, points))


def _picture(paint: Callable[[Axes], None]) -> str:
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    paint(axes)
    if axes.get_legend_handles_labels()[0]:  # Where nothing was answered there is nothing to name.
        axes.legend(fontsize="small")
    drawn = BytesIO()
    # The same figures give the same bytes.
    with mpl.rc_context({"svg.hashsalt": "timeconv"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.getvalue()).decode()


def _latency_over_load(axes: Axes, points: Sequence[Point], knee: float | None, capacity: Point | None) -> None:
    for percentile in _PERCENTILES:
        _line(axes, [point.judged for point in points], percentile, f"p{percentile[1:].replace('_', '.')}", "o-")
    _line(axes, [point.echo[0] for point in points if point.echo], "p99", "echo p99", "s--")
    if knee is not None:
        axes.axvline(knee, color="tab:gray", linestyle=":", label=f"knee, {knee:.0f} frames/s")
    if capacity is not None:
        offered_per_s = capacity.judged.offered_per_s
        axes.axvline(offered_per_s, color="tab:green", label=f"capacity as far as found, {offered_per_s:.0f} frames/s")
    axes.set(xlabel="frames/s offered", ylabel="ms from when a frame was due", yscale="log")
    _plain_numbers(axes)


def _line(axes: Axes, groups: Sequence[GroupFigures], percentile: str, label: str, style: str) -> None:
    known = [group for group in groups if group.latency_ms.count]
    if known:
        loads = [group.offered_per_s for group in known]
        axes.plot(loads, [getattr(group.latency_ms, percentile) for group in known], style, label=label)


def _plain_numbers(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter())


def _latency_by_percentile(axes: Axes, points: Sequence[Point]) -> None:
    """As HdrHistogram's plots have it: every nine takes the same room."""
    every = -(-len(points) // _MOST_CURVES)
    for point in points[::every]:
        _curve(axes, point.judged, f"{point.judged.offered_per_s:.0f} frames/s", "-")
        if point.echo:
            _curve(axes, point.echo[0], f"echo, {point.judged.offered_per_s:.0f} frames/s", "--")
    axes.set(xlabel="percentile", ylabel="ms from when a frame was due", xscale="log", yscale="log")
    _plain_numbers(axes)
    axes.set_xticks(
        [1 / (1 - share) for share in _NINES], [f"{share:.4%}".rstrip("0%").rstrip(".") for share in _NINES]
    )


def _curve(axes: Axes, group: GroupFigures, label: str, style: str) -> None:
    # At 100 % the axis has no end; the maximum stands in the table.
    curve = [place for place in Times.merged([group.histogram]).curve() if place.share < 1]
    if curve:
        axes.plot([1 / (1 - place.share) for place in curve], [place.ms for place in curve], style, label=label)


def _outcomes_over_load(axes: Axes, points: Sequence[Point]) -> None:
    places = range(len(points))
    under = [0.0] * len(points)
    # Predictions at the bottom, and what was not even sent at the top.
    found = {outcome for point in points for outcome in point.judged.outcomes}
    for outcome in sorted(found, key=lambda outcome: (outcome != PREDICTION, outcome == NOT_SENT, outcome)):
        shares = [
            point.judged.outcomes.get(outcome, 0) / max(1, sum(point.judged.outcomes.values())) for point in points
        ]
        axes.bar(places, shares, bottom=under, label=outcome)
        under = [below + share for below, share in zip(under, shares, strict=True)]
    axes.set_xticks(places, [f"{point.judged.offered_per_s:.0f}" for point in points])
    axes.set(xlabel="frames/s offered", ylabel="share of the frames due")


def _memory_over_time(axes: Axes, points: Sequence[Point]) -> None:
    for point in points:
        if point.usage:
            times, _, rss = zip(*point.usage.samples, strict=True)
            axes.plot(times, [used / 1e6 for used in rss], label=f"{point.judged.offered_per_s:.0f} frames/s")
    axes.set(xlabel="seconds from the start", ylabel="resident memory, MB")
