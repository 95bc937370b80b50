"""Accounts and figures that tests of the report begin from."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from loadtest.figures import GroupFigures, Point, Spread
from loadtest.histogram import Times
from loadtest.plan import Load, parse_group
from loadtest.tally import Account

LOAD = Load(groups=(parse_group("2x10"), parse_group("1x2,rest")), warm_up_s=1.0, duration_s=10.0)


def account(group: int = 0, outcomes: Mapping[str, int] | None = None, **changes: Any) -> Account:
    """A session in good order, all of whose frames were measured, with changes."""
    outcomes = {"prediction": 100} if outcomes is None else outcomes
    sent = sum(outcomes.values())
    orderly = Account(
        group=group,
        scheduled=sent,
        sent=sent,
        outcomes=outcomes,
        unanswered=0,
        unexpected=0,
        measured=outcomes,
        told=None if LOAD.groups[group].kind == "rest" else outcomes,
        broken_by=None,
    )
    return dataclasses.replace(orderly, **changes)


def times(*milliseconds: float) -> Times:
    """A distribution of these."""
    recorded = Times()
    for value in milliseconds:
        recorded.record(value / 1000)
    return recorded


def figures(
    p99_ms: float | None, *, answered: float = 1.0, jain: float = 1.0, offered_per_s: float = 20.0
) -> GroupFigures:
    """Figures of the judged group, all of whose answers took the same time."""
    latency = times() if p99_ms is None else times(p99_ms)
    return GroupFigures(
        group=LOAD.groups[0],
        offered_per_s=offered_per_s,
        answered_per_s=offered_per_s * answered,
        answered=answered,
        jain=jain,
        latency_ms=Spread.of(latency),
        lateness_ms=Spread.of(times(1)),
        outcomes={"prediction": round(200 * answered), "not_sent": round(200 * (1 - answered))},
        broken={},
        histogram=latency.encoded(),
    )


def point(judged: GroupFigures, scale: float = 1.0, **changes: Any) -> Point:
    """A point of one group whose sums add up, with changes."""
    orderly = Point(scale=scale, groups=(judged,), usage=None, generator_cores=(0.1,), discrepancies=())
    return dataclasses.replace(orderly, **changes)
