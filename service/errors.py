"""Every error the service can answer with, in one tree.

TimeConvError
├── BadRequest                 the caller can mend it
│   ├── BadOption              an unknown or impossible session option
│   ├── UnknownModel           no such model or version in the store
│   ├── BadMessage             a text message that is not of the protocol
│   ├── BadImage               bytes that are no picture we take, with a ``reason``
│   │   └── ImageTooLarge      more bytes or pixels than the limits allow
│   ├── NoSuchStream           a WebSocket to another path
│   ├── BadBody                a REST body that is not a prediction's
│   ├── ClientGone             a caller that left before its request was read, or its session opened
│   ├── BadHttp                bytes that are no HTTP request
│   ├── BadUpgrade             an upgrade to a WebSocket at the wrong time
│   ├── TooLarge               a REST body over its limit
│   ├── HeaderTooLarge         a request's header, or what frames its body, over its limit
│   ├── HandshakeTimeout       no whole request header in time
│   ├── RateLimited            more than a caller may send, or ask for at once; it may again after a moment
│   ├── FrameRefused           one frame of a REST call is bad; says which
│   ├── SlowReader             the client does not read its answers
│   ├── ResumedElsewhere       another connection goes on with the session
│   ├── IdleTimeout            nothing was said for too long
│   ├── Unauthorized           no valid key or token
│   ├── AdminOnly              a valid one, but not an admin's key
│   └── OriginRefused          a page of another site
├── Unavailable                true now, perhaps not in a moment
│   ├── Overloaded             a bounded queue is full
│   ├── TooManyConnections     as many as the settings allow, in all or from one address
│   ├── AtCapacity             as many sessions as the settings allow
│   ├── TooManySessions        as many as this key or address may have
│   ├── SessionTooLong         the session has lasted its longest
│   ├── TimedOut               no answer within the deadline
│   └── GoingAway              the service is stopping
├── BadConfiguration           settings that cannot be served under
└── EngineError                our fault
    ├── RunnerFailed           the network raised, or answered nonsense
    ├── ModelDamaged           a model file that is not what its manifest says
    └── DeviceUnavailable      the device that was asked for cannot be had

Each class owns its wire ``code``, WebSocket ``close_code`` (RFC 6455, section 7.4), HTTP ``status`` and whether
trying the same thing again may help; the code is the label in metrics too.
"""

import math
from collections.abc import Iterator
from typing import ClassVar

_MOST_TOLD = 1000
"""Characters of a message; none of our own has as many, but what a client sent may stand in it."""


class TimeConvError(Exception):
    """The service failed in a way it did not foresee.

    Base of all its errors; ``str(error)`` is fit to be shown to the caller.
    """

    code: ClassVar[str] = "internal"
    close_code: ClassVar[int] = 1011
    status: int = 500
    retryable: ClassVar[bool] = False
    retry_after_ms: int | None = None

    @property
    def told(self) -> str:
        """The message as a caller is told it: text, whatever it quotes, and not the megabytes that he sent."""
        text = str(self)[: _MOST_TOLD + 1].encode(errors="replace").decode()
        return text if len(text) <= _MOST_TOLD else f"{text[:_MOST_TOLD]}…"


class BadRequest(TimeConvError):
    """The request cannot be served as it is; the caller can mend it."""

    code = "bad_request"
    close_code = 1008
    status = 422


class BadOption(BadRequest):
    """An option is unknown, out of range, or impossible together with another."""

    code = "bad_option"


class UnknownModel(BadRequest):
    """The model store has no such network, or not in that version."""

    code = "unknown_model"


class BadMessage(BadRequest):
    """A text message that is not JSON of the protocol."""

    code = "bad_message"


class BadImage(BadRequest):
    """Bytes that are not a JPEG the service can read.

    ``reason`` is one of ``empty``, ``timestamp_missing``, ``not_jpeg``, ``corrupt``, ``unsupported``, ``too_large``.
    """

    code = "bad_image"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ImageTooLarge(BadImage):
    """A picture of more bytes or pixels than the limits allow; it was not decoded."""

    status = 413

    def __init__(self, message: str) -> None:
        super().__init__("too_large", message)


class NoSuchStream(BadRequest):
    """A WebSocket was opened to a path that has none."""

    code = "not_found"
    status = 404


class BadBody(BadRequest):
    """A REST body of another type, damaged, or with another number of frames."""

    code = "bad_body"


class ClientGone(BadRequest):
    """A caller left before its request was read, or its session opened; nobody hears this but the metrics."""

    code = "client_gone"
    status = 400


class TooLarge(BadRequest):
    """A REST body over its limit; it was not read to its end."""

    code = "too_large"
    status = 413


class BadHttp(BadRequest):
    """What came on a connection is no HTTP request."""

    code = "bad_http"
    status = 400


class BadUpgrade(BadRequest):
    """An upgrade to a WebSocket while an answer on the same connection is under way."""

    code = "bad_upgrade"
    status = 400


class HeaderTooLarge(BadRequest):
    """A request's header, or what frames its body, is over its limit; nothing more is read."""

    code = "header_too_large"
    status = 431


class HandshakeTimeout(BadRequest):
    """A connection has not sent the whole header of a request in time."""

    code = "handshake_timeout"
    status = 408


class RateLimited(BadRequest):
    """A caller sends more than it may at once; it may again after a moment.

    On a connection, more small frames or requests ahead of their answers: another may come. Over REST, more frames a
    second or more calls at once than its key or address has.
    """

    code = "rate_limited"
    status = 429
    retryable = True
    retry_after_ms = 1000

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        if retry_after_s is not None:
            self.retry_after_ms = math.ceil(retry_after_s * 1000)


class FrameRefused(BadRequest):
    """The frame at ``index`` of a REST call is not a picture we take; ``reason`` as in `BadImage`."""

    code = "bad_image"

    def __init__(self, index: int, error: BadImage) -> None:
        super().__init__(f"Frame {index}: {error}")
        self.index = index
        self.reason = error.reason
        self.status = error.status


class SlowReader(BadRequest):
    """The client has not read its answers for too long."""

    code = "slow_reader"


class ResumedElsewhere(BadRequest):
    """Another connection showed the session's resume token, and goes on with it."""

    code = "resumed_elsewhere"


class IdleTimeout(BadRequest):
    """Neither a frame nor an answer for too long."""

    code = "idle_timeout"


class Unauthorized(BadRequest):
    """No API key or token, or none that is valid."""

    code = "unauthorized"
    status = 401


class AdminOnly(BadRequest):
    """What is asked for takes the key of an admin; a token is never one, nor anyone where there are no keys."""

    code = "admin_only"
    status = 403


class OriginRefused(BadRequest):
    """A browser asks for a page of a site that is not allowed to."""

    code = "origin_refused"
    status = 403


class Unavailable(TimeConvError):
    """The service cannot answer now; the same request may succeed later."""

    code = "unavailable"
    close_code = 1013
    status = 503
    retryable = True
    retry_after_ms = 1000


class Overloaded(Unavailable):
    """A bounded queue is full; nothing was queued."""

    code = "overloaded"


class TooManyConnections(Unavailable):
    """As many connections are open, in all or from one address, as the settings allow."""

    code = "too_many_connections"
    retry_after_ms = 5000


class AtCapacity(Unavailable):
    """As many sessions are connected as the settings allow."""

    code = "at_capacity"
    retry_after_ms = 5000


class TooManySessions(Unavailable):
    """As many sessions are connected as this key or this address may have."""

    code = "too_many_sessions"
    status = 429
    retry_after_ms = 5000


class SessionTooLong(Unavailable):
    """The session has lasted as long as one may; another can be opened at once."""

    code = "session_too_long"


class TimedOut(Unavailable):
    """The answer did not come within the deadline."""

    code = "timeout"
    status = 504


class GoingAway(Unavailable):
    """The service is stopping."""

    code = "going_away"
    close_code = 1001


class BadConfiguration(TimeConvError):
    """Settings that contradict each other, or files of theirs that are damaged: the service does not start."""

    code = "bad_configuration"


class EngineError(TimeConvError):
    """The engine failed; the request was in order."""

    code = "failed"


class RunnerFailed(EngineError):
    """The network raised, or returned a wrong shape or a number that is not finite."""


class ModelDamaged(EngineError):
    """A model file is missing, or is not what its manifest says."""

    code = "model_damaged"


class DeviceUnavailable(EngineError):
    """The device that the settings ask for cannot be used; the message names what is missing."""

    code = "device_unavailable"


def kinds() -> Iterator[type[TimeConvError]]:
    """Every class of the tree, each before those under it."""

    def below(kind: type[TimeConvError]) -> Iterator[type[TimeConvError]]:
        yield kind
        for one in kind.__subclasses__():
            yield from below(one)

    return below(TimeConvError)


def codes() -> list[str]:
    """Every code that an answer can have."""
    return sorted({kind.code for kind in kinds()})
