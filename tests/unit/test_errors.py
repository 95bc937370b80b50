from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import errors
from service.errors import (
    BadImage,
    BadMessage,
    EngineError,
    FrameRefused,
    GoingAway,
    ImageTooLarge,
    RunnerFailed,
    TimeConvError,
    Unavailable,
)

PROTOCOL_PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"

CLOSE_CODES = {1001, 1008, 1011, 1013}
STATUSES = {400, 401, 403, 404, 408, 413, 422, 429, 431, 500, 503, 504}


def descendants(kind: type[TimeConvError]) -> Iterator[type[TimeConvError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from descendants(child)


EVERY = sorted(descendants(TimeConvError), key=lambda kind: kind.__name__)
every_error = pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)


@every_error
def test_one_tree(kind: type[TimeConvError]) -> None:
    """Every error stands in the one module, and in the tree at its top."""
    assert kind.__module__ == errors.__name__
    assert errors.__doc__ is not None
    assert kind.__name__ in errors.__doc__.split()


def test_every_exception_is_in_the_tree() -> None:
    """The module holds no error outside of the tree."""
    found = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert found == set(EVERY)


def test_codes_are_unique() -> None:
    """A code means one thing; only kinds that a client cannot tell apart, nor has to, share theirs."""
    shared = {"bad_image": {BadImage, ImageTooLarge, FrameRefused}, "failed": {EngineError, RunnerFailed}}
    counts = Counter(kind.code for kind in EVERY)
    assert {code: {kind for kind in EVERY if kind.code == code} for code, n in counts.items() if n > 1} == shared


@every_error
def test_code_is_a_word(kind: type[TimeConvError]) -> None:
    """A code is lower case with underscores, fit for a metric's label."""
    assert kind.code.replace("_", "").isalpha()
    assert kind.code == kind.code.lower()


@every_error
def test_close_code(kind: type[TimeConvError]) -> None:
    """A session that an error ends is closed with a code of the protocol that says whose fault it is."""
    assert kind.close_code in CLOSE_CODES
    expected = 1008 if issubclass(kind, errors.BadRequest) else 1013 if issubclass(kind, Unavailable) else 1011
    assert kind.close_code == (1001 if kind is GoingAway else expected)


@every_error
def test_status(kind: type[TimeConvError]) -> None:
    """An error over HTTP has a status that blames the right side."""
    assert kind.status in STATUSES
    # 429 is about the caller, who need not mend anything but wait.
    assert kind.status == 429 or (400 <= kind.status < 500) is issubclass(kind, errors.BadRequest)


@every_error
def test_retry(kind: type[TimeConvError]) -> None:
    """What is unavailable now is worth another try, and what came too fast a slower one; both say after how long."""
    assert kind.retryable is issubclass(kind, (Unavailable, errors.RateLimited))
    assert (kind.retry_after_ms is not None) is kind.retryable


@every_error
def test_docstring(kind: type[TimeConvError]) -> None:
    """Every error says what it means."""
    assert kind.__doc__


@pytest.mark.skipif(not PROTOCOL_PAGE.exists(), reason="docs/protocol.md is not written yet")
@every_error
def test_documented(kind: type[TimeConvError]) -> None:
    """Every code that a client may see is explained in docs/protocol.md."""
    assert f"`{kind.code}`" in PROTOCOL_PAGE.read_text(encoding="utf-8")


def test_message() -> None:
    """An error's text is what its caller gets to read, with the reason beside it."""
    error = ImageTooLarge("The picture is 9x9")
    assert (str(error), error.reason) == ("The picture is 9x9", "too_large")


@pytest.mark.parametrize(("error", "status"), [(BadImage("corrupt", "cut off"), 422), (ImageTooLarge("big"), 413)])
def test_frame_refused(error: BadImage, status: int) -> None:
    """A refused frame of a call says which it is, why, and answers with the status of its reason."""
    refused = FrameRefused(3, error)
    assert (refused.index, refused.reason, refused.status) == (3, error.reason, status)
    assert str(refused) == f"Frame 3: {error}"
    assert FrameRefused.status == 422


@pytest.mark.parametrize(
    ("said", "told"), [("short", "short"), ("a\ud800", "a?"), ("x" * 1000, "x" * 1000), ("x" * 10**6, "x" * 1000 + "…")]
)
def test_told(said: str, told: str) -> None:
    """What quotes a caller is told to him as text, and cut where he sent more than is worth repeating."""
    assert BadMessage(said).told == told
