"""Metrics of which each series that there may be has been moved."""

from typing import get_args

from service.inference.device import Device
from service.inference.scheduler import Batch, BatchReason, WindowItem
from service.protocol import FaceResult, Outcome, Quality
from service.telemetry.metrics import Metrics
from service.vision.look import StageTimes
from tests.fakes import LABELS, NETWORK, echo_runner


def face(emotion: str = "happy", probability: float = 0.8, *, uncertain: bool = False) -> FaceResult:
    """A face whose winner is ``emotion``."""
    rest = (1 - probability) / (len(LABELS) - 1)
    probabilities = {label: probability if label == emotion else rest for label in LABELS}
    return FaceResult(
        id=0,
        box=(0.0, 0.0, 1.0, 1.0),
        crop_box=(0.0, 0.0, 1.0, 1.0),
        score=1.0,
        state="ready",
        emotion=emotion,
        probabilities=probabilities,
        smoothed=probabilities,
        raw_emotion=emotion,
        uncertain=uncertain,
        quality=Quality(size=48.0, brightness=0.5, sharpness=0.5),
    )


def batch(size: int, reason: str = "idle", lane: str = "m@1") -> Batch:
    """A batch of windows that nobody waits for."""
    item = WindowItem(key=0, lane=lane, window=[], replaces=False, deliver=lambda _: None)
    return Batch(lane, echo_runner, [item] * size, [], reason)  # type: ignore[arg-type] # the test's reason is one


def move_frames(metrics: Metrics) -> None:
    """A frame of each outcome, looked at in each way, with a face of each emotion."""
    for outcome in Outcome:
        for followed in (True, False, None):
            metrics.frame_received(1000)
            times = StageTimes(detected=not followed, followed=followed)
            metrics.frame_done(outcome, times, 0.02, 0.03, [face(label, uncertain=True) for label in LABELS])
            metrics.text_sent(100)
            metrics.message_sent(0.001, 0.001)
        metrics.predicted(outcome)


def every_metric() -> Metrics:
    """All metrics, those that are read when scraped and those of a GPU and of traces too."""
    metrics = Metrics()
    metrics.watch_sessions(lambda: 3, lambda: 1)
    metrics.watch_connections(lambda: 4)
    metrics.watch_kept(lambda: 1)
    metrics.watch_queues(lambda: 4, lambda: 5, lambda: 6)
    metrics.watch_workers(2, lambda: {"frames": 1.0, "batch": 2.0}, lambda: 0.5)
    metrics.watch_device_memory(lambda: {"used": 1.0, "total": 2.0})
    metrics.watch_models(lambda: 1)
    metrics.watch_spans(lambda: {"queue_full": 1.0, "not_taken": 2.0})
    metrics.device_chosen(Device("cuda", ()))
    metrics.network_loaded(NETWORK, "model.onnx", "ab" * 32, 0.4)
    move_frames(metrics)
    for reason in get_args(BatchReason):
        metrics.batch_ran(batch(2, reason, NETWORK.lane), [0.001, 0.002], 0.003)
    metrics.session_started()
    metrics.session_ended("closed")
    metrics.refused("bad_option")
    metrics.timer_fired(0.001)
    return metrics
