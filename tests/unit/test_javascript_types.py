"""timeconv.d.ts says what timeconv.js has, and what the protocol says."""

import re
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from service import protocol

ROOT = Path(__file__).parents[2]
WEB = Path(str(files("service"))) / "web"
MODULE = (WEB / "timeconv.js").read_text()
TYPES = (WEB / "timeconv.d.ts").read_text()
TSC = ROOT / "build" / "javascript" / "node_modules" / ".bin" / "tsc"

STRUCTS = (
    *(protocol.Options, protocol.CropInfo, protocol.Limits, protocol.SessionStarted, protocol.Quality),
    *(protocol.Timing, protocol.Prediction, protocol.FrameOutcome, protocol.FramesOutcome, protocol.SessionUpdated),
    *(protocol.ErrorMessage, protocol.GoAway, protocol.Totals, protocol.SessionClosed),
    *(protocol.SessionUpdate, protocol.SessionClose),
)
EXPORTED = r"^export (?:declare )?(?:class|function|const) (\w+)"


def blocks(text: str, kind: str) -> dict[str, str]:
    """Name and body of each class or interface."""
    found = re.findall(rf"^(?:export )?{kind} (\w+)[^{{\n]*\{{\n(.*?)^\}}", text, re.MULTILINE | re.DOTALL)
    return dict(found)


def fields(interface: str) -> set[str]:
    """Members of an interface, not those of objects in it."""
    return set(re.findall(r"^  (\w+)\??:", blocks(TYPES, "interface")[interface], re.MULTILINE))


def members(body: str) -> set[str]:
    """Public members of a class: what stands two spaces in, in code as in types."""
    code = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    return set(re.findall(r"^  (?:async |get )?(\w+|\[Symbol\.asyncIterator\])(?:<.*>)?[(:]", code, re.MULTILINE))


def assigned(body: str) -> set[str]:
    """Public fields that a constructor sets."""
    return set(re.findall(r"^    this\.(\w+) = ", body, re.MULTILINE)) - {"name"}


def test_every_exported_name_has_a_type() -> None:
    """What the module exports is in the types, and nothing else is."""
    exported = re.findall(EXPORTED, MODULE, re.MULTILINE)
    assert sorted(exported) == sorted(re.findall(EXPORTED, TYPES, re.MULTILINE))
    assert {"connect", "TimeConvError", "FaceSender"} <= set(exported)


@pytest.mark.parametrize("name", re.findall(r"^export class (\w+)", TYPES, re.MULTILINE))
def test_every_member_has_a_type(name: str) -> None:
    """A class has the members that its type names, and no other public ones."""
    body = blocks(MODULE, "class")[name]
    assert members(blocks(TYPES, "class")[name]) == members(body) | assigned(body)


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_every_field_of_a_message_has_a_type(struct: type[msgspec.Struct]) -> None:
    """An interface has the fields of the message, by their names on the wire."""
    wire = {field.encode_name for field in msgspec.structs.fields(struct)}
    tag = struct.__struct_config__.tag
    assert fields(struct.__name__) == (wire | {"type"} if tag else wire)
    if tag:
        assert f'type: "{tag}"' in blocks(TYPES, "interface")[struct.__name__]


def test_every_field_of_a_face_has_a_type() -> None:
    """A face is ready or filling; between them the two have every field."""
    typed = fields("FaceSeen") | fields("ReadyFace") | fields("FillingFace")
    wire = {field.encode_name for field in msgspec.structs.fields(protocol.FaceResult)}
    assert typed == wire


@pytest.mark.parametrize(
    ("name", "values"),
    [("Outcome", [outcome.value for outcome in protocol.Outcome])],
)
def test_every_outcome_is_named(name: str, values: list[Any]) -> None:
    """The outcomes are those of the protocol."""
    (union,) = re.findall(rf"^export type {name} =(.*?);", TYPES, re.MULTILINE | re.DOTALL)
    assert re.findall(r'"(\w+)"', union) == values


def test_every_value_of_an_option_is_named() -> None:
    """Options that are words have the protocol's."""
    options = blocks(TYPES, "interface")["Options"]
    for name, words in (("region", protocol.Region), ("freshness", protocol.Freshness)):
        assert f"{name}?: {' | '.join(json_words(words))};" in options


def json_words(words: Any) -> list[str]:
    return [f'"{word}"' for word in get_args(words)]


@pytest.mark.skipif(not TSC.exists(), reason="no TypeScript: make javascript")
def test_the_compiler_agrees() -> None:
    """TypeScript finds the module, the page and what a user writes in order, and refuses what is wrong."""
    done = subprocess.run(  # noqa: S603 - the compiler of `make javascript`
        [TSC, "--project", ROOT / "tests" / "web"], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0)
