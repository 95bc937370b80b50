"""``timeconv doctor``: what is really in use, measured, not what the settings wish for."""

import platform
import time
from collections.abc import Iterator
from importlib.metadata import version

import cv2
import numpy as np
import onnxruntime as ort

from service import __version__
from service.engine import open_detector, tuning_of
from service.inference.artifact import Artifact, ModelStore, NetworkManifest
from service.inference.batch import Runner
from service.inference.device import Device, Tuning, choose_device
from service.inference.network import open_network
from service.inference.runner import WINDOW_SHAPE
from service.settings import Settings

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
    device = choose_device(settings.device, settings.precision)
    because = "" if device.fallback is None else f" (no GPU: {device.fallback})"
    yield "device", f"asked for {settings.device}, uses {device.name}{because}"
    yield "threads", f"{settings.workers} workers; ONNX Runtime 1 and OpenCV {cv2.getNumThreads()} in each"
    store = ModelStore(settings.model_store)
    yield "detector", f"{open_detector(settings, store).name}, loads"
    yield "networks", ", ".join(artifact.spec for artifact in store.artifacts("network"))
    yield from _examine_network(store.find(settings.model, "network"), device, tuning_of(settings))


def _examine_network(artifact: Artifact, device: Device, tuning: Tuning) -> Iterator[tuple[str, str]]:
    assert isinstance(artifact.manifest, NetworkManifest)
    opened = open_network(artifact, device, tuning, max_batch=max(_BATCHES))
    manifest = opened.artifact.manifest
    yield "default", f"{artifact.spec}, {manifest.file}, sha256 {manifest.sha256[:12]}, as its manifest says"
    if device.precision == "int8" and opened.artifact is artifact:
        yield "precision", f"{artifact.spec} has no int8 form and runs in f32"
    if opened.options:
        yield "options", ", ".join(f"{name}={value}" for name, value in opened.options.items())
    if opened.differs is not None:
        yield "parity", f"answers on {device.name} differ from the CPU's in f32 by at most {opened.differs:.1e}"
    per = "a core" if device.parallel else "in all"
    for size in _BATCHES:
        per_window_s = _seconds_per_window(opened.runner, size)
        yield f"batch {size}", f"{per_window_s * 1e3:.3f} ms a window, {1 / per_window_s:,.0f} windows/s {per}"


def _seconds_per_window(network: Runner, size: int) -> float:
    windows = np.random.default_rng(size).integers(0, 256, (size, *WINDOW_SHAPE), np.uint8)
    network(windows)
    calls, start = 0, time.perf_counter()
    while not calls or (elapsed := time.perf_counter() - start) < _MEASURE_S:
        network(windows)
        calls += 1
    return elapsed / (calls * size)
