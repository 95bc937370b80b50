"""A client that can do what no client should: the WebSocket library's core on a socket of its own."""

import asyncio
import socket
import struct
import time
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from loadtest.tally import Tally
from timeconv_client import (
    ErrorMessage,
    FrameOutcome,
    FramesOutcome,
    Prediction,
    SessionClosed,
    SessionStarted,
    SessionUpdated,
    parse_message,
)
from timeconv_client.opening import SUBPROTOCOL
from timeconv_client.session import TIMESTAMP_BYTES

CLOSED = "closed"
"""How a session ends in order."""
OPENED = "opened"
LOST = "lost"
"""How one ends of which nothing was heard: cut off, or reset by ourselves."""
_OPEN_TIMEOUT_S = 30.0
_RECEIVE_BUFFER_BYTES = 8192

Answers = dict[int, Mapping[str, float] | str]
"""By seq: the probabilities of a prediction, or the outcome of a frame that has none."""


class Peer(asyncio.Protocol):
    """One connection. It reads by itself, keeps the account of its frames, and answers pings and closes."""

    def __init__(self, url: str, tally: Tally) -> None:
        """Inside an event loop; `open_peer` connects."""
        loop = asyncio.get_running_loop()
        self.tally = tally
        self.answers: Answers = {}
        self.opened: asyncio.Future[str] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self.credit = 1
        self.sent = 0
        self._answered = 0
        self._end = LOST
        self._moved = asyncio.Event()
        self._socket = ClientProtocol(parse_uri(url), subprotocols=[SUBPROTOCOL])

    @property
    def is_over(self) -> bool:
        """Whether the connection has ended."""
        return self.ended.done()

    async def until_credit(self) -> None:
        """Wait until a frame may be sent, or the connection ends."""
        while self.sent - self._answered >= self.credit and not self.is_over:
            self._moved.clear()
            await self._moved.wait()

    def send_frame(self, picture: bytes, captured_us: int) -> None:
        """Send a picture with its capture time, credit or not."""
        if self.is_over or self._socket.state is not State.OPEN:
            return
        now_s = time.monotonic()
        self.tally.sent(self.sent, now_s, now_s)
        self.sent += 1
        self._socket.send_binary(captured_us.to_bytes(TIMESTAMP_BYTES, "big") + picture)
        self._write()

    def send_text(self, text: str) -> None:
        """Send a text message."""
        if not self.is_over and self._socket.state is State.OPEN:
            self._socket.send_text(text.encode())
            self._write()

    def send_ping(self) -> None:
        """Send a ping."""
        if not self.is_over and self._socket.state is State.OPEN:
            self._socket.send_ping(b"")
            self._write()

    def send_raw(self, content: bytes) -> None:
        """Send bytes as they are, whatever they mean."""
        if not self._transport.is_closing():
            self._transport.write(content)

    def read_no_more(self) -> None:
        """Leave what comes in the socket's buffers, which are small."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def read_on(self) -> None:
        """Read again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def reset(self) -> None:
        """Be gone without a word: the server gets a reset."""
        self._transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast("asyncio.Transport", transport)
        self._socket.send_request(self._socket.connect())
        self._write()

    def data_received(self, data: bytes) -> None:
        """Read what the server says."""
        self._socket.receive_data(data)
        for event in self._socket.events_received():
            if isinstance(event, Response):
                if self._socket.handshake_exc is not None:
                    self._end = f"refused: {event.status_code}"
                    self._transport.close()
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._hear(bytes(event.data))
        self._write()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it ended the server has said, or not
        """Note how it ended."""
        code = None if self._socket.close_rcvd is None else self._socket.close_rcvd.code
        end = f"close {code}" if self._end == LOST and code is not None else self._end
        for waiting in (self.ended, self.opened):
            if not waiting.done():
                waiting.set_result(end)
        self._moved.set()

    def _write(self) -> None:
        content = self._socket.data_to_send()
        if not self._transport.is_closing():
            self._transport.writelines(content)

    def _hear(self, text: bytes) -> None:
        now_s = time.monotonic()
        match parse_message(text):
            case Prediction() as prediction:
                self._settled(range(prediction.seq, prediction.seq + 1), "prediction", now_s)
                self.answers[prediction.seq] = prediction.faces[0].probabilities or {}
            case FrameOutcome() as frame:
                self._settled(range(frame.seq, frame.seq + 1), frame.outcome, now_s)
                self.answers[frame.seq] = frame.outcome
            case FramesOutcome() as frames:
                self._settled(range(frames.first, frames.last + 1), frames.outcome, now_s)
            case SessionClosed() as closed:
                self.tally.told = dict(closed.totals.outcomes)
                self._end = CLOSED
            case ErrorMessage() as error if error.close_code is not None:
                self._end = error.code
            case SessionStarted() as started:
                self.credit = started.max_in_flight
                self.opened.set_result(OPENED)
            case SessionUpdated() as updated:
                self.credit = updated.max_in_flight
        self._moved.set()

    def _settled(self, seqs: range, outcome: str, now_s: float) -> None:
        self._answered += len(seqs)
        self.tally.settled(seqs, outcome, now_s)


async def open_peer(url: str, tally: Tally, *, small_buffer: bool = False) -> Peer:
    """A connection that has asked for the upgrade; `Peer.opened` tells when the session has started.

    Raises:
        OSError: the server cannot be reached.
    """
    peer, place = Peer(url, tally), urlsplit(url)
    connecting = socket.socket()
    connecting.settimeout(0)  # As asyncio wants it.
    if small_buffer:
        connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_OPEN_TIMEOUT_S):
            await loop.sock_connect(connecting, (place.hostname, place.port))
    except BaseException:
        connecting.close()
        raise
    await loop.create_connection(lambda: peer, sock=connecting)
    return peer
