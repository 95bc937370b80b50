"""The conversations in docs/protocol.md are what the service says today, and all of it fits the documents."""

import itertools
import json
from typing import Any

import pytest

from service.settings import Settings
from tests import transcript
from tests.conftest import serving
from tests.documents import damaged, problems_of, problems_of_answer, problems_of_refusal
from tests.transcript import Line

PAGE = transcript.PAGE.read_text(encoding="utf-8")
WRITTEN = transcript.blocks(PAGE)
SCENES = (
    *("session", "several faces", "other outcomes", "update", "going on", "bad options"),
    *("rest", "refused", "token", "goaway"),
)


@pytest.fixture(scope="module")
def recorded() -> dict[str, list[Line]]:
    """The same conversations, now."""
    with serving(Settings(port=0, gap_reset_ms=30_000)) as server:
        return transcript.recorded(server)


@pytest.mark.parametrize("name", SCENES)
def test_a_conversation(recorded: dict[str, list[Line]], name: str) -> None:
    """The same is said in the same order, member by member; only times, ids and measures may differ."""
    assert transcript.skeleton(WRITTEN[name]) == transcript.skeleton(recorded[name])


def test_every_conversation_is_on_the_page(recorded: dict[str, list[Line]]) -> None:
    """None is missing, and the page has no other."""
    assert set(WRITTEN) == set(recorded) == set(SCENES)
    assert PAGE.count("```text\n→") == len(SCENES) + 1  # The other is of an operator's call.


def answers(lines: list[Line]) -> list[tuple[str, dict[str, Any]]]:
    """What was said in messages, with what stood before it: of a message over HTTP, the request and the status.

    Of the client's, only what the service took.
    """
    said: list[str] = []
    found = []
    for (arrow, what), (_, then) in itertools.pairwise([*lines, ("", "")]):
        if not isinstance(what, dict):
            said.append(f"{arrow} {what}")
        elif arrow == "←" or not (isinstance(then, dict) and then["type"] == "error"):
            found.append((" ".join(said[-2:]), what))
    return found


def wrong(before: str, message: dict[str, Any]) -> list[str]:
    """What is wrong with a message by the documents."""
    request, _, answer = before.partition("← ")
    status, _, rest = answer.partition(" ")
    if "json" not in answer:
        return problems_of(message)
    _, method, path = request.split()[:3]
    if method == "GET":
        return problems_of_refusal(message)
    return problems_of_answer(message, path.partition("?")[0], method.lower(), int(status), rest.split()[0])


@pytest.mark.parametrize("name", SCENES)
def test_it_fits_the_documents(recorded: dict[str, list[Line]], name: str) -> None:
    """Each message, on the page and of today, is one of AsyncAPI's or OpenAPI's, and a damaged one is not."""
    for lines in (WRITTEN[name], recorded[name]):
        for before, message in answers(lines):
            assert wrong(before, message) == []
            absent = {"captured_us", "repeated", "index", "reason"}
            for how, spoilt in damaged(message):
                if how != "without type":
                    assert wrong(before, spoilt) or how.removeprefix("without ") in absent, (how, message)


def test_a_page_that_lies_is_noticed() -> None:
    """Another word, another member, another order, a message too many: each is told from what was recorded."""
    lines = WRITTEN["update"]
    text = transcript.written(lines)
    assert transcript.read(text) == lines
    for old, new in (
        ('"bad_option"', '"bad_options"'),
        ('"retryable":false', '"retryable":0'),
        ('"faces":1,"region":"detect"', '"region":"detect","faces":1'),
        ('"by":"client"', '"by":"client","of":"client"'),
        ("← close 1000\n", ""),
        ("← (session.started)\n", ""),
    ):
        assert old in text
        assert transcript.skeleton(transcript.read(text.replace(old, new))) != transcript.skeleton(lines)


def test_no_secret_is_written() -> None:
    """Tokens are of the services that were recorded, but nobody has to know that."""
    for lines in WRITTEN.values():
        for _, message in answers(lines):
            assert message.get("resume_token") in {None, "RESUME_TOKEN"}
            assert message.get("token") in {None, "TOKEN"}
    assert "eyJ" not in json.dumps(list(WRITTEN.values()))


def test_writing_changes_nothing_but_the_conversations() -> None:
    """The page with its own conversations is the page."""
    assert transcript.rewritten(PAGE, WRITTEN) == PAGE
