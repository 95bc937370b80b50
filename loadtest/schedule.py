"""When each frame is due. Fixed before the first is sent, so that no answer, early or late, moves the next."""

import numpy as np
from numpy.typing import NDArray

from loadtest.plan import Load


def due_s(load: Load, group: int, session: int) -> NDArray[np.float64]:
    """When the frames of one session are due: seconds from the start, ascending, from 0 to ``load.end_s``.

    It depends on the load's seed and the session's place in the load, not on the process that plays it.
    """
    random = np.random.default_rng((load.seed, group, session))
    rate = load.groups[group].frames_per_s
    if load.groups[group].arrival == "metronome":
        # Clients that are switched on at random: in lockstep their frames would all come at once.
        return np.arange(random.random() / rate, load.end_s, 1 / rate)
    # Given their number, the arrivals of a Poisson process are independent and uniform.
    return np.sort(random.uniform(0.0, load.end_s, random.poisson(rate * load.end_s)))


def frames_due(load: Load) -> int:
    """Frames in the schedules of all sessions together."""
    return sum(
        len(due_s(load, place, session)) for place, group in enumerate(load.groups) for session in range(group.sessions)
    )
