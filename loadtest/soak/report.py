"""What a soak came to: its promises, its file and its picture."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from loadtest.servers import Sample
from loadtest.soak.held import InUse, slope_kib_per_min
from loadtest.soak.lives import MOST_DIFFERENCE, Ledger

MOST_SLOPE_KIB_PER_MIN = 256.0
"""What counts as no growth: 15 MB an hour, that is, is found."""
LEAST_TO_JUDGE_S = 300.0
"""Over less than five minutes an allocator's habits are larger than any slope worth finding."""
_WARM_UP = 0.25
MOST_BLOCKS_PER_SESSION = 0.5
"""Objects of Python that may be left of a session. One that is forgotten in each is found, whatever allocators do."""
_MORE_BLOCKS = 1000
"""What comes once, and did not come in the warm-up."""
_MOST_TOLD = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Soak:
    """A soak.

    Attributes:
        clients: sessions at once.
        leaks: how much more the service holds than before, by kind.
        more: memory in use than before, when all are gone.
        faults: of networks, by kind.
        healthy: whether ``/healthz`` said so at the end.
        samples: memory, from the first client to the last.
    """

    made_by: Mapping[str, str | None]
    seconds: float
    clients: int
    ledger: Ledger
    leaks: Mapping[str, int]
    more: InUse
    faults: Mapping[str, int]
    healthy: bool
    samples: Sequence[Sample]

    @property
    def warm(self) -> Sequence[Sample]:
        """The samples after the warm-up, a quarter of the time."""
        return [sample for sample in self.samples if sample.at_s - self.samples[0].at_s >= _WARM_UP * self.seconds]

    @property
    def slope(self) -> float:
        """Growth of memory after the warm-up, KiB/min."""
        return slope_kib_per_min(self.warm)

    @property
    def is_judged_by_slope(self) -> bool:
        """Whether it was long enough."""
        return (1 - _WARM_UP) * self.seconds >= LEAST_TO_JUDGE_S

    def broken(self) -> list[str]:
        """Promises that were not kept, a sentence each."""
        ledger, found = self.ledger, list(self.ledger.broken)
        if ledger.unanswered:
            found.append(f"{ledger.unanswered} frames of living sessions have no outcome")
        found += [f"{count} {name.replace('_', ' ')} more than before" for name, count in self.leaks.items() if count]
        if self.more.blocks > _MORE_BLOCKS + MOST_BLOCKS_PER_SESSION * sum(ledger.lives.values()):
            found.append(f"{self.more.blocks} memory blocks of Python more than before")
        if not ledger.compared:
            found.append("No prediction could be held against one without chaos")
        if not ledger.max_difference <= MOST_DIFFERENCE:
            found.append(f"Predictions differ from those without chaos by up to {ledger.max_difference:.2g}")
        if not self.healthy:
            found.append("The service is not healthy at the end")
        if self.is_judged_by_slope and self.slope > MOST_SLOPE_KIB_PER_MIN:
            found.append(f"Memory grows by {self.slope:.0f} KiB/min")
        return found


def verdict(soak: Soak) -> list[str]:
    """The lines to print."""
    ledger, broken = soak.ledger, soak.broken()
    lines = [
        f"{sum(ledger.lives.values())} sessions ({_listed(ledger.lives)}), {soak.clients} at once, {soak.seconds:g} s",
        f"{ledger.frames_sent} frames sent: {_listed(ledger.outcomes)}",
        f"faults of networks: {_listed(soak.faults)}",
        f"unanswered frames of living sessions: {ledger.unanswered}",
        f"held more than before: {_listed(soak.leaks)}",
        f"in use more than before: {soak.more.blocks} memory blocks of Python, {soak.more.size_bytes / 1024:.0f} KiB",
        f"largest difference of {ledger.compared} predictions from those without chaos: {ledger.max_difference:.2g}",
        f"memory: {soak.slope:+.0f} KiB/min after the warm-up"
        + ("" if soak.is_judged_by_slope else " (too short to be judged)"),
        *(f"broken: {promise}" for promise in broken[:_MOST_TOLD]),
    ]
    if len(broken) > _MOST_TOLD:
        lines.append(f"and {len(broken) - _MOST_TOLD} more")
    return [*lines, "every promise was kept" if not broken else f"{len(broken)} promises were broken"]


def write(soak: Soak, file: Path) -> None:
    """Write the file, and beside it the picture of memory."""
    file.parent.mkdir(parents=True, exist_ok=True)
    ledger = soak.ledger
    content = {
        "made_by": soak.made_by,
        "seconds": soak.seconds,
        "clients": soak.clients,
        "sessions": sum(ledger.lives.values()),
        "lives": dict(ledger.lives),
        "ends": dict(sorted(ledger.ends.items())),
        "frames_sent": ledger.frames_sent,
        "outcomes": dict(ledger.outcomes),
        "unanswered": ledger.unanswered,
        "faults": soak.faults,
        "leaks": soak.leaks,
        "more_python_blocks": soak.more.blocks,
        "more_memory_kib": round(soak.more.size_bytes / 1024),
        "memory_slope_kib_per_min": round(soak.slope, 1),
        "predictions_compared": ledger.compared,
        "max_difference": ledger.max_difference,
        "broken": soak.broken(),
    }
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _draw(soak, file.with_suffix(".png"))


def _draw(soak: Soak, file: Path) -> None:
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.subplots()
    start_s = soak.samples[0].at_s
    axes.plot(*_points(soak.samples, start_s), linewidth=1, label="in use (RSS)")
    minutes, mib = _points(soak.warm, start_s)
    if len(minutes) > 1:
        rise, base = np.polyfit(minutes, mib, 1)
        axes.plot(minutes, rise * minutes + base, "--", label=f"{soak.slope:+.0f} KiB/min after the warm-up")
    axes.set(xlabel="minutes", ylabel="MiB", ylim=(0, None), title=f"{soak.clients} clients under chaos")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=120)


def _points(samples: Sequence[Sample], start_s: float) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([(sample.at_s - start_s) / 60 for sample in samples]),
        np.array([sample.rss_bytes / 2**20 for sample in samples]),
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count) or "none"
