"""service.telemetry.series, held against prometheus-client's own."""

import math

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from service.telemetry.series import Histograms

BOUNDS = (0.001, 0.25, 1)
VALUES = (0.0, 0.001, 0.0011, 0.25, 0.7, 1.0, 3.0, math.inf)


def exposition(registry: CollectorRegistry) -> list[str]:
    """What a scrape reads, without the times at which prometheus-client's own series were made."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_a_series_reads_like_prometheus_clients() -> None:
    """The same values in a histogram of prometheus-client give the same text."""
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("a_seconds", "Some.", ["stage"], buckets=BOUNDS, registry=theirs)
    histograms = Histograms("a_seconds", "Some.", BOUNDS, ["stage"])
    ours.register(histograms)
    for stage in ("x", "y"):
        child, _ = histogram.labels(stage), histograms.labels(stage)
        for value in VALUES if stage == "x" else ():
            child.observe(value)
            histograms.labels(stage).observe(value)
    assert exposition(ours) == exposition(theirs)


def test_without_a_label() -> None:
    """A histogram without a label is one series without labels of its own."""
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    Histogram("a_seconds", "Some.", buckets=BOUNDS, registry=theirs).observe(0.3)
    histograms = Histograms("a_seconds", "Some.", BOUNDS)
    ours.register(histograms)
    histograms.labels().observe(0.3)
    assert exposition(ours) == exposition(theirs)
