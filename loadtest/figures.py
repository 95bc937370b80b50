"""The figures of one load, from the accounts of its sessions. No I/O."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtest.generate import Generated
from loadtest.histogram import Times
from loadtest.plan import Group, Load
from loadtest.servers import Sample
from loadtest.sums import summed

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles in milliseconds, the last being the maximum; None where there was nothing to measure."""

    count: int
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    p99_9: float | None
    max: float | None

    @classmethod
    def of(cls, times: Times) -> "Spread":
        """The spread of a distribution."""
        return cls(times.count, *times.percentiles_ms(PERCENTILES))


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupFigures:
    """One group under one load. Rates are of the whole group, frames (``rest``: calls) a second after the warm-up.

    Attributes:
        group: what was asked for.
        offered_per_s: due to be sent.
        answered_per_s: predictions.
        answered: predictions as a share of what was due, 0..1.
        jain: Jain's index over the sessions' own ``answered``, 1/n..1.
        latency_ms: of predictions, from the moment the frame was due.
        lateness_ms: how much later than due frames were sent: the generator's own, or for want of credit in ``every``.
        outcomes: frames due after the warm-up, by outcome, ``not_sent`` and ``unanswered`` among them.
        broken: sessions that ended before their time, or had a call fail, by why.
        histogram: the latencies, HdrHistogram V2 in base64, in microseconds.
    """

    group: Group
    offered_per_s: float
    answered_per_s: float
    answered: float
    jain: float
    latency_ms: Spread
    lateness_ms: Spread
    outcomes: Mapping[str, int]
    broken: Mapping[str, int]
    histogram: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What the server's process used. ``samples`` are (seconds since the start, CPU seconds, bytes of memory).

    Attributes:
        cores: CPU time per second, from the end of the warm-up to the end.
        rss_before_bytes: memory in use before the sessions connected.
        rss_growth_bytes: by how much it grew from the end of the warm-up to the end.
        rss_peak_bytes: the most of all samples.
    """

    cores: float
    rss_before_bytes: int
    rss_growth_bytes: int
    rss_peak_bytes: int
    samples: Sequence[tuple[float, float, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One load and what came of it.

    Attributes:
        scale: what the rates of the description were multiplied by.
        groups: the judged one first.
        echo: the same under the same schedule from a server that answers at once; empty where that was not asked for.
        usage: of the server's process; None where that is not known.
        generator_cores: CPU time per second of each process of the generator; near 1 the figures are its own.
        discrepancies: what does not add up, a sentence each.
    """

    scale: float
    groups: Sequence[GroupFigures]
    echo: Sequence[GroupFigures] = ()
    usage: Usage | None
    generator_cores: Sequence[float]
    discrepancies: Sequence[str]

    @property
    def judged(self) -> GroupFigures:
        """The group that thresholds, ramp, knee and plots go by."""
        return self.groups[0]


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness: 1 where all are equal (also where all are 0), 1/n where one has everything.

    Jain, Chiu & Hawe, *A Quantitative Measure of Fairness and Discrimination* (DEC TR-301, 1984).
    """
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def group_figures(load: Load, generated: Generated) -> tuple[GroupFigures, ...]:
    """The figures of each group."""
    return tuple(_group_figures(load, place, generated) for place in range(len(load.groups)))


def _group_figures(load: Load, place: int, generated: Generated) -> GroupFigures:
    accounts = [account for account in generated.accounts if account.group == place]
    offered, answered = sum(account.offered for account in accounts), sum(account.answered for account in accounts)
    latency = generated.latency.get(place, Times())
    return GroupFigures(
        group=load.groups[place],
        offered_per_s=offered / load.duration_s,
        answered_per_s=answered / load.duration_s,
        answered=answered / offered if offered else 0.0,
        jain=jain([account.answered / account.offered for account in accounts if account.offered]),
        latency_ms=Spread.of(latency),
        lateness_ms=Spread.of(generated.lateness.get(place, Times())),
        outcomes=summed(account.measured for account in accounts),
        broken=dict(Counter(account.broken_by for account in accounts if account.broken_by is not None)),
        histogram=latency.encoded(),
    )


def usage(samples: Sequence[Sample], start_s: float, measured_from_s: float) -> Usage | None:
    """What a process used, of samples that begin before the sessions connected."""
    measured = [sample for sample in samples if sample.at_s >= measured_from_s]
    if not measured:
        return None
    first, last = measured[0], measured[-1]
    return Usage(
        cores=(last.cpu_s - first.cpu_s) / (last.at_s - first.at_s) if last is not first else 0.0,
        rss_before_bytes=samples[0].rss_bytes,
        rss_growth_bytes=last.rss_bytes - first.rss_bytes,
        rss_peak_bytes=max(sample.rss_bytes for sample in samples),
        samples=[(sample.at_s - start_s, sample.cpu_s, sample.rss_bytes) for sample in samples],
    )
