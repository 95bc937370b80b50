"""What connections may do before and below a message, and how many of them there may be.

One `Gate` stands before all connections of a service: `service.http` and `service.websocket` ask it. It is used on the
event loop only.
"""

import time
from collections import Counter
from collections.abc import Callable

from service.budget import Budget
from service.errors import TimeConvError, TooManyConnections
from service.limits import origin_of
from service.settings import Settings


class Gate:
    """Limits and counts of connections. Refusing costs no more than a look at two numbers."""

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
        self._small_frames_per_s = settings.max_small_frames_per_s
        self._limit = settings.max_connections
        self._limit_per_address = settings.max_connections_per_address
        self._refused = refused
        self._clock = clock
        self._open: Counter[str | None] = Counter()
        self.connections = 0
        """Connections that are open."""

    def small_frames(self) -> Budget:
        """The budget of a new WebSocket for its small frames."""
        return Budget(self._small_frames_per_s, self._clock)

    def full(self, address: str) -> TooManyConnections | None:
        """Why no more connections from ``address`` may be opened, if that is so; this machine's own are not counted."""
        origin = origin_of(address)
        if origin is not None and self._open[origin] >= self._limit_per_address:
            return TooManyConnections(f"{self._limit_per_address} connections of this address are open: no more are")
        if self.connections >= self._limit:
            return TooManyConnections(f"{self._limit} connections are open, which is as many as this service takes")
        return None

    def enter(self, address: str) -> None:
        """Count a connection."""
        self._open[origin_of(address)] += 1
        self.connections += 1

    def leave(self, address: str) -> None:
        """Count it no more."""
        origin = origin_of(address)
        self.connections -= 1
        self._open[origin] -= 1
        if not self._open[origin]:
            del self._open[origin]

    def refuse(self, error: TimeConvError) -> None:
        """Count a refusal."""
        if self._refused is not None:
            self._refused(error.code)
