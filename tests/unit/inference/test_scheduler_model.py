"""service.inference.scheduler: whatever comes in whatever order, its promises hold."""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from service.errors import Overloaded
from service.inference.scheduler import Batch, Scheduler, WindowItem, Work
from tests.fakes import Letterbox, ScriptedSource, echo_runner

KEYS, FACES, LANES, MAX_WAITING, HOLD_S = "abc", (0, 1), {"one@1": 1, "two@1": 2, "three@1": 3}, 9, 0.005
ONE_AT_A_TIME = "two@1"


@dataclass
class Book:
    """What became of each window, and which wait, in the order they were submitted."""

    waiting: list[WindowItem] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    ran: dict[object, list[int]] = field(default_factory=dict)

    def end(self, item: WindowItem, how: str) -> None:
        """A window leaves; it must have waited, which each does once."""
        self.waiting.remove(item)
        self.ends[how] += 1


def _who(item: WindowItem) -> tuple[object, int]:
    return item.key, item.face


class Schedule(RuleBasedStateMachine):
    """Steps that clients and workers take in any order, and a book that is kept beside the scheduler's own."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(max_waiting=MAX_WAITING, hold_s=HOLD_S)
        for lane, max_batch in LANES.items():
            self.scheduler.add_lane(lane, echo_runner, max_batch, parallel=lane != ONE_AT_A_TIME)
        self.box, self.book = Letterbox(), Book()
        self.now_s = 0.0
        self.submitted: list[WindowItem] = []
        self.at_work: list[Work] = []

    @rule(
        key=st.sampled_from(KEYS),
        face=st.sampled_from(FACES),
        lane=st.sampled_from(list(LANES)),
        replaces=st.booleans(),
        lasts_s=st.none() | st.sampled_from([0.001, 0.01]),
    )
    def submit(self, key: str, face: int, lane: str, *, replaces: bool, lasts_s: float | None) -> None:
        expires_s = None if lasts_s is None else self.now_s + lasts_s
        item = self.box.item("w", key=key, face=face, replaces=replaces, expires_s=expires_s)
        item.lane = lane
        mine = [waiting for waiting in self.book.waiting if _who(waiting) == (key, face)]
        gives_way = mine[-1] if replaces and mine and mine[-1].replaces and mine[-1].lane == lane else None
        try:
            replaced = self.scheduler.submit(item, self.now_s)
        except Overloaded:
            assert len(self.book.waiting) == MAX_WAITING
            assert gives_way is None
            return
        assert replaced is gives_way
        if replaced is not None:
            self.book.end(replaced, "replaced")
        assert len(self.book.waiting) < MAX_WAITING
        self.submitted.append(item)
        self.book.waiting.append(item)

    @rule(count=st.integers(1, 3))
    def frames_come(self, count: int) -> None:
        self.scheduler.ready(ScriptedSource(*[None] * count), "stream")

    @rule(others=st.integers(0, 3))
    def take(self, others: int) -> None:
        self.step(others)

    @rule(which=st.integers(0, 10))
    def finish(self, which: int) -> None:
        if self.at_work:
            self.done(self.at_work.pop(which % len(self.at_work)))

    @rule(key=st.sampled_from(KEYS))
    def leave(self, key: str) -> None:
        dropped = self.scheduler.drop(key)
        gone = [item for item in self.book.waiting if item.key == key]
        assert sorted(dropped, key=id) == sorted(gone, key=id)
        for face in FACES:
            assert [item for item in dropped if item.face == face] == [item for item in gone if item.face == face]
        for item in dropped:
            self.book.end(item, "dropped")

    @rule(seconds=st.sampled_from([0.001, 0.006]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def as_many_wait_as_the_book_says(self) -> None:
        assert self.scheduler.waiting_windows == len(self.book.waiting)

    @invariant()
    def no_face_is_in_two_batches(self) -> None:
        running = [{_who(item) for item in work.items} for work in self.at_work if isinstance(work, Batch)]
        assert sum(map(len, running)) == len(set().union(*running))

    @invariant()
    def a_device_has_one_batch(self) -> None:
        assert [work.lane for work in self.at_work if isinstance(work, Batch)].count(ONE_AT_A_TIME) <= 1

    def teardown(self) -> None:
        """Workers that go on leave nothing behind, and every window has ended once."""
        while self.step() or self.at_work:
            while self.at_work:
                self.done(self.at_work.pop())
        assert (self.scheduler.waiting_windows, self.scheduler.waiting_turns, self.book.waiting) == (0, 0, [])
        assert self.book.ends.total() == len(self.submitted)

    def step(self, others: int = 0) -> bool:
        """A worker asks for work while ``others`` are free; whether it got some."""
        work = self.scheduler.next(self.now_s, others)
        if work is None:
            batches = [work for work in self.at_work if isinstance(work, Batch)]
            running = {_who(item) for work in batches for item in work.items}
            if ONE_AT_A_TIME in (
                work.lane for work in batches
            ):  # Those behind its batch, of their face too, wait for it.
                running |= {_who(item) for item in self.book.waiting if item.lane == ONE_AT_A_TIME}
            assert {_who(item) for item in self.book.waiting} <= running, "a window waits for nothing"
            return False
        self.at_work.append(work)
        if isinstance(work, Batch):
            assert len(work.items) <= LANES[work.lane]
            for item in work.expired:
                assert item.expires_s is not None
                assert item.expires_s <= self.now_s
                self.book.end(item, "expired")
            for item in work.items:
                self.run(item, work.lane)
        return True

    def run(self, item: WindowItem, lane: str) -> None:
        assert item.lane == lane
        assert item.expires_s is None or item.expires_s > self.now_s
        self.book.end(item, "ran")
        place = next(place for place, submitted in enumerate(self.submitted) if submitted is item)
        order = self.book.ran.setdefault(_who(item), [])
        assert not order or order[-1] < place, "a window ran before an older one of its face"
        order.append(place)

    def done(self, work: Work) -> None:
        if not isinstance(work, Batch):
            work.source.work()
        self.scheduler.done(work, self.now_s)


TestSchedule = Schedule.TestCase
TestSchedule.settings = settings(derandomize=True, max_examples=120, stateful_step_count=40, deadline=None)
