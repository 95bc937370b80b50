"""What the service says, as frozen models: a union told apart by ``type``.

Fields a newer service adds are ignored, an outcome or message type it adds is kept as it came, so an old client reads a
new service. What is missing or of the wrong type is a `ProtocolMismatch`.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from timeconv_client.errors import ProtocolMismatch

Box = tuple[float, float, float, float]
"""[x, y, w, h] in pixels of the upright, full-size frame."""


class Outcome(StrEnum):
    """What became of one frame; every frame that is sent gets exactly one."""

    PREDICTION = "prediction"
    WINDOW_FILLING = "window_filling"
    NO_FACE = "no_face"
    SKIPPED = "skipped"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    RATE_LIMITED = "rate_limited"
    BAD_IMAGE = "bad_image"
    OVERLOADED = "overloaded"
    FAILED = "failed"
    ABANDONED = "abandoned"


# Left to right, since a newer service may know more outcomes: those stay plain strings.
AnyOutcome = Annotated[Outcome | str, Field(union_mode="left_to_right")]


class _Model(BaseModel):
    # What is said is told in no error, nor are tokens in a repr: both end in logs.
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True)


class Options(_Model):
    """Options of a session as the service applies them; `SessionOptions` says what each means."""

    model: str
    faces: int
    region: str
    freshness: str
    timestamps: bool
    max_age_ms: int | None
    stride: int
    smoothing_ms: int


class CropInfo(_Model):
    """How the service crops: a square of ``scale`` box sides, moved by ``dx``, ``dy`` sides, made ``size`` pixels."""

    size: int
    detector: str
    scale: float
    dx: float
    dy: float


class Limits(_Model):
    """Bounds of the session: a frame over the first two is ``bad_image``, a longer gap empties the window."""

    max_frame_bytes: int
    max_frame_pixels: int
    gap_reset_ms: int


class SessionStarted(_Model):
    """First message of a session. At most ``max_in_flight`` frames may wait for their outcome."""

    type: Literal["session.started"] = "session.started"
    session: str
    model: str
    version: str
    labels: tuple[str, ...]
    window: int
    crop: CropInfo
    limits: Limits
    options: Options
    max_in_flight: int = Field(ge=1)
    next_seq: int = 0
    resumed: bool = False
    resume_token: str | None = Field(default=None, repr=False)


class Quality(_Model):
    """Measures of the last crop: side in pixels of the frame, mean brightness 0..1, contrast-free sharpness."""

    size: float
    brightness: float
    sharpness: float


class FaceResult(_Model):
    """One face. ``emotion`` wins in ``smoothed``, ``raw_emotion`` in ``probabilities``; both are 0..1 by label.

    A face whose ``state`` is ``filling`` has none of these yet, but ``frames_needed``; one that is ``ready`` has all.
    """

    id: int
    box: Box
    crop_box: Box
    score: float
    state: str
    frames_needed: int | None = None
    emotion: str | None = None
    probabilities: dict[str, float] | None = None
    smoothed: dict[str, float] | None = None
    raw_emotion: str | None = None
    uncertain: bool | None = None
    quality: Quality


class Timing(_Model):
    """Milliseconds the frame spent in each stage of the service."""

    wait: float
    decode: float
    detect: float
    crop: float
    queue: float
    infer: float
    total: float


class Prediction(_Model):
    """The answer for a frame with a full window; ``faces`` largest first, at least one of them ``ready``."""

    type: Literal["prediction"] = "prediction"
    seq: int
    age_ms: float
    captured_us: int | None = None
    faces: tuple[FaceResult, ...]
    timing_ms: Timing
    batch_size: int
    repeated: bool | None = None

    @property
    def outcome(self) -> Outcome:
        """Of a prediction, always `Outcome.PREDICTION`."""
        return Outcome.PREDICTION

    @property
    def seqs(self) -> range:
        """The frames answered."""
        return range(self.seq, self.seq + 1)


class FrameOutcome(_Model):
    """The answer for a frame without a prediction; ``detail`` depends on the outcome."""

    type: Literal["frame"] = "frame"
    seq: int
    outcome: AnyOutcome
    age_ms: float
    captured_us: int | None = None
    detail: dict[str, Any] = Field(default_factory=dict)

    @property
    def seqs(self) -> range:
        """The frames answered."""
        return range(self.seq, self.seq + 1)


class FramesOutcome(_Model):
    """One answer for a run of frames, ``first`` to ``last`` with both ends; ``from`` and ``to`` on the wire."""

    type: Literal["frames"] = "frames"
    first: int = Field(alias="from")
    last: int = Field(alias="to")
    outcome: AnyOutcome

    @property
    def seqs(self) -> range:
        """The frames answered."""
        return range(self.first, self.last + 1)


class SessionUpdated(_Model):
    """The options in force from frame ``from_seq`` on; ``by`` the service if it has a new version of the model.

    ``labels`` and ``crop`` are None where they are as before.
    """

    type: Literal["session.updated"] = "session.updated"
    options: Options
    from_seq: int
    max_in_flight: int
    by: str = "client"
    labels: tuple[str, ...] | None = None
    crop: CropInfo | None = None


class ErrorMessage(_Model):
    """Something was refused and the session goes on, or, with the ``close_code`` that follows, why it ends."""

    type: Literal["error"] = "error"
    code: str
    message: str
    retryable: bool
    retry_after_ms: int | None = None
    close_code: int | None = None


class GoAway(_Model):
    """The service stops in ``time_left_ms``; connect anew."""

    type: Literal["goaway"] = "goaway"
    time_left_ms: int
    resume_token: str | None = Field(default=None, repr=False)


class Totals(_Model):
    """Frames of the session as the service counted them: received = sum of outcomes."""

    received: int
    outcomes: dict[AnyOutcome, int]


class SessionClosed(_Model):
    """Last message of a session that ended in order."""

    type: Literal["session.closed"] = "session.closed"
    totals: Totals


class UnknownMessage(_Model):
    """A message of a type this client does not know; its fields are in ``model_extra``."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    type: str


KnownMessage = (
    SessionStarted | Prediction | FrameOutcome | FramesOutcome | SessionUpdated | ErrorMessage | GoAway | SessionClosed
)
ServerMessage = KnownMessage | UnknownMessage
Answer = Prediction | FrameOutcome | FramesOutcome
"""What settles frames: each has ``outcome`` and ``seqs``."""
Event = Answer | SessionUpdated | ErrorMessage | GoAway | SessionClosed | UnknownMessage
"""What iterating over a session yields."""

_known: TypeAdapter[KnownMessage] = TypeAdapter(
    Annotated[KnownMessage, Field(discriminator="type")], config=ConfigDict(hide_input_in_errors=True)
)
_unknown = TypeAdapter(UnknownMessage)


def parse_message(text: str | bytes) -> ServerMessage:
    """Parse a text message of the service.

    Raises:
        ProtocolMismatch: it is not a JSON object with a ``type``, or lacks what its type must have.
    """
    try:
        return _known.validate_json(text)
    except ValidationError as error:
        mismatch = error
    try:
        if mismatch.errors(include_url=False)[0]["type"] == "union_tag_invalid":
            return _unknown.validate_json(text)
    except ValidationError as error:
        mismatch = error
    problem = mismatch.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, problem["loc"]))
    raise ProtocolMismatch(f"Not a message of timeconv.v1: {place or 'message'}: {problem['msg']}") from mismatch
