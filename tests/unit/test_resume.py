"""Resumption: a token is good for one session, once, and for a time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from service.resume import Resumption
from service.session import Session


@dataclass(eq=False)
class FakeHolder:
    """A connection; its session is only told apart, never used."""

    session: Session = field(default_factory=lambda: cast("Session", object()))
    gave_up: int = 0

    def give_up(self) -> None:
        self.gave_up += 1


class Timers:
    """Timers that go off when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[..., Any], tuple[Any, ...]]] = []
        self.cancelled = 0

    def __call__(self, delay_s: float, call: Callable[..., Any], *given: Any) -> asyncio.TimerHandle:
        self.waiting.append((delay_s, call, given))
        return cast("asyncio.TimerHandle", self)

    def cancel(self) -> None:
        self.cancelled += 1

    def ring(self) -> None:
        """Let the oldest go off."""
        _, call, given = self.waiting.pop(0)
        call(*given)


def resumption(timers: Timers, most_kept: int = 10) -> Resumption:
    return Resumption(grace_s=10.0, most_kept=most_kept, call_later=timers)


def broken(sessions: Resumption) -> tuple[str, Session]:
    """A session whose connection broke, and its token."""
    holder = FakeHolder()
    token = sessions.hold(holder, "owner")
    sessions.keep(token)
    return token, holder.session


def test_once() -> None:
    """A session that broke goes to who shows its token first, and to nobody after."""
    timers = Timers()
    sessions = resumption(timers)
    token, session = broken(sessions)
    assert (sessions.kept, timers.waiting[0][0]) == (1, 10.0)
    assert sessions.take(token, "owner") is session
    assert (sessions.take(token, "owner"), sessions.kept, timers.cancelled) == (None, 0, 1)


def test_grace() -> None:
    """After the grace nothing of it is kept."""
    timers = Timers()
    sessions = resumption(timers)
    token, _ = broken(sessions)
    timers.ring()
    assert (sessions.kept, sessions.take(token, "owner")) == (0, None)


def test_the_newest_holder_wins() -> None:
    """A session that is still connected is taken from its connection, which does not keep it when it leaves."""
    sessions = resumption(Timers())
    holder = FakeHolder()
    token = sessions.hold(holder, "owner")
    assert sessions.take(token, "owner") is holder.session
    sessions.keep(token)
    assert (holder.gave_up, sessions.kept, sessions.take(token, "owner")) == (1, 0, None)


def test_what_ended_is_not_to_be_had() -> None:
    """A session that was closed in order, or expelled, is not resumed; nor does anyone guess a token."""
    sessions = resumption(Timers())
    token = sessions.hold(FakeHolder(), "owner")
    sessions.release(token)
    sessions.keep(token)
    assert [sessions.take(token, "owner") for token in (token, "", "guess")] == [None] * 3


def test_bounded() -> None:
    """When as many are kept as may be the one that broke first goes."""
    sessions = resumption(Timers(), most_kept=2)
    (first, _), (second, session), (third, other) = (broken(sessions) for _ in range(3))
    assert sessions.kept == 2
    assert [sessions.take(token, "owner") for token in (first, second, third)] == [None, session, other]


def test_tokens_differ() -> None:
    """Each session has a token of its own, too long to be guessed."""
    sessions = resumption(Timers())
    tokens = {sessions.hold(FakeHolder(), "owner") for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 43


def test_another_owner_gets_nothing() -> None:
    """A token that has leaked is of no use to who has another key, and still good for whose it is."""
    sessions = resumption(Timers())
    holder = FakeHolder()
    token = sessions.hold(holder, "owner")
    assert sessions.take(token, "thief") is None
    sessions.keep(token)
    assert sessions.take(token, "thief") is None
    assert sessions.take(token, "owner") is holder.session
