import numpy as np
import pytest
from msgspec import UNSET, structs

from service.answers import Answer, answer_of, face_result, filling, message_of
from service.errors import RunnerFailed
from service.inference.scheduler import Dropped, Scores
from service.protocol import FrameOutcome, Outcome, Prediction, Timing
from service.vision.boxes import Box
from service.vision.look import Sighting, StageTimes
from service.vision.quality import CropQuality
from tests.fakes import LABELS, NETWORK

SIGHTING = Sighting(
    Box(10.123456, 20.5, 60.0, 61.999),
    Box(4.004, 14.006, 72.1, 72.1),
    0.98765432,
    np.full((48, 48), 51, np.uint8),
    CropQuality(0.2, 0.123456),
)


def probabilities(**by_label: float) -> list[float]:
    """A row of probabilities; labels that are not named have 0."""
    return [by_label.get(label, 0.0) for label in LABELS]


def scores(**by_label: float) -> Scores:
    return Scores(probabilities(**by_label), batch_size=3, queue_s=0.004, infer_s=0.0015, ran_s=5.0)


class TestAnswerOf:
    def test_scores(self) -> None:
        """A window that ran is a prediction with its batch's size, and its times are noted."""
        times = StageTimes(wait=0.1)
        answer = answer_of(scores(sad=0.7, fear=0.3), NETWORK, SIGHTING, 4, times)
        assert (answer.outcome, answer.batch_size, answer.detail) == (Outcome.PREDICTION, 3, {})
        assert [(face.id, face.emotion) for face in answer.faces] == [(4, "sad")]
        assert (times.wait, times.queue, times.infer) == (0.1, 0.004, 0.0015)

    @pytest.mark.parametrize(
        ("fate", "outcome"),
        [
            (Dropped.REPLACED, Outcome.SUPERSEDED),
            (Dropped.EXPIRED, Outcome.EXPIRED),
            (Dropped.FULL, Outcome.OVERLOADED),
            (Dropped.STUCK, Outcome.FAILED),
            (Dropped.CLOSING, Outcome.ABANDONED),
        ],
    )
    def test_dropped(self, fate: Dropped, outcome: Outcome) -> None:
        """A window that was not run has the outcome of its reason and no face."""
        times = StageTimes()
        answer = answer_of(fate, NETWORK, SIGHTING, 0, times)
        assert (answer.outcome, answer.faces, answer.batch_size) == (outcome, (), 0)
        assert (times.queue, times.infer) == (0.0, 0.0)

    @pytest.mark.parametrize("fate", Dropped)
    def test_every_reason_has_an_outcome(self, fate: Dropped) -> None:
        """No reason for not running a window is without an outcome."""
        assert answer_of(fate, NETWORK, SIGHTING, 0, StageTimes()).outcome in Outcome

    def test_failed(self) -> None:
        """A failure of the network is told as such, without what it said: that is for the log."""
        answer = answer_of(RunnerFailed("secret detail"), NETWORK, SIGHTING, 0, StageTimes())
        assert answer == Answer(Outcome.FAILED, {"reason": "engine"})


class TestFaceResult:
    def test_fields(self) -> None:
        """A face has its boxes to a hundredth of a pixel, its score and all seven probabilities by label."""
        face = face_result(NETWORK, SIGHTING, 2, probabilities(happy=0.75, neutral=0.25))
        assert (face.id, face.state, face.score) == (2, "ready", 0.987654)
        assert (face.box, face.crop_box) == ((10.12, 20.5, 60.0, 62.0), (4.0, 14.01, 72.1, 72.1))
        assert face.probabilities == {label: {"happy": 0.75, "neutral": 0.25}.get(label, 0.0) for label in LABELS}
        assert (face.emotion, face.raw_emotion, face.smoothed) == ("happy", "happy", face.probabilities)

    def test_quality(self) -> None:
        """Quality is of the crop, its size that of the square that was cut."""
        quality = face_result(NETWORK, SIGHTING, 0, probabilities(sad=1.0)).quality
        assert (quality.size, quality.brightness, quality.sharpness) == (72.1, 0.2, 0.123)

    @pytest.mark.parametrize(("best", "uncertain"), [(0.49, True), (0.5, False), (0.51, False), (1.0, False)])
    def test_uncertain(self, best: float, *, uncertain: bool) -> None:
        """A winner below the network's threshold is uncertain, one at it is not."""
        face = face_result(NETWORK, SIGHTING, 0, probabilities(angry=best, sad=(1 - best) / 2, fear=(1 - best) / 2))
        assert (face.emotion, face.uncertain) == ("angry", uncertain)

    def test_plain_types(self) -> None:
        """Nothing of numpy goes on the wire."""
        face = face_result(NETWORK, SIGHTING, 0, probabilities(sad=1 / 3, fear=2 / 3))
        values = [face.score, *face.box, *face.crop_box, *face.probabilities.values(), *structs.astuple(face.quality)]
        assert {type(value) for value in values} == {float}
        assert type(face.uncertain) is bool


def test_filling() -> None:
    """A window that fills says how many frames it needs and where the face is."""
    expected = Answer(Outcome.WINDOW_FILLING, {"frames_needed": 3, "box": (10.12, 20.5, 60.0, 62.0)})
    assert expected == filling(3, SIGHTING.box)


class TestMessageOf:
    times = StageTimes(wait=0.001, decode=0.002, detect=0.003, crop=0.0004, queue=0.005, infer=0.0060004)

    def test_prediction(self) -> None:
        """A prediction's times are milliseconds to the microsecond, one a stage."""
        answer = answer_of(scores(sad=1.0), NETWORK, SIGHTING, 0, StageTimes())
        message = message_of(answer, seq=9, age_s=0.0301, total_s=0.02, times=self.times)
        timing = Timing(wait=1.0, decode=2.0, detect=3.0, crop=0.4, queue=5.0, infer=6.0, total=20.0)
        expected = Prediction(seq=9, age_ms=30.1, faces=answer.faces, timing_ms=timing, batch_size=3)
        assert message == expected
        assert (message.captured_us, message.repeated) == (UNSET, UNSET)

    @pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.PREDICTION])
    def test_frame(self, outcome: Outcome) -> None:
        """Any other outcome is told with its details."""
        message = message_of(Answer(outcome, {"reason": "x"}), seq=1, age_s=0.5, total_s=0.4, times=self.times)
        assert message == FrameOutcome(seq=1, outcome=outcome, age_ms=500.0, detail={"reason": "x"})

    @pytest.mark.parametrize("answer", [Answer(Outcome.PREDICTION), Answer(Outcome.NO_FACE)])
    def test_capture_time(self, answer: Answer) -> None:
        """A capture time is echoed as it came, zero too."""
        for captured_us in (0, 2**64 - 1):
            message = message_of(answer, seq=0, age_s=0, total_s=0, times=self.times, captured_us=captured_us)
            assert message.captured_us == captured_us

    def test_repeated(self) -> None:
        """Only a prediction says whether one picture stood for all."""
        given = {"seq": 0, "age_s": 0.0, "total_s": 0.0, "times": self.times, "repeated": True}
        assert message_of(Answer(Outcome.PREDICTION), **given).repeated is True
        assert not hasattr(message_of(Answer(Outcome.NO_FACE), **given), "repeated")
