"""The way from the event loop to the workers' threads."""

import asyncio

from service.inference.workers import WorkerPool
from service.session import Session


class Inlet:
    """Lines sessions up for a worker, with one wake-up for all that got ready in one turn of the event loop.

    A worker that is woken for the first of them would fight the loop, which is about to read the others, for the
    interpreter's lock.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: WorkerPool) -> None:
        """``pool`` is the one whose workers take the frames."""
        self._loop = loop
        self._pool = pool
        self._waiting: list[Session] = []

    def ready(self, session: Session) -> None:
        """A session has frames; one that is closed before its turn has none left."""
        if not self._waiting:
            self._loop.call_soon(self._line_up)
        self._waiting.append(session)

    def _line_up(self) -> None:
        sessions, self._waiting = self._waiting, []
        self._pool.ready(*(session for session in sessions if session.has_frames), kind="stream")
