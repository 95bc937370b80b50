import re
from dataclasses import replace
from itertools import pairwise

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from service import __version__
from service.errors import codes
from service.inference.device import Device
from service.protocol import Outcome, Timing
from service.telemetry.metrics import (
    AGE_BUCKETS_S,
    BATCH_BUCKETS,
    CONFIDENCE_BUCKETS,
    LAG_BUCKETS_S,
    LOAD_BUCKETS_S,
    STAGE_BUCKETS_S,
    STAGES,
    Metrics,
)
from service.vision.look import StageTimes
from tests.fakes import LABELS, NETWORK
from tests.unit.telemetry.every import batch, every_metric, face, move_frames

TIMES = StageTimes(wait=0.001, decode=0.002, detect=0.003, crop=0.0004, queue=0.005, infer=0.006)
UNITS = ("_seconds", "_bytes", "_info")


def families(metrics: Metrics) -> dict[str, Metric]:
    """What a scrape reads, by name."""
    return {family.name: family for family in text_string_to_metric_families(metrics.exposition().decode())}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One sample."""
    return metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_every_metric_of_ours_is_described() -> None:
    """Each metric has help that ends as a sentence, a prefix, and lower-case words."""
    for name, family in families(every_metric()).items():
        if not name.startswith(("process_", "python_")):
            assert re.fullmatch(r"timeconv_[a-z_]+", name)
            assert family.documentation.endswith(".")
            assert family.type in ("counter", "gauge", "histogram")
            if family.type == "histogram":
                assert name.endswith((*UNITS, "_size", "_confidence"))


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


@pytest.mark.parametrize(
    "buckets",
    [STAGE_BUCKETS_S, AGE_BUCKETS_S, LAG_BUCKETS_S, LOAD_BUCKETS_S, BATCH_BUCKETS, CONFIDENCE_BUCKETS],
)
def test_buckets(buckets: tuple[float, ...]) -> None:
    """Buckets rise, and each lies at most five times over the one before."""
    assert list(buckets) == sorted(set(buckets))
    assert all(high / low <= 5 for low, high in pairwise(buckets))


def test_targets_are_buckets() -> None:
    """The latencies that are promised can be read off a bucket's edge."""
    for buckets in (STAGE_BUCKETS_S, AGE_BUCKETS_S, LAG_BUCKETS_S):
        assert {0.015, 0.1} <= set(buckets)


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


def test_answers(metrics: Metrics) -> None:
    """Bytes of text messages are counted, whatever they say."""
    metrics.text_sent(300)
    metrics.text_sent(20)
    assert value(metrics, "timeconv_answer_bytes_total") == 320


def test_follows(metrics: Metrics) -> None:
    """Faces that were followed and those that were lost are counted, whatever became of the frame."""
    for followed in (True, True, False, None):
        metrics.frame_done(Outcome.SUPERSEDED, StageTimes(followed=followed), 0.1, 0.1)
    assert value(metrics, "timeconv_follows_total", result="hit") == 2
    assert value(metrics, "timeconv_follows_total", result="lost") == 1


def test_emotions(metrics: Metrics) -> None:
    """Faces of the stream and of REST are counted by winner, with its probability, and whether it was certain."""
    metrics.frame_done(Outcome.PREDICTION, TIMES, 0.02, 0.03, [face("happy", 0.8)])
    metrics.predicted("prediction", [face("sad", 0.3, uncertain=True), face("sad", 0.6)])
    assert value(metrics, "timeconv_emotions_total", emotion="happy") == 1
    assert value(metrics, "timeconv_emotions_total", emotion="sad") == 2
    assert value(metrics, "timeconv_uncertain_total") == 1
    assert value(metrics, "timeconv_confidence_count") == 3
    assert value(metrics, "timeconv_confidence_sum") == pytest.approx(1.7)
    assert value(metrics, "timeconv_confidence_bucket", le="0.3") == 1


def test_faces_of_a_frame_that_was_not_answered_are_not_counted(metrics: Metrics) -> None:
    """What nobody was told is no prediction."""
    metrics.frame_done(Outcome.SUPERSEDED, TIMES, 0.02, 0.03, [face()])
    assert value(metrics, "timeconv_confidence_count") == 0


def test_a_loaded_network(metrics: Metrics) -> None:
    """The file that runs is told, how long it took to load, and its emotions are at 0 before the first face."""
    metrics.network_loaded(NETWORK, "model.int8.onnx", "ab" * 32, 0.4)
    info = {"model": NETWORK.lane, "version": "1", "file": "model.int8.onnx", "sha256": "ab" * 32}
    assert value(metrics, "timeconv_model_info", **info) == 1
    assert value(metrics, "timeconv_model_load_seconds_sum") == 0.4
    assert {value(metrics, "timeconv_emotions_total", emotion=label) for label in LABELS} == {0}


def test_a_network_that_is_loaded_again(metrics: Metrics) -> None:
    """Of a version whose content was changed the new file alone is told."""
    for sha256 in ("ab" * 32, "cd" * 32):
        metrics.network_loaded(NETWORK, "model.onnx", sha256, 0.4)
    (sample,) = families(metrics)["timeconv_model_info"].samples
    assert sample.labels["sha256"] == "cd" * 32


def test_versions_that_come_and_go_leave_nothing_behind(metrics: Metrics) -> None:
    """After fifty versions there are as many series as after one, and the one that serves keeps its own."""

    def serve(version: int) -> str:
        network = replace(NETWORK, version=str(version), lane=f"fake@{version}")
        metrics.network_loaded(network, "model.onnx", f"{version:064}", 0.1)
        metrics.batch_ran(batch(2, "full", network.lane), [0.1, 0.2], 0.3)
        return network.lane

    def series() -> int:
        return sum(len(family.samples) for family in families(metrics).values())

    last = serve(0)
    before = series()
    for version in range(1, 50):
        retired, last = last, serve(version)
        metrics.network_unloaded(retired)
    metrics.network_unloaded("never@1")
    assert series() == before
    assert value(metrics, "timeconv_batch_size_count", model=last) == 1


def test_frames_make_no_series(metrics: Metrics) -> None:
    """However many frames of however many sessions come, what is told does not grow."""
    metrics.network_loaded(NETWORK, "model.onnx", "ab" * 32, 0.4)
    move_frames(metrics)
    before = len(metrics.exposition().splitlines())
    for _ in range(20):
        move_frames(metrics)
    assert len(metrics.exposition().splitlines()) == before


def test_workers(metrics: Metrics) -> None:
    """Number, busy time by kind of work, and the age of the oldest call, as they are at the scrape."""
    busy_s = {"frames": 1.5, "batch": 0.5}
    metrics.watch_workers(2, lambda: busy_s, lambda: 0.25)
    assert value(metrics, "timeconv_workers") == 2
    assert value(metrics, "timeconv_engine_call_age_seconds") == 0.25
    busy_s["batch"] = 3.0
    assert value(metrics, "timeconv_worker_busy_seconds_total", work="frames") == 1.5
    assert value(metrics, "timeconv_worker_busy_seconds_total", work="batch") == 3.0


def test_stuck(metrics: Metrics) -> None:
    """Each worker that was found stuck counts."""
    metrics.workers_stuck(2)
    assert value(metrics, "timeconv_stuck_total") == 2


def test_lag(metrics: Metrics) -> None:
    """Each timer that fired is one observation."""
    metrics.timer_fired(0.02)
    assert value(metrics, "timeconv_event_loop_lag_seconds_bucket", le="0.015") == 0
    assert value(metrics, "timeconv_event_loop_lag_seconds_bucket", le="0.025") == 1


def test_device_memory(metrics: Metrics) -> None:
    """Where the driver says nothing there is no series, and the scrape is whole."""
    memory: dict[str, float] = {"used": 1e9, "total": 8e10}
    metrics.watch_device_memory(lambda: memory)
    assert value(metrics, "timeconv_device_memory_bytes", kind="used") == 1e9
    memory.clear()
    assert value(metrics, "timeconv_device_memory_bytes", kind="used") is None
    assert metrics.exposition()


def test_sessions_begun(metrics: Metrics) -> None:
    """Sessions are counted as they begin."""
    metrics.session_started()
    assert value(metrics, "timeconv_sessions_started_total") == 1


def test_openmetrics() -> None:
    """As OpenMetrics there are the same samples, by a parser that is strict."""
    metrics = every_metric()

    def samples(parsed: object) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        return {
            (sample.name, frozenset(sample.labels.items()))
            for family in parsed  # type: ignore[attr-defined] # either parser's families
            for sample in family.samples
        }

    plain = samples(text_string_to_metric_families(metrics.exposition().decode()))
    assert samples(openmetrics_families(metrics.exposition(openmetrics=True).decode())) == plain


def test_what_can_be_counted_is_there_before_it_is() -> None:
    """Codes, ends and outcomes that are known are series at 0: the first of a kind moves a rate."""
    metrics = Metrics()
    for code in codes():
        assert value(metrics, "timeconv_refused_total", code=code) == 0
    for reason in ("closed", "disconnected", "shutdown", "slow_reader", "unauthorized", "internal"):
        assert value(metrics, "timeconv_sessions_ended_total", reason=reason) == 0
    assert value(metrics, "timeconv_predict_requests_total", outcome="no_face") == 0
