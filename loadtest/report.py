"""A run's report, and its JSON.

The JSON (``schema`` is ``timeconv.load/1``; a change that a reader would trip over gets the next number):

- ``made_by``: command, commit, date and processor; ``service``: what it says of itself at ``/readyz``.
- ``load``: as `loadtest.plan.Load`, ``thresholds``: as `loadtest.thresholds.Thresholds`, ``pictures``: what was sent.
- ``points``: one for each load, from the lightest on, as `loadtest.figures.Point`. Times are in milliseconds, rates in
  frames (``rest``: calls) per second, memory in bytes.
- ``failures``: for each point, why it does not meet the thresholds; all empty where it does.
- ``ramp``: whether the loads are those of a search. ``capacity``: scale, frames/s and p99 of its result, and whether
  it is only a least one (``at_least``: no higher load failed), or null.
- ``knee``: frames/s of the judged group from which on latency rises faster than load, or null.
- ``passed``: whether the exit status was 0.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.figures import Point
from loadtest.plan import Load
from loadtest.ramp import knee
from loadtest.thresholds import Thresholds, failures

SCHEMA = "timeconv.load/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A run.

    Attributes:
        made_by, service, pictures: see the module.
        load, thresholds: what was asked for.
        points: the loads, from the lightest on.
        is_ramp: whether the loads are those of a search.
        best: the scale that a ramp found; None where it found none, or there was no ramp.
    """

    made_by: Mapping[str, str | None]
    service: Mapping[str, Any]
    pictures: str
    load: Load
    thresholds: Thresholds
    points: Sequence[Point]
    is_ramp: bool
    best: float | None

    @property
    def failures(self) -> list[tuple[str, ...]]:
        """Why each point does not meet the thresholds."""
        return [failures(point, self.thresholds) for point in self.points]

    @property
    def passed(self) -> bool:
        """Every load must meet the thresholds; of a ramp one must, and the sums must add up in all of them."""
        if self.is_ramp:
            return self.best is not None and not any(point.discrepancies for point in self.points)
        return not any(self.failures)

    @property
    def capacity(self) -> Point | None:
        """The highest load that a ramp found to meet the thresholds."""
        return next((point for point in self.points if point.scale == self.best), None)

    @property
    def is_exhausted(self) -> bool:
        """Whether a higher load than the capacity was tried, and failed: else it is only the highest that was tried."""
        return any(self.best is not None and point.scale > self.best for point in self.points)

    @property
    def knee(self) -> float | None:
        """The knee of the judged group's 99th percentile over its load, in frames/s offered."""
        answered = [point.judged for point in self.points if point.judged.latency_ms.p99 is not None]
        return knee(
            [figures.offered_per_s for figures in answered], [figures.latency_ms.p99 or 0.0 for figures in answered]
        )


def as_json(report: Report) -> str:
    """The report as JSON, see the module."""
    capacity = report.capacity
    content = {
        "schema": SCHEMA,
        "made_by": report.made_by,
        "service": report.service,
        "pictures": report.pictures,
        "load": dataclasses.asdict(report.load),
        "thresholds": dataclasses.asdict(report.thresholds),
        "points": [dataclasses.asdict(point) for point in report.points],
        "failures": report.failures,
        "ramp": report.is_ramp,
        "capacity": capacity
        and {
            "scale": capacity.scale,
            "frames_per_s": capacity.judged.offered_per_s,
            "p99_ms": capacity.judged.latency_ms.p99,
            "at_least": not report.is_exhausted,
        },
        "knee": report.knee,
        "passed": report.passed,
    }
    return json.dumps(content, indent=2) + "\n"
