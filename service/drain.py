"""The end of the service in order: clients are told, answered, and sent away one after the other."""

import asyncio
import logging

from service.errors import GoingAway, Unavailable
from service.sessions import Sessions

log = logging.getLogger(__name__)

_FIRST_CLOSE, _LAST_CLOSE = 0.5, 0.9
"""Between these parts of the time sessions are closed, evenly spread: before, clients may leave by themselves; after,
the last answers are sent."""


class Drain:
    """Empties the service of its sessions, within a time."""

    def __init__(self, sessions: Sessions, *, time_s: float) -> None:
        """``time_s``: longest that `run` takes."""
        self._sessions = sessions
        self._time_s = time_s
        self.begun = False

    def admit(self) -> None:
        """Let a session in.

        Raises:
            Unavailable: the service is stopping.
        """
        if self.begun:
            raise Unavailable("The service is stopping")

    async def run(self, hurry: asyncio.Event) -> None:
        """Send all sessions away; done when none is left, the time is over or ``hurry`` is set.

        Each is told at once when it will be closed, and answered until then. Whoever is left at the end, since it does
        not read its answers or because of ``hurry``, is cut off with the error `GoingAway`.
        """
        self.begun = True
        loop = asyncio.get_running_loop()
        leaving = list(self._sessions)
        log.info("Stopping; %d sessions are sent away within %g s", len(leaving), self._time_s)
        closes: list[asyncio.TimerHandle] = []
        for number, connection in enumerate(leaving, 1):
            time_left_s = self._time_s * (_FIRST_CLOSE + (_LAST_CLOSE - _FIRST_CLOSE) * number / len(leaving))
            connection.go_away(time_left_s)
            closes.append(loop.call_later(time_left_s, connection.finish))
        waits = {asyncio.create_task(self._sessions.all_left()), asyncio.create_task(hurry.wait())}
        try:
            await asyncio.wait(waits, timeout=self._time_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            for close in closes:
                close.cancel()
        if rest := list(self._sessions):
            log.warning("%d sessions are cut off", len(rest))
        for connection in rest:
            connection.expel(GoingAway("The service stops"))
