"""When each frame of a file is shown: by the container's time stamps, or by its rate where these make no sense."""

import math

LONGEST_PAUSE_US = 60_000_000
"""Stamps may leave this much between two frames (a still screen, recorded); more than that is damage."""


class FrameTimes:
    """Microseconds since the first frame, which always grow.

    A stamp that repeats, goes back or leaps counts as one frame later than the last, and those after it go on from
    there. So a container without stamps is timed by its rate.
    """

    def __init__(self, fps: float) -> None:
        """``fps``: frames per second that the container tells."""
        self._step_us = 1e6 / fps
        self._origin_us = 0.0
        self._last_us: float | None = None

    def after(self, stamp_ms: float) -> int:
        """The time of the next frame, whose stamp this is."""
        stamp_us = stamp_ms * 1000 if math.isfinite(stamp_ms) else 0.0
        if self._last_us is None:
            self._origin_us, self._last_us = stamp_us, 0.0
        elif 0 < stamp_us - self._origin_us - self._last_us <= LONGEST_PAUSE_US:
            self._last_us = stamp_us - self._origin_us
        else:
            self._last_us += self._step_us
            self._origin_us = stamp_us - self._last_us
        return round(self._last_us)
