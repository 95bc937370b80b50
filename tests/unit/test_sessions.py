from collections.abc import Callable
from contextlib import ExitStack

import pytest

from service.access import ANYONE, ApiKey
from service.errors import IdleTimeout, SessionTooLong, SlowReader, TimeConvError, Unauthorized
from service.protocol import Options
from service.session import Session
from service.sessions import Sessions
from service.vision.look import Look
from tests.fakes import NETWORK, FixedDetector, ManualClock, Recorder


class FakeConnection:
    """A session without a transport; remembers why it was expelled."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.expelled: list[TimeConvError] = []
        self.key = ANYONE
        self.session = Session(
            "id",
            Options(freshness="every"),
            NETWORK,
            look=Look(FixedDetector(), max_bytes=1000, max_pixels=1000, clock=clock),
            gap_reset_s=1.0,
            max_frame_bytes=1000,
            observer=Recorder(),
            on_change=lambda: None,
            clock=clock,
        )

    def expel(self, error: TimeConvError) -> None:
        self.expelled.append(error)

    @property
    def reasons(self) -> list[type[TimeConvError]]:
        return [type(error) for error in self.expelled]

    def answer_one(self) -> None:
        """Have the oldest frame looked at and its answer handed over."""
        step = self.session.work()
        assert callable(step)
        step()
        assert self.session.next_message() is not None
        self.session.sent(0.0, 0.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sessions(clock: ManualClock) -> Sessions:
    return Sessions(blocked_timeout_s=10.0, idle_timeout_s=60.0, clock=clock)


def test_counts(sessions: Sessions, clock: ManualClock) -> None:
    """Connected sessions are active or blocked, and none is counted once it is gone, however it went."""
    first, second = FakeConnection(clock), FakeConnection(clock)
    assert (sessions.active, sessions.blocked, sessions.in_flight) == (0, 0, 0)
    with sessions.connected(first):
        second.session.block()
        with sessions.connected(second):
            assert (sessions.active, sessions.blocked) == (1, 1)
        with pytest.raises(KeyError), sessions.connected(second):
            raise KeyError
        assert (sessions.active, sessions.blocked) == (1, 0)
    assert (sessions.active, sessions.blocked) == (0, 0)


def test_in_flight(sessions: Sessions, clock: ManualClock) -> None:
    """Frames without an outcome are added up over all sessions, and are none once answered."""
    first, second = FakeConnection(clock), FakeConnection(clock)
    with sessions.connected(first), sessions.connected(second):
        for connection, frames in ((first, 1), (second, 2)):
            for _ in range(frames):
                connection.session.receive(b"no picture")
        assert sessions.in_flight == 3
        for connection in (first, second, second):
            connection.answer_one()
        assert sessions.in_flight == 0


def test_slow_reader(sessions: Sessions, clock: ManualClock) -> None:
    """A session that its client has blocked for longer than the limit is expelled; at the limit it lives."""
    connection = FakeConnection(clock)
    with sessions.connected(connection):
        connection.session.block()
        clock.advance(10.0)
        sessions.sweep()
        assert connection.reasons == []
        clock.advance(0.001)
        sessions.sweep()
        assert connection.reasons == [SlowReader]


def test_reads_again(sessions: Sessions, clock: ManualClock) -> None:
    """A client that reads in time starts anew with its next pause."""
    connection = FakeConnection(clock)
    with sessions.connected(connection):
        for _ in range(3):
            connection.session.block()
            clock.advance(9.0)
            sessions.sweep()
            connection.session.unblock()
        assert connection.reasons == []


def test_idle(sessions: Sessions, clock: ManualClock) -> None:
    """A session without a frame or an answer for longer than the limit is expelled; at the limit it lives."""
    connection = FakeConnection(clock)
    with sessions.connected(connection):
        clock.advance(60.0)
        sessions.sweep()
        assert connection.reasons == []
        clock.advance(0.001)
        sessions.sweep()
        assert connection.reasons == [IdleTimeout]


def test_frames_and_answers_keep_it_alive(sessions: Sessions, clock: ManualClock) -> None:
    """A frame that comes, or an answer that goes, counts as life."""
    connection = FakeConnection(clock)
    with sessions.connected(connection):
        for _ in range(3):
            clock.advance(50.0)
            connection.session.receive(b"no picture")
            sessions.sweep()
        for _ in range(3):
            clock.advance(50.0)
            connection.answer_one()
            sessions.sweep()
        assert connection.reasons == []


def test_only_the_one_at_fault(sessions: Sessions, clock: ManualClock) -> None:
    """A sweep expels those that stand still and no other; one that is gone is not looked at."""
    still, gone, lively = (FakeConnection(clock) for _ in range(3))
    with sessions.connected(still), sessions.connected(lively):
        with sessions.connected(gone):
            pass
        clock.advance(61.0)
        lively.session.receive(b"no picture")
        sessions.sweep()
        assert [connection.reasons for connection in (still, gone, lively)] == [[IdleTimeout], [], []]


def test_expelled_sessions_may_leave_during_a_sweep(sessions: Sessions, clock: ManualClock) -> None:
    """An expulsion that ends its session, and others, at once does not disturb the sweep."""
    everyone = ExitStack()

    class Leaving(FakeConnection):
        def expel(self, error: TimeConvError) -> None:
            super().expel(error)
            everyone.close()

    connections = [Leaving(clock) for _ in range(5)]
    for connection in connections:
        everyone.enter_context(sessions.connected(connection))
    clock.advance(61.0)
    sessions.sweep()
    assert sessions.active == 0
    assert {kind for connection in connections for kind in connection.reasons} == {IdleTimeout}


def test_the_longest_session(clock: ManualClock) -> None:
    """A session that has lasted for longer than one may is expelled, however lively it is; at the limit it lives."""
    sessions = Sessions(blocked_timeout_s=1000, idle_timeout_s=1000, longest_s=100, clock=clock)
    connection = FakeConnection(clock)
    with sessions.connected(connection):
        clock.advance(100.0)
        connection.session.touch()
        sessions.sweep()
        assert connection.reasons == []
        clock.advance(0.001)
        sessions.sweep()
        assert connection.reasons == [SessionTooLong]


def test_a_key_that_is_no_more(clock: ManualClock) -> None:
    """Sessions whose key is no longer known are expelled, and no others."""
    known = ApiKey("known", b"1")
    sessions = Sessions(blocked_timeout_s=10, idle_timeout_s=60, clock=clock, knows=lambda key: key is known)
    stays, leaves = FakeConnection(clock), FakeConnection(clock)
    stays.key, leaves.key = known, ApiKey("taken away", b"2")
    with sessions.connected(stays), sessions.connected(leaves):
        sessions.sweep()
    assert (stays.reasons, leaves.reasons) == ([], [Unauthorized])
