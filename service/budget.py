"""A token bucket: how much of something may be done in bursts, and how much in the long run."""

from collections.abc import Callable


class Budget:
    """Tokens that come back at a steady rate, up to two seconds' worth."""

    __slots__ = ("_clock", "_full", "_left", "_rate", "_since_s")

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        """``rate``: tokens a second; ``clock``: seconds, monotonic."""
        self._rate = rate
        self._full = self._left = 2 * rate
        self._clock = clock
        self._since_s = clock()

    def spend(self) -> bool:
        """Take a token; whether there was one."""
        now_s = self._clock()
        self._left = min(self._full, self._left + self._rate * (now_s - self._since_s))
        self._since_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
