"""Messages: what the service encodes, the client parses to equal values."""

import json
from typing import Any, get_args

import pytest

import timeconv_client
from service import protocol
from service.protocol import Outcome
from tests.client.fake_server import frame, prediction, started
from timeconv_client import ProtocolMismatch, UnknownMessage, parse_message

MESSAGES: list[protocol.ServerMessage] = [
    started(8, protocol.Options(freshness="every", timestamps=True, stride=2)),
    started(2, protocol.Options(max_age_ms=400)),
    prediction(7),
    protocol.Prediction(
        seq=8,
        age_ms=1.5,
        captured_us=2**63,
        faces=(),
        timing_ms=protocol.Timing(wait=0, decode=0, detect=0, crop=0, queue=0, infer=0, total=0),
        batch_size=3,
        repeated=True,
    ),
    *(frame(3, outcome) for outcome in Outcome),
    protocol.FrameOutcome(
        seq=4, outcome=Outcome.BAD_IMAGE, age_ms=0.2, captured_us=40_000, detail={"reason": "too_large"}
    ),
    protocol.FramesOutcome(first=2, last=9, outcome=Outcome.SUPERSEDED),
    protocol.SessionUpdated(options=protocol.Options(stride=3), from_seq=12, max_in_flight=2),
    protocol.ErrorMessage(code="bad_option", message="Bad option: no", retryable=False),
    protocol.ErrorMessage(code="at_capacity", message="Full", retryable=True, retry_after_ms=5000),
    protocol.GoAway(time_left_ms=9000, resume_token="r"),  # noqa: S106 - not a secret
    protocol.SessionClosed(totals=protocol.Totals(received=3, outcomes={Outcome.PREDICTION: 2, Outcome.NO_FACE: 1})),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_equal_values(message: protocol.ServerMessage) -> None:
    """A message of the service is parsed to a model of the same name with equal values."""
    wire = protocol.encode(message)

    parsed = parse_message(wire)

    assert type(parsed).__name__ == type(message).__name__
    assert parsed.model_dump(mode="json", by_alias=True, exclude_unset=True) == json.loads(wire)


def test_every_type_is_tried() -> None:
    """No type of server message is missing from these tests."""
    assert {type(message) for message in MESSAGES} == set(get_args(protocol.ServerMessage))


def test_outcomes_are_the_same() -> None:
    """Client and service know the same outcomes."""
    assert [str(outcome) for outcome in timeconv_client.Outcome] == [str(outcome) for outcome in Outcome]


def test_options_are_the_same() -> None:
    """Client and service know the same session options."""
    assert set(timeconv_client.SessionOptions.__annotations__) == set(protocol.Options.__struct_fields__)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_newer_fields_are_ignored(message: protocol.ServerMessage) -> None:
    """A field that a newer service adds, at any depth, changes nothing for this client."""
    wire = protocol.encode(message)

    newer = parse_message(json.dumps(_with_more_fields(json.loads(wire))))

    assert newer == parse_message(wire)


def test_newer_outcome_is_kept() -> None:
    """An outcome that this client does not know settles its frames all the same."""
    parsed = parse_message('{"type": "frames", "from": 1, "to": 3, "outcome": "teleported"}')

    assert isinstance(parsed, timeconv_client.FramesOutcome)
    assert (parsed.outcome, list(parsed.seqs)) == ("teleported", [1, 2, 3])


def test_known_outcome_is_an_enum() -> None:
    """A known outcome arrives as a member of the enumeration."""
    parsed = parse_message(protocol.encode(frame(0, Outcome.NO_FACE)))

    assert isinstance(parsed, timeconv_client.FrameOutcome)
    assert parsed.outcome is timeconv_client.Outcome.NO_FACE


def test_newer_type_is_kept() -> None:
    """A message of an unknown type is handed on with its fields."""
    parsed = parse_message('{"type": "weather", "degrees": 21}')

    assert isinstance(parsed, UnknownMessage)
    assert (parsed.type, parsed.model_extra) == ("weather", {"degrees": 21})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[]",
        "{}",
        '{"type": 5}',
        '{"type": "prediction"}',
        '{"type": "goaway", "time_left_ms": "x"}',
        "\xff",
    ],
)
def test_what_is_no_message(text: str) -> None:
    """Anything that is not a whole message of the protocol is a mismatch."""
    with pytest.raises(ProtocolMismatch, match=r"timeconv\.v1"):
        parse_message(text.encode("latin-1"))


def test_models_are_frozen() -> None:
    """A parsed message cannot be changed."""
    parsed = parse_message(protocol.encode(prediction(1)))

    with pytest.raises(ValueError, match="frozen"):
        parsed.seq = 2  # type: ignore[union-attr]  # that is the point


def _with_more_fields(value: Any, key: str = "") -> Any:
    if isinstance(value, list):
        return [_with_more_fields(item) for item in value]
    if not isinstance(value, dict):
        return value
    more = {name: _with_more_fields(item, name) for name, item in value.items()}
    # These are maps by label, outcome or reason: their keys are values, not fields.
    return more if key in {"probabilities", "smoothed", "outcomes", "detail"} else {**more, "added_later": [1]}
