"""The tables of docs/protocol.md are those of the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from service import errors, protocol
from service.api.asyncapi import CLOSE_CODES
from service.api.problems import Problem
from service.settings import Settings
from tests.documents import Json, asyncapi

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
OPTIONS: Json = asyncapi()["channels"]["stream"]["bindings"]["ws"]["query"]["properties"]
KINDS = list(errors.kinds())
WORD = re.compile(r"`([^`]+)`")


def table(*head: str) -> Iterator[list[str]]:
    """Rows of every table with these columns."""
    line = f"| {' | '.join(head)} |\n"
    assert line in PAGE, f"no table of {line}"
    for part in PAGE.split(line)[1:]:
        for row in part.splitlines()[1:]:
            if not row.startswith("|"):
                break
            yield [cell.strip() for cell in row.strip("|").split(" | ")]


def rows(*head: str) -> dict[str, list[str]]:
    """The other cells by the word in the first."""
    return {WORD.findall(first)[0]: rest for first, *rest in table(*head)}


def test_options() -> None:
    """Every option, with its words or bounds, and its default."""
    found = rows("option", "values", "default", "meaning")
    assert set(found) == set(OPTIONS)
    for name, (values, default, _) in found.items():
        schema = next((one for one in OPTIONS[name].get("anyOf", []) if one["type"] != "null"), OPTIONS[name])
        if "enum" in schema:
            assert sorted(WORD.findall(values)) == sorted(schema["enum"])
        elif "maximum" in schema:
            assert values == f"{schema['minimum']}..{schema['maximum']}"
        shown = {"none": None, "the service's": "", "`0`": False}.get(default, default.strip("`"))
        expected = OPTIONS[name]["default"]
        assert shown == (str(expected) if type(expected) is int else expected)


def test_messages() -> None:
    """Every type of message that the server sends, and those of the client."""
    assert list(rows("type", "meaning")) == [kind.__struct_config__.tag for kind in get_args(protocol.ServerMessage)]
    for kind in get_args(protocol.ClientMessage):
        assert f'"type":"{kind.__struct_config__.tag}"' in PAGE


@pytest.mark.parametrize(
    "kind", [*get_args(protocol.ServerMessage), protocol.FaceResult, Problem], ids=lambda kind: kind.__name__
)
def test_fields(kind: type[msgspec.Struct]) -> None:
    """Every member of every message is shown in a conversation, or named."""
    for field in msgspec.structs.fields(kind):
        assert re.search(rf'"{field.encode_name}":|`(?:\w+\.)*{field.encode_name}`', PAGE), field.encode_name


def test_outcomes() -> None:
    """Every outcome, and no other."""
    assert set(rows("outcome", "meaning")) == {outcome.value for outcome in protocol.Outcome}


def test_reasons_of_a_bad_image() -> None:
    """The words for what is wrong with a picture are those that the error's own docstring lists."""
    assert errors.BadImage.__doc__ is not None
    reasons = re.findall(r"``(\w+)``", errors.BadImage.__doc__.partition("is one of")[2])
    (meaning,) = rows("outcome", "meaning")["bad_image"]
    assert WORD.findall(meaning)[1:] == reasons


def test_close_codes() -> None:
    """A code that ends a session stands beside the close code it has, and the transport's own are named."""
    seen = set()
    for codes, closes, _ in table("code", "close", "meaning"):
        for code in WORD.findall(codes):
            seen.add(code)
            expected = {kind.close_code for kind in KINDS if kind.code == code}
            told = set(map(int, re.findall(r"\d{4}", closes)))
            assert told == expected or "session goes on" in closes, code
    assert seen <= set(errors.codes())
    named = set(map(int, re.findall(r"\b1\d{3}\b", PAGE.split("## Errors and closes")[1].split("\n## ")[0])))
    assert named | {1000} == set(CLOSE_CODES)


def test_statuses() -> None:
    """A code over HTTP stands beside a status that one of its errors has."""
    seen = set()
    for statuses, codes, _ in table("status", "code", "meaning"):
        told = set(map(int, statuses.split(", ")))
        for code in (code for code in WORD.findall(codes) if code in errors.codes()):
            seen.add(code)
            assert {kind.status for kind in KINDS if kind.code == code} & told, code
    assert {"unauthorized", "bad_image", "overloaded", "timeout", "bad_http", "too_many_connections"} <= seen


def test_every_code() -> None:
    """Each code is somewhere."""
    assert {code for code in errors.codes() if f"`{code}`" not in PAGE} == set()


def test_credit() -> None:
    """What may be in flight is what the service says at the start."""
    latest, every = protocol.MAX_IN_FLIGHT["latest"], protocol.MAX_IN_FLIGHT["every"]
    assert f"{latest} for `latest`, {every} for `every`" in PAGE


def test_settings() -> None:
    """Every setting that the page names is one."""
    named = set(re.findall(r"`TIMECONV_(\w+)`", PAGE))
    assert named
    assert named <= {name.upper() for name in Settings.model_fields}
