"""What the service itself counts, read from ``/metrics``."""

import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from loadtest.errors import CannotGenerate

_SETTLE_TIMEOUT_S = 10.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class ServiceCounts:
    """Frames received by stream, those still in flight, frames by outcome, and REST calls answered 200 by outcome."""

    received: int
    in_flight: int
    outcomes: Mapping[str, int]
    calls: Mapping[str, int]

    def since(self, before: "ServiceCounts") -> "ServiceCounts":
        """What was counted since then; ``in_flight`` is what it is now. Zeros are left out."""
        return ServiceCounts(
            self.received - before.received,
            self.in_flight,
            dict(Counter(self.outcomes) - Counter(before.outcomes)),
            dict(Counter(self.calls) - Counter(before.calls)),
        )


def parse_counts(exposition: str) -> ServiceCounts:
    """The counts in a text of ``/metrics``."""
    samples = [sample for family in text_string_to_metric_families(exposition) for sample in family.samples]

    def total(name: str) -> int:
        return sum(int(sample.value) for sample in samples if sample.name == name)

    def by_outcome(name: str) -> dict[str, int]:
        return {sample.labels["outcome"]: int(sample.value) for sample in samples if sample.name == name}

    return ServiceCounts(
        received=total("timeconv_frames_received_total"),
        in_flight=total("timeconv_frames_in_flight"),
        outcomes=by_outcome("timeconv_frames_total"),
        calls=by_outcome("timeconv_predict_requests_total"),
    )


def settled_counts(address: str) -> ServiceCounts:
    """The counts once no frame is in flight, or when that has not come about within ten seconds.

    Raises:
        CannotGenerate: nothing at ``address`` has such metrics.
    """
    deadline_s = time.monotonic() + _SETTLE_TIMEOUT_S
    while (counts := parse_counts(fetch(f"{address}/metrics"))).in_flight and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    return counts


def fetch(url: str) -> str:
    """The text at ``url``.

    Raises:
        CannotGenerate: it cannot be read.
    """
    try:
        with urllib.request.urlopen(url, timeout=_SETTLE_TIMEOUT_S) as answer:  # noqa: S310 - ours, or http as `load` checks
            return str(answer.read(), "utf-8")
    except (OSError, urllib.error.URLError) as error:
        raise CannotGenerate(f"{url} cannot be read: {error}") from error
