"""One browser for all; and whatever any of these tests makes the service say is held against the AsyncAPI document."""

from collections import Counter
from collections.abc import Hashable, Iterator

import pytest

from service import protocol
from service.protocol import ServerMessage
from tests.chromium import Browser, chromium
from tests.documents import decoded, problems_of

_LOOKED_AT = 3
"""Messages of a shape; thousands are alike."""


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium whose camera shows a smiling face that moves."""
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


class Overheard:
    """An encoder that remembers a few messages of each shape."""

    def __init__(self) -> None:
        self.encode = protocol.encode
        self.new: list[bytes] = []
        self._seen: Counter[Hashable] = Counter()

    def __call__(self, message: ServerMessage) -> bytes:
        text = self.encode(message)
        shape = _shape(message)
        if self._seen[shape] < _LOOKED_AT:
            self._seen[shape] += 1
            self.new.append(text)
        return text


def _shape(message: ServerMessage) -> Hashable:
    """What its members and their kinds depend on."""
    faces = tuple(face.state for face in message.faces) if isinstance(message, protocol.Prediction) else ()
    told = [getattr(message, name, None) for name in ("outcome", "code", "close_code", "by", "resumed", "captured_us")]
    return type(message), faces, tuple(getattr(message, "detail", ())), tuple(map(str, told[:-1])), type(told[-1])


@pytest.fixture(scope="session")
def overheard() -> Iterator[Overheard]:
    """In the place of the encoder, for all tests."""
    listening = Overheard()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "encode", listening)
        yield listening


@pytest.fixture(autouse=True)
def _what_is_said_is_documented(overheard: Overheard) -> Iterator[None]:
    """After each test, the messages of new shapes that services of this process have said."""
    yield
    said, overheard.new = overheard.new, []
    assert {text: problems for text in said if (problems := problems_of(decoded(text)))} == {}
