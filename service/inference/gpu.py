"""Networks on an NVIDIA GPU, through ONNX Runtime with CUDA or TensorRT.

A GPU wants what a CPU does not: few batch sizes, each with buffers that stay where they are, so that a run is one
replay of a captured CUDA graph. So a batch is padded up to the next of a few fixed sizes. What ONNX Runtime 1.31 makes
of that, and this module with it:

- Buffers are bound on the GPU. A replay does not copy a bound *host* buffer anew (its issue 29782): it would answer the
  first windows for ever. So windows are written to the bound buffer before each run.
- CUDA graphs are kept per thread, and each worker would have to capture its own; so one thread of its own feeds each
  network, whichever worker has the batch and waits for it.
- While one thread captures a graph, no other may copy to the GPU; so networks take turns there.
- CUDA tells the graphs of a session apart by ``gpu_graph_id``, so one session does for all sizes. TensorRT keeps one
  graph and one shape profile a session, so it gets a session for each size.

Not run on a GPU yet: see docs/benchmarks.md.
"""

import ctypes
import functools
import logging
import math
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.errors import DeviceUnavailable, RunnerFailed
from service.inference.artifact import Artifact, NetworkManifest
from service.inference.device import CUDA_PROVIDER, TENSORRT_PROVIDER, Device, Load, Tuning, load_library
from service.inference.runner import WINDOW_SHAPE, open_session, require_windows

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_GPU = threading.Lock()
"""Held while a network copies to the GPU and runs there; not while one is opened, which may take TensorRT minutes."""

_PORTABLE = 1
"""CU_MEMHOSTALLOC_PORTABLE: page-locked for every context."""


class FixedSize(Protocol):
    """A network at one batch size: what stands in ``rows`` uint8 [size, 5, 48, 48] is what `run` answers."""

    rows: NDArray[np.uint8]

    def run(self) -> NDArray[np.float32]:
        """Probabilities float32 [size, classes]."""
        ...


class GpuNetwork:
    """A `service.inference.batch.Runner` that pads each batch to a fixed size; safe to call from several threads."""

    def __init__(self, open_size: Callable[[int], FixedSize], sizes: Sequence[int], options: Mapping[str, str]) -> None:
        """``open_size`` is called for each of ``sizes``, on the thread that will run it; ``options``: what it was told.

        Raises:
            Whatever ``open_size`` raises.
        """
        self.options = options
        self._feeder = Feeder()
        self._sizes = {size: self._feeder.call(functools.partial(open_size, size)) for size in sorted(sizes)}

    def __call__(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities float32 [n, classes] of windows uint8 [n, 5, 48, 48], n up to the largest size.

        Raises:
            RunnerFailed: more windows than the largest size holds, or the GPU could not run them.
        """
        require_windows(windows)
        return self._feeder.call(functools.partial(self._run, windows))

    def _run(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        count = len(windows)
        fixed = next((self._sizes[size] for size in self._sizes if size >= count), None)
        if fixed is None:
            raise RunnerFailed(f"{count} windows, but batches hold up to {max(self._sizes)}")
        try:
            with _GPU:
                fixed.rows[:count] = windows  # What stands below them is run too, and dropped.
                return fixed.run()[:count]
        except Exception as error:  # ONNX Runtime's errors have no common base.
            raise RunnerFailed(f"{type(error).__name__}: {error}") from error


class Feeder:
    """A thread that calls what it is handed. It ends with its owner, and a GPU that hangs does not keep the process."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=_feed, args=(self._calls,), name="gpu", daemon=True).start()
        weakref.finalize(self, self._calls.put, None)

    def call(self, function: Callable[[], _T]) -> _T:
        """What ``function`` returns or raises, called by the thread; waits for it."""
        answer: Future[_T] = Future()
        self._calls.put((answer, function))
        return answer.result()


def _feed(calls: "SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]") -> None:
    while (call := calls.get()) is not None:
        answer, function = call
        try:
            answer.set_result(function())
        except Exception as error:  # noqa: BLE001 - the thread's edge: whoever waits is told
            answer.set_exception(error)
        del call, answer, function  # They hold the network, which is to go when nobody else does.


class BoundSession:
    """A session at one size, its input and output bound to buffers of the device: a `FixedSize`."""

    def __init__(
        self,
        session: ort.InferenceSession,
        manifest: NetworkManifest,
        size: int,
        *,
        graph_id: int,
        device: str = "cuda",
        host_buffer: Callable[[tuple[int, ...]], NDArray[np.uint8]] | None = None,
    ) -> None:
        """``graph_id`` tells a session's graphs apart; ``device`` is ONNX Runtime's name of where the buffers lie."""
        shape = (size, *WINDOW_SHAPE)
        self._input = ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.uint8, device, 0)
        self._output = ort.OrtValue.ortvalue_from_shape_and_type([size, len(manifest.labels)], np.float32, device, 0)
        # After the others, which leave the thread with the context that this one wants.
        self.rows = (host_buffer or pinned_buffer)(shape)
        self.rows[:] = 0
        self._session = session
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(manifest.input.name, self._input)
        self._binding.bind_ortvalue_output(manifest.output.name, self._output)
        self._run_options = ort.RunOptions()
        self._run_options.add_run_config_entry("gpu_graph_id", str(graph_id))

    def run(self) -> NDArray[np.float32]:
        """Probabilities float32 [size, classes] of what stands in ``rows``."""
        self._input.update_inplace(self.rows)
        self._session.run_with_iobinding(self._binding, self._run_options)
        return cast(NDArray[np.float32], self._output.numpy())


def open_gpu_network(artifact: Artifact, device: Device, tuning: Tuning, sizes: Sequence[int]) -> GpuNetwork:
    """A network on a GPU, with CUDA graphs if all of it can be captured, else without and with a warning.

    Raises:
        ModelDamaged: its file is not what the manifest says.
        DeviceUnavailable: ONNX Runtime does not run it on ``device``.
    """
    content = artifact.read()
    try:
        return _open(artifact, content, device, tuning, sizes, graphs=True)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common base; the next try says what is wrong
        log.warning("%s runs on %s without CUDA graphs, which is slower: %s", artifact.spec, device.name, error)
    try:
        return _open(artifact, content, device, tuning, sizes, graphs=False)
    except Exception as error:
        raise DeviceUnavailable(f"{artifact.spec} does not run on {device.name}: {error}") from error


def _open(
    artifact: Artifact, content: bytes, device: Device, tuning: Tuning, sizes: Sequence[int], *, graphs: bool
) -> GpuNetwork:
    manifest = artifact.manifest
    assert isinstance(manifest, NetworkManifest)
    if device.name == "cuda":
        options = cuda_options(tuning, graphs=graphs)
        session = _open_session(content, [(CUDA_PROVIDER, options)])
        return GpuNetwork(lambda size: BoundSession(session, manifest, size, graph_id=size), sizes, options)

    # By content, so that another network, or another version, never gets an engine that is not its own.
    cache = tuning.engine_cache and usable_cache(tuning.engine_cache / artifact.spec / manifest.sha256[:16])
    # Nodes that TensorRT does not know.
    others = cuda_options(tuning, graphs=False)

    def open_size(size: int) -> BoundSession:
        options = tensorrt_options(tuning, manifest, size, cache, graphs=graphs)
        session = _open_session(content, [(TENSORRT_PROVIDER, options), (CUDA_PROVIDER, others)])
        return BoundSession(session, manifest, size, graph_id=0)

    return GpuNetwork(open_size, sizes, tensorrt_options(tuning, manifest, max(sizes), cache, graphs=graphs))


def cuda_options(tuning: Tuning, *, graphs: bool) -> dict[str, str]:
    """Options of the CUDA provider.

    HEURISTIC picks convolutions without trying them all out, which takes ten seconds and more at the first run.
    kSameAsRequested grows the arena by what is needed, not to the next power of two. TF32 would keep ten bits of the
    weights, which is not the f32 that was measured.
    """
    return {
        "device_id": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "gpu_mem_limit": str(tuning.gpu_mem_limit_bytes),
        "use_tf32": "0",
        "enable_cuda_graph": str(int(graphs)),
    }


def tensorrt_options(
    tuning: Tuning, manifest: NetworkManifest, size: int, cache: Path | None, *, graphs: bool
) -> dict[str, str]:
    """Options of the TensorRT provider for one batch size; its parser takes True and False, not 1 and 0.

    A profile of one shape has the engine built as the session is opened, not at its first run, and for that shape.
    """
    profile = f"{manifest.input.name}:{'x'.join(map(str, (size, *WINDOW_SHAPE)))}"
    options = {
        "device_id": "0",
        "trt_fp16_enable": "False",
        "trt_max_workspace_size": str(tuning.gpu_mem_limit_bytes),
        "trt_profile_min_shapes": profile,
        "trt_profile_opt_shapes": profile,
        "trt_profile_max_shapes": profile,
        "trt_cuda_graph_enable": str(graphs),
    }
    if cache is not None:
        # An engine's file is named after the graph alone, so each size has a folder; timings hold for all sizes.
        options |= {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(cache / f"batch-{size}"),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(cache),
        }
    return options


_ENGINE_BYTES = 8 * 2**20
"""About what an engine and TensorRT's timings take."""


def usable_cache(folder: Path) -> Path | None:
    """The folder, made if there was none, or None with a warning: a cache that cannot be written stops no service."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ENGINE_BYTES))  # On a full disk a file can be made, and nothing written.
            file.flush()
            return folder
    except OSError as error:
        log.warning("TensorRT's engines are not kept, so each start builds them: %s", error)
        return None


def pinned_buffer(shape: tuple[int, ...], load: Load = load_library) -> NDArray[np.uint8]:
    """Page-locked memory, which a GPU reads by itself, or ordinary memory where the driver gives none.

    ONNX Runtime hands out no such memory in Python unless its CUDA provider is a plug-in, so it is the driver's. It is
    never given back, 12 kB a window: a network may be let go on a thread that has no CUDA context, which the driver's
    calls want, as this one does: whoever has touched a GPU has one.
    """
    size_bytes, address = math.prod(shape), ctypes.c_void_p()
    code = load("libcuda.so.1").cuMemHostAlloc(ctypes.byref(address), ctypes.c_size_t(size_bytes), _PORTABLE)
    if code or not address.value:
        log.warning("No page-locked memory (the NVIDIA driver answers %d), so copies to the GPU are slower", code)
        return np.empty(shape, np.uint8)
    return np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(address.value)).reshape(shape)


_RELAXED = 2
"""CU_STREAM_CAPTURE_MODE_RELAXED: what this thread calls disturbs no graph that another one captures."""


def device_memory(load: Load = load_library) -> dict[str, float]:
    """Bytes of the GPU's memory, ``used`` (by all processes) and ``total``; nothing where the driver does not say."""
    try:
        driver = load("libcuda.so.1")
    except OSError:
        return {}
    device, context, mode = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_int(_RELAXED)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    # The context that ONNX Runtime works in; retained, so that it is not destroyed meanwhile.
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return {}
    if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        return {}
    try:
        if driver.cuCtxPushCurrent_v2(context):
            return {}
        driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))
        failed = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))
        driver.cuCtxPopCurrent_v2(ctypes.byref(context))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)
    return {} if failed else {"used": total.value - free.value, "total": total.value}


def _open_session(content: bytes, providers: Sequence[tuple[str, dict[str, str]]]) -> ort.InferenceSession:
    session = open_session(content, providers)
    # ONNX Runtime leaves a provider out that it cannot load, with no more than a line in its log.
    if providers[0][0] not in session.get_providers():
        raise DeviceUnavailable(f"ONNX Runtime left {providers[0][0]} out")
    return session
