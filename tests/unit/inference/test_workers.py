"""service.inference.workers: the scheduler's contract with real threads, led by gates instead of sleeps."""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import RunnerFailed
from service.inference.batch import Runner
from service.inference.scheduler import Delivery, Dropped, Scheduler, Scores, WindowItem
from service.inference.workers import WorkerPool
from tests.fakes import (
    FailingOn,
    GatedRunner,
    Letterbox,
    ManualClock,
    Recorder,
    ScriptedSource,
    echo_runner,
    post_at_once,
)


@contextmanager
def working(
    runner: Runner,
    *,
    workers: int = 1,
    max_waiting: int = 64,
    clock: Callable[[], float] | None = None,
    observer: Recorder | None = None,
    post: Callable[[Sequence[Delivery]], None] = post_at_once,
    max_batch: int = 4,
) -> Iterator[WorkerPool]:
    """A pool that is closed at the end, with no thread left."""
    scheduler = Scheduler(max_waiting=max_waiting, hold_s=0.005)
    pool = WorkerPool(
        scheduler,
        workers=workers,
        post=post,
        observer=observer or Recorder(),
        clock=clock or ManualClock(),
    )
    pool.add_lane("fake@1", runner, max_batch)
    before = threading.active_count()
    pool.start()
    try:
        yield pool
    finally:
        if isinstance(runner, GatedRunner):
            runner.let_go(100)
        assert pool.close(30)
        assert threading.active_count() == before
        assert (pool.waiting_windows, pool.waiting_turns) == (0, 0)


def source_of(box: Letterbox, *names: str, marks: dict[str, int] | None = None) -> ScriptedSource:
    """A source whose frames come to windows with these names; its key is its first name."""
    return ScriptedSource(*(box.item(name, key=names[0], mark=(marks or {}).get(name, 0)) for name in names))


def first_scores(box: Letterbox) -> dict[str, int | None]:
    """By name: the mark that came back as the first probability, None for a window that failed."""
    return {
        name: round(float(fate.probabilities[0]) * 255) if isinstance(fate, Scores) else None
        for name, fate in box.fates
    }


def test_a_frame_comes_out_as_scores() -> None:
    """A source's frame becomes a window, and its scores are delivered."""
    box = Letterbox()
    with working(echo_runner) as pool:
        pool.ready(source_of(box, "a", marks={"a": 51}), kind="stream")
        box.await_fates(1)
    assert first_scores(box) == {"a": 51}


def test_windows_that_came_while_the_worker_was_busy_leave_together() -> None:
    """Six sources that got ready during one call are answered by one batch of four and one of two."""
    box, runner, recorder = Letterbox(), GatedRunner(), Recorder()
    with working(runner, observer=recorder) as pool:
        pool.ready(source_of(box, "first"), kind="stream")
        runner.await_call()
        for name in "abcdef":
            pool.ready(source_of(box, name), kind="stream")
        runner.let_go(3)
        box.await_fates(7)
    assert recorder.batches == [(1, "idle"), (4, "full"), (2, "idle")]
    assert box.names == ["first", *"abcdef"]


def test_order_within_a_session_is_kept_with_many_workers() -> None:
    """Windows of each session are answered in order, whatever worker ran them."""
    box = Letterbox()
    names = [[f"{key}{index}" for index in range(20)] for key in "abcdefgh"]
    with working(echo_runner, workers=4, max_waiting=160) as pool:
        for session in names:
            pool.ready(source_of(box, *session), kind="stream")
        box.await_fates(160)
    for session in names:
        assert [name for name in box.names if name[0] == session[0][0]] == session


def test_a_failing_window_fails_alone() -> None:
    """The windows beside a culprit in its batch get their scores, and the worker lives on."""
    box, gate = Letterbox(), GatedRunner()
    failing = FailingOn(66)

    def gated_then_failing(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        return gate(windows) if windows[0, 0, 0, 0] == 1 else failing(windows)

    with working(gated_then_failing) as pool:
        pool.ready(source_of(box, "hold", marks={"hold": 1}), kind="stream")
        gate.await_call()
        for name, mark in (("a", 10), ("bad", 66), ("c", 30)):
            pool.ready(source_of(box, name, marks={name: mark}), kind="stream")
        gate.let_go()
        box.await_fates(4)
        pool.ready(source_of(box, "later", marks={"later": 40}), kind="stream")
        box.await_fates(1)
    assert first_scores(box) == {"hold": 1, "a": 10, "bad": None, "c": 30, "later": 40}
    assert [type(fate) for name, fate in box.fates if name == "bad"] == [RunnerFailed]


def test_a_source_that_raises_is_told_and_the_worker_lives() -> None:
    """An exception in a frame's work reaches its source, and the next frame is worked on."""
    box = Letterbox()
    error = ValueError("unforeseen")
    source = ScriptedSource(error, box.item("next"))
    with working(echo_runner) as pool:
        pool.ready(source, kind="stream")
        box.await_fates(1)
    assert (source.abortions, box.names) == ([error], ["next"])


def test_a_lane_that_closes_lets_its_network_go() -> None:
    """Once a lane is closed the pool holds neither its network nor a window that it ran."""
    box, network = Letterbox(), FailingOn()
    alive = weakref.ref(network)
    with working(echo_runner) as pool:
        pool.add_lane("other@1", network, 4)
        del network
        item = box.item("a")
        item.lane = "other@1"
        ran = weakref.ref(item.window[0])
        pool.ready(ScriptedSource(item), kind="stream")
        del item
        box.await_fates(1)
        while any(state.state != "idle" for state in pool.states()):
            pass
        pool.close_lane("other@1")
        assert (alive(), ran()) == (None, None)


def test_a_caller_gone_while_queued_costs_nothing() -> None:
    """A window whose caller left before its batch is not run; the others are."""
    box, runner = Letterbox(), GatedRunner()
    with working(runner) as pool:
        pool.ready(source_of(box, "first"), kind="stream")
        runner.await_call()
        gone = source_of(box, "gone")
        pool.ready(gone, kind="stream")
        pool.ready(source_of(box, "here"), kind="stream")
        pool.leave(gone, "gone")
        runner.let_go(2)
        box.await_fates(2)
    assert (box.names, runner.sizes) == (["first", "here"], [1, 1])


def test_a_caller_gone_while_running_harms_nobody() -> None:
    """The batch of a caller who left runs on, and the others in it get their scores."""
    box, runner = Letterbox(), GatedRunner()
    with working(runner) as pool:
        leaver = source_of(box, "leaver")
        pool.ready(leaver, kind="stream")
        runner.await_call()
        pool.ready(source_of(box, "other"), kind="stream")
        pool.leave(leaver, "leaver")
        runner.let_go(2)
        box.await_fates(2)
    assert first_scores(box) == {"leaver": 0, "other": 0}


def test_two_hundred_callers_that_leave_at_random_points() -> None:
    """Whoever stays of 200 callers is answered, in whatever state the others left."""
    box, runner = Letterbox(), GatedRunner()
    random = np.random.default_rng(7)
    stays = [f"stays{index}" for index in range(100)]
    with working(runner, workers=2, max_waiting=1000) as pool:
        names = [*stays, *(f"leaves{index}" for index in range(200))]
        random.shuffle(names)
        leavers = {}
        for name in names:
            source = source_of(box, name)
            pool.ready(source, kind="stream")
            if name.startswith("leaves"):
                leavers[name] = source
            if leavers and random.random() < 0.5:
                left, gone = leavers.popitem()
                pool.leave(gone, left)
            runner.let_go(int(random.integers(1, 4)))
        for left, gone in leavers.items():
            pool.leave(gone, left)
        runner.let_go(400)
        while not set(stays) <= set(box.names):
            box.await_fates(1)
    assert all(isinstance(fate, Scores) for name, fate in box.fates if name in stays)
    assert len(box.names) == len(set(box.names))


def test_a_full_queue_is_told_at_once() -> None:
    """A window that finds the queue full is delivered as such, while the worker is still busy elsewhere."""
    box, runner = Letterbox(), GatedRunner()
    with working(runner, workers=2, max_waiting=1) as pool:
        for name in ("a", "b"):  # Both workers are in a call ...
            pool.ready(source_of(box, name), kind="stream")
            runner.await_call()
        pool.ready(source_of(box, "c"), kind="stream")
        pool.ready(source_of(box, "d"), kind="stream")
        runner.let_go()  # ... and the first that returns makes one window too many: frames go before small batches.
        box.await_fates(2)
        assert ("d", Dropped.FULL) in box.fates


def test_closing_answers_what_waits() -> None:
    """On closing what runs is finished, what waits is told, and no thread is left."""
    box, runner = Letterbox(), GatedRunner()
    with working(runner) as pool:
        pool.ready(source_of(box, "running"), kind="stream")
        runner.await_call()
        closing = threading.Thread(target=pool.close, args=(30,))
        closing.start()
        runner.let_go()
        closing.join(30)
        pool.ready(source_of(box, "too late"), kind="stream")
    assert [type(fate) for _, fate in box.fates] == [Scores]


def test_closing_has_a_bound() -> None:
    """A worker that does not come back delays closing by no more than the time given."""
    runner, box = GatedRunner(), Letterbox()
    with working(runner) as pool:
        pool.ready(source_of(box, "stuck"), kind="stream")
        runner.await_call()
        assert pool.close(0) is False


def test_a_stuck_call_is_seen_and_its_frames_are_answered() -> None:
    """A call over the limit counts as stuck, its windows are told so, and later scores come too late to count."""
    box, runner, clock = Letterbox(), GatedRunner(), ManualClock()
    with working(runner, clock=clock) as pool:
        pool.ready(source_of(box, "a"), kind="stream")
        runner.await_call()
        clock.advance(4.9)
        assert (pool.stuck(5.0), [state.state for state in pool.states()]) == ([], ["busy"])
        clock.advance(0.2)
        assert [(state.name, round(state.busy_s, 3)) for state in pool.stuck(5.0)] == [("worker-0", 5.1)]
        pool.fail_stuck(5.0)
        assert box.fates == [("a", Dropped.STUCK)]


def test_a_stuck_frame_is_answered() -> None:
    """A frame whose decoding does not come back is told to its source."""
    gate, entered, clock = threading.Event(), threading.Event(), ManualClock()

    class Stuck(ScriptedSource):
        def work(self) -> None:
            self.steps.pop(0)
            entered.set()
            assert gate.wait(30)

    source = Stuck(None)
    with working(echo_runner, clock=clock) as pool:
        pool.ready(source, kind="stream")
        assert entered.wait(30)
        clock.advance(6)
        pool.fail_stuck(5.0)
        assert source.abortions == [None]
        gate.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_frame_with_a_dead_worker_is_answered_at_once() -> None:
    """What was with a worker whose thread ended is given up without waiting for the limit."""
    box = Letterbox()
    pool = WorkerPool(
        Scheduler(max_waiting=1, hold_s=0.0), workers=1, post=post_at_once, observer=Recorder(), clock=ManualClock()
    )

    def dies(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        del windows
        raise SystemExit  # Which a thread takes for its end, in silence.

    pool.add_lane("fake@1", dies, 4)
    pool.ready(source_of(box, "a"), kind="stream")
    pool.start()
    pool._workers[0].thread.join(30)
    assert [state.state for state in pool.stuck(5.0)] == ["dead"]
    pool.fail_stuck(5.0)
    assert box.fates == [("a", Dropped.STUCK)]
    assert pool.close(0)


def test_answers_are_posted_before_the_next_window_of_their_session_may_run() -> None:
    """While a session's answer is on its way no worker gets its next window, whose answer might overtake it."""
    box, meanwhile = Letterbox(), []

    def post(deliveries: Sequence[Delivery]) -> None:
        with pool._changed:
            meanwhile.append(pool._scheduler.next(0.0))
        post_at_once(deliveries)

    with working(echo_runner, post=post, max_batch=1) as pool:
        with pool._changed:
            for name in "123":
                pool._scheduler.submit(box.item(name, key="a"), 0.0)
            pool._changed.notify()
        box.await_fates(3)
    assert (box.names, meanwhile[:3]) == (list("123"), [None] * 3)


def test_a_long_frame_holds_up_no_other() -> None:
    """While one worker is with a frame that takes long, the frames that came with it are another's, all the way."""
    box, gate, entered = Letterbox(), threading.Event(), threading.Event()

    class Slow(ScriptedSource):
        def work(self) -> WindowItem | Delivery | None:
            entered.set()
            assert gate.wait(30)
            return super().work()

    with working(echo_runner, workers=2) as pool:
        pool.ready(Slow(box.item("slow")), *(source_of(box, name) for name in "abc"), kind="stream")
        assert entered.wait(30)
        box.await_fates(3)
        assert sorted(box.names) == list("abc")
        gate.set()
        box.await_fates(1)


def test_rest_and_streams_share_the_workers() -> None:
    """While both have frames without end, REST has every fourth turn, whatever the workers take together."""
    taken: list[str] = []
    full = threading.Semaphore(0)

    class Endless(ScriptedSource):
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.kind = kind

        @property
        def has_frames(self) -> bool:
            return len(taken) < 400

        def work(self) -> None:
            taken.append(self.kind)
            full.release()

    with working(echo_runner, workers=2) as pool:
        with pool._changed:
            pool.ready(*(Endless("stream") for _ in range(20)), kind="stream")
            pool.ready(*(Endless("predict") for _ in range(8)), kind="predict")
        for _ in range(400):
            assert full.acquire(timeout=30)
    assert taken[:400].count("predict") == pytest.approx(100, abs=2)


def test_equal_sessions_get_equal_shares() -> None:
    """Sessions that all have frames without end get as many turns each, to one more or less, with several workers."""
    turns = [0] * 18
    full = threading.Semaphore(0)

    class Endless(ScriptedSource):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

        @property
        def has_frames(self) -> bool:
            return sum(turns) < 36 * len(turns)

        def work(self) -> None:
            turns[self.number] += 1
            full.release()

    with working(echo_runner, workers=2) as pool:
        pool.ready(*(Endless(number) for number in range(len(turns))), kind="stream")
        for _ in range(36 * len(turns)):
            assert full.acquire(timeout=30)
    assert max(turns) - min(turns) <= 2


def test_nothing_is_worked_on_after_closing() -> None:
    """A source with frames without end does not keep a worker once the pool is closing."""
    started = threading.Event()

    class Endless(ScriptedSource):
        @property
        def has_frames(self) -> bool:
            return True

        def work(self) -> None:
            started.set()

    with working(echo_runner) as pool:
        pool.ready(Endless(), kind="stream")
        assert started.wait(30)
        assert pool.close(30)
        pool._scheduler.close()  # the source is in line again, and nobody takes it


def test_idle_workers_are_idle() -> None:
    """Workers with nothing to do say so, and are never stuck."""
    clock = ManualClock()
    with working(echo_runner, workers=2, clock=clock) as pool:
        clock.advance(3600)
        assert ([state.state for state in pool.states()], pool.stuck(5.0)) == (["idle", "idle"], [])


def test_busy_time_is_counted_by_kind_of_work() -> None:
    """Looking at frames and running batches are told apart, and what runs now counts as far as it has come."""
    clock, runner, box = ManualClock(), GatedRunner(), Letterbox()

    def look() -> WindowItem:
        clock.advance(0.5)
        return box.item("a")

    class Slow(ScriptedSource):
        def work(self) -> WindowItem | Delivery | None:
            self.steps.clear()
            return look()

    with working(runner, clock=clock) as pool:
        assert (pool.busy_s(), pool.call_age_s) == ({"frames": 0.0, "batch": 0.0}, 0.0)
        pool.ready(Slow("a"), kind="stream")
        runner.await_call()
        clock.advance(2.0)
        assert (pool.busy_s(), pool.call_age_s) == ({"frames": 0.5, "batch": 2.0}, 2.0)
        runner.let_go()
        box.await_fates(1)
        clock.advance(60.0)
    assert pool.call_age_s == 0.0
