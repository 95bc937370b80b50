"""Calls that may block for long, beside the event loop, such that no end of anything waits for them.

`asyncio.to_thread` is not for these: its threads cannot be left. The end of the event loop and that of the interpreter
join them without a bound (Python 3.11), and a call that blocks holds a thread that others wait for.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Aside:
    """Carries out calls one after the other, on a daemon thread that is there while there are any."""

    def __init__(self, name: str) -> None:
        """``name``: the thread's. Calls of one `Aside` wait for each other; those of two do not."""
        self._name = name
        self._lock = threading.Lock()
        self._is_running = False
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """What ``call(*args)`` returns or raises.

        Cancelled before its turn it is not called. Cancelled later it goes on to its end, and nobody hears of that.
        """
        future: Future[T] = Future()
        with self._lock:
            if not self._is_running:
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
                self._is_running = True
            self._waiting.append(waiting := (future, lambda: call(*args)))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            with self._lock, suppress(ValueError):  # It may be at work, or done.
                self._waiting.remove(waiting)
            raise

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_running = False
                    return
                future, call = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                _carry_out(future, call)
            del future, call  # What came of it is held by who asked alone.


def _carry_out(future: Future[T], call: Callable[[], T]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is for who asked
        future.set_exception(error)
        del future  # The error's traceback holds this frame, and the future the error.
    else:
        future.set_result(result)
