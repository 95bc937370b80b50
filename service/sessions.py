"""The sessions that are connected, and which of them have stood still for too long."""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from service.access import ApiKey
from service.errors import IdleTimeout, SessionTooLong, SlowReader, TimeConvError, Unauthorized
from service.session import Session


class Connection(Protocol):
    """A session and the transport it speaks through."""

    @property
    def session(self) -> Session:
        """The session."""
        ...

    @property
    def key(self) -> ApiKey:
        """With which it was opened."""
        ...

    def expel(self, error: TimeConvError) -> None:
        """End the session with ``error``, soon."""
        ...

    def renew(self) -> None:
        """Go over to the network that has taken over from the session's, if one has."""
        ...

    def go_away(self, time_left_s: float) -> None:
        """Tell the client that its session will be closed in ``time_left_s``."""
        ...

    def finish(self) -> None:
        """Close the session in order: frames received are answered, no more are taken."""
        ...


class Sessions:
    """All connected sessions."""

    def __init__(
        self,
        *,
        blocked_timeout_s: float,
        idle_timeout_s: float,
        clock: Callable[[], float],
        longest_s: float = math.inf,
        knows: Callable[[ApiKey], bool] = lambda _: True,
    ) -> None:
        """A session blocked by its client, or silent, for longer than its timeout is expelled by `sweep`.

        So is one that has lasted for ``longest_s``, or whose key is not one that the service still ``knows``.
        """
        self._blocked_timeout_s = blocked_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._clock = clock
        self._longest_s = longest_s
        self._knows = knows
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __iter__(self) -> Iterator[Connection]:
        """All connections."""
        return iter(self._connections)

    async def all_left(self) -> None:
        """Wait until nobody is connected."""
        await self._empty.wait()

    @contextmanager
    def connected(self, connection: Connection) -> Iterator[None]:
        """Count and watch a connection."""
        self._connections.add(connection)
        self._empty.clear()
        try:
            yield
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._empty.set()

    def sweep(self) -> None:
        """Expel the sessions that have stood still, or lasted, for too long, and those whose key was taken away."""
        now_s = self._clock()
        for connection in list(self._connections):
            session = connection.session
            blocked_s = session.blocked_since_s
            if not self._knows(connection.key):
                connection.expel(Unauthorized("The key of this session is no longer valid"))
            elif blocked_s is not None and now_s - blocked_s > self._blocked_timeout_s:
                connection.expel(SlowReader(f"No answer was read for {self._blocked_timeout_s:g} s"))
            elif now_s - session.last_activity_s > self._idle_timeout_s:
                connection.expel(IdleTimeout(f"Neither frame nor answer for {self._idle_timeout_s:g} s"))
            elif now_s - session.started_s > self._longest_s:
                connection.expel(SessionTooLong(f"A session lasts {self._longest_s:g} s at most; open another"))

    @property
    def active(self) -> int:
        """Connected sessions whose client reads its answers."""
        return len(self._connections) - self.blocked

    @property
    def blocked(self) -> int:
        """Connected sessions whose client does not read its answers."""
        return sum(connection.session.blocked_since_s is not None for connection in self._connections)

    @property
    def in_flight(self) -> int:
        """Frames received whose outcome is not sent, of all sessions."""
        return sum(connection.session.in_flight for connection in self._connections)
