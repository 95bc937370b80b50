"""The search for the highest load that still meets its thresholds, and for the knee of a curve. No I/O."""

import math
from collections.abc import Callable, Sequence

_MOST_STEPS = 12
_KNEE_RISE = 2.0


def highest(meets: Callable[[float], bool], growth: float, resolution: float) -> float | None:
    """The highest scale for which ``meets`` is true, as far as it has been asked; None if it never was.

    It begins at 1 and multiplies by ``growth`` until ``meets`` is false (or divides until it is true), at most
    `_MOST_STEPS` times; then it halves the ratio between the two until that is at most 1 + ``resolution``.
    """
    good, bad = _bracket(meets, growth)
    if good is None or bad is None:
        return good
    while bad / good > 1 + resolution:
        middle = math.sqrt(good * bad)
        if meets(middle):
            good = middle
        else:
            bad = middle
    return good


def _bracket(meets: Callable[[float], bool], growth: float) -> tuple[float | None, float | None]:
    """A scale that is met and a higher one that is not, one step of ``growth`` apart; None for what was not found."""
    if meets(1.0):
        for step in range(1, _MOST_STEPS + 1):
            if not meets(growth**step):
                return growth ** (step - 1), growth**step
        return growth**_MOST_STEPS, None
    for step in range(1, _MOST_STEPS + 1):
        if meets(growth**-step):
            return growth**-step, growth ** (1 - step)
    return None, growth**-_MOST_STEPS


def knee(loads: Sequence[float], latencies: Sequence[float]) -> float | None:
    """The load from which on latency rises faster than load: where the curve is furthest under its chord.

    That is Kneedle (Satopää et al., *Finding a "Kneedle" in a Haystack*, ICDCSW 2011) without its smoothing, as each
    point is of many frames already. ``loads`` ascend. None where there are fewer than three, where latency does not
    even double, or where it rises fastest at the beginning: then there is no knee among these loads.
    """
    if len(loads) < 3 or latencies[-1] < _KNEE_RISE * latencies[0]:
        return None
    if loads[-1] == loads[0]:
        return None
    across, up = loads[-1] - loads[0], latencies[-1] - latencies[0]
    under_chord = [
        (load - loads[0]) / across - (latency - latencies[0]) / up
        for load, latency in zip(loads, latencies, strict=True)
    ]
    furthest = under_chord.index(max(under_chord))
    return loads[furthest] if under_chord[furthest] > 0 else None
