"""How late the event loop is: what it does for one client is time that all others wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def watch_lag(
    observe: Callable[[float], None],
    *,
    interval_s: float = 0.1,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Tell ``observe``, every ``interval_s`` and for ever, by how many seconds a timer fired late.

    uvloop's timers are whole milliseconds, so one may come a part of one early: that is 0.
    """
    while True:
        due_s = clock() + interval_s
        await sleep(interval_s)
        observe(max(0.0, clock() - due_s))
