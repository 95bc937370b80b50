"""Probabilities over time: less flicker, at the price of lag.

Exponential smoothing by a time constant, so that it does the same at any frame rate and between frames that come
irregularly, and hysteresis for the label, so that two emotions that are about as likely do not take turns.
"""

import math
from collections.abc import Hashable, Sequence

HYSTERESIS = 0.1
"""By how much the smoothed probability of another emotion must be higher before it takes over."""


class Smoothing:
    """The smoothed probabilities of one face. Begins anew with another face or network, and after a gap."""

    def __init__(self, gap_reset_s: float, margin: float = HYSTERESIS) -> None:
        """``gap_reset_s``: a longer time between two predictions is a gap; ``margin``: see `HYSTERESIS`."""
        self._gap_reset_s = gap_reset_s
        self._margin = margin
        self._of: Hashable = None
        self._smoothed: list[float] = []
        self._winner = 0
        self._time_s = -math.inf

    def clear(self) -> None:
        """Begin anew."""
        self._of = None

    def push(
        self, probabilities: Sequence[float], *, of: Hashable, time_s: float, constant_s: float
    ) -> tuple[Sequence[float], int]:
        """Smoothed probabilities, and the index of the emotion that is shown.

        ``of``: whose they are, and by which network. ``time_s``: of the frame. After ``constant_s`` a step has moved
        them by 1 - 1/e of its height.
        """
        passed_s = time_s - self._time_s
        goes_on = of == self._of and 0 <= passed_s <= self._gap_reset_s
        self._of, self._time_s = of, time_s
        if not goes_on:
            self._smoothed = list(probabilities)
            self._winner = _highest(self._smoothed)
            return self._smoothed, self._winner
        share = -math.expm1(-passed_s / constant_s)
        self._smoothed = [old + share * (new - old) for old, new in zip(self._smoothed, probabilities, strict=True)]
        best = _highest(self._smoothed)
        if self._smoothed[best] >= self._smoothed[self._winner] + self._margin:
            self._winner = best
        return self._smoothed, self._winner


def _highest(probabilities: Sequence[float]) -> int:
    return max(range(len(probabilities)), key=probabilities.__getitem__)
