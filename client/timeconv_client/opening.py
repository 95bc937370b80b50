"""From an address to a session."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Literal, TypedDict, Unpack

from pydantic import BaseModel, ConfigDict, ValidationError
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidProxy, InvalidStatus, InvalidURI
from websockets.http11 import Response
from websockets.typing import Subprotocol

from timeconv_client.address import is_loopback, shown, stream_url
from timeconv_client.errors import (
    CannotConnect,
    Forbidden,
    ProtocolMismatch,
    ServerRefused,
    TimeConvClientError,
    TooMany,
    Unauthorized,
    Unavailable,
)
from timeconv_client.messages import ErrorMessage, ServerMessage, SessionStarted, parse_message
from timeconv_client.session import Session, ending
from timeconv_client.timeouts import Timeouts

SUBPROTOCOL = Subprotocol("timeconv.v1")
RESUME_PREFIX = "timeconv.resume."
_TOO_MANY_REQUESTS = 429
_SERVICE_UNAVAILABLE = 503
# What a proxy answers while the service behind it starts again.
_BAD_GATEWAY = 502
_GATEWAY_TIMEOUT = 504
_MAY_PASS = frozenset({_TOO_MANY_REQUESTS, _SERVICE_UNAVAILABLE, _BAD_GATEWAY, _GATEWAY_TIMEOUT})
DEFAULT_TIMEOUTS = Timeouts()
_REFUSALS: Mapping[int, type[ServerRefused]] = {
    401: Unauthorized,
    403: Forbidden,
    _TOO_MANY_REQUESTS: TooMany,
    _SERVICE_UNAVAILABLE: Unavailable,
}


class _Discreet(logging.LoggerAdapter[logging.Logger]):
    """Tells no details, in which the key and the resume token are: websockets logs every header then."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name of the standard library
        """Whether a message of this level is logged."""
        return level > logging.DEBUG and super().isEnabledFor(level)


_LOGGER = _Discreet(logging.getLogger("timeconv_client.connection"), {})


class SessionOptions(TypedDict, total=False):
    """Options of a session; what is left out is the service's default.

    Attributes:
        model: ``name`` or ``name@version``; default: the service's.
        region: ``detect`` a face, or take the ``whole`` picture, cropped as ``started.crop`` says.
        freshness: ``latest`` answers the newest frame and drops what it overtakes (live); ``every`` drops nothing
            (files).
        timestamps: send a capture time with each frame; ages, gaps and stride then go by it.
        max_age_ms: a frame older than this is not worth an answer; only with ``latest``.
        stride: the window takes one of so many frames, 1..5.
        faces: how many faces to follow, 1..8.
        smoothing_ms: time constant of the smoothed probabilities, 0..5000.
    """

    model: str
    region: Literal["detect", "whole"]
    freshness: Literal["latest", "every"]
    timestamps: bool
    max_age_ms: int | None
    stride: int
    faces: int
    smoothing_ms: int


@contextlib.asynccontextmanager
async def connect(
    address: str,
    *,
    key: str | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    resume: str | None = None,
    **options: Unpack[SessionOptions],
) -> AsyncIterator[Session]:
    """A session for the length of an ``async with``.

    At the end of the block the session is closed in order; if the block ends by an exception it is aborted. A session
    that ended in the block without the block being told raises at its end.

    Args:
        address: ``ws://``, ``wss://``, ``http://`` or ``https://``; the path may be left out.
        key: API key, or a token, if the service asks for one; over ``ws://`` anybody on the way can read it.
        timeouts: how long it waits for the service.
        resume: ``started.resume_token`` of a session whose connection was lost, to go on with it. If it is to be had,
            ``started.resumed`` is true and seqs go on; frames that were in flight are abandoned, and counted so in the
            totals. If not, the session is a new one.
        options: see `SessionOptions`; a session that goes on has those given here.

    A proxy is used where the environment names one, but not for this machine. Frames are not compressed: they are JPEG.
    Cancelling it while it connects leaves no connection behind.

    Raises:
        BadAddress: ``address`` cannot be one.
        CannotConnect: nothing that speaks WebSocket answered in time.
        ValueError: ``key`` cannot be one: it holds a space, a line end or other than ASCII.
        Unauthorized, Forbidden, TooMany, Unavailable: the service refused the connection: the key, too many sessions.
        ServerRefused: it refused the connection for another reason.
        SessionError: it refused the options, or the model is unknown.
        ConnectionLost, ProtocolMismatch: it said nothing, or something else than ``session.started``.
    """
    url = stream_url(address, options)
    socket, started = await _open(url, authorization(key), timeouts, resume)
    session = Session(socket, started, timeouts)
    try:
        yield session
        await session._leave()  # noqa: SLF001 - the way out of `connect`, not for users
    finally:
        await session.abort()


def authorization(key: str | None) -> dict[str, str]:
    """The headers that show ``key``.

    Raises:
        ValueError: it cannot be one.
    """
    if key is None:
        return {}
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("An API key is of printable ASCII characters without spaces")
    return {"Authorization": f"Bearer {key}"}


async def _open(
    url: str, headers: Mapping[str, str], timeouts: Timeouts, resume: str | None
) -> tuple[ClientConnection, SessionStarted]:
    address = shown(url)
    try:
        async with asyncio.timeout(timeouts.open_s):
            socket = await open_websocket(
                url,
                subprotocols=[SUBPROTOCOL, *([Subprotocol(RESUME_PREFIX + resume)] if resume else [])],
                additional_headers=headers,
                compression=None,
                proxy=None if is_loopback(url) else True,
                open_timeout=None,
                ping_interval=None,  # The session does it: theirs waits for what half-open connections never do.
                close_timeout=timeouts.close_s,
                logger=_LOGGER,
            )
            try:
                return socket, await _first_message(socket)
            except BaseException:
                await socket.close()
                raise
    except InvalidStatus as refused:
        raise _refusal(refused.response) from refused
    except TimeoutError as late:
        raise CannotConnect(f"{address} did not start a session within {timeouts.open_s:g} s") from late
    except (InvalidURI, InvalidProxy) as error:  # They quote what may hold a password.
        raise CannotConnect(f"Cannot connect to {address}: {error.msg}") from None
    except (OSError, InvalidHandshake) as error:
        raise CannotConnect(f"Cannot connect to {address}: {error}") from error


async def _first_message(socket: ClientConnection) -> SessionStarted:
    last: ServerMessage | None = None
    try:
        last = parse_message(await socket.recv(decode=False))
        if isinstance(last, ErrorMessage):
            last_but_close = parse_message(await socket.recv(decode=False))
            raise ProtocolMismatch(f"{last_but_close.type} came after an error, before session.started")
    except ConnectionClosed as closed:
        raise ending(closed, last) from closed
    if not isinstance(last, SessionStarted):
        raise ProtocolMismatch(f"{last.type} came before session.started")
    return last


class _Problem(BaseModel):
    """RFC 9457 problem details, with this service's members."""

    model_config = ConfigDict(extra="ignore")

    title: str = ""
    detail: str = ""
    code: str = ""
    retryable: bool | None = None
    retry_after_ms: int | None = None


def _refusal(response: Response) -> TimeConvClientError:
    status = response.status_code
    try:
        problem = _Problem.model_validate_json(response.body or b"{}")
    except ValidationError:  # some proxy's page, not the service's answer
        problem = _Problem()
    retryable = problem.retryable
    return _REFUSALS.get(status, ServerRefused)(
        status,
        problem.code or f"http_{status}",
        problem.detail or problem.title or f"The server answered HTTP {status} {response.reason_phrase}",
        retryable=status in _MAY_PASS if retryable is None else retryable,
        retry_after_ms=_retry_after_ms(response) if problem.retry_after_ms is None else problem.retry_after_ms,
    )


def _retry_after_ms(response: Response) -> int | None:
    """``Retry-After`` in its form of seconds; the other, a date, is not worth a parser here."""
    seconds = response.headers.get("Retry-After", "")
    return int(seconds) * 1000 if seconds.isascii() and seconds.isdigit() else None
