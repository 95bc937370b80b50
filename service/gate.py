"""What connections may do before and below a message, and how many of them there may be.

One `Gate` stands before all connections of a service: `service.http` and `service.websocket` ask it. It is used on the
event loop only.
"""

import time
from collections import Counter
from collections.abc import Callable

from uvicorn.middleware.proxy_headers import _TrustedHosts

from service.errors import HeaderTooLarge, RateLimited, TimeConvError, TooManyConnections
from service.limits import NamedRates, TokenBucket, origin_of
from service.settings import Settings

_BURST_S = 2.0
"""So many seconds' worth of small frames, or of connections, may come at once."""
_PENALTY_S = 1.0
"""How long an address from which a limit was broken opens no connection: each would come with new budgets."""
_ADDRESSES_KEPT = 4096


class Gate:
    """Limits and counts of connections. Refusing costs no more than a look at three numbers."""

    goodbye_s = 1.0
    """How long a client gets to take what ends its connection."""

    def __init__(
        self,
        settings: Settings,
        *,
        refused: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``refused`` is told the code of each refusal; ``clock``: seconds, monotonic."""
        self.handshake_timeout_s = settings.handshake_timeout_ms / 1000
        self.blocked_timeout_s = settings.blocked_timeout_ms / 1000
        self.max_header_bytes = settings.max_header_bytes
        self.max_text_bytes = settings.max_text_bytes
        self._small_frames_per_s = settings.max_small_frames_per_s
        self._limit = settings.max_connections
        self._limit_per_address = settings.max_connections_per_address
        self._new = NamedRates(settings.max_new_connections_per_s, burst_s=_BURST_S, kept=_ADDRESSES_KEPT)
        self._proxies = _TrustedHosts(settings.trusted_proxies)  # Read as uvicorn reads them, who believes them.
        self._refused = refused
        self.clock = clock
        self._open: Counter[str | None] = Counter()
        self.connections = 0
        """Connections that are open."""

    def small_frames(self) -> TokenBucket:
        """What a new WebSocket may send of small frames."""
        return TokenBucket(self._small_frames_per_s, self.clock(), burst_s=_BURST_S)

    def counted_origin(self, address: str) -> str | None:
        """Whom a connection from ``address`` counts for; None for this machine and for proxies, who carry many."""
        return None if address in self._proxies else origin_of(address)

    def refusal(self, address: str) -> TooManyConnections | None:
        """Why one more connection from ``address`` may not be opened, if that is so."""
        if self.connections >= self._limit:
            return TooManyConnections(f"{self._limit} connections are open, which is as many as this service takes")
        origin = self.counted_origin(address)
        if origin is None:
            return None
        if self._open[origin] >= self._limit_per_address:
            return TooManyConnections(f"{self._limit_per_address} connections of this address are open: no more are")
        if not self._new.of(origin, self.clock()).take(self.clock()):
            return TooManyConnections("This address opens connections faster than it may, or broke a limit just now")
        return None

    def enter(self, address: str) -> None:
        """Count a connection."""
        self._open[self.counted_origin(address)] += 1
        self.connections += 1

    def leave(self, address: str) -> None:
        """Count it no more."""
        origin = self.counted_origin(address)
        self.connections -= 1
        self._open[origin] -= 1
        if not self._open[origin]:
            del self._open[origin]

    def refuse(self, error: TimeConvError, address: str) -> None:
        """Count a refusal; what costs the service much costs the address a moment."""
        origin = self.counted_origin(address)
        if origin is not None and isinstance(error, RateLimited | HeaderTooLarge):
            self._new.of(origin, self.clock()).rest(self.clock(), _PENALTY_S)
        if self._refused is not None:
            self._refused(error.code)
