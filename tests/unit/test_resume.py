"""Resumption: a token is good for one session, for one holder at a time, and for a time."""

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


def connected(sessions: Resumption, party: str = "party", shown: str | None = None) -> tuple[str, FakeHolder]:
    """A connection with a session, and its token."""
    holder = FakeHolder()
    return sessions.hold(holder, "owner", party=party, shown=shown), holder


def broken(sessions: Resumption, party: str = "party") -> tuple[str, Session]:
    """A session whose connection broke, and its token."""
    token, holder = connected(sessions, party)
    sessions.keep(holder)
    return token, holder.session


def test_once() -> None:
    """A session that broke goes to who shows its token; until it is held again nobody else has it."""
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
    token, holder = connected(sessions)
    assert sessions.take(token, "owner") is holder.session
    sessions.keep(holder)
    assert (holder.gave_up, sessions.kept, sessions.take(token, "owner")) == (1, 0, None)


def test_what_ended_is_not_to_be_had() -> None:
    """A session that was closed in order, or expelled, is not resumed; nor does anyone guess a token."""
    sessions = resumption(Timers())
    token, holder = connected(sessions, shown="shown")
    sessions.release(holder)
    sessions.keep(holder)
    assert [sessions.take(token, "owner") for token in (token, "shown", "", "guess")] == [None] * 4


def test_bounded() -> None:
    """When as many are kept as may be the one that broke first goes."""
    sessions = resumption(Timers(), most_kept=2)
    (first, _), (second, session), (third, other) = (broken(sessions) for _ in range(3))
    assert sessions.kept == 2
    assert [sessions.take(token, "owner") for token in (first, second, third)] == [None, session, other]


def test_nobody_drops_what_others_keep() -> None:
    """However many sessions one party breaks, its own make room; and for who comes with a first one they do too."""
    sessions = resumption(Timers(), most_kept=3)
    victim, session = broken(sessions, "victim")
    tokens = [broken(sessions, "attacker")[0] for _ in range(10)]
    late, other = broken(sessions, "late")
    assert sessions.kept == 3
    assert (sessions.take(victim, "owner"), sessions.take(late, "owner")) == (session, other)
    assert [sessions.take(token, "owner") is None for token in tokens] == [True] * 9 + [False]


def test_tokens_differ() -> None:
    """Each session has a token of its own, too long to be guessed."""
    sessions = resumption(Timers())
    tokens = {connected(sessions)[0] for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 43


def test_another_owner_gets_nothing() -> None:
    """A token that has leaked is of no use to who has another key, ends nothing, and is still good for whose it is."""
    sessions = resumption(Timers())
    token, holder = connected(sessions)
    with sessions.claimed(token, "thief"):
        assert sessions.take(token, "thief") is None
    assert holder.gave_up == 0
    sessions.keep(holder)
    with sessions.claimed(token, "thief"):
        assert (sessions.take(token, "thief"), sessions.kept) == (None, 1)
    assert sessions.take(token, "owner") is holder.session


class TestShown:
    """The token by which a session was taken."""

    def test_good_until_its_client_is_heard(self) -> None:
        """Who never heard of the new token has the session by the old one, whether still connected or broken."""
        sessions = resumption(Timers())
        first, _ = broken(sessions)
        assert sessions.take(first, "owner") is not None
        _, holder = connected(sessions, shown=first)
        assert sessions.take(first, "owner") is holder.session
        assert holder.gave_up == 1
        _, holder = connected(sessions, shown=first)
        sessions.keep(holder)
        assert sessions.take(first, "owner") is holder.session
        assert sessions.take(first, "owner") is None

    def test_worth_nothing_then(self) -> None:
        """Once the client goes on only the new one is good."""
        sessions = resumption(Timers())
        token, holder = connected(sessions, shown="shown")
        sessions.heard(holder)
        assert sessions.take("shown", "owner") is None
        assert holder.gave_up == 0
        assert sessions.take(token, "owner") is holder.session

    def test_either_ends_both(self) -> None:
        """Whichever is shown, the other is worth nothing after, and no tokens pile up."""
        sessions = resumption(Timers())
        token, holder = connected(sessions, shown="shown")
        assert sessions.take(token, "owner") is holder.session
        assert sessions.take("shown", "owner") is None
        token, holder = connected(sessions, shown="shown")
        assert sessions.take("shown", "owner") is holder.session
        assert sessions.take(token, "owner") is None

    def test_nothing_of_it_is_left(self) -> None:
        """After the grace both are worth nothing."""
        timers = Timers()
        sessions = resumption(timers)
        token, holder = connected(sessions, shown="shown")
        sessions.keep(holder)
        timers.ring()
        assert [sessions.take(token, "owner") for token in (token, "shown")] == [None, None]


class TestClaimed:
    """A session in the hands of an upgrade, which may fail."""

    def test_kept_if_nobody_takes_it(self) -> None:
        """An upgrade that fails leaves the session to be had, for a grace of its own."""
        timers = Timers()
        sessions = resumption(timers)
        token, holder = connected(sessions)
        with sessions.claimed(token, "owner"):
            assert (holder.gave_up, sessions.kept, timers.waiting) == (1, 0, [])
        sessions.keep(holder)
        assert (sessions.kept, len(timers.waiting)) == (1, 1)
        assert sessions.take(token, "owner") is holder.session

    def test_no_timer_runs_meanwhile(self) -> None:
        """One that is kept is not dropped while an upgrade has it."""
        timers = Timers()
        sessions = resumption(timers)
        token, session = broken(sessions)
        with sessions.claimed(token, "owner"):
            assert timers.cancelled == 1
            assert sessions.take(token, "owner") is session
        assert sessions.kept == 0

    def test_two_at_once(self) -> None:
        """Of two upgrades both may have it in hand; the one that comes last to it has it, and nothing is kept twice."""
        sessions = resumption(Timers())
        token, holder = connected(sessions)
        with sessions.claimed(token, "owner"), sessions.claimed(token, "owner"):
            assert sessions.take(token, "owner") is holder.session
            _, first = connected(sessions, shown=token)
            assert sessions.take(token, "owner") is first.session
            _, last = connected(sessions, shown=token)
        assert (first.gave_up, last.gave_up, sessions.kept) == (1, 0, 0)

    def test_no_token(self) -> None:
        """Who shows none, or one that nobody was given, claims nothing."""
        sessions = resumption(Timers())
        for token in (None, "guess"):
            with sessions.claimed(token, "owner"):
                pass
        assert sessions.kept == 0


def test_a_claim_leaves_what_another_has_taken() -> None:
    """Whose connection is taken from it within its own claim keeps nothing, so that nobody has to make room for it."""
    sessions = resumption(Timers(), most_kept=1)
    victim, kept = broken(sessions, "victim")
    token, _ = connected(sessions)
    claim = sessions.claimed(token, "owner")
    claim.__enter__()
    session = sessions.take(token, "owner")
    assert session is not None

    class Taken(FakeHolder):
        """Its connection ends, and with it its claim, in the middle of giving up."""

        def give_up(self) -> None:
            claim.__exit__(None, None, None)

    sessions.hold(Taken(session), "owner", party="party", shown=token)
    assert sessions.take(token, "owner") is session
    assert (sessions.kept, sessions.take(victim, "owner")) == (1, kept)
