"""Servers as processes of their own, and what they use."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from loadtest.errors import BadLoad, CannotGenerate

_SAMPLE_EVERY_S = 0.25
_STOP_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers at ``address``; ``pid`` is None where its process is not known, or on another machine."""

    address: str
    pid: int | None


@dataclass(frozen=True, slots=True)
class Sample:
    """A process at one moment: CPU time of all its threads so far, memory in use, and when (monotonic clock)."""

    at_s: float
    cpu_s: float
    rss_bytes: int


def end_on_sigterm() -> None:
    """Have SIGTERM end this program by way of its contexts, so that no server of it outlives it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextmanager
def started(module: str, *arguments: str, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run a Python module that logs ``address=...`` on standard error once it serves; stop it at the end of the block.

    ``settings`` are environment variables beside those of this process.

    Raises:
        CannotGenerate: it ended before it served.
    """
    command = [sys.executable, "-m", module, *arguments]
    # Its log says where it listens only in this form.
    environment = os.environ | {"TIMECONV_LOG_FORMAT": "text", "TIMECONV_LOG_LEVEL": "info"} | dict(settings or {})
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:  # noqa: S603 - ours
        assert process.stderr is not None
        # Who stops to read a server's log stops the server.
        reading = threading.Thread(target=deque, args=(process.stderr, 0), daemon=True)
        try:
            address = _address(module, process.stderr)
            reading.start()
            yield Server(address, process.pid)
        finally:
            end(process)
            if reading.is_alive():
                reading.join()


def end(process: "subprocess.Popen[Any]") -> None:
    """End a process, by force if it takes its time."""
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()


@contextmanager
def watched(pid: int | None) -> Iterator[Sequence[Sample]]:
    """Samples of a process, from the beginning of the block to its end; none without a process.

    Raises:
        BadLoad: there is no such process.
    """
    samples: list[Sample] = []
    if pid is None:
        yield samples
        return
    try:
        process = psutil.Process(pid)
        samples.append(_sample(process))
    except psutil.Error as error:
        raise BadLoad(f"Process {pid} cannot be watched: {error}") from error
    ended = threading.Event()

    def watch() -> None:
        try:
            while not ended.wait(_SAMPLE_EVERY_S):
                samples.append(_sample(process))
        except psutil.Error:
            return  # It has ended, as those who talk to it will notice.

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def _address(module: str, log: Iterable[str]) -> str:
    last = "it said nothing"
    for line in log:
        if found := re.search(r"address=(\S+)", line):
            return found[1]
        last = line.strip() or last
    raise CannotGenerate(f"{module} did not start: {last}")


def _sample(process: psutil.Process) -> Sample:
    with process.oneshot():
        times = process.cpu_times()
        return Sample(time.monotonic(), times.user + times.system, process.memory_info().rss)
