"""What a load must come to, and which of it did not. No I/O."""

from collections.abc import Iterable
from dataclasses import dataclass

from loadtest.figures import Point


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """Bounds for the judged group; None: no bound. That sums add up is asked of all groups, always.

    Attributes:
        max_p99_ms: 99th percentile of the latency of predictions, in milliseconds.
        min_jain: Jain's index over the sessions, 0..1.
        min_answered: predictions as a share of the frames that were due, 0..1.
    """

    max_p99_ms: float | None = None
    min_jain: float | None = None
    min_answered: float | None = None


def failures(point: Point, thresholds: Thresholds) -> tuple[str, ...]:
    """Why a load does not meet the thresholds, a sentence each; nothing if it does."""
    return (*point.discrepancies, *_over_bounds(point, thresholds))


def _over_bounds(point: Point, thresholds: Thresholds) -> Iterable[str]:
    figures = point.judged
    p99 = figures.latency_ms.p99
    if p99 is None and thresholds != Thresholds():
        yield "Nothing was predicted, so nothing can be judged"
    if thresholds.max_p99_ms is not None and p99 is not None and p99 > thresholds.max_p99_ms:
        yield f"The 99th percentile is {p99:.1f} ms, over {thresholds.max_p99_ms:g} ms"
    if thresholds.min_jain is not None and figures.jain < thresholds.min_jain:
        yield f"Jain's index is {figures.jain:.4f}, under {thresholds.min_jain:g}"
    if thresholds.min_answered is not None and figures.answered < thresholds.min_answered:
        yield f"{figures.answered:.4f} of the frames were answered, under {thresholds.min_answered:g}"
