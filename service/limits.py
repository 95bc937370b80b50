"""Limits by rate, by name and by address. Used on the event loop only."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address

from service.errors import TimeConvError

_HOST_BITS_V6 = 64
"""Who has one IPv6 address has all that differ from it in these bits."""


class TokenBucket:
    """So many a second on average, and some seconds' worth at once (at least one)."""

    __slots__ = ("_burst", "_level", "_per_s", "_since_s")

    def __init__(self, per_s: float, now_s: float, *, burst_s: float = 1.0) -> None:
        """Full at ``now_s``, with what comes in ``burst_s``."""
        self._per_s = per_s
        self._burst = max(1.0, burst_s * per_s)
        self._level = self._burst
        self._since_s = now_s

    def take(self, now_s: float) -> bool:
        """Take one if there is one."""
        self._fill(now_s)
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def owe(self, now_s: float, count: int = 1) -> None:
        """Take so many whether there are any or not; `wait_s` says what that costs."""
        self._fill(now_s)
        self._level -= count

    def rest(self, now_s: float, seconds: float) -> None:
        """Let there be none for so long."""
        self._fill(now_s)
        self._level = min(self._level, 1 - seconds * self._per_s)

    def wait_s(self, now_s: float) -> float:
        """Seconds until there is one."""
        self._fill(now_s)
        return max(0.0, (1 - self._level) / self._per_s)

    def _fill(self, now_s: float) -> None:
        self._level = min(self._burst, self._level + (now_s - self._since_s) * self._per_s)
        self._since_s = now_s


class NamedRates:
    """A token bucket for each name; those that were asked for last are kept, so that no flood of names takes memory."""

    def __init__(self, per_s: float, *, burst_s: float, kept: int) -> None:
        """``kept``: how many; who is forgotten begins anew."""
        self._per_s = per_s
        self._burst_s = burst_s
        self._kept = kept
        self._buckets: dict[Hashable, TokenBucket] = {}

    def __len__(self) -> int:
        """Names that are kept."""
        return len(self._buckets)

    def of(self, name: Hashable, now_s: float, per_s: float | None = None) -> TokenBucket:
        """The bucket of ``name``, full if it is new; ``per_s`` if its rate is its own."""
        bucket = self._buckets.pop(name, None) or TokenBucket(per_s or self._per_s, now_s, burst_s=self._burst_s)
        self._buckets[name] = bucket  # At the end: a dict is in the order of its insertions.
        if len(self._buckets) > self._kept:
            del self._buckets[next(iter(self._buckets))]
        return bucket


class NamedPlaces:
    """How many places each name holds; a name that holds none takes no memory."""

    def __init__(self, full: Callable[[int], TimeConvError]) -> None:
        """``full(limit)`` is the error of a caller who finds none free."""
        self._full = full
        self._taken: Counter[str] = Counter()

    def __len__(self) -> int:
        """Names that hold a place."""
        return len(self._taken)

    @contextmanager
    def place(self, name: str, limit: int) -> Iterator[None]:
        """Hold one of the ``limit`` places of ``name``.

        Raises:
            TimeConvError: all are taken.
        """
        if self._taken[name] >= limit:
            self._forget(name)
            raise self._full(limit)
        self._taken[name] += 1
        try:
            yield
        finally:
            self._taken[name] -= 1
            self._forget(name)

    def _forget(self, name: str) -> None:
        if not self._taken[name]:
            del self._taken[name]


def origin_of(address: str) -> str | None:
    """Whom to count an address for: itself, or its /64 in IPv6; None for this machine, which is not counted."""
    try:
        ip = ip_address(address)
    except ValueError:
        return "unknown"  # Some proxy's word for it; all of them together.
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return None
    if isinstance(ip, IPv6Address):
        return str(IPv6Address(int(ip) >> _HOST_BITS_V6 << _HOST_BITS_V6))
    return str(ip)


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's alone, whatever name servers say."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
