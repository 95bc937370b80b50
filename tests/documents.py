"""The documents of the interface, and what is said held against them."""

import asyncio
import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.protocols import Validator

from service.api.asyncapi import document as asyncapi_document
from service.app import open_app
from service.settings import Settings

Json = dict[str, Any]


@cache
def asyncapi() -> Json:
    """The document of a service with keys; not to be changed."""
    return asyncapi_document(guarded=True)


@cache
def openapi() -> Json:
    """The document of a service with keys; not to be changed."""

    async def described() -> Json:
        async with open_app(Settings(port=0, keys=f"anyone sha256:{'0' * 64}")) as app:
            return app.openapi()

    return asyncio.run(described())


def problems_of(message: Json, *, name: str | None = None) -> list[str]:
    """What is wrong with a message of the stream by the AsyncAPI document; also members it does not know.

    ``name`` of the message; without it that is the message's type.
    """
    return _problems(message, _stream_schema(str(message.get("type")) if name is None else name))


@cache
def _stream_schema(name: str) -> Validator:
    document = asyncapi()
    message = document["components"]["messages"].get(name)
    return Draft7Validator(_closed({**(message["payload"] if message else {"not": {}}), **_schemas(document)}))


def problems_of_refusal(problem: Json) -> list[str]:
    """The same for what an upgrade is refused with."""
    if found := _problems(problem, _refusal_schema()):
        return found
    known = asyncapi()["x-refusals"].get(problem["code"]) == problem["status"]
    return [] if known else [f"no upgrade is refused with {problem['code']}"]


@cache
def _refusal_schema() -> Validator:
    return Draft7Validator(_closed({"$ref": "#/components/schemas/Problem", **_schemas(asyncapi())}))


def problems_of_answer(answer: Any, path: str, method: str, status: int, content_type: str) -> list[str]:
    """The same for an answer over HTTP by the OpenAPI document; an answer that it does not have is wrong too."""
    schema = _answer_schema(path, method, status, content_type)
    return [f"{method} {path} has no {status} of {content_type}"] if schema is None else _problems(answer, schema)


@cache
def _answer_schema(path: str, method: str, status: int, content_type: str) -> Validator | None:
    answer = openapi()["paths"][path][method]["responses"].get(str(status), {})
    content = answer.get("content", {}).get(content_type)
    return None if content is None else Draft202012Validator(_closed({**content["schema"], **_schemas(openapi())}))


def _schemas(document: Json) -> Json:
    return {"components": {"schemas": document["components"]["schemas"]}}


def _problems(message: Any, validator: Validator) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(message)]


def _closed(schema: Json) -> Json:
    """A schema by which a member that it does not name is wrong; readers pass such over, but there is to be none."""
    closed = deepcopy(schema)
    for place in _objects(closed):
        place.setdefault("additionalProperties", False)
    return closed


def _objects(schema: Any) -> Iterator[Json]:
    """Every schema with named properties, but for alternatives, which name a few of those beside them."""
    if isinstance(schema, dict):
        if "properties" in schema and "type" in schema:
            yield schema
        schema = schema.values()
    elif not isinstance(schema, list):
        return
    for within in schema:
        yield from _objects(within)


def damaged(message: Json) -> Iterator[tuple[str, Json]]:
    """Copies of a message with one thing wrong each, and where: a member gone, of another type, or too many."""
    for name in message:
        yield f"without {name}", {other: value for other, value in message.items() if other != name}
        yield f"{name} of another type", {**message, name: {"no": "such thing"}}
    yield "one member more", {**message, "no_such_member": 1}


def decoded(text: str | bytes) -> Json:
    """A message, as JSON."""
    message = json.loads(text)
    assert isinstance(message, dict)
    return message
