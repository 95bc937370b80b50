"""What a service holds, and what it holds more of than before."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families

from loadtest.counters import fetch
from loadtest.servers import Sample, Server

_GAUGES: Mapping[str, str] = {
    "timeconv_sessions": "sessions",
    "timeconv_frames_in_flight": "frames_in_flight",
    "timeconv_waiting_sources": "waiting_sources",
    "timeconv_waiting_windows": "waiting_windows",
    "soak_tasks": "tasks",
}
_FAULTS = "soak_faults_total"

Held = Mapping[str, int]
"""Sessions, frames in flight, what waits, tasks, threads and descriptors."""


def held(server: Server) -> Held:
    """What the service says that it holds, and what the system says of its process.

    Raises:
        CannotGenerate: it cannot be asked.
    """
    found = {**parse_gauges(fetch(f"{server.address}/metrics")), "threads": 0, "descriptors": 0}
    process = psutil.Process(server.pid)
    return found | {"threads": process.num_threads(), "descriptors": process.num_fds()}


def parse_gauges(exposition: str) -> dict[str, int]:
    """What a text of ``/metrics`` says is held."""
    found = dict.fromkeys(_GAUGES.values(), 0)
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if (name := _GAUGES.get(sample.name)) is not None:
                found[name] += int(sample.value)
    return found


def parse_faults(exposition: str) -> dict[str, int]:
    """Faults that networks had, by kind."""
    families = text_string_to_metric_families(exposition)
    samples = [sample for family in families for sample in family.samples if sample.name == _FAULTS]
    return {sample.labels["kind"]: int(sample.value) for sample in samples}


@dataclass(frozen=True, slots=True)
class InUse:
    """Memory at rest: blocks of Python, and bytes of the process without what its allocator keeps."""

    blocks: int
    size_bytes: int

    def __sub__(self, before: "InUse") -> "InUse":
        """How much more than before."""
        return InUse(self.blocks - before.blocks, self.size_bytes - before.size_bytes)


def in_use(server: Server) -> InUse:
    """What the service has in use.

    Raises:
        CannotGenerate: it cannot be asked.
    """
    families = text_string_to_metric_families(fetch(f"{server.address}/metrics"))
    found = {sample.name: int(sample.value) for family in families for sample in family.samples}
    return InUse(found["soak_blocks"], found["soak_bytes"])


def leaks(before: Held, now: Callable[[], Held], timeout_s: float, poll_s: float = 0.2) -> dict[str, int]:
    """How much more is held of each kind than before; asked again until it is nothing, up to ``timeout_s``."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        after = now()
        more = {name: max(0, after[name] - count) for name, count in before.items()}
        if not any(more.values()) or time.monotonic() >= deadline_s:
            return more
        time.sleep(poll_s)


def slope_kib_per_min(samples: Sequence[Sample]) -> float:
    """By how much memory in use grows, by least squares; 0 of fewer than two samples."""
    if len(samples) < 2:
        return 0.0
    minutes = np.array([sample.at_s for sample in samples]) / 60
    kib = np.array([sample.rss_bytes for sample in samples]) / 1024
    return float(np.polyfit(minutes - minutes[0], kib, 1)[0])
