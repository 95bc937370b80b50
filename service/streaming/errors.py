"""Why a clip could not be streamed, in words for the user of the command."""

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from websockets.exceptions import InvalidMessage

from service.streaming.lines import printable
from timeconv_client import (
    BadAddress,
    CannotConnect,
    ConnectionLost,
    ServerRefused,
    ServiceStopping,
    SessionError,
    TimeConvClientError,
    Unauthorized,
)

if TYPE_CHECKING:
    from service.streaming.summary import Summary

FAILED = 1
USAGE = 2
_USAGE_CODES = frozenset({"bad_option", "unknown_model"})


class StreamError(Exception):
    """Streaming failed. ``str(error)`` says why and what to do; ``exit_code`` is 2 if the arguments were wrong, else 1.

    ``summary`` is of what was done before, if a session had begun.
    """

    def __init__(self, message: str, *, exit_code: int = FAILED, summary: "Summary | None" = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.summary = summary


class ClipError(StreamError):
    """The clip itself cannot be read; another may be."""


def require_utf8(path: Path) -> None:
    """Check that OpenCV and pyarrow can be told of a file; OpenCV crashes on other names.

    Raises:
        ClipError: the name has bytes that are no text.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ClipError(f"Give this file a name in UTF-8: {printable(str(path))}", exit_code=USAGE) from error


def cannot_write(path: Path, error: OSError, exit_code: int = FAILED) -> StreamError:
    """A file of results could not be opened (a wrong argument), or not be written to its end."""
    return StreamError(f"Cannot write {path}: {error.strerror or error}", exit_code=exit_code)


def require_writable(path: Path) -> None:
    """Check now that a file can be written whose content comes last. What is in it stays.

    Raises:
        StreamError: it cannot.
    """
    try:
        path.open("ab").close()
    except OSError as error:
        raise cannot_write(path, error, USAGE) from error


def _what_to_try(error: CannotConnect) -> str:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "If you trust this certificate, name its file in SSL_CERT_FILE."
    if isinstance(cause, ssl.SSLError):
        return "Perhaps no TLS is spoken there: try http:// instead of https://."
    if isinstance(cause, InvalidMessage):
        return "That is no TimeConv, or TLS is spoken there: try https:// instead of http://."
    return "Start a service with `timeconv serve`, or give the address of one with --url."


def explain(error: TimeConvClientError, summary: "Summary | None" = None) -> StreamError:
    """The client's error with what to do about it."""
    message, exit_code = str(error), FAILED
    match error:
        case BadAddress():
            exit_code = USAGE
        case CannotConnect():
            message += f"\n{_what_to_try(error)}"
        case SessionError(code=code) if code in _USAGE_CODES:
            exit_code = USAGE
            if code == "unknown_model":
                message += "\n`timeconv models` lists the networks; --model takes a name or name@version."
        case Unauthorized():
            message += "\nGive a key with --key or TIMECONV_KEY; `timeconv key NAME` makes one for the service's file."
        case SessionError() | ServerRefused() | ConnectionLost() | ServiceStopping() if error.retryable:
            seconds = "" if error.retry_after_ms is None else f" in {error.retry_after_ms / 1000:g} s"
            message += f"\nIt may pass: try again{seconds}."
        case _:
            pass
    return StreamError(message, exit_code=exit_code, summary=summary)
