import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service import protocol
from service.errors import AtCapacity, BadImage, BadMessage, BadOption, SlowReader, TimeConvError
from service.protocol import (
    CropInfo,
    ErrorMessage,
    FaceResult,
    FrameOutcome,
    FramesOutcome,
    GoAway,
    Limits,
    Options,
    Outcome,
    Prediction,
    PredictOptions,
    Quality,
    ServerMessage,
    SessionClose,
    SessionClosed,
    SessionStarted,
    SessionUpdate,
    SessionUpdated,
    Timing,
    Totals,
)

FACE = FaceResult(
    id=0,
    box=(10.5, 20.0, 60.0, 62.25),
    crop_box=(4.0, 14.0, 72.0, 72.0),
    score=0.97,
    state="ready",
    emotion="happy",
    probabilities={"happy": 0.9, "sad": 0.1},
    smoothed={"happy": 0.9, "sad": 0.1},
    raw_emotion="happy",
    uncertain=False,
    quality=Quality(size=72.0, brightness=0.5, sharpness=0.25),
)
TIMING = Timing(wait=0.1, decode=0.5, detect=1.2, crop=0.1, queue=0.0, infer=0.9, total=2.9)
PREDICTION = Prediction(seq=7, age_ms=12.5, faces=(FACE,), timing_ms=TIMING, batch_size=3)
STARTED = SessionStarted(
    session="abc",
    model="timeconv-mini-xception",
    version="1",
    labels=("happy", "sad"),
    window=5,
    crop=CropInfo(size=48, detector="blazeface", scale=1.2, dx=0.0, dy=0.0),
    limits=Limits(max_frame_bytes=2_000_000, max_frame_pixels=4_200_000, gap_reset_ms=1000),
    options=Options(),
    max_in_flight=2,
)
OUTCOME = FrameOutcome(seq=3, outcome=Outcome.WINDOW_FILLING, age_ms=1.5, detail={"frames_needed": 2})


def as_json(message: ServerMessage) -> dict[str, Any]:
    """What a client in another language reads."""
    decoded = json.loads(protocol.encode(message))
    assert isinstance(decoded, dict)
    return decoded


class TestParseQuery:
    def test_defaults(self) -> None:
        """Without parameters a session is live, follows one face and looks for it."""
        expected = Options(
            model="",
            faces=1,
            region="detect",
            freshness="latest",
            timestamps=False,
            max_age_ms=None,
            stride=1,
            smoothing_ms=0,
        )
        assert expected == protocol.parse_query([])

    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("model", "timeconv-mini-xception@1", "timeconv-mini-xception@1"),
            ("model", "null", "null"),
            ("faces", "1", 1),
            ("region", "detect", "detect"),
            ("region", "whole", "whole"),
            ("freshness", "latest", "latest"),
            ("freshness", "every", "every"),
            ("timestamps", "1", True),
            ("timestamps", "0", False),
            ("timestamps", "true", True),
            ("timestamps", "false", False),
            ("max_age_ms", "1", 1),
            ("max_age_ms", "60000", 60_000),
            ("max_age_ms", "null", None),
            ("stride", "1", 1),
            ("stride", "5", 5),
            ("smoothing_ms", "0", 0),
        ],
    )
    def test_every_option(self, name: str, text: str, value: object) -> None:
        """Each option is read with its own type, its bounds included, and changes no other."""
        options = msgspec.structs.asdict(protocol.parse_query([(name, text)]))
        assert {**msgspec.structs.asdict(Options()), name: value} == options

    def test_together(self) -> None:
        """Options can be given together, in any order."""
        query = [("stride", "2"), ("timestamps", "1"), ("freshness", "every"), ("region", "whole"), ("model", "m")]
        expected = Options(model="m", region="whole", freshness="every", timestamps=True, stride=2)
        assert expected == protocol.parse_query(query) == protocol.parse_query(query[::-1])

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("faces", "0"),
            ("faces", "9"),
            ("region", "face"),
            ("region", ""),
            ("freshness", "LATEST"),
            ("timestamps", "2"),
            ("timestamps", "yes"),
            ("max_age_ms", "0"),
            ("max_age_ms", "60001"),
            ("max_age_ms", "-5"),
            ("max_age_ms", ""),
            ("stride", "0"),
            ("stride", "6"),
            ("stride", "1.5"),
            ("stride", " 2"),
            ("stride", "two"),
            ("stride", "nan"),
            ("stride", "9" * 5000),
            ("smoothing_ms", "-1"),
            ("smoothing_ms", "5001"),
        ],
    )
    def test_out_of_bounds(self, name: str, text: str) -> None:
        """A value that is out of range or of another type is refused, and the message names the option."""
        with pytest.raises(BadOption, match=f"^{name}: "):
            protocol.parse_query([(name, text)])

    @pytest.mark.parametrize("name", ["Stride", "max_in_flight", "", "seq", "token"])
    def test_unknown(self, name: str) -> None:
        """An option that does not exist is refused, not ignored."""
        with pytest.raises(BadOption, match=f"`{name}`"):
            protocol.parse_query([(name, "1")])

    def test_twice(self) -> None:
        """An option given twice is refused, with the same value too."""
        with pytest.raises(BadOption, match=r"more than once: stride$"):
            protocol.parse_query([("stride", "2"), ("model", "m"), ("stride", "2")])

    def test_many_names(self) -> None:
        """However many there are, each is compared with a few others at most: a URL has room for ten thousand."""

        class Compared(str):
            count = 0
            __slots__ = ()
            __hash__ = str.__hash__

            def __eq__(self, other: object) -> bool:
                Compared.count += 1
                return str.__eq__(self, other)

        with pytest.raises(BadOption):
            protocol.parse_query([(Compared(f"name{number}"), "1") for number in range(2000)])
        assert Compared.count < 20_000

    def test_every_with_max_age(self) -> None:
        """A session that drops nothing cannot have frames that expire."""
        with pytest.raises(BadOption, match="max_age_ms"):
            protocol.parse_query([("freshness", "every"), ("max_age_ms", "100")])

    @pytest.mark.parametrize(("name", "text"), [("faces", "0"), ("faces", "9"), ("smoothing_ms", "5001")])
    def test_out_of_range(self, name: str, text: str) -> None:
        """More faces than eight, or smoothing over five seconds, is refused by name."""
        with pytest.raises(BadOption, match=f"^{name}: expected"):
            protocol.parse_query([(name, text)])


class TestParsePredictQuery:
    def test_options(self) -> None:
        """A prediction has a model and a region."""
        assert PredictOptions(model="", region="detect") == protocol.parse_predict_query([])
        query = [("region", "whole"), ("model", "m@2")]
        assert PredictOptions(model="m@2", region="whole") == protocol.parse_predict_query(query)

    @pytest.mark.parametrize(
        "query", [[("region", "all")], [("stride", "2")], [("model", "a"), ("model", "b")], [("freshness", "every")]]
    )
    def test_bad(self, query: list[tuple[str, str]]) -> None:
        """An option of a session, an unknown value and an option given twice are refused."""
        with pytest.raises(BadOption):
            protocol.parse_predict_query(query)


class TestParseText:
    def test_update(self) -> None:
        """An update carries its options as they were sent."""
        parsed = protocol.parse_text('{"type": "session.update", "options": {"stride": 2, "anything": null}}')
        assert SessionUpdate(options={"stride": 2, "anything": None}) == parsed

    def test_close(self) -> None:
        """A close carries nothing."""
        assert SessionClose() == protocol.parse_text('{"type":"session.close"}')

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "hello",
            "null",
            "1",
            '"session.close"',
            "[]",
            "{}",
            "{",
            '{"type":"session.close"',
            '{"type":"session.close"}x',
            '{"type":"session.close","reason":"done"}',
            '{"type":"session.open"}',
            '{"type":"Session.Close"}',
            '{"type":null}',
            '{"type":5}',
            '{"options":{}}',
            '{"type":"session.update"}',
            '{"type":"session.update","options":null}',
            '{"type":"session.update","options":[]}',
            '{"type":"session.update","options":{"stride":NaN}}',
            '{"type":"session.update","options":{"stride":1e999}}',
            '{"type":"session.update","options":{"stride":' + "9" * 10_000 + "}}",
            '{"type":"session.update","options":{"\\ud800":1}}',
            '{"type":"session.update","options":{"a":' + "[" * 100_000 + "]" * 100_000 + "}}",
            "[" * 100_000,
            "\ud800",
            "\x00",
            "\ufeff" + '{"type":"session.close"}',
        ],
    )
    def test_rubbish(self, text: str) -> None:
        """A text that is not JSON of the protocol is a bad message, however deep or long it is."""
        with pytest.raises(BadMessage) as refused:
            protocol.parse_text(text)
        assert len(str(refused.value)) < 300

    @pytest.mark.parametrize("text", ['{"type":"%s"}', '{"type":"session.update","options":{},"%s":1}'])
    def test_not_repeated(self, text: str) -> None:
        """A megabyte of nonsense is not sent back."""
        with pytest.raises(BadMessage) as refused:
            protocol.parse_text(text % ("x" * 10**6))
        assert len(protocol.encode(protocol.error_message(refused.value, closing=False))) < 2000


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.one_of(
        st.text(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
            max_leaves=10,
        ).map(json.dumps),
        st.builds(
            lambda kind, options: json.dumps({"type": kind, "options": options}),
            st.sampled_from(["session.update", "session.close", "x"]),
            st.dictionaries(st.sampled_from([*Options.__struct_fields__, "x"]), st.integers() | st.text(max_size=5)),
        ),
    )
)
@example('{"type":"session.update","options":{"model":"\\u0000"}}')
def test_text_is_a_message_or_bad(text: str) -> None:
    """Whatever a client says is a message of the protocol or a bad one, and an update good options or bad ones."""
    refusal: type[TimeConvError] | None = None
    try:
        message = protocol.parse_text(text)
        if isinstance(message, SessionUpdate):
            protocol.updated(Options(), message.options)
    except (BadMessage, BadOption) as error:
        refusal = type(error)
        protocol.encode(protocol.error_message(error, closing=False))
    assert refusal in (None, BadMessage, BadOption)


class TestUpdated:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("model", "other"),
            ("faces", 1),
            ("region", "whole"),
            ("freshness", "every"),
            ("timestamps", True),
            ("max_age_ms", 250),
            ("max_age_ms", None),
            ("stride", 3),
            ("smoothing_ms", 0),
        ],
    )
    def test_one_option(self, name: str, value: object) -> None:
        """An update changes the option it names and keeps the others."""
        before = Options(model="m", stride=2)
        after = msgspec.structs.asdict(protocol.updated(before, {name: value}))
        assert {**msgspec.structs.asdict(before), name: value} == after

    def test_nothing(self) -> None:
        """An empty update changes nothing."""
        assert Options(stride=4) == protocol.updated(Options(stride=4), {})

    @pytest.mark.parametrize(
        "changes",
        [
            {"stride": "2"},
            {"stride": 2.5},
            {"stride": True},
            {"stride": None},
            {"stride": 6},
            {"stride": 2**70},
            {"timestamps": 1},
            {"model": 5},
            {"model": None},
            {"region": "face"},
            {"faces": 9},
            {"smoothing_ms": -1},
            {"unknown": 1},
            {"stride": 2, "unknown": 1},
        ],
    )
    def test_bad(self, changes: dict[str, Any]) -> None:
        """A value of another JSON type, out of range or of an unknown name is refused; the old options stay whole."""
        before = Options(model="m")
        with pytest.raises(BadOption):
            protocol.updated(before, changes)
        assert Options(model="m") == before

    def test_combination_with_what_is_in_force(self) -> None:
        """An option that is impossible beside one already in force is refused; both changed together are taken."""
        before = Options(max_age_ms=100)
        with pytest.raises(BadOption, match="max_age_ms"):
            protocol.updated(before, {"freshness": "every"})
        changes = {"freshness": "every", "max_age_ms": None}
        assert Options(freshness="every") == protocol.updated(before, changes)


class TestSplitTimestamp:
    def test_big_endian(self) -> None:
        """The first eight bytes are microseconds, unsigned, most significant first; the rest is the picture."""
        assert protocol.split_timestamp(b"\x01\x02\x03\x04\x05\x06\x07\x08jpeg") == (0x0102030405060708, b"jpeg")
        assert protocol.split_timestamp(b"\xff" * 8) == (2**64 - 1, b"")

    @pytest.mark.parametrize("length", range(8))
    def test_too_short(self, length: int) -> None:
        """A message of fewer bytes than a time stamp is a bad image of its own reason."""
        with pytest.raises(BadImage) as refused:
            protocol.split_timestamp(bytes(length))
        assert refused.value.reason == "timestamp_missing"


class TestEncode:
    def test_prediction(self) -> None:
        """A prediction carries the fields of the protocol, and no others unless they have a value."""
        expected = {
            "type": "prediction",
            "seq": 7,
            "age_ms": 12.5,
            "faces": [
                {
                    "id": 0,
                    "box": [10.5, 20.0, 60.0, 62.25],
                    "crop_box": [4.0, 14.0, 72.0, 72.0],
                    "score": 0.97,
                    "state": "ready",
                    "emotion": "happy",
                    "probabilities": {"happy": 0.9, "sad": 0.1},
                    "smoothed": {"happy": 0.9, "sad": 0.1},
                    "raw_emotion": "happy",
                    "uncertain": False,
                    "quality": {"size": 72.0, "brightness": 0.5, "sharpness": 0.25},
                }
            ],
            "timing_ms": {
                "wait": 0.1,
                "decode": 0.5,
                "detect": 1.2,
                "crop": 0.1,
                "queue": 0.0,
                "infer": 0.9,
                "total": 2.9,
            },
            "batch_size": 3,
        }
        assert expected == as_json(PREDICTION)
        more = msgspec.structs.replace(PREDICTION, captured_us=2**63, repeated=True)
        assert {**expected, "captured_us": 2**63, "repeated": True} == as_json(more)

    def test_frame(self) -> None:
        """An outcome without a prediction says which frame, what, and its details."""
        expected = {
            "type": "frame",
            "seq": 3,
            "outcome": "window_filling",
            "age_ms": 1.5,
            "detail": {"frames_needed": 2},
        }
        assert expected == as_json(OUTCOME)
        assert as_json(msgspec.structs.replace(OUTCOME, captured_us=5))["captured_us"] == 5

    def test_frames(self) -> None:
        """A run of frames is told by its two ends, called from and to."""
        message = FramesOutcome(first=3, last=9, outcome=Outcome.SUPERSEDED)
        assert as_json(message) == {"type": "frames", "from": 3, "to": 9, "outcome": "superseded"}

    def test_started(self) -> None:
        """The first message carries all that a client has to know, with neutral values for what is not there yet."""
        assert as_json(STARTED) == {
            "type": "session.started",
            "session": "abc",
            "model": "timeconv-mini-xception",
            "version": "1",
            "labels": ["happy", "sad"],
            "window": 5,
            "crop": {"size": 48, "detector": "blazeface", "scale": 1.2, "dx": 0.0, "dy": 0.0},
            "limits": {"max_frame_bytes": 2_000_000, "max_frame_pixels": 4_200_000, "gap_reset_ms": 1000},
            "options": {
                "model": "",
                "faces": 1,
                "region": "detect",
                "freshness": "latest",
                "timestamps": False,
                "max_age_ms": None,
                "stride": 1,
                "smoothing_ms": 0,
            },
            "max_in_flight": 2,
            "next_seq": 0,
            "resumed": False,
            "resume_token": None,
        }

    def test_updated(self) -> None:
        """The answer to an update carries the options in force, from which frame, and their credit."""
        encoded = as_json(SessionUpdated(options=Options(stride=2), from_seq=12, max_in_flight=2))
        assert set(encoded) == {"type", "options", "from_seq", "max_in_flight", "by"}
        assert (encoded["type"], encoded["from_seq"], encoded["options"]["stride"]) == ("session.updated", 12, 2)

    def test_goaway(self) -> None:
        """A goaway says how much time is left."""
        expected = {"type": "goaway", "time_left_ms": 500, "resume_token": None}
        assert expected == as_json(GoAway(time_left_ms=500))

    def test_closed(self) -> None:
        """The last message carries the totals, outcomes by their wire names."""
        totals = Totals(received=3, outcomes={Outcome.PREDICTION: 1, Outcome.NO_FACE: 2})
        assert as_json(SessionClosed(totals=totals)) == {
            "type": "session.closed",
            "totals": {"received": 3, "outcomes": {"prediction": 1, "no_face": 2}},
        }

    def test_error(self) -> None:
        """An error that leaves the session alive has no close code; one that ends it names the code that follows."""
        assert as_json(protocol.error_message(BadOption("stride: bad"), closing=False)) == {
            "type": "error",
            "code": "bad_option",
            "message": "stride: bad",
            "retryable": False,
            "retry_after_ms": None,
            "close_code": None,
        }
        assert as_json(protocol.error_message(SlowReader("too slow"), closing=True))["close_code"] == 1008
        full = as_json(protocol.error_message(AtCapacity("full"), closing=True))
        assert (full["retryable"], full["retry_after_ms"], full["close_code"]) == (True, 5000, 1013)

    @pytest.mark.parametrize("kind", get_args(ServerMessage))
    def test_every_message_has_a_tag_of_its_own(self, kind: type[msgspec.Struct]) -> None:
        """Each message a server sends is tagged by its type, no two alike, and cannot be changed once made."""
        tags = [other.__struct_config__.tag for other in get_args(ServerMessage)]
        assert tags.count(kind.__struct_config__.tag) == 1
        assert kind.__struct_config__.tag_field == "type"
        assert kind.__struct_config__.frozen

    @pytest.mark.parametrize(
        "message", [PREDICTION, OUTCOME, STARTED, ErrorMessage(code="x", message="é ☺", retryable=True)]
    )
    def test_read_back(self, message: ServerMessage) -> None:
        """A message decoded by its own types is the same again."""
        assert message == msgspec.json.decode(protocol.encode(message), type=ServerMessage)


def test_credit() -> None:
    """A live session may have two frames in flight, one for files eight."""
    assert dict(protocol.MAX_IN_FLIGHT) == {"latest": 2, "every": 8}


def test_outcomes() -> None:
    """The outcomes are those of the protocol."""
    assert {outcome.value for outcome in Outcome} == {
        "prediction",
        "window_filling",
        "no_face",
        "skipped",
        "superseded",
        "expired",
        "rate_limited",
        "bad_image",
        "overloaded",
        "failed",
        "abandoned",
    }
