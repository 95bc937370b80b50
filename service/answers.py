"""From what became of a frame to the message that says it; the stream and the REST prediction share it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import UNSET, UnsetType

from service.errors import RunnerFailed
from service.inference.models import LoadedNetwork
from service.inference.scheduler import Dropped, Fate
from service.protocol import FaceResult, FrameOutcome, Outcome, Prediction, Quality, Timing
from service.smoothing import Smoothing
from service.vision.boxes import Box
from service.vision.look import Sighting, StageTimes

_OUTCOMES: dict[Dropped, Outcome] = {
    Dropped.REPLACED: Outcome.SUPERSEDED,
    Dropped.EXPIRED: Outcome.EXPIRED,
    Dropped.FULL: Outcome.OVERLOADED,
    Dropped.STUCK: Outcome.FAILED,
    Dropped.CLOSING: Outcome.ABANDONED,
}

# Times are honest to a microsecond.
_SCORE_DIGITS = 6
_PIXEL_DIGITS = 2
_MS_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said of a frame: its outcome, details, and for a prediction the faces and their scores."""

    outcome: Outcome
    detail: dict[str, Any] = field(default_factory=dict)
    faces: tuple[FaceResult, ...] = ()
    batch_size: int = 0


@dataclass(frozen=True, slots=True)
class Smoothed:
    """How a face's probabilities are smoothed: with what, in seconds, at a frame's time."""

    by: Smoothing
    constant_s: float
    time_s: float


def answer_of(
    fate: Fate,
    network: LoadedNetwork,
    sighting: Sighting,
    face_id: int,
    times: StageTimes,
    smoothed: Smoothed | None = None,
) -> Answer:
    """The answer for a window, from its fate; ``times`` gets queue, infer and when it ran."""
    if isinstance(fate, RunnerFailed):
        return Answer(Outcome.FAILED, {"reason": "engine"})
    if isinstance(fate, Dropped):
        return Answer(_OUTCOMES[fate], {"reason": fate.value} if fate is Dropped.STUCK else {})
    if len(fate.probabilities) != len(network.labels):
        return Answer(Outcome.FAILED, {"reason": "engine"})
    times.queue, times.infer, times.ran_s = fate.queue_s, fate.infer_s, fate.ran_s
    face = face_result(network, sighting, face_id, fate.probabilities, smoothed)
    return Answer(Outcome.PREDICTION, faces=(face,), batch_size=fate.batch_size)


def face_result(
    network: LoadedNetwork,
    sighting: Sighting,
    face_id: int,
    probabilities: Sequence[float],
    smoothed: Smoothed | None = None,
) -> FaceResult:
    """A face and its emotion from a probability per label."""
    by_label = smoothed_by_label = dict(zip(network.labels, probabilities, strict=True))
    highest = max(probabilities)
    raw_emotion = emotion = network.labels[probabilities.index(highest)]
    if smoothed is not None:
        values, winner = smoothed.by.push(
            probabilities,
            of=(face_id, network.name, network.labels),
            time_s=smoothed.time_s,
            constant_s=smoothed.constant_s,
        )
        emotion, highest = network.labels[winner], values[winner]
        smoothed_by_label = {
            label: round(value, _SCORE_DIGITS) for label, value in zip(network.labels, values, strict=True)
        }
    return FaceResult(
        id=face_id,
        box=_rounded(sighting.box),
        crop_box=_rounded(sighting.crop_box),
        score=round(sighting.score, _SCORE_DIGITS),
        state="ready",
        emotion=emotion,
        probabilities=by_label,
        smoothed=smoothed_by_label,
        raw_emotion=raw_emotion,
        uncertain=highest < network.uncertain_below,
        quality=_quality(sighting),
    )


def filling(frames_needed: int, box: Box) -> Answer:
    """The answer for a face whose window is not full yet."""
    return Answer(Outcome.WINDOW_FILLING, {"frames_needed": frames_needed, "box": _rounded(box)})


def filling_beside(frames_needed: int, sighting: Sighting, face_id: int) -> Answer:
    """The same for one of several faces: what is told of it where another is predicted."""
    face = FaceResult(
        id=face_id,
        box=_rounded(sighting.box),
        crop_box=_rounded(sighting.crop_box),
        score=round(sighting.score, _SCORE_DIGITS),
        state="filling",
        frames_needed=frames_needed,
        quality=_quality(sighting),
    )
    return replace(filling(frames_needed, sighting.box), faces=(face,))


def together(answers: Sequence[Answer]) -> Answer:
    """The answer for a frame from those for its faces, largest first.

    It is a prediction with the faces that were answered, and those that fill, if one was answered at all. Else it is
    what became of the largest face that was ready. If none was ready, it is that windows fill.
    """
    if predictions := [answer for answer in answers if answer.outcome is Outcome.PREDICTION]:
        faces = tuple(face for answer in answers for face in answer.faces)
        return Answer(Outcome.PREDICTION, faces=faces, batch_size=max(answer.batch_size for answer in predictions))
    for answer in answers:
        if answer.outcome is not Outcome.WINDOW_FILLING:
            return answer
    needed = min(answer.detail["frames_needed"] for answer in answers)
    return Answer(Outcome.WINDOW_FILLING, {**answers[0].detail, "frames_needed": needed})


def message_of(
    answer: Answer,
    *,
    seq: int,
    age_s: float,
    total_s: float,
    times: StageTimes,
    captured_us: int | None = None,
    repeated: bool | UnsetType = UNSET,
) -> Prediction | FrameOutcome:
    """The message that gives a frame its answer."""
    age_ms = round(age_s * 1e3, _MS_DIGITS)
    captured = UNSET if captured_us is None else captured_us
    if answer.outcome is not Outcome.PREDICTION:
        return FrameOutcome(seq=seq, outcome=answer.outcome, age_ms=age_ms, captured_us=captured, detail=answer.detail)
    return Prediction(
        seq=seq,
        age_ms=age_ms,
        captured_us=captured,
        faces=answer.faces,
        timing_ms=_timing(times, total_s),
        batch_size=answer.batch_size,
        repeated=repeated,
    )


def _timing(times: StageTimes, total_s: float) -> Timing:
    return Timing(
        wait=round(times.wait * 1e3, _MS_DIGITS),
        decode=round(times.decode * 1e3, _MS_DIGITS),
        detect=round(times.detect * 1e3, _MS_DIGITS),
        crop=round(times.crop * 1e3, _MS_DIGITS),
        queue=round(times.queue * 1e3, _MS_DIGITS),
        infer=round(times.infer * 1e3, _MS_DIGITS),
        total=round(total_s * 1e3, _MS_DIGITS),
    )


def _quality(sighting: Sighting) -> Quality:
    return Quality(
        size=round(sighting.crop_box.w, _PIXEL_DIGITS),
        brightness=round(sighting.quality.brightness, _MS_DIGITS),
        sharpness=round(sighting.quality.sharpness, _MS_DIGITS),
    )


def _rounded(box: Box) -> tuple[float, float, float, float]:
    return (
        round(box.x, _PIXEL_DIGITS),
        round(box.y, _PIXEL_DIGITS),
        round(box.w, _PIXEL_DIGITS),
        round(box.h, _PIXEL_DIGITS),
    )
