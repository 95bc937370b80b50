"""Times in HDR histograms: three digits of any time up to an hour, and sums of processes that are exact."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hdrh.histogram import HdrHistogram

_MOST_US = 3_600_000_000
_DIGITS = 3
_POINTS_PER_HALF = 5


class CurvePoint(NamedTuple):
    """A share of all times, 0..1, and the time that it stays under, in milliseconds."""

    share: float
    ms: float


class Times:
    """A distribution of times. A time is counted in whole microseconds, the longest is an hour."""

    def __init__(self) -> None:
        """No time yet."""
        self._histogram = HdrHistogram(1, _MOST_US, _DIGITS)

    def record(self, seconds: float) -> None:
        """Count a time; less than nothing counts as nothing."""
        self._histogram.record_value(min(max(round(seconds * 1e6), 0), _MOST_US))

    @property
    def count(self) -> int:
        """How many times there are."""
        return int(self._histogram.get_total_count())

    def percentiles_ms(self, percentiles: Sequence[float]) -> tuple[float | None, ...]:
        """Percentiles (0..100), in milliseconds; None where there are no times."""
        if not self.count:
            return (None,) * len(percentiles)
        found = self._histogram.get_percentile_to_value_dict(list(percentiles))
        return tuple(found[percentile] / 1000 for percentile in percentiles)

    def curve(self) -> list[CurvePoint]:
        """The whole distribution, with points that get denser towards its end."""
        if not self.count:
            return []
        points = self._histogram.get_percentile_iterator(_POINTS_PER_HALF)
        return [
            CurvePoint(point.percentile_level_iterated_to / 100, point.value_iterated_to / 1000) for point in points
        ]

    def encoded(self) -> str:
        """The histogram as text: HdrHistogram V2, compressed, base64. Its unit is a microsecond."""
        return str(self._histogram.encode(), "ascii")

    @classmethod
    def merged(cls, encoded: Iterable[str]) -> "Times":
        """The sum of histograms from `encoded`."""
        times = cls()
        for text in encoded:
            times._histogram.decode_and_add(text)
        return times
