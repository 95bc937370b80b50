"""Whether every frame is accounted for. No I/O."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from loadtest.counters import ServiceCounts
from loadtest.plan import Load
from loadtest.tally import PREDICTION, Account


def discrepancies(load: Load, due: int, accounts: Sequence[Account], service: ServiceCounts | None) -> tuple[str, ...]:
    """What does not add up, a sentence each; nothing if every frame is accounted for, on both sides alike.

    Held against each other: the frames in the schedules, ``due``, with those sent, not sent and answered at the
    clients; their outcomes with those that the service told each session at its end; and, if given, with its metrics.
    """
    streams = [account for account in accounts if load.groups[account.group].kind != "rest"]
    calls = [account for account in accounts if load.groups[account.group].kind == "rest"]
    found = [*_at_the_clients(due, accounts), *_told_otherwise(streams)]
    if service is not None:
        found += _counted_otherwise(streams, calls, service)
    return tuple(found)


def _at_the_clients(due: int, accounts: Sequence[Account]) -> Iterable[str]:
    scheduled = sum(account.scheduled for account in accounts)
    sent, outcomes = (
        sum(account.sent for account in accounts),
        sum(summed(account.outcomes for account in accounts).values()),
    )
    unanswered = sum(account.unanswered for account in accounts)
    unexpected = sum(account.unexpected for account in accounts)
    if scheduled != due:
        yield f"{due} frames were due, and {scheduled} were sent or counted as not sent"
    if unanswered:
        yield f"{unanswered} of {sent} frames sent have no outcome"
    if unexpected:
        yield f"{unexpected} outcomes came for no frame, or twice"
    if sent != outcomes + unanswered:
        yield f"{sent} frames were sent, {outcomes} have an outcome and {unanswered} have none"


def _told_otherwise(streams: Sequence[Account]) -> Iterable[str]:
    untold = sum(account.told is None for account in streams)
    otherwise = sum(account.told is not None and account.told != account.outcomes for account in streams)
    if untold:
        yield f"{untold} of {len(streams)} sessions did not end in order"
    if otherwise:
        yield f"{otherwise} of {len(streams)} sessions were told other outcomes at their end than frame by frame"


def _counted_otherwise(streams: Sequence[Account], calls: Sequence[Account], service: ServiceCounts) -> Iterable[str]:
    sent = sum(account.sent for account in streams)
    if service.received != sent:
        yield f"{sent} frames were sent, and the service counts {service.received} received"
    if service.received != sum(service.outcomes.values()) + service.in_flight:
        yield (
            f"The service counts {service.received} frames received, {sum(service.outcomes.values())} with an outcome"
            f" and {service.in_flight} in flight"
        )
    outcomes = summed(account.outcomes for account in streams)
    if service.outcomes != outcomes:
        yield f"Outcomes are {_listed(outcomes)} at the clients and {_listed(service.outcomes)} at the service"
    answered = summed(account.outcomes for account in calls)
    # What is refused is counted by its error code, with refusals of other kinds.
    answered = {outcome: answered[outcome] for outcome in (PREDICTION, "no_face") if outcome in answered}
    if service.calls != answered:
        yield f"Calls are {_listed(answered)} at the callers and {_listed(service.calls)} at the service"


def summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums, by outcome."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "none"
