import re
from itertools import pairwise

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from service import __version__
from service.inference.device import Device
from service.inference.scheduler import Batch, WindowItem
from service.protocol import Outcome, Timing
from service.telemetry.metrics import BATCH_BUCKETS, STAGE_BUCKETS_S, STAGES, Metrics
from service.vision.look import StageTimes
from tests.fakes import echo_runner

TIMES = StageTimes(wait=0.001, decode=0.002, detect=0.003, crop=0.0004, queue=0.005, infer=0.006)
UNITS = ("_seconds", "_bytes", "_info")


def families(metrics: Metrics) -> dict[str, Metric]:
    """What a scrape reads, by name."""
    return {family.name: family for family in text_string_to_metric_families(metrics.exposition().decode())}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One sample."""
    return metrics.registry.get_sample_value(name, labels)


def batch(size: int, reason: str = "idle") -> Batch:
    item = WindowItem(key=0, lane="m@1", window=[], replaces=False, deliver=lambda _: None)
    return Batch("m@1", echo_runner, [item] * size, [], reason)  # type: ignore[arg-type] # the test's reason is one


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def watched(metrics: Metrics) -> Metrics:
    """All metrics, the ones that are read when scraped too."""
    metrics.watch_sessions(lambda: 3, lambda: 1)
    metrics.watch_queues(lambda: 4, lambda: 5, lambda: 6)
    return metrics


def test_names(watched: Metrics) -> None:
    """The names that dashboards and alerts build on are there from the start."""
    names = {name for name in families(watched) if name.startswith("timeconv_")}
    assert names >= {
        "timeconv_frames_received",
        "timeconv_frames",
        "timeconv_frame_bytes",
        "timeconv_stage_seconds",
        "timeconv_frame_age_seconds",
        "timeconv_batch_size",
        "timeconv_batches",
        "timeconv_batch_wait_seconds",
        "timeconv_sessions",
        "timeconv_waiting_sources",
        "timeconv_waiting_windows",
        "timeconv_frames_in_flight",
        "timeconv_device_fallback",
        "timeconv_build_info",
    }


def test_every_metric_of_ours_is_described(watched: Metrics) -> None:
    """Each metric has help that ends as a sentence, a prefix, and lower-case words."""
    for name, family in families(watched).items():
        if not name.startswith(("process_", "python_")):
            assert re.fullmatch(r"timeconv_[a-z_]+", name)
            assert family.documentation.endswith(".")
            assert family.type in ("counter", "gauge", "histogram")
            if family.type == "histogram":
                assert name.endswith((*UNITS, "_size"))


def test_process(metrics: Metrics) -> None:
    """Memory and processor time of the process are told beside our own."""
    names = families(metrics)
    assert {"process_resident_memory_bytes", "process_cpu_seconds"} <= set(names)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_from_the_start(metrics: Metrics, outcome: Outcome) -> None:
    """Each outcome is at 0 before the first frame, so that a rate over it is known from its first one on."""
    assert value(metrics, "timeconv_frames_total", outcome=outcome.value) == 0


def test_stages_are_those_of_the_reply() -> None:
    """The stages are the reply's, in its order, with encode and send behind."""
    assert (*Timing.__struct_fields__, "encode", "send") == STAGES


def test_frames(metrics: Metrics) -> None:
    """Received frames, their bytes and their outcomes are counted one by one."""
    metrics.frame_received(1000)
    metrics.frame_received(500)
    metrics.frame_done(Outcome.NO_FACE, TIMES, 0.02, 0.03)
    metrics.frame_done(Outcome.PREDICTION, TIMES, 0.02, 0.03)
    assert value(metrics, "timeconv_frames_received_total") == 2
    assert value(metrics, "timeconv_frame_bytes_total") == 1500
    assert value(metrics, "timeconv_frames_total", outcome="no_face") == 1
    assert value(metrics, "timeconv_frames_total", outcome="prediction") == 1
    assert value(metrics, "timeconv_frames_total", outcome="failed") == 0


def test_stages_of_predictions(metrics: Metrics) -> None:
    """A prediction's times are noted in every stage, in seconds; those of other outcomes in none."""
    metrics.frame_done(Outcome.NO_FACE, TIMES, 9.0, 9.0)
    metrics.frame_done(Outcome.PREDICTION, TIMES, 0.02, 0.03)
    metrics.message_sent(0.0001, 0.0002)
    sums = {stage: value(metrics, "timeconv_stage_seconds_sum", stage=stage) for stage in STAGES}
    assert sums == {
        "wait": 0.001,
        "decode": 0.002,
        "detect": 0.003,
        "crop": 0.0004,
        "queue": 0.005,
        "infer": 0.006,
        "total": 0.02,
        "encode": 0.0001,
        "send": 0.0002,
    }
    assert {value(metrics, "timeconv_stage_seconds_count", stage=stage) for stage in STAGES} == {1}
    assert value(metrics, "timeconv_frame_age_seconds_sum") == 0.03
    assert value(metrics, "timeconv_frame_age_seconds_count") == 1


@pytest.mark.parametrize("buckets", [STAGE_BUCKETS_S, BATCH_BUCKETS])
def test_buckets(buckets: tuple[float, ...]) -> None:
    """Buckets rise, and each lies at most five times over the one before."""
    assert list(buckets) == sorted(set(buckets))
    assert all(high / low <= 5 for low, high in pairwise(buckets))


def test_targets_are_buckets() -> None:
    """The latencies that are promised can be read off a bucket's edge."""
    assert {0.015, 0.1} <= set(STAGE_BUCKETS_S)


def test_batches(metrics: Metrics) -> None:
    """A batch's size, why it left and how long each of its windows waited are noted by model."""
    metrics.batch_ran(batch(3, "full"), [0.001, 0.002, 0.003], 0.005)
    metrics.batch_ran(batch(1), [0.0], 0.002)
    assert value(metrics, "timeconv_batch_size_sum", model="m@1") == 4
    assert value(metrics, "timeconv_batch_size_count", model="m@1") == 2
    assert value(metrics, "timeconv_batch_size_bucket", model="m@1", le="1.0") == 1
    assert value(metrics, "timeconv_batches_total", model="m@1", reason="full") == 1
    assert value(metrics, "timeconv_batches_total", model="m@1", reason="idle") == 1
    assert value(metrics, "timeconv_batch_wait_seconds_count", model="m@1") == 4
    assert value(metrics, "timeconv_batch_wait_seconds_sum", model="m@1") == pytest.approx(0.006)


def test_gauges_are_read_when_scraped(metrics: Metrics) -> None:
    """Numbers of sessions and queues are those of the moment of the scrape."""
    numbers = {"active": 2, "blocked": 1, "turns": 4, "windows": 5, "in_flight": 6}
    metrics.watch_sessions(lambda: numbers["active"], lambda: numbers["blocked"])
    metrics.watch_queues(lambda: numbers["turns"], lambda: numbers["windows"], lambda: numbers["in_flight"])

    def read() -> list[float | None]:
        return [
            value(metrics, "timeconv_sessions", state="active"),
            value(metrics, "timeconv_sessions", state="blocked"),
            value(metrics, "timeconv_waiting_sources"),
            value(metrics, "timeconv_waiting_windows"),
            value(metrics, "timeconv_frames_in_flight"),
        ]

    assert read() == [2, 1, 4, 5, 6]
    numbers |= dict.fromkeys(numbers, 0)
    assert read() == [0, 0, 0, 0, 0]


def test_endings_and_refusals(metrics: Metrics) -> None:
    """Sessions are counted by how they ended, refusals by their code, REST predictions by outcome."""
    metrics.session_ended("closed")
    metrics.session_ended("slow_reader")
    metrics.refused("at_capacity")
    metrics.predicted("prediction")
    metrics.predicted("no_face")
    assert value(metrics, "timeconv_sessions_ended_total", reason="slow_reader") == 1
    assert value(metrics, "timeconv_refused_total", code="at_capacity") == 1
    assert value(metrics, "timeconv_predict_requests_total", outcome="no_face") == 1


@pytest.mark.parametrize(("fallback", "expected"), [(None, 0), ("no CUDA", 1)])
def test_device(metrics: Metrics, fallback: str | None, expected: int) -> None:
    """The device in use is told, and whether it is the one that was hoped for."""
    metrics.device_chosen(Device("cpu", ("CPUExecutionProvider",), fallback))
    assert value(metrics, "timeconv_device_info", device="cpu", precision="f32") == 1
    assert value(metrics, "timeconv_device_fallback") == expected


def test_version(metrics: Metrics) -> None:
    """The version in use is told."""
    assert value(metrics, "timeconv_build_info", version=__version__) == 1


def test_two_applications(metrics: Metrics) -> None:
    """Two applications in one process do not share numbers."""
    metrics.frame_received(10)
    assert value(Metrics(), "timeconv_frames_received_total") == 0
