"""What is looked at once in a while: stuck workers, and sessions that stand still."""

import asyncio
import logging
from collections.abc import Callable

from service.inference.workers import WorkerPool
from service.sessions import Sessions

log = logging.getLogger(__name__)

EXIT_STUCK = 70
"""Exit status for a supervisor: internal software error (sysexits.h)."""


class Watchdog:
    """Checks the workers and the sessions.

    A call that is stuck in C cannot be ended from Python, so once one lasts over ``stuck_s`` its frames are answered
    ``failed``, health goes red, and the process ends for its supervisor to start anew.
    """

    def __init__(
        self,
        pool: WorkerPool,
        sessions: Sessions,
        *,
        stuck_s: float,
        exit_process: Callable[[int], None],
        on_stuck: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``exit_process(status)`` ends the process; it is called a grace time after the frames were answered.

        ``on_stuck`` hears how many workers are stuck or dead.
        """
        self._pool = pool
        self._sessions = sessions
        self._stuck_s = stuck_s
        self._exit_process = exit_process
        self._on_stuck = on_stuck

    @property
    def stuck(self) -> bool:
        """Whether a worker is stuck or dead."""
        return bool(self._pool.stuck(self._stuck_s))

    def check(self) -> bool:
        """Look once; whether the process has to end. Frames with a stuck worker are answered on the way."""
        try:
            self._sessions.sweep()
        except Exception:
            # The watch over the workers must go on whatever is wrong with a session.
            log.exception("Sessions could not be looked through")
        stuck = self._pool.stuck(self._stuck_s)
        if not stuck:
            return False
        self._on_stuck(len(stuck))
        for worker in stuck:
            log.critical("Worker is %s", worker.state, extra={"worker": worker.name, "busy_s": worker.busy_s})
        self._pool.fail_stuck(self._stuck_s)
        return True

    async def run(self, *, interval_s: float = 0.5, grace_s: float = 0.5) -> None:
        """Look every ``interval_s`` until something is stuck; then end the process ``grace_s`` later."""
        while not self.check():  # noqa: ASYNC110 - a stuck call tells no one; time is all there is to go by
            await asyncio.sleep(interval_s)
        await asyncio.sleep(grace_s)
        self._exit_process(EXIT_STUCK)
