"""The types of both clients are those of the AsyncAPI document: names, types, what may be left out, words."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import pytest
from pydantic import BaseModel, TypeAdapter

from tests.documents import Json, asyncapi
from timeconv_client import messages
from timeconv_client.opening import SessionOptions

ROOT = Path(__file__).parents[2]
TSC = ROOT / "build" / "javascript" / "node_modules" / ".bin" / "tsc"
TYPES = ROOT / "service" / "web" / "timeconv.d.ts"

SCHEMAS: Json = asyncapi()["components"]["schemas"]
QUERY: Json = asyncapi()["channels"]["stream"]["bindings"]["ws"]["query"]
SAID = [SCHEMAS[kind.__name__]["title"] for kind in get_args(messages.KnownMessage)]
WIRE = sorted(set(SCHEMAS) - {"Frame", "SessionUpdate", "SessionClose", "OptionChanges", "Outcome", "Problem"})

Form = tuple[Any, ...]


class Member(NamedTuple):
    """A member of a message: its type, whether it is always there, and what stands for it where it is not."""

    form: Form
    required: bool
    default: str | None


# Python: both have JSON schemas; what they say is brought into one form.


def form(schema: Json, named: Mapping[str, Json]) -> Form:
    """What a schema admits, without bounds, titles and texts."""
    if "$ref" in schema:
        return form(named[schema["$ref"].rpartition("/")[2]], named)
    if "anyOf" in schema:
        return ("any of", frozenset(form(one, named) for one in schema["anyOf"]))
    words = [schema["const"]] if "const" in schema else schema.get("enum")
    if words is not None:
        return ("words", frozenset(words))
    if schema["type"] == "array":
        item = schema.get("items") or schema["prefixItems"][0]
        assert all(one == item for one in schema.get("prefixItems", []))
        return ("array", form(item, named), schema.get("minItems"), schema.get("maxItems"))
    return _object_form(schema, named) if schema["type"] == "object" else (schema["type"],)


def _object_form(schema: Json, named: Mapping[str, Json]) -> Form:
    if "title" in schema and "properties" in schema:
        return ("object", *sorted(members(schema, named).items()))
    values = schema.get("additionalProperties")
    return ("map", form(values, named) if isinstance(values, dict) else "anything")


def members(schema: Json, named: Mapping[str, Json]) -> dict[str, Member]:
    """The members of an object, but for its tag."""
    required = schema.get("required", [])
    return {
        name: Member(form(member, named), name in required, repr(member["default"]) if "default" in member else None)
        for name, member in schema["properties"].items()
        if name != "type"
    }


def client_members(model: type[BaseModel]) -> tuple[Json, dict[str, Json]]:
    schema = TypeAdapter(model).json_schema(by_alias=True)
    return schema, schema.pop("$defs", {})


def agree(document: Form, client: Form) -> bool:
    """Whether a client's type takes what the document has, and nothing of another kind.

    A newer service may have more words, so a client may take any text where the document has a choice of them; the
    words that a client does name are all of the document's.
    """
    if document[0] == "words":
        options = client[1] if client[0] == "any of" else {client}
        named = {option for option in options if option[0] == "words"}
        return named <= {document} and options <= {document, ("string",)}
    if document[0] != client[0] or len(document) != len(client):
        return False
    if document[0] == "array":
        return agree(document[1], client[1]) and document[2:] == client[2:]
    if document[0] == "object":
        pairs = zip(document[1:], client[1:], strict=True)
        return all(mine[0] == theirs[0] and member_agrees(mine[1], theirs[1]) for mine, theirs in pairs)
    return document == client


def member_agrees(document: Member, client: Member) -> bool:
    """What may be left out is None in a client; what is always there may have the document's default, or none."""
    if document.required:
        return client.default in {None, document.default} and agree(document.form, client.form)
    if client.default != "None" or client.form[0] != "any of" or ("null",) not in client.form[1]:
        return False
    rest = client.form[1] - {("null",)}
    return len(rest) == 1 and agree(document.form, next(iter(rest)))


def disagreements(schema: Json, model: type[BaseModel]) -> list[str]:
    """Members that are not alike in the document and in a model of the client."""
    mine, (their_schema, defined) = members(schema, SCHEMAS), client_members(model)
    theirs = members(their_schema, defined)
    assert (schema["properties"].get("type", {}).get("enum", [None])[0]) == their_schema["properties"].get(
        "type", {}
    ).get("const")
    return [
        name
        for name in sorted(mine | theirs)
        if name not in mine or name not in theirs or not member_agrees(mine[name], theirs[name])
    ]


@pytest.mark.parametrize("name", WIRE)
def test_python(name: str) -> None:
    """Every message and part of one has the same members in the client, of the same types."""
    assert disagreements(SCHEMAS[name], getattr(messages, name)) == []


def test_python_knows_every_message() -> None:
    """The client's union is that of the document, and its outcomes are the document's."""
    operations = asyncapi()["operations"].values()
    said = {
        one["$ref"].rpartition("/")[2]
        for operation in operations
        for one in (operation["messages"] if operation["action"] == "send" else operation.get("reply", {})["messages"])
        if operation["action"] == "send" or "reply" in operation
    }
    payloads = {asyncapi()["components"]["messages"][name]["payload"]["$ref"].rpartition("/")[2] for name in said}
    assert {kind.__name__ for kind in get_args(messages.KnownMessage)} == payloads
    assert {outcome.value for outcome in messages.Outcome} == set(SCHEMAS["Outcome"]["enum"])


def test_python_options() -> None:
    """What a user of the client may ask for are the options of the document, with their words."""
    hints = get_type_hints(SessionOptions)
    assert {name: form(TypeAdapter(hint).json_schema(), {}) for name, hint in hints.items()} == {
        name: form(one, SCHEMAS) for name, one in QUERY["properties"].items()
    }


@pytest.mark.parametrize(
    ("name", "member", "damage"),
    [
        ("Quality", "size", {"type": "integer"}),
        ("SessionStarted", "resume_token", {"type": "string"}),
        ("SessionStarted", "next_seq", {"type": "integer"}),
        ("Prediction", "seq", None),
        ("Prediction", "captured_us", {"type": "string"}),
        ("FaceResult", "state", {"type": "integer"}),
        ("FaceResult", "box", {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}),
        ("FrameOutcome", "outcome", {"enum": ["prediction", "no_face"]}),
        ("Totals", "more", {"type": "integer"}),
    ],
)
def test_python_notices(name: str, member: str, damage: Json | None) -> None:
    """A member of another type, with another default, gone or new would be told."""
    properties = {**SCHEMAS[name]["properties"], member: damage}
    schema = {**SCHEMAS[name], "properties": {one: value for one, value in properties.items() if value is not None}}
    assert disagreements(schema, getattr(messages, name)) == [member]


# TypeScript: types are written from the document, and the compiler says whether they are identical.

LEFT_OUT = {
    ("FrameOutcome.detail", "index"),  # Of REST alone.
    ("OptionChanges", "timestamps"),  # The module chose it when it connected.
}
COMPARED = {
    **{name: name for name in [*WIRE, "Outcome", "OptionChanges", "SessionUpdate", "SessionClose"]},
    "Options": "Required<Theirs.Options>",
    "Query": "Options",
}


def typescript(schema: Json, place: str) -> str:
    """The type of what a schema admits."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "oneOf" in schema:
        base = {word: value for word, value in schema.items() if word != "oneOf"}
        return " | ".join(typescript(_alternative(base, one), place) for one in schema["oneOf"])
    if "anyOf" in schema:
        return " | ".join(typescript(one, place) for one in schema["anyOf"])
    words = [schema["const"]] if "const" in schema else schema.get("enum")
    if words is not None:
        return " | ".join(f'"{word}"' for word in words)
    if schema["type"] == "array":
        item, count = typescript(schema["items"], place), schema.get("maxItems")
        return f"{item}[]" if count is None else f"[{', '.join([item] * count)}]"
    members_of = " ".join(_typescript_members(schema, place))
    return {"object": f"{{ {members_of} }}", "integer": "number"}.get(schema["type"], schema["type"])


def _alternative(base: Json, one: Json) -> Json:
    properties = {
        name: one["properties"].get(name, member)
        for name, member in base["properties"].items()
        if one["properties"].get(name) is not False
    }
    return {**base, "properties": properties, "required": base["required"] + one["required"]}


def _typescript_members(schema: Json, place: str) -> Iterator[str]:
    for name, member in schema.get("properties", {}).items():
        if (place, name) not in LEFT_OUT:
            optional = "" if name in schema.get("required", []) else "?"
            yield f"{name}{optional}: {typescript(member, f'{place}.{name}')};"
    values = schema.get("additionalProperties")
    if isinstance(values, dict) and "propertyNames" in schema:
        yield f"[key in {typescript(schema['propertyNames'], place)}]?: {typescript(values, place)};"
    elif isinstance(values, dict):
        yield f"[key: string]: {typescript(values, place)};"
    elif values is None and "title" not in schema:
        yield "[key: string]: unknown;"


def comparison(types: Path) -> str:
    """A program that is correct where the types in a file are those of the document."""
    written = [f"type {name} = {typescript(schema, name)};" for name, schema in (SCHEMAS | {"Query": QUERY}).items()]
    same = "(<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false"
    checks = [
        f"export const is{mine}: Same<{mine}, {theirs if '<' in theirs else f'Theirs.{theirs}'}> = true;"
        for mine, theirs in COMPARED.items()
    ]
    head = [f'import type * as Theirs from "{types.with_suffix("").with_suffix(".js")}";', f"type Same<A, B> = {same};"]
    return "\n".join([*head, *written, *checks])


@pytest.mark.skipif(not TSC.exists(), reason="no TypeScript: make javascript")
def test_typescript(tmp_path: Path) -> None:
    """The compiler finds every type identical to the document's; in a damaged copy it names those that are not."""
    damages = {
        "Quality": ("sharpness: number;", "sharpness: string;"),
        "FaceResult": ("frames_needed: number;\n}", "frames_needed?: number;\n}"),
        "GoAway": ("resume_token: string | null;\n}\n\nexport interface Totals", "}\n\nexport interface Totals"),
        "SessionUpdated": ('by: "client" | "service";', 'by: "client";'),
        "Limits": ("gap_reset_ms: number;", "gap_reset_ms: number;\n  another?: number;"),
    }
    text = TYPES.read_text()
    for old, new in damages.values():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (damaged := tmp_path / "damaged.d.ts").write_text(text)
    for name, types in (("good", TYPES), ("bad", damaged)):
        (tmp_path / f"{name}.ts").write_text(comparison(types))
    how = ("--noEmit", "--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler")
    done = subprocess.run(  # noqa: S603 - the compiler of `make javascript`
        [TSC, *how, "--skipLibCheck", "good.ts", "bad.ts"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    found = re.findall(r"^(\w+)\.ts.*error", done.stdout, re.MULTILINE)
    lines = (tmp_path / "bad.ts").read_text().splitlines()
    wrong = {lines[int(line) - 1] for line in re.findall(r"^bad\.ts\((\d+),", done.stdout, re.MULTILINE)}
    assert set(found) == {"bad"}, done.stdout
    # What holds a part that differs differs as well.
    names = {line.removeprefix("export const is").partition(":")[0] for line in wrong}
    assert names == {*damages, "Prediction", "SessionStarted"}, done.stdout
