"""The clients of a load. Each sends what is due when it is due, whatever has come of the frames before.

- `StreamCaller` is the client package: `latest` drops a frame for which there is no credit, `every` waits for credit,
  and its frames are late.
- `FloodCaller` sends without credit. The client package cannot, so it speaks to the socket itself.
- `RestCaller` begins a call when it is due, however many are under way, up to `MOST_CALLS`.

All show the API key in the variable `KEY`, if there is one.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

import httpx
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.asyncio.server import broadcast
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.protocol import State

from loadtest.errors import CannotGenerate
from loadtest.plan import Group, Load
from loadtest.tally import Tally
from timeconv_client import (
    ErrorMessage,
    FrameOutcome,
    FramesOutcome,
    Prediction,
    ServerMessage,
    Session,
    SessionClosed,
    SessionOptions,
    SessionStarted,
    TimeConvClientError,
    Timeouts,
    connect,
    parse_message,
)
from timeconv_client.address import stream_url
from timeconv_client.opening import SUBPROTOCOL, authorization
from timeconv_client.session import TIMESTAMP_BYTES

KEY = "TIMECONV_KEY"
"""As of ``timeconv stream``. No argument: command lines are for all to see, and stand in reports."""
FRAMES_A_CALL = 5
MOST_CALLS = 32
"""Calls of one REST caller under way at once; one that is due beyond that is not sent."""
TIMEOUT_S = 30.0
"""How long opening a session may take, a call, and after the last frame the answers that are still owed."""


class Due(NamedTuple):
    """A frame of the schedule: when it is due, in seconds of the monotonic clock, and its place in the clip."""

    at_s: float
    picture: int


class Caller(Protocol):
    """A client that is connected."""

    async def play(self, schedule: Iterable[Due], until_s: float, tally: Tally) -> None:
        """Send what is due, count what becomes of it, and end in order. What breaks the session is in the tally.

        A frame that cannot be sent before ``until_s`` is not sent.
        """
        ...


@asynccontextmanager
async def open_caller(address: str, load: Load, group: Group, clip: Sequence[bytes]) -> AsyncIterator[Caller]:
    """A client of ``group``, connected.

    Raises:
        CannotGenerate: the service cannot be reached, or refuses; or `KEY` cannot be a key.
    """
    key = os.environ.get(KEY)
    try:
        headers = authorization(key)
    except ValueError as error:
        raise CannotGenerate(f"{KEY}: {error}") from error
    options: SessionOptions = {"region": load.region, "timestamps": True}
    if load.model is not None:
        options["model"] = load.model
    if group.kind == "rest":
        query = {"region": load.region} | ({} if load.model is None else {"model": load.model})
        limits = httpx.Limits(max_connections=MOST_CALLS, keepalive_expiry=2.0)
        async with httpx.AsyncClient(
            base_url=address, params=query, headers=headers, limits=limits, timeout=TIMEOUT_S
        ) as client:
            yield RestCaller(client, clip)
        return
    options["freshness"] = group.kind
    if group.ignores_credit:
        async with _open_flood(address, options, headers) as socket:
            yield FloodCaller(socket, clip)
        return
    try:
        async with connect(address, key=key, timeouts=Timeouts(open_s=TIMEOUT_S), **options) as session:
            yield StreamCaller(session, clip, waits=group.kind == "every")
    except TimeConvClientError as error:
        raise CannotGenerate(str(error)) from error


class StreamCaller:
    """A session of the client package."""

    def __init__(self, session: Session, clip: Sequence[bytes], *, waits: bool) -> None:
        """``waits``: for credit, instead of dropping the frame."""
        self._session = session
        self._clip = clip
        self._waits = waits

    async def play(self, schedule: Iterable[Due], until_s: float, tally: Tally) -> None:
        """Send what is due, close the session in order, and count every answer."""

        async def offer(due: Due) -> int | None:
            jpeg, captured_us = _picture(self._clip, due), int(due.at_s * 1e6)
            try:
                if not self._waits:
                    return self._session.try_send(jpeg, captured_us)
                async with asyncio.timeout_at(until_s):
                    return await self._session.send(jpeg, captured_us)
            except TimeoutError:
                return None
            except TimeConvClientError as error:
                tally.broke(str(error))
                return None

        reading = asyncio.create_task(_count(self._session, tally))
        try:
            await _send(schedule, offer, until_s, tally)
            async with asyncio.timeout(TIMEOUT_S):
                await self._session.close()
                await reading
        except (TimeConvClientError, TimeoutError) as error:
            tally.broke(str(error) or f"not all answers came within {TIMEOUT_S:g} s")
            await self._session.abort()
        finally:
            await _cancelled(reading)


class FloodCaller:
    """A client that breaks the rule of credit. It drops a frame only when the connection takes no more."""

    def __init__(self, socket: ClientConnection, clip: Sequence[bytes]) -> None:
        """``socket``: a session on which ``session.started`` has come."""
        self._socket = socket
        self._clip = clip
        self._next_seq = 0

    async def play(self, schedule: Iterable[Due], until_s: float, tally: Tally) -> None:
        """Send what is due, close the session in order, and count every answer."""

        async def offer(due: Due) -> int | None:
            if self._socket.state is not State.OPEN or self._socket.transport.get_write_buffer_size():
                return None
            # As in the client package: it writes without waiting, so the frame is sent or it is not.
            broadcast([self._socket], int(due.at_s * 1e6).to_bytes(TIMESTAMP_BYTES, "big") + _picture(self._clip, due))
            self._next_seq += 1
            return self._next_seq - 1

        reading = asyncio.create_task(_count(_messages(self._socket), tally))
        try:
            await _send(schedule, offer, until_s, tally)
            async with asyncio.timeout(TIMEOUT_S):
                await self._socket.send('{"type":"session.close"}')
                await reading
        except (ConnectionClosed, TimeConvClientError, TimeoutError) as error:
            tally.broke(str(error) or f"not all answers came within {TIMEOUT_S:g} s")
        finally:
            await _cancelled(reading)


class RestCaller:
    """Somebody who asks for one window at a time, from five pictures."""

    def __init__(self, client: httpx.AsyncClient, clip: Sequence[bytes]) -> None:
        """``client``: with address and options."""
        self._client = client
        self._clip = clip
        self._begun = 0
        self._under_way = 0

    async def play(self, schedule: Iterable[Due], until_s: float, tally: Tally) -> None:
        """Make each call when it is due, and wait for all answers."""

        async def offer(due: Due) -> int | None:
            if self._under_way >= MOST_CALLS:
                return None
            calls.create_task(self._call(self._begun, due, tally))
            self._under_way += 1
            self._begun += 1
            return self._begun - 1

        async with asyncio.TaskGroup() as calls:
            await _send(schedule, offer, until_s, tally)

    async def _call(self, number: int, due: Due, tally: Tally) -> None:
        pictures = (due._replace(picture=due.picture + later) for later in range(FRAMES_A_CALL))
        files = [("frames", ("frame.jpg", _picture(self._clip, picture), "image/jpeg")) for picture in pictures]
        try:
            answer = await self._client.post("/v1/predict", files=files)
        except httpx.HTTPError as error:
            tally.broke(f"{type(error).__name__}: {error}")
        else:
            tally.settled([number], rest_outcome(answer), time.monotonic())
        finally:
            self._under_way -= 1


def rest_outcome(answer: httpx.Response) -> str:
    """The outcome of a call: that of the frames, or the code of what was wrong."""
    try:
        body = answer.json()
    except ValueError:  # Some proxy's page.
        body = {}
    if answer.is_success:
        return str(body.get("outcome", body.get("type")))
    return str(body.get("code", f"http_{answer.status_code}"))


async def _send(
    schedule: Iterable[Due], offer: Callable[[Due], Awaitable[int | None]], until_s: float, tally: Tally
) -> None:
    """Offer each frame when it is due; ``offer`` returns its seq, or None if it could not be sent."""
    for due in schedule:
        # Also where it is late already: answers that have come give credit back only when they are read.
        await asyncio.sleep(max(0.0, due.at_s - time.monotonic()))
        seq = await offer(due) if time.monotonic() < until_s else None
        if seq is None:
            tally.not_sent(due.at_s)
        else:
            tally.sent(seq, due.at_s, time.monotonic())


async def _count(messages: AsyncIterator[ServerMessage], tally: Tally) -> None:
    async for message in messages:
        match message:
            case Prediction() | FrameOutcome() | FramesOutcome():
                tally.settled(message.seqs, message.outcome, time.monotonic())
            case SessionClosed():
                tally.told = {str(outcome): count for outcome, count in message.totals.outcomes.items() if count}
            case ErrorMessage():
                tally.broke(message.code)
            case _:
                pass


@asynccontextmanager
async def _open_flood(
    address: str, options: SessionOptions, headers: Mapping[str, str]
) -> AsyncIterator[ClientConnection]:
    """A connection on which ``session.started`` has come."""
    try:
        async with open_websocket(
            stream_url(address, options),
            subprotocols=[SUBPROTOCOL],
            additional_headers=headers,
            compression=None,
            proxy=None,
            ping_timeout=None,
        ) as socket:
            started = parse_message(await socket.recv(decode=False))
            if not isinstance(started, SessionStarted):
                raise CannotGenerate(f"A flooder got {started.type} in the place of session.started")
            yield socket
    except (OSError, WebSocketException, TimeConvClientError) as error:
        raise CannotGenerate(f"A flooder cannot connect to {address}: {error}") from error


async def _messages(socket: ClientConnection) -> AsyncIterator[ServerMessage]:
    """What the service says, to the end of the session."""
    last: ServerMessage | None = None
    while not isinstance(last, SessionClosed):
        last = parse_message(await socket.recv(decode=False))
        yield last


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    # Its error, if it has one, is that of the session, which the sender has met too.
    await asyncio.gather(task, return_exceptions=True)


def _picture(clip: Sequence[bytes], due: Due) -> bytes:
    return clip[due.picture % len(clip)]
