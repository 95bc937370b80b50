"""Drain: every session is told, closed in its turn, and none is waited for without end."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import pairwise

from service.drain import Drain
from service.errors import GoingAway, TimeConvError
from service.session import Session
from service.sessions import Sessions
from tests.fakes import ManualClock

LONG_S = 3600.0


class Guest:
    """A connection that leaves when it is asked to, or stays."""

    session: Session

    def __init__(self, place: ExitStack, *, stays: bool = False) -> None:
        self.place = place
        self.stays = stays
        self.told: list[float] = []
        self.finished = 0
        self.expelled: list[TimeConvError] = []

    def go_away(self, time_left_s: float) -> None:
        self.told.append(time_left_s)

    def finish(self) -> None:
        self.finished += 1
        if not self.stays:
            self.place.close()

    def expel(self, error: TimeConvError) -> None:
        self.expelled.append(error)
        self.place.close()


def run(test: Callable[[Sessions], Awaitable[None]]) -> None:
    """Run a test around sessions; whatever hangs is a failure."""

    async def main() -> None:
        await asyncio.wait_for(
            test(Sessions(blocked_timeout_s=10.0, idle_timeout_s=60.0, clock=ManualClock())), timeout=30
        )

    asyncio.run(main())


def welcome(sessions: Sessions, *, stays: bool = False) -> Guest:
    """A guest that is connected."""
    place = ExitStack()
    guest = Guest(place, stays=stays)
    place.enter_context(sessions.connected(guest))
    return guest


def test_nobody_is_waited_for() -> None:
    """Without sessions the service stops at once."""

    async def test(sessions: Sessions) -> None:
        drain = Drain(sessions, time_s=LONG_S)
        assert not drain.begun
        await drain.run(asyncio.Event())
        assert drain.begun

    run(test)


def test_all_are_told_at_once_and_closed_one_after_the_other() -> None:
    """Each session hears when it will be closed, no two at the same time, all within the time; and so they are."""

    async def test(sessions: Sessions) -> None:
        guests = [welcome(sessions) for _ in range(5)]
        await Drain(sessions, time_s=0.05).run(asyncio.Event())
        told = sorted(time_left_s for guest in guests for time_left_s in guest.told)
        assert len(told) == 5
        assert 0.025 < told[0] < told[-1] < 0.05
        assert all(earlier < later for earlier, later in pairwise(told))
        assert [(guest.finished, guest.expelled) for guest in guests] == [(1, [])] * 5

    run(test)


def test_those_who_leave_are_not_waited_for() -> None:
    """Once all have left by themselves the service stops, however much time there is."""

    async def test(sessions: Sessions) -> None:
        guests = [welcome(sessions) for _ in range(2)]
        draining = asyncio.create_task(Drain(sessions, time_s=LONG_S).run(asyncio.Event()))
        for guest in guests:
            guest.place.close()
        await draining
        assert [(guest.finished, guest.expelled) for guest in guests] == [(0, [])] * 2

    run(test)


def test_who_stays_is_cut_off() -> None:
    """A session that does not end when it is closed is expelled when the time is over, and only that one."""

    async def test(sessions: Sessions) -> None:
        stays, leaves = welcome(sessions, stays=True), welcome(sessions)
        await Drain(sessions, time_s=0.01).run(asyncio.Event())
        assert (stays.finished, leaves.finished, leaves.expelled) == (1, 1, [])
        assert [type(error) for error in stays.expelled] == [GoingAway]

    run(test)


def test_hurry() -> None:
    """When told to hurry everybody is expelled at once."""

    async def test(sessions: Sessions) -> None:
        guest, hurry = welcome(sessions), asyncio.Event()
        draining = asyncio.create_task(Drain(sessions, time_s=LONG_S).run(hurry))
        hurry.set()
        await draining
        assert (guest.finished, [type(error) for error in guest.expelled]) == (0, [GoingAway])

    run(test)
