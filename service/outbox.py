"""The way from the workers' threads back to the event loop."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from service.inference.scheduler import Delivery

log = logging.getLogger(__name__)


class Outbox:
    """Runs deliveries on the event loop, in the order they were posted, with one wake-up for all that came together.

    Bounded by what posts to it: each delivery answers a frame or window that was in a bounded queue before.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """``loop`` is the one that deliveries run on."""
        self._loop = loop
        self._waiting: deque[Delivery] = deque()
        self._woken = False

    def post(self, deliveries: Sequence[Delivery]) -> None:
        """Have the deliveries run soon; from any thread. After the loop has ended this is nothing."""
        if not deliveries:
            return
        self._waiting.extend(deliveries)
        # Two threads that both find it unset wake the loop twice, which costs a little and loses nothing.
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                log.debug("The event loop has ended; %d answers have no one to go to", len(self._waiting))

    def _deliver(self) -> None:
        # Unset before the queue is read: what is posted from here on is either seen below or wakes the loop anew.
        self._woken = False
        while self._waiting:
            delivery = self._waiting.popleft()
            try:
                delivery()
            except Exception:
                # The edge of every worker's answer: one that cannot be delivered must not lose the others.
                log.exception("An answer could not be delivered")
