"""A server that speaks ``timeconv.v1`` by a script: each test says what it answers, and when."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from service import protocol
from service.protocol import Outcome

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
DEFAULTS = protocol.Options()


def started(max_in_flight: int = 2, options: protocol.Options = DEFAULTS) -> protocol.SessionStarted:
    """The first message of a session with these options."""
    return protocol.SessionStarted(
        session="s-1",
        model="timeconv-mini-xception",
        version="1",
        labels=LABELS,
        window=5,
        crop=protocol.CropInfo(size=48, detector="blazeface", scale=1.2, dx=0.0, dy=-0.05),
        limits=protocol.Limits(max_frame_bytes=2_000_000, max_frame_pixels=16_000_000, gap_reset_ms=1000),
        options=options,
        max_in_flight=max_in_flight,
    )


def prediction(seq: int, emotion: str = "happy", total_ms: float = 3.5) -> protocol.Prediction:
    """A prediction with one face, sure of its emotion."""
    probabilities = {label: 0.88 if label == emotion else 0.02 for label in LABELS}
    face = protocol.FaceResult(
        id=1,
        box=(10.0, 12.0, 40.0, 40.0),
        crop_box=(8.0, 10.0, 44.0, 44.0),
        score=0.97,
        state="ready",
        emotion=emotion,
        probabilities=probabilities,
        smoothed=probabilities,
        raw_emotion=emotion,
        uncertain=False,
        quality=protocol.Quality(size=44.0, brightness=0.5, sharpness=0.2),
    )
    timing = protocol.Timing(wait=0.1, decode=0.5, detect=1.2, crop=0.1, queue=0.2, infer=1.4, total=total_ms)
    return protocol.Prediction(seq=seq, age_ms=total_ms, faces=(face,), timing_ms=timing, batch_size=1)


def frame(seq: int, outcome: Outcome) -> protocol.FrameOutcome:
    """The answer for a frame without a prediction."""
    return protocol.FrameOutcome(seq=seq, outcome=outcome, age_ms=1.0)


@dataclass
class Talk:
    """The server's side of one session: what a script reads and sends."""

    socket: ServerConnection
    path: str
    frames: list[bytes] = field(default_factory=list)
    outcomes: dict[Outcome, int] = field(default_factory=dict)

    async def start(self, max_in_flight: int = 2, **options: Any) -> None:
        """Send ``session.started``."""
        await self.say(started(max_in_flight, protocol.Options(**options)))

    async def next(self) -> int | dict[str, Any]:
        """The next message of the client: the seq of a frame, or a text message's content."""
        message = await self.socket.recv()
        if isinstance(message, str):
            content: dict[str, Any] = msgspec.json.decode(message)
            return content
        self.frames.append(message)
        return len(self.frames) - 1

    async def say(self, message: protocol.ServerMessage) -> None:
        """Send a message, and count the outcomes in it."""
        match message:
            case protocol.Prediction():
                self._count(Outcome.PREDICTION, 1)
            case protocol.FrameOutcome(outcome=outcome):
                self._count(outcome, 1)
            case protocol.FramesOutcome(first=first, last=last, outcome=outcome):
                self._count(outcome, last - first + 1)
            case _:
                pass
        await self.socket.send(protocol.encode(message).decode())

    async def finish(self) -> None:
        """Send ``session.closed`` with true totals, and close."""
        await self.say(
            protocol.SessionClosed(totals=protocol.Totals(received=len(self.frames), outcomes=self.outcomes))
        )
        await self.socket.close()

    async def answer_all(self, answer: Callable[[int], protocol.ServerMessage] = prediction) -> None:
        """Answer each frame at once, until the client closes."""
        while isinstance(seq := await self.next(), int):
            await self.say(answer(seq))
        assert seq == {"type": "session.close"}
        await self.finish()

    def _count(self, outcome: Outcome, frames: int) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + frames


Script = Callable[[Talk], Awaitable[None]]


async def answer_every_frame(talk: Talk) -> None:
    """A server in good order, as short as can be."""
    await talk.say(started(8, options=protocol.parse_query(parse_qsl(urlsplit(talk.path).query))))
    await talk.answer_all()


@dataclass(frozen=True)
class Refusal:
    """In the place of a script: an upgrade that is answered with problem details."""

    status: HTTPStatus
    body: bytes = b"{}"

    def response(self) -> Response:
        """The answer."""
        fields = {"Content-Type": "application/problem+json", "Content-Length": str(len(self.body))}
        return Response(self.status, self.status.phrase, Headers({**fields, "Connection": "close"}), self.body)


def resume_token(talk: Talk) -> str | None:
    """The resume token that a client shows."""
    assert talk.socket.request is not None
    names = talk.socket.request.headers.get("Sec-WebSocket-Protocol", "").split(", ")
    return next((name.removeprefix("timeconv.resume.") for name in names if "resume" in name), None)


@asynccontextmanager
async def serving_in_turn(*turns: Script | Refusal, port: int = 0) -> AsyncIterator[str]:
    """Serve the first client by the first, and so on; another client fails. Yields the address."""
    waiting, serving = list(turns), []

    def next_turn(_socket: ServerConnection, _request: Request) -> Response | None:
        turn = waiting.pop(0) if waiting else Refusal(HTTPStatus.GONE)
        if isinstance(turn, Refusal):
            return turn.response()
        serving.append(turn)
        return None

    async def script(talk: Talk) -> None:
        await serving.pop(0)(talk)

    async with fake_server(script, port=port, process_request=next_turn) as address:
        yield address
    assert not waiting, f"{len(waiting)} clients more were expected"


@asynccontextmanager
async def fake_server(
    script: Script = answer_every_frame,
    *,
    port: int = 0,
    process_request: Callable[[ServerConnection, Request], Response | None] | None = None,
) -> AsyncIterator[str]:
    """Serve each client by ``script``; yields the address. An exception of the script ends the block with it."""
    failures: list[Exception] = []

    async def handle(socket: ServerConnection) -> None:
        assert socket.request is not None
        try:
            await script(Talk(socket, socket.request.path))
        except ConnectionClosed:
            pass
        except Exception as failure:  # noqa: BLE001 - whatever a script raises is the test's to see
            # Handed to the test, which runs in another task.
            failures.append(failure)

    async with serve(
        handle,
        "127.0.0.1",
        port,
        subprotocols=[Subprotocol("timeconv.v1")],
        compression=None,
        process_request=process_request,
    ) as server:
        yield _address(server.sockets)
    if failures:
        raise failures[0]


@asynccontextmanager
async def refusing_server(
    status: HTTPStatus, body: bytes, content_type: str = "application/problem+json", **headers: str
) -> AsyncIterator[str]:
    """Answer every upgrade with an HTTP error; yields the address."""

    async def handle(_socket: ServerConnection) -> None:
        raise AssertionError("no upgrade was accepted")

    def refuse(_socket: ServerConnection, _request: Request) -> Response:
        fields = {"Content-Type": content_type, "Content-Length": str(len(body)), "Connection": "close"}
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        return Response(status, status.phrase, Headers({**fields, **extra}), body)

    async with serve(handle, "127.0.0.1", 0, process_request=refuse) as server:
        yield _address(server.sockets)


def _address(sockets: Any) -> str:
    host, port = next(iter(sockets)).getsockname()[:2]
    return f"http://{host}:{port}"
