"""What the service itself counts."""

from loadtest.counters import ServiceCounts, parse_counts
from service.protocol import Outcome
from service.telemetry.metrics import Metrics
from service.vision.look import StageTimes


def test_counts_are_read_off_the_services_own_metrics() -> None:
    """Frames received, in flight and by outcome, and REST calls by outcome."""
    metrics = Metrics()
    metrics.watch_queues(turns=lambda: 0, windows=lambda: 0, in_flight=lambda: 3)
    for _ in range(5):
        metrics.frame_received(1000)
    before = parse_counts(metrics.exposition().decode())
    for _ in range(2):
        metrics.frame_received(1000)
        metrics.frame_done(Outcome.SUPERSEDED, StageTimes(), 0.1, 0.1)
    metrics.predicted("no_face")
    since = parse_counts(metrics.exposition().decode()).since(before)
    assert since == ServiceCounts(received=2, in_flight=3, outcomes={"superseded": 2}, calls={"no_face": 1})
