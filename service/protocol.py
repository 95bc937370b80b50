"""Wire messages of ``timeconv.v1``: frozen types, parsed once at the edge, encoded once on the way out. No I/O.

A binary message is one JPEG, with the session option ``timestamps=1`` after 8 bytes of capture time. Text messages are
JSON objects tagged by ``type``. ``docs/protocol.md`` describes the conversation.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from service.errors import BadImage, BadMessage, BadOption, TimeConvError

SUBPROTOCOL = "timeconv.v1"
RESUME_PREFIX = "timeconv.resume."
AUTH_PREFIX = "timeconv.auth."
"""What follows these, in the name of a subprotocol, is a secret."""
TIMESTAMP_BYTES = 8

Freshness = Literal["latest", "every"]
Region = Literal["detect", "whole"]

Count = Annotated[int, Meta(ge=0)]
Number = Annotated[int, Meta(ge=1)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Milliseconds = Annotated[float, Meta(ge=0)]
ModelName = Annotated[str, Meta(description="`name`, or `name@version`; empty: the service's default.")]
Box = tuple[float, float, float, float]
"""[x, y, w, h] in pixels of the upright, full-size frame."""
_REGION = "`detect`: find the face. `whole`: the picture is cropped to it, as `session.started.crop` says."

MAX_IN_FLIGHT: Mapping[Freshness, int] = {"latest": 2, "every": 8}
"""Frames a client may have sent without an outcome; our clients keep to it."""


class Outcome(StrEnum):
    """What became of one frame; every binary message gets exactly one."""

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


OUTCOME_MEANINGS: Mapping[Outcome, str] = {
    Outcome.PREDICTION: "answered, with the faces and their probabilities",
    Outcome.WINDOW_FILLING: "a face, but not five frames of it yet",
    Outcome.NO_FACE: "no face was found",
    Outcome.SKIPPED: "not one of every n-th, by `stride`",
    Outcome.SUPERSEDED: "a newer frame took its place (`freshness=latest` only)",
    Outcome.EXPIRED: "older than `max_age_ms`",
    Outcome.RATE_LIMITED: "over the session's or the key's rate (`freshness=latest` only; else it is read later)",
    Outcome.BAD_IMAGE: "no picture the service takes; `detail.reason` says why, and the session goes on",
    Outcome.OVERLOADED: "the service's queue of windows was full",
    Outcome.FAILED: "the engine failed on this frame",
    Outcome.ABANDONED: "the client was gone, or the service stopped; only totals tell of it",
}


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a session, as query parameters of the upgrade or in ``session.update``.

    ``model`` is ``name`` or ``name@version``, empty for the service's default.
    """

    model: ModelName = ""
    faces: Annotated[int, Meta(ge=1, le=8, description="Follow as many, the largest.")] = 1
    region: Annotated[Region, Meta(description=_REGION)] = "detect"
    freshness: Annotated[
        Freshness, Meta(description="`latest`: live, newer frames replace waiting ones. `every`: nothing is dropped.")
    ] = "latest"
    timestamps: Annotated[bool, Meta(description="Each frame comes after 8 bytes of capture time.")] = False
    max_age_ms: Annotated[
        Annotated[int, Meta(ge=1, le=60_000)] | None,
        Meta(description="An older frame is neither looked at nor answered with a prediction. Not with `every`."),
    ] = None
    stride: Annotated[int, Meta(ge=1, le=5, description="The window takes every n-th frame.")] = 1
    smoothing_ms: Annotated[int, Meta(ge=0, le=5000, description="Time constant of smoothing; 0: none.")] = 0


class PredictOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of ``POST /v1/predict``, as query parameters."""

    model: ModelName = ""
    region: Annotated[Region, Meta(description=_REGION)] = "detect"


# Client to server


class SessionUpdate(Struct, frozen=True, tag_field="type", tag="session.update", forbid_unknown_fields=True):
    """Change options from the next frame on; the old ones stay, whole, if the new ones are bad."""

    options: dict[str, Any]


class SessionClose(Struct, frozen=True, tag_field="type", tag="session.close", forbid_unknown_fields=True):
    """Answer what was received, then close."""


ClientMessage = SessionUpdate | SessionClose


# Server to client


class CropInfo(Struct, frozen=True, kw_only=True):
    """How the service crops; a client that sends ``region=whole`` crops likewise.

    From the detector's box: a square whose side is ``scale`` times the mean of the box's width and height, its centre
    that of the box moved by ``dx`` and ``dy`` of the square's sides, right and down.
    """

    size: Number
    detector: str
    scale: float
    dx: float
    dy: float


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds of a session."""

    max_frame_bytes: Number
    max_frame_pixels: Number
    gap_reset_ms: Number


class SessionStarted(Struct, frozen=True, kw_only=True, tag_field="type", tag="session.started"):
    """First message of a session."""

    session: str
    model: str
    version: str
    labels: tuple[str, ...]
    window: Number
    crop: CropInfo
    limits: Limits
    options: Options
    max_in_flight: Number
    next_seq: Count = 0
    resumed: bool = False
    resume_token: str | None = None


class Quality(Struct, frozen=True, kw_only=True):
    """Measures of the last crop: ``size`` of its side in the frame (pixels), mean ``brightness`` (0..1), ``sharpness``.

    Sharpness is the variance of the Laplacian of the 48x48 crop divided by the variance of the crop itself, so that
    it does not rise with contrast.
    """

    size: float
    brightness: Fraction
    sharpness: float


class FaceResult(Struct, frozen=True, kw_only=True):
    """One face of a frame. ``box`` and ``crop_box`` are [x, y, w, h] in pixels of the upright, full-size frame.

    Where it is ``ready``, ``raw_emotion`` is the winner of ``probabilities``, as the network gave them; ``emotion`` and
    ``uncertain`` go by ``smoothed``. A ``filling`` one has ``frames_needed`` in the place of all these.
    """

    id: Count
    box: Box
    crop_box: Box
    score: Fraction
    state: Literal["ready", "filling"]
    frames_needed: Number | UnsetType = UNSET
    emotion: str | UnsetType = UNSET
    probabilities: dict[str, Fraction] | UnsetType = UNSET
    smoothed: dict[str, Fraction] | UnsetType = UNSET
    raw_emotion: str | UnsetType = UNSET
    uncertain: bool | UnsetType = UNSET
    quality: Quality


class Timing(Struct, frozen=True, kw_only=True):
    """Milliseconds a frame spent in each stage: ``wait`` for a worker, ..., ``queue`` for a batch, ``infer`` in it."""

    wait: Milliseconds
    decode: Milliseconds
    detect: Milliseconds
    crop: Milliseconds
    queue: Milliseconds
    infer: Milliseconds
    total: Milliseconds


class Prediction(Struct, frozen=True, kw_only=True, tag_field="type", tag="prediction"):
    """The answer for a frame with a full window; ``faces`` largest first.

    ``repeated`` (REST only): one picture stood for the whole window.
    """

    seq: Count
    age_ms: Milliseconds
    captured_us: Count | UnsetType = UNSET
    faces: tuple[FaceResult, ...]
    timing_ms: Timing
    batch_size: Number
    repeated: bool | UnsetType = UNSET


_DETAIL = {
    "properties": {
        "frames_needed": {"type": "integer", "minimum": 1, "description": "Of `window_filling`."},
        "box": {
            "type": "array",
            "items": {"type": "number"},
            "minItems": 4,
            "maxItems": 4,
            "description": "Of `window_filling`: the face, as `box` of a prediction.",
        },
        "reason": {"type": "string", "description": "Of `bad_image` and `failed`: a word."},
        "message": {"type": "string", "description": "Of `bad_image`: a sentence."},
        "index": {"type": "integer", "minimum": 0, "description": "Of `no_face` over REST: which frame."},
    }
}


class FrameOutcome(Struct, frozen=True, kw_only=True, tag_field="type", tag="frame"):
    """The answer for a frame without a prediction."""

    seq: Count
    outcome: Outcome
    age_ms: Milliseconds
    captured_us: Count | UnsetType = UNSET
    detail: Annotated[dict[str, Any], Meta(extra_json_schema=_DETAIL)] = {}


class FramesOutcome(
    Struct, frozen=True, kw_only=True, tag_field="type", tag="frames", rename={"first": "from", "last": "to"}
):
    """One answer for a run of frames, both ends included, that all had the same outcome."""

    first: Count
    last: Count
    outcome: Outcome


class SessionUpdated(Struct, frozen=True, kw_only=True, tag_field="type", tag="session.updated"):
    """The options in force from frame ``from_seq`` on; ``by`` the service when a new version took the network over.

    ``labels`` and ``crop`` come where the network that the client has asked for brings others.
    """

    options: Options
    from_seq: Count
    max_in_flight: Number
    by: Literal["client", "service"] = "client"
    labels: tuple[str, ...] | UnsetType = UNSET
    crop: CropInfo | UnsetType = UNSET


class ErrorMessage(Struct, frozen=True, kw_only=True, tag_field="type", tag="error"):
    """A text message that was refused, or, with the ``close_code`` that follows, why the session ends."""

    code: str
    message: str
    retryable: bool
    retry_after_ms: Count | None = None
    close_code: int | None = None


class GoAway(Struct, frozen=True, kw_only=True, tag_field="type", tag="goaway"):
    """The server stops soon; connect anew."""

    time_left_ms: Count
    resume_token: str | None = None


class Totals(Struct, frozen=True, kw_only=True):
    """Frames of a session: received = sum of outcomes."""

    received: Count
    outcomes: dict[Outcome, Count]


class SessionClosed(Struct, frozen=True, kw_only=True, tag_field="type", tag="session.closed"):
    """Last message of a session that ended in order."""

    totals: Totals


ServerMessage = (
    SessionStarted | Prediction | FrameOutcome | FramesOutcome | SessionUpdated | ErrorMessage | GoAway | SessionClosed
)

OptionsT = TypeVar("OptionsT", Options, PredictOptions)

_encoder = msgspec.json.Encoder()
_client_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)


def encode(message: ServerMessage) -> bytes:
    """JSON of a server message, UTF-8."""
    return _encoder.encode(message)


def error_message(error: TimeConvError, *, closing: bool) -> ErrorMessage:
    """The wire form of an error; ``closing``: the session ends with it."""
    return ErrorMessage(
        code=error.code,
        message=error.told,
        retryable=error.retryable,
        retry_after_ms=error.retry_after_ms,
        close_code=error.close_code if closing else None,
    )


def parse_text(text: str) -> ClientMessage:
    """Parse a client's text message.

    Raises:
        BadMessage: it is not JSON, has an unknown ``type`` or other fields than that type's.
    """
    try:
        return _client_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise BadMessage(f"Not a message of {SUBPROTOCOL}: {error}") from error


def resume_token(offered: Iterable[str]) -> str | None:
    """The resume token among the subprotocols of an upgrade, if there is one."""
    return next((name.removeprefix(RESUME_PREFIX) for name in offered if name.startswith(RESUME_PREFIX)), None)


def without_secrets(offered: Iterable[str]) -> list[str]:
    """Subprotocols of an upgrade that may be shown."""
    return [name for name in offered if not name.startswith((RESUME_PREFIX, AUTH_PREFIX))]


def parse_query(query: list[tuple[str, str]]) -> Options:
    """Options from the query parameters of the upgrade.

    Raises:
        BadOption: a name is unknown or given twice, or a value is out of range or impossible beside another.
    """
    return _checked(_convert_query(query, Options))


def parse_predict_query(query: list[tuple[str, str]]) -> PredictOptions:
    """Options from the query parameters of a prediction.

    Raises:
        BadOption: a name is unknown or given twice, or a value is not one of its choices.
    """
    return _convert_query(query, PredictOptions)


def updated(options: Options, changes: Mapping[str, Any]) -> Options:
    """Options after a ``session.update``.

    Raises:
        BadOption: as for `parse_query`; values must have their JSON type.
    """
    try:
        return _checked(msgspec.convert({**msgspec.structs.asdict(options), **changes}, Options))
    except msgspec.ValidationError as error:
        raise BadOption(_option_error(error, Options)) from error


def split_timestamp(message: bytes) -> tuple[int, bytes]:
    """Capture time (microseconds) and JPEG of a binary message of a session with ``timestamps=1``.

    Raises:
        BadImage: the message is shorter than a time stamp.
    """
    if len(message) < TIMESTAMP_BYTES:
        raise BadImage(
            "timestamp_missing", f"{len(message)} bytes; with timestamps=1 a message begins with {TIMESTAMP_BYTES}"
        )
    return int.from_bytes(message[:TIMESTAMP_BYTES], "big"), message[TIMESTAMP_BYTES:]


def _convert_query(query: list[tuple[str, str]], kind: type[OptionsT]) -> OptionsT:
    counts = Counter(name for name, _ in query)
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        raise BadOption(f"Given more than once: {', '.join(repeated)}")
    try:
        return msgspec.convert(dict(query), kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadOption(_option_error(error, kind)) from error


def _checked(options: Options) -> Options:
    if options.freshness == "every" and options.max_age_ms is not None:
        raise BadOption("max_age_ms cannot be combined with freshness=every, which drops nothing")
    return options


def _option_error(error: msgspec.ValidationError, kind: type[Struct]) -> str:
    """``Expected `int` <= 5 - at `$.stride``` as ``stride: expected `int` <= 5``; or which options there are."""
    what, _, where = str(error).partition(" - at `$.")
    if where:
        return f"{where.rstrip('`')}: {what[:1].lower()}{what[1:]}"
    return f"{what}; options are {', '.join(kind.__struct_fields__)}" if "unknown field" in what else what
