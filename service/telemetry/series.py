"""Counters and histograms that one thread at a time moves, so that they need no lock.

A frame moves some twenty of them. In prometheus-client a count takes a lock, an observation two and a walk through the
buckets, which came to a fiftieth of what the whole frame costs.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Generic, Literal, TypeVar

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import INF, floatToGoString


class Count:
    """One series of a counter; moved by one thread, read by any."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        """Count on; ``amount`` is not negative."""
        self.value += amount


class Distribution:
    """One series of a histogram; moved by one thread, read by any."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """``bounds``: upper ends of the buckets, included, in order, without infinity."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def cumulative(self) -> tuple[list[tuple[str, float]], float]:
        """For each upper end how many values were not above it, and the sum of all."""
        ends = map(floatToGoString, (*self._bounds, INF))
        return list(zip(ends, accumulate(self._counts), strict=True)), self._sum


S = TypeVar("S")


class _Labelled(Collector, Generic[S]):
    """Series by the values of their labels."""

    def __init__(self, name: str, text: str, labels: Sequence[str], make: Callable[[], S]) -> None:
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._make = make
        self._series: dict[tuple[str, ...], S] = {}
        if not labels:
            self.labels()

    def labels(self, *values: str) -> S:
        """The series with these values; it exists from then on."""
        assert len(values) == len(self._labels)
        return self._series.get(values) or self._series.setdefault(values, self._make())

    def forget(self, first: str) -> None:
        """Remove the series whose first label has this value. A scrape sees no more of them."""
        for values in [values for values in list(self._series) if values[0] == first]:
            del self._series[values]

    def _now(self) -> list[tuple[tuple[str, ...], S]]:
        """All series; a copy, for another thread may be at them."""
        return list(self._series.items())


class Counters(_Labelled[Count]):
    """A counter."""

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        """``name``: without ``_total``. Without labels there is one series, from the start."""
        super().__init__(name, text, labels, Count)

    def collect(self) -> Iterable[Metric]:
        """What a scrape reads."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, count in self._now():
            family.add_metric(values, count.value)
        yield family


class Histograms(_Labelled[Distribution]):
    """A histogram."""

    def __init__(self, name: str, text: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        """``bounds``: see `Distribution`. Without labels there is one series, from the start."""
        super().__init__(name, text, labels, lambda: Distribution(bounds))

    def collect(self) -> Iterable[Metric]:
        """What a scrape reads."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, distribution in self._now():
            family.add_metric(values, *distribution.cumulative())
        yield family


class Readings(Collector):
    """A counter or gauge with one label, whose series are read where they are known, when they are scraped."""

    def __init__(
        self,
        kind: Literal["counter", "gauge"],
        name: str,
        text: str,
        label: str,
        read: Callable[[], Mapping[str, float]],
    ) -> None:
        """``read``: numbers by the value of ``label``; none where nothing can be read."""
        self._family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        self._name, self._text, self._label, self._read = name, text, label, read

    def collect(self) -> Iterable[Metric]:
        """What a scrape reads."""
        family = self._family(self._name, self._text, labels=[self._label])
        for value, number in self._read().items():
            family.add_metric([value], number)
        yield family
