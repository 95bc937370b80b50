"""From what a user types to the URL of a session. No I/O."""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import SplitResult, urlencode, urlsplit

from timeconv_client.errors import BadAddress

STREAM_PATH = "/v1/stream"
_SCHEMES = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}


def stream_url(address: str, options: Mapping[str, object]) -> str:
    """URL of a session at ``address``, with the options that are not None as its query.

    ``http`` and ``https`` become ``ws`` and ``wss``; the path may be left out, or be the prefix the service is behind.

    Raises:
        BadAddress: the scheme is another, the host is missing, or the port is none.
    """
    parts = _split(address)
    path = parts.path.rstrip("/")
    query = urlencode({name: _query_value(value) for name, value in options.items() if value is not None})
    return SplitResult(
        _SCHEMES[parts.scheme],
        parts.netloc,
        path if path.endswith(STREAM_PATH) else path + STREAM_PATH,
        "&".join(part for part in (parts.query, query) if part),
        "",
    ).geturl()


def shown(address: str) -> str:
    """The address as it may be told: without user, password and query."""
    return re.sub("//.*@", "//", address.partition("?")[0])


def is_loopback(url: str) -> bool:
    """Whether the host is this machine, which no proxy can reach for us."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _split(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        if parts.scheme in _SCHEMES and parts.hostname and parts.port != 0:
            parts.hostname.encode("idna")  # What no name service can be asked for raises.
            return parts
    except ValueError:  # It may quote a password.
        pass
    raise BadAddress(
        f"Not an address: {shown(address)!r}; it looks like ws://127.0.0.1:8000 or https://faces.example.org"
    ) from None


def _query_value(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
