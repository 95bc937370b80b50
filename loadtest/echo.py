"""A server that answers every frame at once, as the service would: what is left is what the machine itself adds.

It speaks ``timeconv.v1`` through the service's own WebSocket protocol and socket options, by calls as the service does
(through ASGI's queue a message costs more), so that the same clients can send it the same frames. Its answers are
written beforehand but for their seq. Run as a program it serves on a free port and says on standard error which.
"""

import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from service import protocol
from service.cli import read_settings
from service.gate import Gate
from service.protocol import Outcome
from service.serve import Server, listen, uvicorn_config
from service.websocket import EXTENSION, Link

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
_BEFORE_SEQ, _AFTER_SEQ = protocol.encode(ANSWER).split(b"0", 1)

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
    await receive()  # websocket.connect
    await send({"type": "websocket.accept", "subprotocol": protocol.SUBPROTOCOL})
    link: Link = scope["extensions"][EXTENSION]
    link.say(protocol.encode(_started(protocol.parse_query(parse_qsl(scope["query_string"].decode())))))
    link.attach(_Echo(link))
    await receive()  # Messages come by calls; this is the end.


class _Echo:
    """One session: a `service.websocket.Listener`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._seq = 0

    def received(self, message: bytes | str) -> bool:
        """Answer a frame, or end the session."""
        if isinstance(message, bytes):
            self._link.say(b"%b%d%b" % (_BEFORE_SEQ, self._seq, _AFTER_SEQ))
            self._seq += 1
        else:
            totals = protocol.Totals(received=self._seq, outcomes={Outcome.PREDICTION: self._seq})
            self._link.say(protocol.encode(protocol.SessionClosed(totals=totals)))
            self._link.finish()
        return True

    def blocked(self) -> None:
        """What a client does not read is kept for it: that is little, by its credit."""

    def unblocked(self) -> None:
        """There is nothing to take up again."""


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
        gate = Gate(settings)
        Server(uvicorn_config(echo, settings, gate), gate).run(sockets=[listening])


if __name__ == "__main__":
    main()
