"""``timeconv doctor``: what is really in use, measured, not what the settings wish for."""

import platform
import time
from collections.abc import Iterator
from importlib.metadata import version

import cv2
import numpy as np
import onnxruntime as ort

from service import __version__
from service.engine import open_detector
from service.errors import TimeConvError
from service.inference.artifact import Artifact, ModelStore, NetworkManifest
from service.inference.device import CPU_PROVIDER, Device, choose_device
from service.inference.runner import OnnxNetwork
from service.settings import Settings
from service.vision.crop import CROP_SIDE
from service.vision.window import FRAMES

PARITY_LIMIT = 1e-3
"""Largest difference of a probability between a device and the CPU; a GPU's own rounding stays under it."""

_BATCHES = (1, 2, 4, 8, 16, 32)
_MEASURE_S = 0.3


def examine(settings: Settings) -> Iterator[tuple[str, str]]:
    """Findings as (name, value), one after the other as they are made.

    Raises:
        TimeConvError: the service could not start with these settings, and why.
    """
    cv2.setNumThreads(1)
    yield "timeconv", f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield (
        "libraries",
        ", ".join(f"{name} {version(name)}" for name in ("numpy", "opencv-python-headless", "simplejpeg")),
    )
    yield "onnxruntime", f"{ort.__version__}, offers {', '.join(ort.get_available_providers())}"
    device = choose_device(settings.device)
    because = "" if device.fallback is None else f" (no GPU: {device.fallback})"
    yield "device", f"asked for {settings.device}, uses {device.name}{because}"
    yield "threads", f"{settings.workers} workers; ONNX Runtime 1 and OpenCV {cv2.getNumThreads()} in each"
    store = ModelStore(settings.model_store)
    yield "detector", f"{open_detector(settings, store).name}, loads"
    yield "networks", ", ".join(artifact.spec for artifact in store.artifacts("network"))
    yield from _examine_network(store.find(settings.model, "network"), device)


def _examine_network(artifact: Artifact, device: Device) -> Iterator[tuple[str, str]]:
    network = OnnxNetwork(artifact, device)
    assert isinstance(artifact.manifest, NetworkManifest)
    yield "default", f"{artifact.spec}, sha256 {artifact.manifest.sha256[:12]}, as its manifest says"
    if device.name != "cpu":
        difference = _parity(network, OnnxNetwork(artifact, Device("cpu", (CPU_PROVIDER,))))
        yield "parity", f"{device.name} differs from cpu by at most {difference:.1e}"
        if difference > PARITY_LIMIT:
            raise TimeConvError(f"{artifact.spec} on {device.name} differs from cpu by {difference:.1e}")
    for size in _BATCHES:
        per_window_s = _seconds_per_window(network, size)
        yield f"batch {size}", f"{per_window_s * 1e3:.3f} ms a window, {1 / per_window_s:,.0f} windows/s a core"


def _parity(network: OnnxNetwork, reference: OnnxNetwork) -> float:
    windows = np.random.default_rng(0).integers(0, 256, (32, FRAMES, CROP_SIDE, CROP_SIDE), np.uint8)
    return float(np.abs(network(windows) - reference(windows)).max())


def _seconds_per_window(network: OnnxNetwork, size: int) -> float:
    windows = np.random.default_rng(size).integers(0, 256, (size, FRAMES, CROP_SIDE, CROP_SIDE), np.uint8)
    network(windows)
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < _MEASURE_S:
        network(windows)
        calls += 1
    return elapsed / (calls * size)
