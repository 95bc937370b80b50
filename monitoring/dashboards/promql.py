"""The few forms that queries have.

Where there is nothing to tell there is no series, and never NaN: an idle service must not look like a broken one. Raw
series are those of the jobs and instances chosen above the dashboard; recorded ones are of all instances of a job.
"""

WINDOW = "$__rate_interval"


def raw(name: str, matchers: str = "") -> str:
    """Series as they are scraped; ``matchers`` as within braces."""
    chosen = 'job=~"$job",instance=~"$instance"'
    return f"{name}{{{chosen}{',' if matchers else ''}{matchers}}}"


def recorded(name: str, matchers: str = "") -> str:
    """Series that monitoring/rules/recording.yml makes."""
    return f'{name}{{job=~"$job"{"," if matchers else ""}{matchers}}}'


def total(name: str, matchers: str = "", by: str = "") -> str:
    """Sum of a gauge over instances."""
    return f"sum{_by(by)}({raw(name, matchers)})"


def highest(name: str, matchers: str = "", by: str = "") -> str:
    """A gauge where it is highest."""
    return f"max{_by(by)}({raw(name, matchers)})"


def rate(name: str, matchers: str = "", by: str = "", window: str = WINDOW, offset: str = "") -> str:
    """A counter's growth per second, now or ``offset`` ago."""
    return f"sum{_by(by)}(rate({raw(name, matchers)}[{window}]{offset and f' offset {offset}'}))"


def increase(name: str, matchers: str = "", by: str = "", window: str = WINDOW) -> str:
    """A counter's growth within the window."""
    return f"sum{_by(by)}(increase({raw(name, matchers)}[{window}]))"


def quantile(q: float, histogram: str, matchers: str = "", by: str = "", window: str = WINDOW, offset: str = "") -> str:
    """A percentile, ``q`` from 0 to 1."""
    observed = rate(f"{histogram}_bucket", matchers, f"le, {by}" if by else "le", window, offset)
    return f"histogram_quantile({q}, {observed}) >= 0"  # as NaN, that of nothing, is not


def mean(histogram: str, matchers: str = "", by: str = "", window: str = WINDOW) -> str:
    """What was observed, in the mean."""
    summed, counted = (rate(f"{histogram}_{part}", matchers, by, window) for part in ("sum", "count"))
    return ratio(summed, counted)


def ratio(part: str, whole: str) -> str:
    """Part by whole, where there is any; both with the same labels."""
    return f"{part} / ({whole} > 0)"


def buckets(histogram: str) -> str:
    """How many observations fell into each bucket between two points of a heatmap."""
    return increase(f"{histogram}_bucket", by="le")


def earlier(by: str, recorded_series: str) -> str:
    """What was recorded ``by`` ago."""
    return f"{recorded_series} offset {by}"


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""
