"""The service with networks that fail now and then; for `loadtest.soak` alone, so that no setting of it can do this.

Beside what the service says of itself its ``/metrics`` has ``soak_tasks``, the tasks of its event loop, ``soak_blocks``
and ``soak_bytes``, what Python and the process have in use, and ``soak_faults_total`` by kind. Run as a program it
serves until SIGTERM.
"""

import asyncio
import contextlib
import ctypes
import gc
import random
import sys
import time
from typing import Any, Literal
from unittest import mock

import numpy as np
import psutil
from numpy.typing import NDArray
from prometheus_client import Counter

from service import engine
from service.cli import read_settings
from service.inference.batch import Runner
from service.inference.workers import WorkerPool
from service.serve import run
from service.telemetry.logs import configure_logging
from service.telemetry.metrics import Metrics

Fault = Literal["raises", "not_a_number", "too_short", "slow"]
FAULTS: tuple[Fault, ...] = ("raises", "not_a_number", "too_short", "slow")
_RATE = 0.02
_SLOW_S = 0.15


class FaultyRunner:
    """A network of which a share of all calls goes wrong."""

    def __init__(self, runner: Runner, faults: Counter, rate: float = _RATE, seed: int = 0) -> None:
        """``faults`` counts by kind; ``rate``: the share, 0..1."""
        self._runner = runner
        self._faults = faults
        self._rate = rate
        self._random = random.Random(seed)  # noqa: S311 - chance, no secret

    def __call__(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, or what a broken network gives."""
        if self._random.random() >= self._rate:
            return self._runner(windows)
        fault = self._random.choice(FAULTS)
        self._faults.labels(fault).inc()
        if fault == "raises":
            raise RuntimeError("A fault of the soak")
        if fault == "slow":
            time.sleep(_SLOW_S)
        rows = self._runner(windows)
        if fault == "too_short":
            return rows[:-1]
        if fault == "not_a_number":
            rows = rows.copy()
            rows[self._random.randrange(len(rows))] = np.nan
        return rows


def _blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def _bytes() -> int:
    gc.collect()
    with contextlib.suppress(AttributeError):  # glibc's alone.
        ctypes.CDLL(None).malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


class SoakMetrics(Metrics):
    """The service's metrics, and what only a soak asks for."""

    def __init__(self) -> None:
        """Inside an event loop."""
        super().__init__()
        loop = asyncio.get_running_loop()
        self._gauge("soak_tasks", "Tasks of the event loop.").set_function(lambda: len(asyncio.all_tasks(loop)))
        self._gauge("soak_blocks", "Memory blocks of Python that are in use, garbage aside.").set_function(_blocks)
        self._gauge("soak_bytes", "Memory of the process, without what its allocator keeps.").set_function(_bytes)
        self.faults = Counter("soak_faults", "Faults of networks, by kind.", ["kind"], registry=self.registry)


class FaultyPool(WorkerPool):
    """Workers whose networks are faulty once they are loaded."""

    def __init__(self, *arguments: Any, observer: SoakMetrics, **more: Any) -> None:  # noqa: ANN401 - the pool's own
        """As the pool's."""
        super().__init__(*arguments, observer=observer, **more)
        self._faults = observer.faults

    def add_lane(self, name: str, runner: Runner, max_batch: int, *, parallel: bool = True) -> None:
        """Open a lane whose network is faulty."""
        super().add_lane(name, FaultyRunner(runner, self._faults), max_batch, parallel=parallel)


def main() -> None:
    """Serve until SIGTERM."""
    settings = read_settings(host="127.0.0.1")
    configure_logging(settings)
    with mock.patch.object(engine, "WorkerPool", FaultyPool), mock.patch.object(engine, "Metrics", SoakMetrics):
        run(settings)


if __name__ == "__main__":
    main()
