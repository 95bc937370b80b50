"""JSON schemas of what goes over the wire, read off the types that encode it; both documents refer to them.

They keep to what draft 07 (AsyncAPI) and draft 2020-12 (OpenAPI 3.1) mean alike.
"""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from service import protocol

Schema = dict[str, Any]

PLACE = "#/components/schemas/"

_OF_READY = ("emotion", "probabilities", "smoothed", "raw_emotion", "uncertain")
_OF_FILLING = ("frames_needed",)


def reference(name: str) -> Schema:
    """A schema that is in the document's components."""
    return {"$ref": PLACE + name}


def as_json(message: Struct) -> dict[str, Any]:
    """A message as it is on the wire, read back."""
    return msgspec.json.decode(msgspec.json.encode(message), type=dict[str, Any])


def components(kinds: Iterable[type[Struct]]) -> dict[str, Schema]:
    """The schemas of messages and of all that they hold, by name.

    What the service says has every member but those that may be unset, and may have more in a later version.
    """
    kinds = list(kinds)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=PLACE + "{name}")
    for kind in _structs(kinds):
        if kind.__name__ in schemas:
            schemas[kind.__name__] |= {"required": list(_always_there(kind))}
    if "Options" in schemas:
        schemas["OptionChanges"] = _changes(schemas["Options"])
        del schemas["Options"]["additionalProperties"]
    if "SessionUpdate" in schemas:
        schemas["SessionUpdate"]["properties"]["options"] = reference("OptionChanges")
    if "Totals" in schemas:
        schemas["Totals"]["properties"]["outcomes"]["propertyNames"] = reference("Outcome")
    if "FaceResult" in schemas:
        schemas["FaceResult"]["oneOf"] = [
            _in_state("ready", _OF_READY, _OF_FILLING),
            _in_state("filling", _OF_FILLING, _OF_READY),
        ]
    return {name: _plain(schema) for name, schema in sorted(schemas.items())}


def _structs(kinds: Iterable[type[Struct]]) -> Iterator[type[Struct]]:
    yield from kinds
    yield from (kind for kind in vars(protocol).values() if isinstance(kind, type) and issubclass(kind, Struct))


def _always_there(kind: type[Struct]) -> Iterator[str]:
    if kind.__struct_config__.tag_field is not None:
        yield kind.__struct_config__.tag_field
    for field in msgspec.structs.fields(kind):
        if field.default is not UNSET:
            yield field.encode_name


def _changes(options: Schema) -> Schema:
    """Options of which each may be left out, and is then as before."""
    return {
        "title": "OptionChanges",
        "description": "Options to change; what is not named stays as it is.",
        "type": "object",
        "properties": {
            name: {word: value for word, value in schema.items() if word != "default"}
            for name, schema in options["properties"].items()
        },
        "additionalProperties": False,
    }


def _in_state(state: str, there: Iterable[str], absent: Iterable[str]) -> Schema:
    return {
        "title": f"A face that is {state}",
        "properties": {"state": {"const": state}, **dict.fromkeys(absent, False)},
        "required": ["state", *there],
    }


def _plain(schema: Schema) -> Schema:
    """Texts as Markdown, and lists of so many like things without what the two drafts write differently."""

    def within(value: object) -> object:
        if isinstance(value, list):
            return [within(one) for one in value]
        return _plain(value) if isinstance(value, dict) else value

    plain = {word: within(value) for word, value in schema.items()}
    if isinstance(text := plain.get("description"), str):
        plain["description"] = inspect.cleandoc(text).replace("``", "`")
    if (members := plain.pop("prefixItems", None)) is not None:
        assert isinstance(members, list)
        assert all(member == members[0] for member in members), "draft 07 has another word for unlike members"
        plain["items"] = members[0]
    return plain
