import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine

import pytest

from service.outbox import Outbox


class CountingLoop(asyncio.SelectorEventLoop):
    """An event loop that counts how often a thread wakes it."""

    def __init__(self) -> None:
        super().__init__()
        self.wake_ups = 0

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object, **kwargs: object) -> asyncio.Handle:
        self.wake_ups += 1
        return super().call_soon_threadsafe(callback, *args, **kwargs)


def run(main: Callable[[CountingLoop], Coroutine[None, None, None]]) -> None:
    """Run a test on a loop that counts; a delivery that never comes fails it."""

    async def within_time(loop: CountingLoop) -> None:
        async with asyncio.timeout(30):
            await main(loop)

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, CountingLoop)
        runner.run(within_time(loop))


async def post_from_thread(post: Callable[[], None]) -> None:
    """Post as workers do; when it returns the thread has ended and the loop has not yet looked."""
    thread = threading.Thread(target=post)
    thread.start()
    thread.join()


def test_order() -> None:
    """Deliveries run on the event loop's thread, in the order they were posted."""

    async def main(loop: CountingLoop) -> None:
        outbox, ran, done = Outbox(loop), [], asyncio.Event()
        here = threading.get_ident()
        steps = [lambda n=n: ran.append((n, threading.get_ident())) for n in range(5)]
        await post_from_thread(lambda: (outbox.post(steps[:3]), outbox.post([*steps[3:], done.set])))
        assert ran == []
        await done.wait()
        assert [(n, here) for n in range(5)] == ran

    run(main)


def test_one_wake_up() -> None:
    """What several threads post before the loop looks wakes it once; the next post wakes it again."""

    async def main(loop: CountingLoop) -> None:
        outbox, ran, done = Outbox(loop), [], asyncio.Event()
        before = loop.wake_ups
        for n in range(10):
            await post_from_thread(lambda n=n: outbox.post([lambda: ran.append(n)]))
        outbox.post([done.set])
        await done.wait()
        assert (list(range(10)), 1) == (ran, loop.wake_ups - before)
        done.clear()
        outbox.post([done.set])
        await done.wait()
        assert loop.wake_ups - before == 2

    run(main)


def test_nothing_posted() -> None:
    """An empty post wakes no one."""

    async def main(loop: CountingLoop) -> None:
        before = loop.wake_ups
        Outbox(loop).post([])
        assert before == loop.wake_ups

    run(main)


def test_posted_while_delivering() -> None:
    """A delivery that posts another has it delivered too."""

    async def main(loop: CountingLoop) -> None:
        outbox, done = Outbox(loop), asyncio.Event()
        outbox.post([lambda: outbox.post([done.set])])
        await done.wait()

    run(main)


def test_failing_delivery(caplog: pytest.LogCaptureFixture) -> None:
    """A delivery that raises is logged and takes no other with it, neither of its post nor of a later one."""

    async def main(loop: CountingLoop) -> None:
        outbox, ran, done = Outbox(loop), [], asyncio.Event()
        outbox.post([lambda: ran.append(1), lambda: 1 / 0, lambda: ran.append(2)])
        outbox.post([done.set])
        await done.wait()
        assert ran == [1, 2]
        outbox.post([lambda: ran.append(3)])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ran == [1, 2, 3]

    with caplog.at_level(logging.ERROR):
        run(main)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_loop_has_ended() -> None:
    """A post after the loop has ended, as of a worker that was late, is nothing."""
    ended = asyncio.new_event_loop()
    ended.close()
    outbox = Outbox(ended)
    outbox.post([lambda: pytest.fail("delivered without a loop")])
    outbox.post([lambda: pytest.fail("delivered without a loop")])


def test_many_threads() -> None:
    """Of posts from many threads at once none is lost or doubled, and each thread's stay in order."""

    async def main(loop: CountingLoop) -> None:
        outbox, ran, done = Outbox(loop), [], asyncio.Event()

        def check() -> None:
            if len(ran) == 2000:
                done.set()

        def work(name: int) -> None:
            for n in range(500):
                outbox.post([lambda n=n: ran.append((name, n)), check])

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        await done.wait()
        for thread in threads:
            thread.join()
        for name in range(4):
            assert list(range(500)) == [n for who, n in ran if who == name]

    run(main)
