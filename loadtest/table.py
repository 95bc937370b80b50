"""A run's figures as a table, and what it came to in sentences."""

from collections.abc import Iterable, Sequence

from loadtest.figures import GroupFigures, Point
from loadtest.report import Report

COLUMNS = (
    "scale",
    "group",
    "offered/s",
    "answered/s",
    "share",
    "Jain",
    "p50",
    "p99",
    "p99.9",
    "max",
    "echo p50",
    "echo p99",
    "late p99",
    "cores",
    "MB",
)
_LEFT = 2
_BUSY_CORES = 0.8


def rows(point: Point) -> list[tuple[str, ...]]:
    """The cells of `COLUMNS`, a row for each group. Times are milliseconds; cores and MB are of the service."""
    echoes = point.echo or (None,) * len(point.groups)
    used = point.usage
    process = ("-", "-") if used is None else (f"{used.cores:.2f}", f"{used.rss_peak_bytes / 1e6:.0f}")
    return [
        (f"{point.scale:.3g}", *_figures(figures, echo), *process)
        for figures, echo in zip(point.groups, echoes, strict=True)
    ]


def lines(cells: Iterable[Sequence[str]]) -> list[str]:
    """Rows for a terminal: the first two cells to the left, numbers to the right."""
    return [
        " ".join([f"{row[0]:<6}", f"{row[1]:<12}", *(f"{cell:>10}" for cell in row[_LEFT:])]).rstrip() for row in cells
    ]


def verdict(report: Report) -> list[str]:
    """What a run came to, in sentences."""
    said = [
        f"Scale {point.scale:.3g}: {reason}"
        for point, reasons in zip(report.points, report.failures, strict=True)
        for reason in (*(point.discrepancies if report.is_ramp else reasons), *_doubts(point))
    ]
    if report.is_ramp:
        said.append(_capacity(report.capacity, is_exhausted=report.is_exhausted))
    if report.knee is not None:
        said.append(f"Knee of the 99th percentile: {report.knee:.1f} frames/s")
    return [*said, "Passed" if report.passed else "FAILED"]


def _figures(figures: GroupFigures, echo: GroupFigures | None) -> list[str]:
    latency = figures.latency_ms
    echoed = (None, None) if echo is None else (echo.latency_ms.p50, echo.latency_ms.p99)
    times = (latency.p50, latency.p99, latency.p99_9, latency.max, *echoed, figures.lateness_ms.p99)
    return [
        figures.group.name,
        f"{figures.offered_per_s:.1f}",
        f"{figures.answered_per_s:.1f}",
        f"{figures.answered:.4f}",
        f"{figures.jain:.4f}",
        *("-" if time is None else f"{time:.1f}" for time in times),
    ]


def _capacity(point: Point | None, *, is_exhausted: bool) -> str:
    if point is None:
        return "No load met the thresholds"
    at_least = "" if is_exhausted else "at least "
    return f"Capacity: {at_least}{point.judged.offered_per_s:.1f} frames/s ({point.scale:.3g} times the load given)"


def _doubts(point: Point) -> Iterable[str]:
    """What a reader of the figures has to know."""
    for figures in point.groups:
        for reason, sessions in figures.broken.items():
            yield f"{sessions} sessions of {figures.group.name} broke: {reason}"
    busiest = max(point.generator_cores)
    if busiest > _BUSY_CORES:
        yield f"a process of the generator used {busiest:.2f} cores; latencies may be its own: give it more --processes"
