"""Every error of the client, in one tree.

TimeConvClientError
├── BadAddress          not an address of a service
├── CannotConnect       nothing that speaks WebSocket answered there
├── ServerRefused       the service refused the connection, over HTTP, and said why
│   ├── Unauthorized    401: no key, or not a valid one
│   ├── Forbidden       403: this caller may not
│   ├── TooMany         429: as many sessions as this key or address may have
│   └── Unavailable     503: the service is full, or not ready
├── SessionError        the service ended the session with an `error` message
├── ConnectionLost      the connection ended without a word of why
├── ServiceStopping     the service stops, and said so: it takes no more frames of this session
├── SessionEnded        the session was closed in order; there is nothing more to send to
├── UpdateRefused       new options were refused; the session goes on with the old ones
├── TimedOut            it took longer than a timeout of the caller's; also a `TimeoutError`
└── ProtocolMismatch    the other side does not speak ``timeconv.v1``
"""

_RETRYABLE_CLOSE_CODES = frozenset({1001, 1006, 1012, 1013})


class TimeConvClientError(Exception):
    """Base of all errors of the client; ``retryable``: a new connection may fare better."""

    retryable: bool = False
    retry_after_ms: int | None = None


class BadAddress(TimeConvClientError):
    """The address cannot be one of a service: its scheme, host or port is wrong."""


class CannotConnect(TimeConvClientError):
    """No WebSocket came about: refused, unreachable, no such host, bad certificate, timed out, or not such a server."""

    retryable = True


class _Told(TimeConvClientError):
    """An error the service described: its ``code`` is for programs, its ``message`` for people."""

    def __init__(self, code: str, message: str, *, retryable: bool = False, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms


class ServerRefused(_Told):
    """Instead of a session came an HTTP error, ``status``, with its problem details (RFC 9457) if it has any."""

    def __init__(
        self, status: int, code: str, message: str, *, retryable: bool = False, retry_after_ms: int | None = None
    ) -> None:
        super().__init__(code, message, retryable=retryable, retry_after_ms=retry_after_ms)
        self.status = status


class Unauthorized(ServerRefused):
    """The service asks for a key, and none came or not a valid one."""


class Forbidden(ServerRefused):
    """The service does not serve this caller."""


class TooMany(ServerRefused):
    """This key or address has as many sessions as it may; ``retry_after_ms`` says when to ask again."""


class Unavailable(ServerRefused):
    """The service has no place now, or is not ready; ``retry_after_ms`` says when to ask again."""


class SessionError(_Told):
    """The service said ``error`` and closed the connection with ``close_code`` (1006: broken off before the close)."""

    def __init__(
        self, code: str, message: str, *, close_code: int, retryable: bool = False, retry_after_ms: int | None = None
    ) -> None:
        super().__init__(code, message, retryable=retryable, retry_after_ms=retry_after_ms)
        self.close_code = close_code


class UpdateRefused(_Told):
    """The service kept the old options, whole."""


class ConnectionLost(TimeConvClientError):
    """The connection ended without ``session.closed`` or ``error``; ``close_code`` 1006 stands for no close frame."""

    def __init__(self, close_code: int, reason: str = "") -> None:
        super().__init__(f"The connection was lost (close code {close_code}{f', {reason}' if reason else ''})")
        self.close_code = close_code
        self.reason = reason
        self.retryable = close_code in _RETRYABLE_CLOSE_CODES


class ServiceStopping(TimeConvClientError):
    """The service stops, and takes no more frames; those sent are answered.

    ``resume_token``: for `connect`, if the session can go on elsewhere.
    """

    retryable = True

    def __init__(self, resume_token: str | None = None) -> None:
        super().__init__("The service stops")
        self.resume_token = resume_token


class SessionEnded(TimeConvClientError):
    """The session is closed, or closing, at this side's wish."""


class TimedOut(TimeConvClientError, TimeoutError):
    """Something took longer than the caller allowed it to take."""


class ProtocolMismatch(TimeConvClientError):
    """A message that is not one of ``timeconv.v1``, or comes where none may."""
