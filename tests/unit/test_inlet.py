"""service.inlet."""

import asyncio
from typing import cast

from service.inference.workers import WorkerPool
from service.inlet import Inlet
from service.session import Session


class RecordingPool:
    """Writes down who was lined up together."""

    def __init__(self) -> None:
        self.lined_up: list[list[object]] = []

    def ready(self, *sources: object, kind: str) -> None:
        assert kind == "stream"
        self.lined_up.append(list(sources))


class FakeSession:
    """A session with frames, or without."""

    def __init__(self, *, has_frames: bool = True) -> None:
        self.has_frames = has_frames


def test_sessions_that_get_ready_together_are_lined_up_together() -> None:
    """All that got ready in one turn of the event loop are lined up at its end, those of the next turn at its own."""

    async def test() -> None:
        pool = RecordingPool()
        inlet = Inlet(asyncio.get_running_loop(), cast("WorkerPool", pool))
        first, second, third = (cast("Session", FakeSession()) for _ in range(3))
        inlet.ready(first)
        inlet.ready(second)
        assert pool.lined_up == []
        await asyncio.sleep(0)
        inlet.ready(third)
        await asyncio.sleep(0)
        assert pool.lined_up == [[first, second], [third]]

    asyncio.run(test())


def test_a_session_that_has_lost_its_frames_is_not_lined_up() -> None:
    """A session that was closed in the turn in which it got ready asks no worker for anything."""

    async def test() -> None:
        pool = RecordingPool()
        inlet = Inlet(asyncio.get_running_loop(), cast("WorkerPool", pool))
        session = FakeSession()
        inlet.ready(cast("Session", session))
        session.has_frames = False
        await asyncio.sleep(0)
        assert pool.lined_up == [[]]

    asyncio.run(test())
