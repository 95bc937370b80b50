"""Puts a load on a service, from processes of its own, and brings their counts together.

Sessions are dealt out to the processes. Each connects its own and says so; when all have, they are given one moment to
start at, on the monotonic clock that all processes of a machine share.
"""

import asyncio
import contextlib
import gc
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection

from loadtest.callers import Due, open_caller
from loadtest.errors import CannotGenerate
from loadtest.histogram import Times
from loadtest.plan import Load
from loadtest.processes import heard, process
from loadtest.schedule import due_s
from loadtest.tally import Account, Tally

PATIENCE_S = 1.0
"""How long after the end of the schedule frames that are late may still be sent."""

_OPENING_AT_ONCE = 32
_STARTS_IN_S = 0.2


@dataclass(frozen=True, slots=True)
class Task:
    """What one process has to do: ``sessions`` are (group, session) by their places in the load."""

    address: str
    load: Load
    clip: Sequence[bytes]
    sessions: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Share:
    """What one process did. Histograms are encoded, by group; ``cores``: CPU time of the process per second."""

    accounts: tuple[Account, ...]
    latency: Mapping[int, str]
    lateness: Mapping[int, str]
    cores: float


@dataclass(frozen=True, slots=True)
class Generated:
    """What all processes did together. ``start_s`` is on the monotonic clock; ``cores`` has a figure a process."""

    start_s: float
    accounts: tuple[Account, ...]
    latency: Mapping[int, Times]
    lateness: Mapping[int, Times]
    cores: tuple[float, ...]


def generate(load: Load, address: str, clip: Sequence[bytes], processes: int) -> Generated:
    """Put ``load`` on the service at ``address``; each session plays ``clip``, JPEGs, over and over.

    Raises:
        CannotGenerate: a session could not be opened, or a process died.
    """
    sessions = [(place, session) for place, group in enumerate(load.groups) for session in range(group.sessions)]
    processes = min(processes, len(sessions))
    tasks = (Task(address, load, clip, tuple(sessions[first::processes])) for first in range(processes))
    with contextlib.ExitStack() as running:
        pipes = [running.enter_context(process(_work, task)) for task in tasks]
        for pipe in pipes:
            heard(pipe)  # It is connected.
        start_s = time.monotonic() + _STARTS_IN_S
        for pipe in pipes:
            pipe.send(start_s)
        shares: list[Share] = [heard(pipe) for pipe in pipes]
    return Generated(
        start_s=start_s,
        accounts=tuple(account for share in shares for account in share.accounts),
        latency=_merged([share.latency for share in shares]),
        lateness=_merged([share.lateness for share in shares]),
        cores=tuple(share.cores for share in shares),
    )


async def play(task: Task, start: Callable[[], Awaitable[float]]) -> Share:
    """Connect all sessions of a task; play them from the moment on that ``start``, called then, returns.

    Raises:
        CannotGenerate: a session could not be opened.
    """
    latency: Mapping[int, Times] = defaultdict(Times)
    lateness: Mapping[int, Times] = defaultdict(Times)
    opening = asyncio.Semaphore(_OPENING_AT_ONCE)
    connected = asyncio.Barrier(len(task.sessions) + 1)
    started: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def session(place: int, number: int) -> Account:
        load, pictures = task.load, count(number)  # No two cameras show the same picture at once.
        moments_s = due_s(load, place, number).tolist()
        async with AsyncExitStack() as open_callers:
            async with opening:
                opened = open_caller(task.address, load, load.groups[place], task.clip)
                caller = await open_callers.enter_async_context(opened)
            await connected.wait()
            start_s = await started
            tally = Tally(place, start_s + load.warm_up_s, latency[place], lateness[place])
            schedule = (Due(start_s + at_s, next(pictures)) for at_s in moments_s)
            await caller.play(schedule, start_s + load.end_s + PATIENCE_S, tally)
        return tally.account()

    try:
        async with asyncio.TaskGroup() as group:
            playing = [group.create_task(session(place, number)) for place, number in task.sessions]
            await connected.wait()
            # What is there now stays; looking through it again and again would delay frames.
            gc.freeze()
            started.set_result(await start())
            cpu_s, clock_s = time.process_time(), time.monotonic()
    except ExceptionGroup as failures:
        # All sessions fail for one reason, as a rule; the first to say it speaks for the others.
        for failure in failures.exceptions:
            if isinstance(failure, CannotGenerate):
                raise failure from None
        raise
    return Share(
        accounts=tuple(one.result() for one in playing),
        latency={place: times.encoded() for place, times in latency.items()},
        lateness={place: times.encoded() for place, times in lateness.items()},
        cores=(time.process_time() - cpu_s) / (time.monotonic() - clock_s),
    )


def _work(task: Task, pipe: Connection) -> None:
    """In the process: says None when it is connected, hears the start, says its `Share`."""

    async def start() -> float:
        pipe.send(None)
        start_s: float = await asyncio.to_thread(pipe.recv)
        return start_s

    pipe.send(asyncio.run(play(task, start)))


def _merged(shares: Iterable[Mapping[int, str]]) -> Mapping[int, Times]:
    """Histograms by group, of all processes."""
    by_group: defaultdict[int, list[str]] = defaultdict(list)
    for share in shares:
        for place, encoded in share.items():
            by_group[place].append(encoded)
    return {place: Times.merged(encoded) for place, encoded in by_group.items()}
