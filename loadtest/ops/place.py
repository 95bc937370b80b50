"""Where a run takes place: the service, its model store, and how both are broken."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from loadtest.errors import CannotGenerate
from loadtest.ops.prometheus import free_port
from loadtest.ops.service import FAULT_FILE, Fault
from loadtest.servers import Server, started
from service.cli import read_settings
from service.settings import shipped_model_store

_END_TIMEOUT_S = 30
_STUCK_MS = 6000
"""How long a call may take here: longer than the alert waits until it fires."""


class Place:
    """A folder of this run, and the service that lives in it."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is empty."""
        self.network = read_settings().model
        self.store = folder / "store"
        shutil.copytree(shipped_model_store(), self.store)
        self.for_prometheus = folder / "prometheus"
        self.for_prometheus.mkdir()
        self._fault = folder / "fault"
        self._port = free_port()

    @property
    def target(self) -> str:
        """What Prometheus scrapes."""
        return f"127.0.0.1:{self._port}"

    @property
    def address(self) -> str:
        """What clients connect to."""
        return f"http://{self.target}"

    @contextmanager
    def supervised(self) -> Iterator["Supervised"]:
        """The service, for as long as the block lasts.

        Raises:
            CannotGenerate: it did not start.
        """
        settings = {
            "TIMECONV_PORT": str(self._port),
            "TIMECONV_DEVICE": "cpu",
            "TIMECONV_WORKERS": "2",  # What is too much for them is so on every machine.
            "TIMECONV_MODEL_STORE": str(self.store),
            "TIMECONV_MODEL_POLL_MS": "1000",
            "TIMECONV_STUCK_MS": str(_STUCK_MS),
            "TIMECONV_MAX_SESSIONS_PER_ADDRESS": "500",
            "TIMECONV_MAX_CONNECTIONS_PER_ADDRESS": "2000",
            FAULT_FILE: str(self._fault),
        }
        with ExitStack() as stack:
            yield Supervised(settings, stack)

    @contextmanager
    def broken(self, fault: Fault) -> Iterator[None]:
        """All networks have this fault for the length of the block."""
        self._fault.write_text(fault, encoding="utf-8")
        try:
            yield
        finally:
            self._fault.unlink()


class Supervised:
    """A service that is started again when it has ended."""

    def __init__(self, settings: dict[str, str], stack: ExitStack) -> None:
        """Start it; it is stopped as ``stack`` is closed."""
        self._settings = settings
        self._stack = stack
        self.restart()

    def restart(self) -> None:
        """Start it, anew if it has run before.

        Raises:
            CannotGenerate: it did not start.
        """
        self._stack.close()
        self._server: Server = self._stack.enter_context(started("loadtest.ops.service", settings=self._settings))

    def ended(self) -> int:
        """Wait until its process ends, by itself; the exit status.

        Raises:
            CannotGenerate: it does not end.
        """
        try:
            return int(psutil.Process(self._server.pid).wait(_END_TIMEOUT_S) or 0)
        except psutil.TimeoutExpired as late:
            raise CannotGenerate("The service whose network hangs did not end") from late
