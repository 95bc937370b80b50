"""A server that answers every frame at once, as the service would: what is left is what the machine itself adds.

It speaks ``timeconv.v1`` through the service's own WebSocket protocol, socket options and encoder, so that the same
clients can send it the same frames; behind these there is nothing. Run as a program it serves on a free port and says
on standard error which.
"""

import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import uvicorn

from service import protocol
from service.cli import read_settings
from service.protocol import Outcome
from service.serve import listen, uvicorn_config

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_PROBABILITIES = {label: round(1 / len(LABELS), 6) for label in LABELS}
ANSWER = protocol.Prediction(
    seq=0,
    age_ms=1.234,
    faces=(
        protocol.FaceResult(
            id=0,
            box=(103.03, 117.68, 123.6, 124.08),
            crop_box=(98.38, 103.55, 135.92, 135.92),
            score=0.923631,
            state="ready",
            emotion="neutral",
            probabilities=_PROBABILITIES,
            smoothed=_PROBABILITIES,
            raw_emotion="neutral",
            uncertain=True,
            quality=protocol.Quality(size=135.92, brightness=0.468, sharpness=0.467),
        ),
    ),
    timing_ms=protocol.Timing(wait=0.05, decode=0.35, detect=1.13, crop=0.14, queue=0.15, infer=0.34, total=1.234),
    batch_size=1,
)
"""A prediction as long as one of the service."""

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """The application: every WebSocket is a session, every request a call."""
    if scope["type"] == "websocket":
        await _session(scope, receive, send)
    else:
        await _call(receive, send)


async def _session(scope: Scope, receive: Receive, send: Send) -> None:
    async def say(message: protocol.ServerMessage) -> None:
        await send({"type": "websocket.send", "text": protocol.encode(message).decode()})

    await receive()  # websocket.connect
    await send({"type": "websocket.accept", "subprotocol": protocol.SUBPROTOCOL})
    await say(_started(protocol.parse_query(parse_qsl(scope["query_string"].decode()))))
    seq = 0
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("bytes") is None:
            totals = protocol.Totals(received=seq, outcomes={Outcome.PREDICTION: seq})
            await say(protocol.SessionClosed(totals=totals))
            await send({"type": "websocket.close", "code": 1000})
            return
        await say(msgspec.structs.replace(ANSWER, seq=seq))
        seq += 1


async def _call(receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": protocol.encode(ANSWER)})


def _started(options: protocol.Options) -> protocol.SessionStarted:
    return protocol.SessionStarted(
        session="echo",
        model="echo",
        version="1",
        labels=LABELS,
        window=5,
        crop=protocol.CropInfo(size=48, detector="none", scale=1.0, dx=0.0, dy=0.0),
        limits=protocol.Limits(max_frame_bytes=2_000_000, max_frame_pixels=4_200_000, gap_reset_ms=1000),
        options=options,
        max_in_flight=protocol.MAX_IN_FLIGHT[options.freshness],
    )


def main() -> None:
    """Serve until SIGTERM."""
    settings = read_settings(host="127.0.0.1", port=0)
    with listen(settings) as listening:
        print(f"Ready address=http://{settings.host}:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
        uvicorn.Server(uvicorn_config(echo, settings)).run(sockets=[listening])


if __name__ == "__main__":
    main()
