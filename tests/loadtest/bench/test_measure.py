"""What servers under load come to."""

import numpy as np
import pytest

from loadtest.bench.measure import Saturated, Stages, largest_difference, parse_stages, served
from loadtest.echo import ANSWER
from loadtest.errors import CannotGenerate
from service import protocol
from service.inference.scheduler import Batch, WindowItem
from service.protocol import Outcome
from service.telemetry.metrics import Metrics
from service.vision.look import StageTimes


def batch_of(size: int) -> Batch:
    """A batch that ran."""
    item = WindowItem("session", "m@1", np.zeros((5, 48, 48), np.uint8), replaces=False, deliver=lambda _: None)
    return Batch("m@1", lambda windows: np.zeros((len(windows), 7), np.float32), [item] * size, [], "full")


def test_stages_are_read_off_the_services_own_metrics() -> None:
    """Frames, runs of the detector, batches and what was in them."""
    metrics = Metrics()
    for detected in (True, False, False):
        metrics.frame_received(1000)
        metrics.frame_done(Outcome.PREDICTION, StageTimes(detected=detected), 0.1, 0.1)
    for size in (1, 5):
        metrics.batch_ran(batch_of(size), [0.0] * size, 0.01)
    assert parse_stages(metrics.exposition().decode()) == Stages(3, 1, 2, 6, 1)


def test_cpu_time_is_shared_out_over_the_predictions_only() -> None:
    """A window that fills is answered too, and is no prediction."""
    filling = protocol.encode(protocol.FrameOutcome(seq=0, outcome=Outcome.WINDOW_FILLING, age_ms=1.0))
    prediction = protocol.encode(ANSWER)
    load = Saturated(cpu_s=0.003, elapsed_s=0.002, answers=[[filling, prediction, prediction], [prediction]])
    figures = served(load, Stages(10, 2, 3, 9, 1), Stages(14, 3, 5, 14, 2))
    assert (figures.us, figures.cores, figures.predictions_per_s) == pytest.approx((1000.0, 1.5, 1500.0))
    assert figures.detector_rate == 0.25
    assert figures.batches == {"mean": 2.5, "over_one": 0.5}
    assert figures.total_ms == {"p50": 1.234, "p95": 1.234, "p99": 1.234}


def test_a_service_that_predicts_nothing_is_no_measurement() -> None:
    """Nothing is divided by nothing."""
    with pytest.raises(CannotGenerate, match="nothing"):
        served(Saturated(0.1, 1.0, [[]]), Stages(0, 0, 0, 0, 0), Stages(0, 0, 0, 0, 0))


def test_the_largest_difference_is_over_all_clients_frames_and_labels() -> None:
    """Between the client alone and each of several."""
    alone = [{4: {"happy": 0.5, "sad": 0.5}}]
    assert largest_difference(alone, [alone[0], {4: {"happy": 0.25, "sad": 0.75}}]) == 0.25


@pytest.mark.parametrize("together", [{}, {5: {"happy": 1.0}}])
def test_clients_that_got_other_predictions_are_not_compared(together: dict[int, dict[str, float]]) -> None:
    """A frame that was predicted for one only is an error, not a difference of 0."""
    with pytest.raises(CannotGenerate):
        largest_difference([{4: {"happy": 1.0}}], [together])
