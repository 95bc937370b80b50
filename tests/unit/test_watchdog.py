import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from service.inference.scheduler import Delivery, Dropped, Scheduler
from service.inference.workers import WorkerPool
from service.watchdog import EXIT_STUCK, Watchdog
from tests.fakes import GatedRunner, Letterbox, ManualClock, Recorder, ScriptedSource, post_at_once


class Scene:
    """A watchdog over a pool of one worker whose network stands still until it is let go."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.runner = GatedRunner()
        self.box = Letterbox()
        self.exits: list[int] = []
        self.stuck: list[int] = []
        self.sweeps: list[float] = []
        self.on_sweep: Callable[[], None] = lambda: None
        self.on_post: Callable[[], None] = lambda: None
        self.pool = WorkerPool(
            Scheduler(max_waiting=8, hold_s=0.0), workers=1, post=self.post, observer=Recorder(), clock=self.clock
        )
        self.pool.add_lane("fake@1", self.runner, 4)
        self.watchdog = Watchdog(
            self.pool,
            self,  # type: ignore[arg-type] # sweeps
            stuck_s=5.0,
            exit_process=self.exits.append,
            on_stuck=self.stuck.append,
        )

    def sweep(self) -> None:
        self.sweeps.append(self.clock())
        self.on_sweep()

    def post(self, deliveries: Sequence[Delivery]) -> None:
        post_at_once(deliveries)
        self.on_post()

    def begin(self, name: str) -> None:
        """Have the worker begin a window's run and stand still in it."""
        self.pool.ready(ScriptedSource(self.box.item(name)), kind="stream")
        self.runner.await_call()


@contextmanager
def scene() -> Iterator[Scene]:
    """A scene whose worker has ended when the test does."""
    made = Scene()
    made.pool.start()
    try:
        yield made
    finally:
        made.runner.let_go(100)
        assert made.pool.close(30)


def test_idle() -> None:
    """While nothing runs nothing is stuck, however long that lasts."""
    with scene() as at:
        at.clock.advance(3600)
        assert not at.watchdog.stuck
        assert not at.watchdog.check()


def test_stuck(caplog: pytest.LogCaptureFixture) -> None:
    """A call over the limit turns the watchdog red, and its frames are answered; at the limit it is only long."""
    with scene() as at, caplog.at_level(logging.CRITICAL):
        at.begin("long")
        at.clock.advance(5.0)
        assert not at.watchdog.stuck
        assert not at.watchdog.check()
        assert (at.box.fates, at.stuck) == ([], [])
        at.clock.advance(0.001)
        assert at.watchdog.stuck
        assert at.watchdog.check()
        assert (at.box.fates, at.stuck) == ([("long", Dropped.STUCK)], [1])
        assert at.exits == []
    (record,) = caplog.records
    assert (record.worker, record.busy_s) == ("worker-0", pytest.approx(5.001))


def test_came_back() -> None:
    """A call that ends in time is forgotten."""
    with scene() as at:
        at.begin("long")
        at.clock.advance(4.0)
        at.runner.let_go()
        at.box.await_fates(1)
        at.begin("next")
        at.clock.advance(4.0)
        assert not at.watchdog.check()


def test_sessions_are_swept() -> None:
    """Each look also sweeps the sessions."""
    with scene() as at:
        at.watchdog.check()
        at.clock.advance(1.0)
        at.watchdog.check()
        assert at.sweeps == [1000.0, 1001.0]


def test_ends_the_process() -> None:
    """Once a worker is stuck the process is told to end, once, with the status for a supervisor."""
    with scene() as at:
        at.begin("long")
        at.clock.advance(6.0)
        asyncio.run(at.watchdog.run(interval_s=0.0, grace_s=0.0))
        assert at.exits == [EXIT_STUCK]
        assert at.box.names == ["long"]


def test_grace() -> None:
    """Frames are answered before the process ends, so that the answers have time to leave."""

    async def main(at: Scene) -> None:
        answered = asyncio.Event()
        at.on_post = answered.set
        watching = asyncio.create_task(at.watchdog.run(interval_s=0.0, grace_s=3600))
        await answered.wait()
        assert at.exits == []
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    with scene() as at:
        at.begin("long")
        at.clock.advance(6.0)
        asyncio.run(main(at))
        assert at.exits == []


def test_watches_until_something_is_stuck() -> None:
    """While all is well the watchdog goes on looking and ends nothing."""

    async def main(at: Scene) -> None:
        looked = asyncio.Semaphore(0)
        at.on_sweep = looked.release
        watching = asyncio.create_task(at.watchdog.run(interval_s=0.0, grace_s=0.0))
        for _ in range(10):
            await looked.acquire()
        assert not watching.done()
        at.begin("long")
        at.clock.advance(6.0)
        await watching

    with scene() as at:
        asyncio.run(main(at))
        assert at.exits == [EXIT_STUCK]


def test_dead_worker() -> None:
    """A worker whose thread has ended is as bad as a stuck one."""
    at = Scene()
    before = set(threading.enumerate())
    at.pool.start()
    assert at.pool.close(30)
    assert set(threading.enumerate()) <= before
    assert at.watchdog.stuck
    assert at.watchdog.check()
