"""What both kinds of session share: events that wait for who iterates, and how it ends. Belongs to one event loop."""

import asyncio
from collections import deque
from typing import Generic, NoReturn, Self, TypeVar

from timeconv_client.errors import SessionEnded, TimeConvClientError

E = TypeVar("E")
C = TypeVar("C")

EVENT_BUFFER = 1024


class Iterated(Generic[E, C]):
    """Events of type ``E``, then the end: in order, as ``C`` tells, or an error, which is raised after the events."""

    def __init__(self) -> None:
        """It is open, and nothing has come."""
        self._events: deque[E] = deque()
        self._closing = False
        self._closed: C | None = None
        self._error: TimeConvClientError | None = None
        self._error_was_raised = False
        # Wake-ups only; who is woken looks at the state itself.
        self._event_came = asyncio.Event()
        self._event_taken = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether it has neither ended nor been closed."""
        return not self._closing and self._error is None and self._closed is None

    def __aiter__(self) -> Self:
        """The session is its own iterator; of several tasks that iterate, each event goes to one."""
        return self

    async def __anext__(self) -> E:
        """The next event. Cancelling it loses none."""
        while not self._events:
            if self._closed is not None:
                raise StopAsyncIteration
            if self._error is not None:
                self._raise_error(self._error)
            self._event_came.clear()
            await self._event_came.wait()
        self._event_taken.set()
        return self._events.popleft()

    async def close(self) -> C:
        """End it in order."""
        raise NotImplementedError

    async def _leave(self) -> None:
        """End in order a session nobody ended; an error that nobody has been told is raised."""
        if self._closed is None and not self._error_was_raised:
            await self.close()

    def _emit(self, event: E) -> None:
        self._events.append(event)
        self._event_came.set()

    def _is_full(self) -> bool:
        """Whether so many events wait that no more are to come; once it closes only few can."""
        return len(self._events) >= EVENT_BUFFER and not self._closing

    def _require_open(self) -> None:
        if self._error is not None:
            self._raise_error(self._error)
        if self._closing or self._closed is not None:
            raise SessionEnded("The session is closed")

    def _raise_error(self, error: TimeConvClientError) -> NoReturn:
        self._error_was_raised = True
        raise error
