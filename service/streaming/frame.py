"""A picture of a clip, as it is sent."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """A picture and when it is shown, or was taken, in microseconds since the first.

    ``index`` counts the clip's pictures from 0. ``shrunk`` is how many of the clip's pixels a side one pixel of
    ``jpeg`` stands for: 1, or more where the clip's are more than the service takes.
    """

    index: int
    time_us: int
    jpeg: bytes
    shrunk: float = 1.0


class Clip(Protocol):
    """An open source of pictures. Its methods block, and may be called from any thread.

    ``total`` is how many frames it says it has, or None. ``is_live``: its pictures come at their own time.
    """

    fps: float
    is_live: bool

    @property
    def total(self) -> int | None:
        """Frames it says it has."""

    def fit(self, most_pixels: int) -> None:
        """Send no picture of more pixels than this: make it smaller, if it can."""

    def read(self) -> ClipFrame | None:
        """The next frame, or None after the last."""

    def close(self) -> None:
        """Give the source back, once a read in progress is done; there are no more frames then."""
