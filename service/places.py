"""Admission: a bounded number of callers at once, answered at once, never made to wait."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import Unavailable


class Places:
    """As many places as callers may be served at once. Used on the event loop only."""

    def __init__(self, limit: int, full: Callable[[int], Unavailable]) -> None:
        """``full(limit)`` is the error of a caller who finds none free."""
        self._limit = limit
        self._full = full
        self._taken = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            Unavailable: all are taken.
        """
        if self._taken >= self._limit:
            raise self._full(self._limit)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
