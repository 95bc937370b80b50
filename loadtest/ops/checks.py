"""What a run must show: queries return data, Prometheus can run the rules, and alerts fire when they should."""

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from loadtest.ops.panels import Panel, filled
from loadtest.ops.prometheus import SCRAPE_S, BadQuery, Prometheus, Rule, Series

STUCK_EXIT = 70
"""With which the watchdog ends the process."""

NEED_A_GPU = frozenset({"timeconv_device_memory_bytes"})
"""Metrics that are not there without one: queries on them are run, and return nothing."""
NEED_A_FAULT = frozenset({"TimeConv · Service / Alerts that fire", "TimeConv · Service / Alerts over time"})
"""Panels that are empty while all is well, and must not be when it is not."""
MUST_FIRE = {
    "normal": frozenset[str](),
    "overload": frozenset[str](),
    "fault": frozenset(
        {"TimeConvEngineStuck", "TimeConvNetworkFails", "TimeConvModelSwapFailed", "TimeConvUnservedFramesFast"}
    ),
}
"""What has to fire in each of the three; in the first one nothing else may."""
MUST_PEND = {
    "normal": frozenset[str](),
    "overload": frozenset({"TimeConvFramesSuperseded"}),
    "fault": frozenset[str](),
}
"""What would fire if it went on for the minutes that such an alert waits."""

_SELECTOR = re.compile(r"(?<![\w:$])((?:timeconv_|process_|prometheus_|job:|up\b|ALERTS\b)[\w:]*)(\{[^{}]*\})?")


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run, in seconds since 1970."""

    name: str
    start_s: float
    end_s: float

    @staticmethod
    @contextmanager
    def named(name: str, phases: list["Phase"]) -> Iterator[None]:
        """Append the one that the block is."""
        print(f"{name} ...", flush=True)
        start_s = time.time()
        yield
        phases.append(Phase(name, start_s, time.time()))


@dataclass(frozen=True, slots=True)
class Run:
    """What happened, while Prometheus still knows it.

    Attributes:
        exit_status: of the process whose network hung.
    """

    made_by: Mapping[str, str | None]
    prometheus: Prometheus
    panels: Sequence[Panel]
    phases: Sequence[Phase]
    exit_status: int

    def series(self, query: str, phase: Phase) -> list[Series]:
        """What ``query`` came to over ``phase``, without what is no number.

        Raises:
            BadQuery: Prometheus cannot make anything of it.
        """
        found = self.prometheus.over(runnable(query), phase.start_s, phase.end_s, SCRAPE_S)
        numbers = (Series(one.labels, [point for point in one.points if not math.isnan(point[1])]) for one in found)
        return [one for one in numbers if one.points]

    def alerts(self, phase: Phase, state: Literal["firing", "pending"]) -> set[str]:
        """Names of the alerts that were in ``state`` at any time of ``phase``, since when ever."""
        found = self.prometheus.over(f'ALERTS{{alertstate="{state}"}}', phase.start_s, phase.end_s, SCRAPE_S)
        return {series.labels["alertname"] for series in found}


def runnable(query: str) -> str:
    """A query of a panel as it is run here: filled in, and what it compares with an earlier time with 15 s ago."""
    return re.sub(r"\boffset 1[hdw]\b", "offset 15s", filled(query, job="timeconv"))


def without_zero(query: str) -> str:
    """A query without the zero that a panel shows in place of nothing: it would be data of any query."""
    return re.sub(r"\s+or vector\(0\)", "", query)


def judged(run: Run) -> list[str]:
    """What is not as it must be, a line each."""
    rules = run.prometheus.rules()
    return [
        *_process(run),
        *_panels(run),
        *_recorded(run, [rule for rule in rules if not rule.is_alert]),
        *_alerts(run, [rule for rule in rules if rule.is_alert]),
        *_fired(run),
    ]


def _process(run: Run) -> Iterator[str]:
    if run.exit_status != STUCK_EXIT:
        yield f"the process whose network hung exited with {run.exit_status}, not {STUCK_EXIT}"


def _panels(run: Run) -> Iterator[str]:
    if not run.panels:
        yield "there are no dashboards"
    for panel in run.panels:
        for query, _ in panel.queries:
            yield from _has_data(run, f"{panel.dashboard} / {panel.title}", query)


def _recorded(run: Run, rules: Sequence[Rule]) -> Iterator[str]:
    if not rules:
        yield "there are no recording rules"
    for rule in rules:
        if rule.health != "ok":
            yield f"{rule.name}: {rule.error or rule.health}"
        yield from _has_data(run, rule.name, rule.name)


def _alerts(run: Run, rules: Sequence[Rule]) -> Iterator[str]:
    """An alert is empty unless something is wrong; what it looks at must not be."""
    if not rules:
        yield "there are no alerts"
    for rule in rules:
        if rule.health != "ok":
            yield f"{rule.name}: {rule.error or rule.health}"
        for selector in selectors(rule.query):
            yield from _has_data(run, f"{rule.name}: {selector}", selector)


def selectors(query: str) -> list[str]:
    """The series that a query looks at, without times."""
    return sorted({name + (labels or "") for name, labels in _SELECTOR.findall(query)})


def _has_data(run: Run, what: str, query: str) -> Iterator[str]:
    """Each query returns data in each of the three, except where that needs a fault, or a GPU."""
    try:
        empty = [phase.name for phase in run.phases if not run.series(without_zero(query), phase)]
    except BadQuery as error:
        yield f"{what}: {error}: {query}"
        return
    if what in NEED_A_FAULT:
        if "normal" not in empty:
            yield f"{what}: data while all is well, so it needs no fault: {query}"
        elif len(empty) == len(run.phases):
            yield f"{what}: no data: {query}"
    elif empty and not any(name in query for name in NEED_A_GPU):
        yield f"{what}: no data in {', '.join(empty)}: {query}"


def _fired(run: Run) -> Iterator[str]:
    for phase in run.phases:
        fired = run.alerts(phase, "firing")
        for name in sorted(MUST_FIRE[phase.name] - fired):
            yield f"{name} did not fire in {phase.name!r}"
        for name in sorted(MUST_PEND[phase.name] - run.alerts(phase, "pending")):
            yield f"{name} is not pending in {phase.name!r}"
        if phase.name == "normal" and fired:
            yield f"fired though all was well: {', '.join(sorted(fired))}"
