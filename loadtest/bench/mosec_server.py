"""A network in mosec: five crops in, uint8 [5, 48, 48], probabilities out as JSON. Needs the extra ``benchmark``.

Run as a program it serves on a free port and says on standard error which; the network is the one of the settings.
"""

import os
import socket
import sys
import threading
import time

import numpy as np
from mosec import Server, Worker
from numpy.typing import NDArray

from service.cli import read_settings
from service.inference.artifact import ModelStore, NetworkManifest
from service.inference.device import choose_device
from service.inference.runner import OnnxNetwork
from service.vision.crop import CROP_SIDE
from service.vision.window import FRAMES

_HOST = "127.0.0.1"
_MAX_BATCH = 32


class Network(Worker):
    """The network, in a process of mosec's own, at one thread as in the service."""

    def __init__(self) -> None:
        """Load it."""
        settings = read_settings()
        artifact = ModelStore(settings.model_store).find(settings.model, "network")
        assert isinstance(artifact.manifest, NetworkManifest)
        self._labels = artifact.manifest.labels
        self._network = OnnxNetwork(artifact, choose_device("cpu"))

    def deserialize(self, data: bytes) -> NDArray[np.uint8]:
        """A window, from a body."""
        return np.frombuffer(data, np.uint8).reshape(FRAMES, CROP_SIDE, CROP_SIDE)

    def forward(self, windows: list[NDArray[np.uint8]]) -> list[dict[str, float]]:
        """Probabilities by label, of a batch."""
        return [dict(zip(self._labels, row, strict=True)) for row in self._network(np.stack(windows)).round(6).tolist()]


def main() -> None:
    """Serve until SIGTERM."""
    with socket.create_server((_HOST, 0)) as free:
        port = free.getsockname()[1]
    # It knows no port 0, and reads its options from here.
    os.environ |= {"MOSEC_ADDRESS": _HOST, "MOSEC_PORT": str(port), "MOSEC_LOG_LEVEL": "warning"}
    server = Server()
    server.append_worker(Network, max_batch_size=_MAX_BATCH)
    threading.Thread(target=_say_where, args=(port,), daemon=True).start()
    server.run()


def _say_where(port: int) -> None:
    """As soon as somebody listens."""
    while True:
        try:
            socket.create_connection((_HOST, port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            break
    print(f"Ready address=http://{_HOST}:{port}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
