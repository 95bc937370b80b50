"""Aside: calls that block, beside the event loop and in nobody's way."""

import asyncio
import threading

import pytest

from service.aside import Aside

PATIENCE_S = 30


def named(name: str) -> list[threading.Thread]:
    """The threads of an `Aside`."""
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_what_a_call_returns_or_raises() -> None:
    """Results and errors come to who asked, and an error ends nothing."""

    async def ask() -> None:
        aside = Aside("results")
        assert await aside.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await aside.run(divmod, 7, 0)
        assert await asyncio.gather(*(aside.run(abs, -number) for number in range(50))) == list(range(50))

    asyncio.run(asyncio.wait_for(ask(), PATIENCE_S))


def test_one_thread_however_many_ask() -> None:
    """Calls wait for each other on one daemon thread, which is gone once none is left."""
    entered, gate = threading.Event(), threading.Event()
    seen: list[list[threading.Thread]] = []

    def block() -> None:
        entered.set()
        gate.wait(PATIENCE_S)
        seen.append(named("single"))

    async def ask() -> None:
        aside = Aside("single")
        calls = [asyncio.create_task(aside.run(block)) for _ in range(20)]
        await asyncio.to_thread(entered.wait, PATIENCE_S)
        gate.set()
        await asyncio.gather(*calls)

    asyncio.run(asyncio.wait_for(ask(), PATIENCE_S))
    (thread,) = {thread for threads in seen for thread in threads}
    thread.join(PATIENCE_S)
    assert (len(seen), thread.daemon, named("single")) == (20, True, [])


def test_cancelled_before_its_turn() -> None:
    """A call that is cancelled while it waits is not made; those after it are."""
    entered, gate = threading.Event(), threading.Event()
    made: list[str] = []

    def block() -> None:
        entered.set()
        gate.wait(PATIENCE_S)

    async def ask() -> None:
        aside = Aside("cancelled")
        calls = [(block,), (made.append, "second"), (made.append, "third")]
        first, second, third = (asyncio.create_task(aside.run(*call)) for call in calls)
        await asyncio.to_thread(entered.wait, PATIENCE_S)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        gate.set()
        await asyncio.gather(first, third)

    asyncio.run(asyncio.wait_for(ask(), PATIENCE_S))
    assert made == ["third"]


def test_nothing_waits_for_a_call_that_blocks() -> None:
    """The event loop ends while a call still blocks; when that ends at last, nobody is hurt by it."""
    entered, gate = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        gate.wait(PATIENCE_S)

    async def ask() -> None:
        task = asyncio.create_task(Aside("left").run(block))
        await asyncio.to_thread(entered.wait, PATIENCE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())
    (thread,) = named("left")
    gate.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_cancelled_call_is_forgotten() -> None:
    """What waits for a call that never ends takes no memory once nobody waits for it."""
    entered, gate = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        gate.wait(PATIENCE_S)

    async def ask() -> None:
        aside = Aside("forgotten")
        first = asyncio.create_task(aside.run(block))
        await asyncio.to_thread(entered.wait, PATIENCE_S)
        others = [asyncio.create_task(aside.run(abs, 1)) for _ in range(3)]
        await asyncio.sleep(0)
        assert len(aside._waiting) == 3
        for other in others[:2]:
            other.cancel()
        await asyncio.wait(others[:2])
        assert len(aside._waiting) == 1
        gate.set()
        await asyncio.gather(first, others[2])

    asyncio.run(asyncio.wait_for(ask(), PATIENCE_S))
