"""The door of ``/v1/*``: from which site, with whose key, and whether there is a place."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from service.access import ApiKey
from service.api.requests import HEADER
from service.engine import Engine
from service.errors import OriginRefused, RateLimited, Unauthorized
from service.limits import NamedPlaces, TokenBucket, is_loopback, origin_of
from service.protocol import AUTH_PREFIX
from service.settings import listed

PATHS_FOR_OTHER_SITES = frozenset({"/v1/tokens", "/v1/predict"})
"""Where CORS lets allowed sites read answers; a WebSocket needs none."""

_BEARER = HTTPBearer(auto_error=False, description="An API key, or a token of `POST /v1/tokens`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
"""A bearer header, said in OpenAPI too."""

REFUSALS = (
    Unauthorized("The key or token is not valid, or no longer"),
    OriginRefused("Pages of this site may not use this service; TIMECONV_ALLOWED_ORIGINS lists those that may"),
)
"""What `admit` says of who may not enter."""


def admit(request: Request, given: Credentials) -> None:
    """Let a request in; its key is then in its state.

    Raises:
        OriginRefused, Unauthorized: see `key_of`.
    """
    request.state.key = key_of(request, None if given is None else given.credentials)


def key_of(connection: HTTPConnection, credential: str | None) -> ApiKey:
    """Whose key or token ``credential`` is.

    Raises:
        OriginRefused: a page of a site that is not allowed asks.
        Unauthorized: the credential is not valid.
    """
    check_origin(connection)
    return _engine(connection).access.by_key_or_token(credential)


def check_origin(connection: HTTPConnection) -> None:
    """Refuse pages of other sites; who sends no ``Origin`` is not a browser, or is a page of the ``Host``.

    Where no key is asked for and only this machine is let in, the host has to be this machine by its name: another name
    may be a page's own, made to point here (DNS rebinding).

    Raises:
        OriginRefused: the site is neither our own nor allowed.
    """
    origin, host = (connection.headers.get(name) for name in ("origin", "host"))
    engine = _engine(connection)
    allowed = set(listed(engine.settings.allowed_origins))
    if "*" in allowed:
        return
    is_guarded = not engine.access.keys.is_open or engine.settings.allow_anyone
    if not (host is None or is_guarded or _names_loopback(host) or host in {_host_of(site) for site in allowed}):
        raise OriginRefused(
            "Without keys this service answers to localhost and 127.0.0.1 only; sites of TIMECONV_ALLOWED_ORIGINS"
            " are the exception"
        )
    if origin is not None and _host_of(origin) != host and origin not in allowed:
        raise OriginRefused(
            "Pages of this site may not use this service; TIMECONV_ALLOWED_ORIGINS lists those that may"
        )


def _host_of(origin: str) -> str:
    return origin.partition("://")[2]


def _names_loopback(host: str) -> bool:
    """Whether a ``Host`` header, with a port or without, is this machine's own name or address."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return is_loopback(name.lower())


def bearer(connection: HTTPConnection) -> str | None:
    """The credential of the ``Authorization`` header."""
    scheme, _, credential = connection.headers.get("authorization", "").partition(" ")
    return credential.strip() if scheme.lower() == "bearer" and credential.strip() else None


def token_offered(connection: HTTPConnection) -> str | None:
    """The token among the subprotocols of an upgrade: browsers can set no header there."""
    offered: list[str] = connection.scope["subprotocols"]
    return next((name[len(AUTH_PREFIX) :] for name in offered if name.startswith(AUTH_PREFIX)), None)


def address_of(connection: HTTPConnection) -> str | None:
    """Whom a connection counts for by its address, which is what a trusted proxy says it is; see `origin_of`."""
    return None if connection.client is None else origin_of(connection.client.host)


@contextmanager
def session_place(
    engine: Engine, connection: HTTPConnection, key: ApiKey, resume_token: str | None = None
) -> Iterator[None]:
    """Hold a session's place: of its key, of its address, and of all there are.

    Who shows the ``resume_token`` of a session that is connected ends that connection and finds its places free.

    Raises:
        TooManySessions, AtCapacity: there is none.
        Unavailable: the service is stopping.
    """
    engine.drain.admit()
    with (
        engine.resumption.claimed(resume_token, key.identity),
        _place(engine.key_places, key.name, key.max_sessions),
        _place(engine.address_places, address_of(connection), engine.settings.max_sessions_per_address),
        engine.session_places.place(),
    ):
        yield


@contextmanager
def prediction_place(engine: Engine, connection: HTTPConnection, key: ApiKey) -> Iterator[TokenBucket | None]:
    """Hold a REST call's place: of its key, of its address, and of all there are.

    Gives the bucket of the key's frames, of which the first is taken; None if the key has no rate of its own.

    Raises:
        RateLimited: the key or the address has as many calls in work as it may, or the key's frames come too fast.
        Overloaded: there is no place.
    """
    limit = engine.settings.max_waiting_predictions_per_caller
    with (
        _place(engine.key_predictions, key.name or None, limit),
        _place(engine.address_predictions, address_of(connection), limit),
        engine.predict_places.place(),
    ):
        yield _frames_of(engine, key)


def _place(places: NamedPlaces, name: str | None, limit: int | None) -> AbstractContextManager[None]:
    """A place of a name; nothing where there is no name or limit."""
    return nullcontext() if name is None or limit is None else places.place(name, limit)


def _frames_of(engine: Engine, key: ApiKey) -> TokenBucket | None:
    if key.max_frames_per_s is None:
        return None
    now_s = engine.clock()
    frames = engine.key_frames.of(key, now_s, key.max_frames_per_s)  # By its limits too, which may change.
    if not frames.take(now_s):
        raise RateLimited(
            f"This key may send {key.max_frames_per_s:g} frames a second", retry_after_s=frames.wait_s(now_s)
        )
    return frames


class _Cors(CORSMiddleware):
    """CORS on some paths only."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass what is for another path on as it is."""
        handle = super().__call__ if scope.get("path") in PATHS_FOR_OTHER_SITES else self.app
        await handle(scope, receive, send)


def install(app: FastAPI, allowed_origins: str) -> None:
    """Let pages of allowed sites read what they may ask for."""
    if origins := listed(allowed_origins):
        app.add_middleware(
            _Cors,
            allow_origins=origins,
            allow_methods=["POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After", HEADER],
        )


def _engine(connection: HTTPConnection) -> Engine:
    engine: Engine = connection.app.state.engine
    return engine
