"""One load on a service, from before its first session to its figures; and many of them, one after the other."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.counters import settled_counts
from loadtest.figures import Point, group_figures, usage
from loadtest.generate import generate
from loadtest.plan import Load
from loadtest.ramp import highest
from loadtest.schedule import frames_due
from loadtest.servers import Server, watched
from loadtest.sums import discrepancies
from loadtest.thresholds import Thresholds, failures

Measure = Callable[[float], Point]
"""Puts the load, its rates times this, on the service."""
WithEcho = Callable[[Point], Point]
"""The point, with the echo's figures beside its own."""
Tell = Callable[[Point], object]
"""Is told of each load as soon as it is measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rig:
    """What loads are put on, and with what.

    Attributes:
        service: the one that is measured.
        echo: one that answers at once; None: no baseline.
        clip: JPEGs that follow each other, the first following the last.
        processes: how many generate load, at most.
    """

    service: Server
    echo: Server | None
    clip: Sequence[bytes]
    processes: int


def measure(load: Load, rig: Rig, scale: float) -> Point:
    """Put ``load``, its rates times ``scale``, on the service.

    Raises:
        LoadError: it could not be done.
    """
    load = load.scaled(scale)
    before = settled_counts(rig.service.address)
    with watched(rig.service.pid) as samples:
        generated = generate(load, rig.service.address, rig.clip, rig.processes)
    counts = settled_counts(rig.service.address).since(before)
    return Point(
        scale=scale,
        groups=group_figures(load, generated),
        usage=usage(samples, generated.start_s, generated.start_s + load.warm_up_s),
        generator_cores=generated.cores,
        discrepancies=discrepancies(load, frames_due(load), generated.accounts, counts),
    )


def with_echo(load: Load, rig: Rig, point: Point) -> Point:
    """The same figures beside those of the echo under the same schedule, if there is one.

    Raises:
        LoadError: it could not be done.
    """
    if rig.echo is None:
        return point
    load = load.scaled(point.scale)
    return dataclasses.replace(
        point, echo=group_figures(load, generate(load, rig.echo.address, rig.clip, rig.processes))
    )


def sweep(scales: Sequence[float], measure: Measure, with_echo: WithEcho, tell: Tell) -> list[Point]:
    """One load after the other, from the lightest on."""
    points = []
    for scale in sorted(scales):
        points.append(with_echo(measure(scale)))
        tell(points[-1])
    return points


def ramp(
    thresholds: Thresholds, growth: float, resolution: float, measure: Measure, with_echo: WithEcho, tell: Tell
) -> tuple[list[Point], float | None]:
    """All loads tried, from the lightest on, and the scale of the highest that meets the thresholds, if there is one.

    Only that one gets the echo's figures, and is told of again with them.
    """
    points: dict[float, Point] = {}

    def meets(scale: float) -> bool:
        points[scale] = measure(scale)
        tell(points[scale])
        return not failures(points[scale], thresholds)

    best = highest(meets, growth, resolution)
    if best is not None:
        points[best] = with_echo(points[best])
        tell(points[best])
    return [points[scale] for scale in sorted(points)], best
