"""The service with networks that fail when told to; for `loadtest.ops` alone, so that no setting of it can do this.

The file named by the variable ``OPS_FAULT_FILE`` says what is wrong with every network: nothing if there is no such
file, ``raises`` or ``hangs``. Run as a program it serves until SIGTERM, or until its watchdog ends it.
"""

import os
import threading
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from service import engine
from service.cli import read_settings
from service.inference.batch import Runner
from service.inference.workers import WorkerPool
from service.serve import run
from service.telemetry.logs import configure_logging

Fault = Literal["raises", "hangs"]
FAULT_FILE = "OPS_FAULT_FILE"
"""The variable that names the file."""


class BrokenRunner:
    """A network that does what the file says."""

    def __init__(self, runner: Runner, file: Path) -> None:
        """``runner`` is asked while there is no ``file``."""
        self._runner = runner
        self._file = file

    def __call__(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, an error, or nothing ever."""
        if not self._file.exists():
            return self._runner(windows)
        if self._file.read_text(encoding="utf-8") == "hangs":
            threading.Event().wait()
        raise RuntimeError("A fault of the run")


class BrokenPool(WorkerPool):
    """Workers whose networks break once they are loaded."""

    def add_lane(self, name: str, runner: Runner, max_batch: int, **more: Any) -> None:  # noqa: ANN401 - the pool's own
        """Open a lane whose network can break."""
        super().add_lane(name, BrokenRunner(runner, Path(os.environ[FAULT_FILE])), max_batch, **more)


def main() -> None:
    """Serve until SIGTERM."""
    settings = read_settings(host="127.0.0.1")
    configure_logging(settings)
    with mock.patch.object(engine, "WorkerPool", BrokenPool):
        run(settings)


if __name__ == "__main__":
    main()
