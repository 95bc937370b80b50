"""service.telemetry.series, held against prometheus-client's own."""

import math

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from service.telemetry.series import Counters, Histograms, Readings

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


def test_a_counter_reads_like_prometheus_clients() -> None:
    """With labels and without, counted by one and by more."""
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    for name, labels, values in (("a", [], ()), ("b", ["model", "reason"], ("m@1", "idle"))):
        counter, counters = Counter(name, "Some.", labels, registry=theirs), Counters(name, "Some.", labels)
        ours.register(counters)
        for count in (counter.labels(*values) if values else counter, counters.labels(*values)):
            count.inc()
            count.inc(2.5)
    assert exposition(ours) == exposition(theirs)


def test_a_series_is_there_once_it_is_named() -> None:
    """At 0, and the same one each time; without labels it is there from the start."""
    registry = CollectorRegistry()
    named, bare = Counters("a", "Some.", ["code"]), Counters("b", "Some.")
    registry.register(named)
    registry.register(bare)
    assert registry.get_sample_value("a_total", {"code": "x"}) is None
    assert registry.get_sample_value("b_total") == 0
    assert named.labels("x") is named.labels("x")
    assert registry.get_sample_value("a_total", {"code": "x"}) == 0


def test_a_series_that_is_forgotten() -> None:
    """All series of a label's value go, no others, and anew they begin at 0."""
    registry = CollectorRegistry()
    counters = Counters("a", "Some.", ["model", "reason"])
    registry.register(counters)
    for model, reason in (("m@1", "idle"), ("m@1", "full"), ("m@2", "idle")):
        counters.labels(model, reason).inc()
    counters.forget("m@1")
    assert {tuple(sample.labels.values()) for family in registry.collect() for sample in family.samples} == {
        ("m@2", "idle")
    }
    assert counters.labels("m@1", "idle").value == 0


def test_readings_are_of_the_moment() -> None:
    """What cannot be read now is not told, and is again once it can be."""
    registry = CollectorRegistry()
    numbers = {"used": 1.0}
    registry.register(Readings("gauge", "a_bytes", "Some.", "kind", lambda: numbers))
    assert registry.get_sample_value("a_bytes", {"kind": "used"}) == 1
    numbers.clear()
    assert registry.get_sample_value("a_bytes", {"kind": "used"}) is None
