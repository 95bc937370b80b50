"""Conversations with a real service, as docs/protocol.md shows them: ``python -m tests.transcript`` writes them anew.

A test holds the page to a recording of its own: the same messages in the same order, with the same members. What
differs from run to run (times, ids, measures of a picture) is compared by its type alone, and secrets are not written.
"""

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from loadtest.clips import encoded, moving_face
from loadtest.people import Person, scene, two_people
from service.access import new_key
from service.settings import Settings
from tests.conftest import LiveServer, serving

PAGE = Path(__file__).parents[1] / "docs" / "protocol.md"
WIDTH = 140
FRAME_US = 40_000
PATIENCE_S = 30

Json = dict[str, Any]
Line = tuple[str, str | Json]
"""An arrow, and what was said: a message, or words for what is none."""

_BLOCK = r"(<!-- transcript: {} -->\n```text\n)(.*?)(^```$)"
_SECRETS = {"resume_token": "RESUME_TOKEN", "token": "TOKEN", "subprotocol": "timeconv.auth.TOKEN"}
_DIFFERENT = {"session", "time_left_ms", "gap_reset_ms"}
"""The last so that a test may have a service whose windows outlast a machine that stands still for a moment."""


class Recorder:
    """Writes down what is said on one socket after the other."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.lines: list[Line] = []
        self.heard: list[Json] = []
        """Every message that came, those too of which only the type is written down."""
        self.token = ""
        """The last resume token that was heard."""

    @contextmanager
    def session(self, query: str = "", *, shown: str = "", **subprotocols: str) -> Iterator[ClientConnection]:
        """A socket, its upgrade written down. Secrets come by the name of what stands for them."""
        offered = ["timeconv.v1", *(prefix + secret for prefix, secret in subprotocols.items())]
        names = ", ".join(["timeconv.v1", *([shown] if shown else [])])
        self.say(f"GET /v1/stream{query}", f"Sec-WebSocket-Protocol: {names}")
        with connect(
            self.server.ws + query, subprotocols=[Subprotocol(name) for name in offered], compression=None
        ) as socket:
            assert socket.subprotocol == "timeconv.v1"
            self.hear("101", "Sec-WebSocket-Protocol: timeconv.v1")
            yield socket

    def say(self, *words: str) -> None:
        self.lines.append(("→", "     ".join(words)))

    def hear(self, *words: str) -> None:
        self.lines.append(("←", "     ".join(words)))

    def send(self, socket: ClientConnection, message: Json) -> None:
        self.lines.append(("→", message))
        socket.send(json.dumps(message))

    def show(self, socket: ClientConnection, jpeg: bytes, captured_us: int | None = None) -> None:
        what = "a JPEG" if jpeg[:2] == b"\xff\xd8" else f"{len(jpeg)} bytes that are none"
        self.say(f"(binary: {what})" if captured_us is None else f"(binary: {captured_us} as 8 bytes, then {what})")
        socket.send(jpeg if captured_us is None else captured_us.to_bytes(8, "big") + jpeg)

    def receive(self, socket: ClientConnection, *, brief: bool = False) -> None:
        """Write down what comes, or its type alone."""
        message = json.loads(socket.recv(PATIENCE_S))
        self.heard.append(message)
        self.token = message.get("resume_token") or self.token
        if brief:
            self.hear(f"({message['type']})")
        else:
            self.lines.append(("←", _without_secrets(message)))

    def stream(self, socket: ClientConnection, frames: Sequence[bytes], first: int = 0) -> None:
        """Send frames that are answered alike, and write down how many."""
        kinds = set()
        for index, jpeg in enumerate(frames, first):
            socket.send((index * FRAME_US).to_bytes(8, "big") + jpeg)
            message = json.loads(socket.recv(PATIENCE_S))
            kinds.add(message.get("outcome", message["type"]))
            self.heard.append(message)
        (kind,) = kinds
        self.say(f"({len(frames)} frames, {FRAME_US} µs apart, each of them answered: {kind})")

    def receive_close(self, socket: ClientConnection) -> None:
        """Nothing more is said but the close."""
        try:
            raise AssertionError(f"more was said: {socket.recv(PATIENCE_S)!r}")
        except ConnectionClosed:
            self.hear(f"close {socket.protocol.close_code}")

    def close(self, socket: ClientConnection) -> None:
        """End a session in order."""
        self.send(socket, {"type": "session.close"})
        self.receive(socket)
        self.receive_close(socket)

    def answer(self, response: httpx.Response) -> None:
        """Write down an answer over HTTP, with the headers that matter."""
        told = ("Retry-After", "WWW-Authenticate")
        headers = [f"{name}: {response.headers[name]}" for name in told if name in response.headers]
        self.hear(str(response.status_code), response.headers["content-type"], *headers)
        self.lines.append(("←", _without_secrets(response.json())))


def _without_secrets(message: Json) -> Json:
    return {name: _SECRETS[name] if name in _SECRETS and value else value for name, value in message.items()}


def a_session(to: Recorder) -> None:
    """Five frames of one face."""
    with to.session("?timestamps=1&smoothing_ms=0") as socket:
        to.receive(socket)
        for index, jpeg in enumerate(encoded(moving_face(5))):
            to.show(socket, jpeg, index * FRAME_US)
            to.receive(socket)
        to.close(socket)


def several_faces(to: Recorder) -> None:
    """Two people, the second of whom comes into view while the first one's window fills, and is found at frame 8."""
    first = Person(two_people()[0], lambda _: (170, 250, 120))
    second = Person(two_people()[1], lambda time_s: (480, 240, 150) if time_s >= 1 * FRAME_US / 1e6 else None)
    clip = encoded(scene([first, second], index * FRAME_US / 1e6) for index in range(9))
    with to.session("?timestamps=1&faces=2") as socket:
        to.receive(socket, brief=True)
        to.stream(socket, clip[:4])
        to.stream(socket, clip[4:8], 4)
        to.show(socket, clip[8], 8 * FRAME_US)
        to.receive(socket)
        to.close(socket)


def other_outcomes(to: Recorder) -> None:
    """No face, no picture, and a frame that was not asked for."""
    (face, _), (gray,) = encoded(moving_face(2)), encoded([scene([], 0)])
    with to.session("?freshness=every&stride=2") as socket:
        to.receive(socket, brief=True)
        for jpeg in (gray, face, b"GIF89a"):
            to.show(socket, jpeg)
            to.receive(socket)
        to.close(socket)


def an_update(to: Recorder) -> None:
    """One that is refused, one that is taken."""
    with to.session() as socket:
        to.receive(socket, brief=True)
        for options in ({"stride": 2, "smoothing_ms": 9000}, {"stride": 2, "smoothing_ms": 500}):
            to.send(socket, {"type": "session.update", "options": options})
            to.receive(socket)
        to.close(socket)


def going_on(to: Recorder) -> None:
    """After a break in the middle of a window."""
    clip = encoded(moving_face(5))
    with to.session("?timestamps=1") as socket:
        to.receive(socket, brief=True)
        to.stream(socket, clip[:4])
        to.hear("(the connection breaks)")
        socket.close_socket()
    resume = {"timeconv.resume.": to.token}
    with to.session("?timestamps=1", shown="timeconv.resume.RESUME_TOKEN", **resume) as socket:
        to.receive(socket)
        to.show(socket, clip[4], 4 * FRAME_US)
        to.receive(socket)
        to.close(socket)


def bad_options(to: Recorder) -> None:
    """Which are told after the upgrade."""
    with to.session("?stride=9") as socket:
        to.receive(socket)
        to.receive_close(socket)


def over_rest(to: Recorder) -> None:
    """One picture, then one that is none."""
    (face,) = encoded(moving_face(1))
    for query, body in (("", face), ("?region=whole", b"GIF89a")):
        what = "a JPEG" if body is face else f"{len(body)} bytes that are none"
        to.say(f"POST /v1/predict{query}", "Content-Type: image/jpeg", f"({what})")
        to.answer(
            httpx.post(f"{to.server.url}/v1/predict{query}", content=body, headers={"Content-Type": "image/jpeg"})
        )


def a_refused_upgrade(to: Recorder) -> None:
    """Of a client without a key."""
    to.say("GET /v1/stream", "Sec-WebSocket-Protocol: timeconv.v1")
    try:
        with connect(to.server.ws, subprotocols=[Subprotocol("timeconv.v1")]):
            raise AssertionError("the upgrade was not refused")
    except InvalidStatus as refused:
        response = refused.response
        to.answer(
            httpx.Response(response.status_code, headers=dict(response.headers), content=bytes(response.body or b""))
        )


def a_token(to: Recorder, key: str) -> None:
    """For a key, and the session it opens."""
    to.say("POST /v1/tokens", "Authorization: Bearer KEY")
    response = httpx.post(f"{to.server.url}/v1/tokens", headers={"Authorization": f"Bearer {key}"})
    to.answer(response)
    token = {"timeconv.auth.": response.json()["token"]}
    with to.session(shown="timeconv.auth.TOKEN", **token) as socket:
        to.receive(socket, brief=True)
        to.close(socket)


def a_goaway(to: Recorder, token: str, stop: Callable[[], object]) -> None:
    """The service is stopped while a session is open."""
    with to.session(shown="timeconv.auth.TOKEN", **{"timeconv.auth.": token}) as socket:
        to.receive(socket, brief=True)
        stopping = threading.Thread(target=stop)
        stopping.start()
        to.receive(socket)
        to.close(socket)
    stopping.join()


def recorded(server: LiveServer) -> dict[str, list[Line]]:
    """Every conversation by its name, at a ``server`` of default settings; for some, one with keys is started."""
    scenes: dict[str, list[Line]] = {}

    def record(name: str, play: Callable[[Recorder], None], at: LiveServer = server) -> None:
        recorder = Recorder(at)
        play(recorder)
        scenes[name] = recorder.lines

    record("session", a_session)
    record("several faces", several_faces)
    record("other outcomes", other_outcomes)
    record("update", an_update)
    record("going on", going_on)
    record("bad options", bad_options)
    record("rest", over_rest)
    key, line = new_key("anyone")
    with ExitStack() as stack:
        guarded = stack.enter_context(serving(Settings(port=0, keys=line)))
        record("refused", a_refused_upgrade, guarded)
        record("token", lambda to: a_token(to, key), guarded)
        response = httpx.post(f"{guarded.url}/v1/tokens", headers={"Authorization": f"Bearer {key}"})
        record("goaway", lambda to: a_goaway(to, response.json()["token"], stack.close), guarded)
    return scenes


# The page


def written(lines: Iterable[Line]) -> str:
    """Lines as the page has them; long messages go on, indented, in the next."""
    return "".join(f"{arrow} {_folded(said)}\n" for arrow, said in lines)


def _folded(said: str | Json) -> str:
    if isinstance(said, str):
        return said
    text = json.dumps(said, separators=(",", ":"), ensure_ascii=False)
    rows = [""]
    # Broken where a member or an element begins, never inside of a string.
    for piece in re.split(r'(?<=,)(?="\w+":|\{)', text):
        if rows[-1] and len(rows[-1]) + len(piece) > WIDTH - 3:
            rows.append("")
        rows[-1] += piece
    return "\n   ".join(rows)


def read(block: str) -> list[Line]:
    """The lines of a block of the page."""
    lines: list[Line] = []
    for entry in re.split(r"\n(?=[→←] )", block.rstrip("\n")):
        arrow, said = entry[0], entry[2:].replace("\n   ", "")
        lines.append((arrow, json.loads(said) if said.startswith("{") else said))
    return lines


def blocks(page: str) -> dict[str, list[Line]]:
    """Every conversation of the page by its name."""
    pattern = re.compile(_BLOCK.format("(.+?)"), re.MULTILINE | re.DOTALL)
    return {match[2]: read(match[3]) for match in pattern.finditer(page)}


def skeleton(said: object, name: str = "") -> object:
    """What is the same in every run: members in their order, words, counts; of a measure, that it is a number."""
    if isinstance(said, dict):
        return [(member, skeleton(value, member)) for member, value in said.items()]
    if isinstance(said, Sequence) and not isinstance(said, str):
        return [skeleton(value) for value in said]
    return type(said).__name__ if isinstance(said, float) or name in _DIFFERENT else json.dumps(said)


def rewritten(page: str, scenes: dict[str, list[Line]]) -> str:
    """The page with these conversations in the place of those it has."""
    for name, lines in scenes.items():
        block = re.search(_BLOCK.format(re.escape(name)), page, re.MULTILINE | re.DOTALL)
        assert block, f"docs/protocol.md has no place for {name!r}"
        page = page[: block.start(2)] + written(lines) + page[block.end(2) :]
    return page


def main() -> None:
    """Write the page's conversations anew."""
    with serving(Settings(port=0)) as server:
        scenes = recorded(server)
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), scenes), encoding="utf-8")


if __name__ == "__main__":
    main()
