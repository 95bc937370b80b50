"""The AsyncAPI document is one, says all there is, and only what is true."""

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from service import errors, protocol
from service.api import asyncapi, samples, schemas
from service.errors import BadOption
from tests.documents import Json, damaged, decoded, problems_of
from tests.documents import asyncapi as made

OFFICIAL = Path(__file__).parents[2] / "build/javascript/node_modules/@asyncapi/specs/schemas/3.0.0.json"
KINDS = (*get_args(protocol.ClientMessage), *get_args(protocol.ServerMessage))
needs_official = pytest.mark.skipif(not OFFICIAL.exists(), reason="no schema of AsyncAPI: make javascript")
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__struct_config__.tag)

# Members that may be left out: of those a damaged message is still one.
MAY_BE_ABSENT = {"captured_us", "repeated", "labels", "crop"}


@pytest.fixture(scope="module")
def official() -> Draft7Validator:
    """The schema of AsyncAPI 3.0.0 documents, as its makers publish it."""
    return Draft7Validator(json.loads(OFFICIAL.read_bytes()))


@needs_official
@pytest.mark.parametrize("guarded", [True, False])
def test_it_is_an_asyncapi_document(official: Draft7Validator, *, guarded: bool) -> None:
    """It validates against the official schema, with keys and without."""
    assert [error.message for error in official.iter_errors(asyncapi.document(guarded=guarded))] == []


@needs_official
@pytest.mark.parametrize(
    "damage",
    [
        {"asyncapi": "2.6.0"},
        {"info": {}},
        {"channels": {"stream": {"address": 1}}},
        {"operations": {"start": {"action": "publish", "channel": {"$ref": "#/channels/stream"}}}},
        {"components": {"schemas": {"Box": {"minItems": "four"}}}},
    ],
)
def test_a_damaged_document_is_none(official: Draft7Validator, damage: Json) -> None:
    """The official schema would notice."""
    assert list(official.iter_errors({**made(), **damage}))


def test_every_reference_leads_somewhere() -> None:
    """Nothing is referred to that is not there."""

    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if "$ref" in part else []
            return own + [one for value in part.values() for one in references(value)]
        return [one for value in part for one in references(value)] if isinstance(part, list) else []

    found = references(made())
    assert len(found) > 40
    for reference in found:
        place: Any = made()
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_every_schema_is_one() -> None:
    """Each is a schema in draft 07 and in draft 2020-12, and says the same in both."""
    for schema in made()["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)
        Draft202012Validator.check_schema(schema)
    assert '"prefixItems"' not in json.dumps(made())


def test_every_message_is_there() -> None:
    """Of each type one message, in the channel too, and the two of binary frames; each is said or heard by someone."""
    tags = {str(kind.__struct_config__.tag) for kind in KINDS}
    assert set(made()["components"]["messages"]) == tags | {"picture", "picture.timed"}
    assert set(made()["channels"]["stream"]["messages"]) == set(made()["components"]["messages"])
    used: dict[str, set[str]] = {"send": set(), "receive": set()}
    for operation in made()["operations"].values():
        used[operation["action"]] |= {message["$ref"].rpartition("/")[2] for message in operation["messages"]}
        replies = operation.get("reply", {"messages": []})["messages"]
        used["send"] |= {message["$ref"].rpartition("/")[2] for message in replies}
    said = {str(kind.__struct_config__.tag) for kind in get_args(protocol.ServerMessage)}
    assert used == {"send": said, "receive": tags - said | {"picture", "picture.timed"}}


@every_kind
def test_examples(kind: type[msgspec.Struct]) -> None:
    """Each message is shown, as its own type encodes it, fits its schema, and would not if it were damaged."""
    shown = made()["components"]["messages"][str(kind.__struct_config__.tag)]["examples"]
    assert shown
    for example, message in zip(shown, samples.EVERY[kind].values(), strict=True):
        assert isinstance(message, kind)
        assert example["payload"] == decoded(msgspec.json.encode(message))
        assert problems_of(example["payload"]) == []
        for how, wrong in damaged(example["payload"]):
            name = str(example["payload"]["type"])
            assert problems_of(wrong, name=name) or how.removeprefix("without ") in MAY_BE_ABSENT, how


def test_faces_are_ready_or_filling() -> None:
    """A face has the members of its state, all of them, and none of the other's."""
    _, (_, message) = samples.EVERY[protocol.Prediction].items()
    told = decoded(msgspec.json.encode(message))
    ready, filling = told["faces"]
    assert problems_of(told) == []
    for wrong in (
        {**ready, "state": "filling"},
        {**filling, "state": "ready"},
        {**ready, "frames_needed": 1},
        {**filling, "uncertain": True},
        {name: value for name, value in ready.items() if name != "smoothed"},
        {**ready, "box": ready["box"][:3]},
        {**ready, "probabilities": {"happy": 1.5}},
    ):
        assert problems_of({**told, "faces": [wrong]})


def test_the_query_is_the_options() -> None:
    """Each option with its bounds and default, none of them needed, and no other taken."""
    query = made()["channels"]["stream"]["bindings"]["ws"]["query"]
    fields = msgspec.structs.fields(protocol.Options)
    assert {name: schema["default"] for name, schema in query["properties"].items()} == {
        field.name: field.default for field in fields
    }
    assert (query["required"], query["additionalProperties"]) == ([], False)
    assert all(schema["description"] for schema in query["properties"].values())


@pytest.mark.parametrize("name", ["faces", "stride", "smoothing_ms", "max_age_ms"])
def test_bounds_are_those_that_are_checked(name: str) -> None:
    """The least and the most of an option are taken, and what is beyond is refused."""
    schema = made()["channels"]["stream"]["bindings"]["ws"]["query"]["properties"][name]
    bounds = next((one for one in schema.get("anyOf", []) if "minimum" in one), schema)
    for value in (bounds["minimum"], bounds["maximum"]):
        assert getattr(protocol.parse_query([(name, str(value))]), name) == value
    for value in (bounds["minimum"] - 1, bounds["maximum"] + 1):
        with pytest.raises(BadOption):
            protocol.parse_query([(name, str(value))])


def test_what_an_update_may_change() -> None:
    """Any option, within its bounds, and none has to be named: as the service reads it."""
    options: dict[str, Any] = {"faces": 8, "max_age_ms": None, "region": "whole", "stride": 5}
    for changes in ({}, options, *({name: value} for name, value in options.items())):
        assert problems_of({"type": "session.update", "options": changes}) == []
        protocol.updated(protocol.Options(), changes)
    for wrong in ({"faces": 9}, {"stride": "2"}, {"speed": 1}, {"region": "face"}):
        assert problems_of({"type": "session.update", "options": wrong})
        with pytest.raises(BadOption):
            protocol.updated(protocol.Options(), wrong)


def test_codes() -> None:
    """Every code of the tree of errors, with what its classes say."""
    codes = made()["x-error-codes"]
    assert list(codes) == errors.codes()
    assert codes["bad_image"]["statuses"] == [413, 422]
    assert codes["at_capacity"] == {
        "meaning": "As many sessions are connected as the settings allow.",
        "close_code": 1013,
        "statuses": [503],
        "retryable": True,
        "retry_after_ms": 5000,
    }
    assert all(entry["meaning"].endswith(".") for entry in codes.values())


def test_outcomes_and_closes() -> None:
    """Every outcome and every close code that an error has is there, and what each means."""
    assert set(made()["x-outcomes"]) == {outcome.value for outcome in protocol.Outcome}
    assert set(made()["components"]["schemas"]["Outcome"]["enum"]) == set(made()["x-outcomes"])
    assert {str(kind.close_code) for kind in errors.kinds()} <= set(made()["x-close-codes"])
    assert made()["x-max-in-flight"] == {"latest": 2, "every": 8}


def test_refusals() -> None:
    """What an upgrade is refused with are codes, with statuses of theirs."""
    for code, status in made()["x-refusals"].items():
        assert status in made()["x-error-codes"][code]["statuses"]


def test_keys_are_asked_for_only_where_there_are_some() -> None:
    """A service without keys asks for none."""
    assert "security" not in json.dumps(asyncapi.document(guarded=False))
    for server in made()["servers"].values():
        assert [scheme["$ref"].rpartition("/")[2] for scheme in server["security"]] == ["bearer", "subprotocol"]


def test_unlike_members_are_refused() -> None:
    """A list of unlike members would need words that the two drafts do not share; there is none."""

    class Pair(msgspec.Struct):
        pair: tuple[int, str]

    with pytest.raises(AssertionError, match="draft 07"):
        schemas.components([Pair])
