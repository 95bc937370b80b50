"""What became of each frame of a clip, in pixels of its full-size, upright picture. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from service.streaming.frame import ClipFrame
from timeconv_client import FaceResult, FrameOutcome, FramesOutcome, Prediction

UNANSWERED = "unanswered"
"""In place of an outcome: the session broke before it came."""
NOT_SENT = "not_sent"
"""In place of an outcome: the service was still busy with the frames before."""
NOT_SURE = "not sure"
READY = "ready"
FILLING = "filling"
SHARE_DIGITS = 4
"""Of probabilities. A network's last digits may differ with the size of the batch that a window happened to be in."""
_PIXEL_DIGITS = 2

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """A face in a frame. One that is filling its window (``state``) has no emotion yet, and perhaps no id."""

    id: int | None = None
    state: str
    box: Box
    crop_box: Box | None = None
    score: float | None = None
    frames_needed: int | None = None
    emotion: str | None = None
    uncertain: bool | None = None
    smoothed: Mapping[str, float] = field(default_factory=dict)
    probabilities: Mapping[str, float] = field(default_factory=dict)
    raw_emotion: str | None = None
    quality: Mapping[str, float] = field(default_factory=dict)

    @property
    def probability(self) -> float | None:
        """How probable its emotion is, 0..1."""
        return None if self.emotion is None else self.smoothed.get(self.emotion)

    @property
    def said(self) -> str | None:
        """What to show a person: its emotion, or that it is `NOT_SURE`."""
        return NOT_SURE if self.uncertain else self.emotion


@dataclass(frozen=True, slots=True)
class Delays:
    """Milliseconds: the frame's age, its time in the service, from sending to answer; and how full its batch was."""

    age_ms: float
    total_ms: float
    round_trip_ms: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class FrameResult:
    """A frame, its outcome, and the faces in it, largest first."""

    frame: ClipFrame
    outcome: str
    faces: tuple[Face, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)
    delays: Delays | None = None

    @property
    def time_s(self) -> float:
        """When the frame is shown, in seconds since the first."""
        return self.frame.time_us / 1e6


def result_of(frame: ClipFrame, answer: Prediction | FrameOutcome | FramesOutcome, round_trip_ms: float) -> FrameResult:
    """What the service's answer says about a frame."""
    outcome = str(answer.outcome)
    match answer:
        case Prediction():
            delays = Delays(answer.age_ms, answer.timing_ms.total, round_trip_ms, answer.batch_size)
            faces = tuple(_face(face, frame.shrunk) for face in answer.faces)
            return FrameResult(frame, outcome, faces, delays=delays)
        case FrameOutcome(detail={"box": [_, _, _, _] as box}):
            face = Face(state=FILLING, box=_pixels(box, frame.shrunk), frames_needed=answer.detail.get("frames_needed"))
            return FrameResult(frame, outcome, (face,))
        case FrameOutcome():
            return FrameResult(frame, outcome, detail=answer.detail)
        case FramesOutcome():
            return FrameResult(frame, outcome)


def _face(face: FaceResult, shrunk: float) -> Face:
    seen = Face(
        id=face.id,
        state=face.state,
        box=_pixels(face.box, shrunk),
        crop_box=_pixels(face.crop_box, shrunk),
        score=face.score,
        # Only faces whose window is not full have it.
        frames_needed=face.frames_needed,
        quality={**face.quality.model_dump(), "size": round(face.quality.size * shrunk, _PIXEL_DIGITS)},
    )
    if face.state != READY:
        return seen
    return replace(
        seen,
        emotion=face.emotion,
        uncertain=bool(face.uncertain),
        smoothed=_shares(face.smoothed),
        probabilities=_shares(face.probabilities),
        raw_emotion=face.raw_emotion,
    )


def _shares(probabilities: Mapping[str, float] | None) -> dict[str, float]:
    return {label: round(share, SHARE_DIGITS) for label, share in (probabilities or {}).items()}


def _pixels(box: Sequence[float], shrunk: float) -> Box:
    x, y, w, h = (round(side * shrunk, _PIXEL_DIGITS) for side in box)
    return x, y, w, h
