"""Processes that generate load, and the pipes they are spoken to through."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from loadtest.errors import CannotGenerate

_Task = TypeVar("_Task")


@dataclass(frozen=True, slots=True)
class _Failed:
    reason: str


@contextmanager
def process(work: Callable[[_Task, Connection], None], task: _Task) -> Iterator[Connection]:
    """A process that works on ``task`` with a pipe to us; what is left of it at the end of the block is ended.

    ``work`` is a function of a module: the process imports it. A `CannotGenerate` it raises is raised by `heard`.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    running = context.Process(target=_run, args=(work, task, theirs), daemon=True)
    running.start()
    theirs.close()  # So that the end of the process is the end of the pipe.
    try:
        yield ours
    finally:
        running.terminate()
        running.join()


def heard(pipe: Connection) -> Any:  # noqa: ANN401 - what it says is between the two ends
    """What a process says next.

    Raises:
        CannotGenerate: that it failed, or nothing more.
    """
    try:
        said = pipe.recv()
    except EOFError as error:
        raise CannotGenerate("A process of the load generator died; it has said why above") from error
    if isinstance(said, _Failed):
        raise CannotGenerate(said.reason)
    return said


def _run(work: Callable[[_Task, Connection], None], task: _Task, pipe: Connection) -> None:
    """In the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who ends this.
    try:
        work(task, pipe)
    except CannotGenerate as error:
        pipe.send(_Failed(str(error)))
