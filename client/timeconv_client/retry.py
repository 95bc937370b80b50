"""When to try again. No I/O, no clock: times and chance are handed in."""

import math
from dataclasses import dataclass

from timeconv_client.errors import SessionError, TimeConvClientError

_SPREAD_OF_ASKED = 0.25
_FOR_EVER_S = 1e9  # A number, where most_s is none.
_ANOTHER_MAY_BEGIN = frozenset({"idle_timeout", "slow_reader"})
"""A session that ended so cannot go on, which is what its error says; but another can begin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """How a `LastingSession` tries to connect again.

    Attributes:
        first_s: the longest wait before the first attempt of an outage, in seconds; each is between half of it and all.
        factor: by how much the waits grow.
        most_s: the longest that they grow to. If the service asks for more (``retry_after_ms``) it gets it.
        give_up_after_s: an outage that would last longer than this ends the session with the last error; `math.inf`:
            never.
        start_within_s: the same for the very first connection; 0: it is tried once.
    """

    first_s: float = 0.25
    factor: float = 2.0
    most_s: float = 15.0
    give_up_after_s: float = 300.0
    start_within_s: float = 0.0

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            ValueError: a time is negative or not a number, or the waits would shrink.
        """
        times = (self.first_s, self.most_s, self.give_up_after_s, self.start_within_s)
        if not all(seconds >= 0 for seconds in times) or not self.factor >= 1 or math.isinf(self.first_s):
            raise ValueError(f"Times must be 0 s or more, and the factor 1 or more: {self}")


class Outage:
    """The time from when a connection ended, or was first wanted, to when there is one that serves."""

    def __init__(self, retry: Retry, *, since_s: float, limit_s: float) -> None:
        """It began at ``since_s`` of a steady clock, and is borne for ``limit_s``."""
        self.attempts = 0
        self._retry = retry
        self._longest_s = min(retry.first_s, retry.most_s)
        self._since_s = since_s
        self._limit_s = limit_s

    def wait_s(self, error: TimeConvClientError, now_s: float, chance: float) -> float | None:
        """Seconds to wait before the next attempt, or None to give up; ``chance`` is in [0, 1).

        It is given up where trying again cannot help, or would come too late. Many clients that lost the same service
        do not come back at the same moment: neither by their own waits nor by what they were asked to wait.
        """
        if not error.retryable and not (isinstance(error, SessionError) and error.code in _ANOTHER_MAY_BEGIN):
            return None
        asked_s = (error.retry_after_ms or 0) / 1000
        wait_s = max(self._longest_s * (1 + chance) / 2, asked_s * (1 + _SPREAD_OF_ASKED * chance))
        if now_s + wait_s - self._since_s > self._limit_s:
            return None
        self.attempts += 1
        self._longest_s = min(self._longest_s * self._retry.factor, self._retry.most_s, _FOR_EVER_S)
        return wait_s
