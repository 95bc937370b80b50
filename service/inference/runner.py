"""Networks of the model store in ONNX Runtime."""

import time
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.errors import DeviceUnavailable, ModelDamaged, RunnerFailed
from service.inference.artifact import Artifact, DetectorManifest, NetworkManifest, Tensor
from service.inference.batch import Runner
from service.inference.device import CPU_PROVIDER, Device
from service.vision.crop import CROP_SIDE
from service.vision.window import FRAMES

Provider = str | tuple[str, dict[str, str]]
"""An execution provider of ONNX Runtime, with its options."""

WINDOW_SHAPE = (FRAMES, CROP_SIDE, CROP_SIDE)
_ORT_DTYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
_WARM_RUNS = 3
_RUNS_IN_TURN = 5
_HANDLING_S = 0.0006
"""What a batch costs beside the network: a wake-up of the event loop, locks, and a network and an interpreter that find
the caches full of each other. By the CPU time of the service at 1, 2, 4 and 8 windows a batch (docs/benchmarks.md)."""
_NEXT_TO = 1.05


def open_session(content: bytes, providers: Sequence[Provider]) -> ort.InferenceSession:
    """An ONNX Runtime session at one thread, shared by all workers.

    Every worker is a thread of its own; more threads inside a call would fight them for the cores, and spin while they
    wait. A provider that fails is an error: left to itself ONNX Runtime would print it and go on with another.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(content, options, providers=list(providers), enable_fallback=0)


class OnnxNetwork:
    """An emotion network: a `service.inference.batch.Runner`; safe to call from several threads."""

    def __init__(self, artifact: Artifact, device: Device) -> None:
        """Load and check the model.

        Raises:
            ModelDamaged: the file is not what the manifest says.
            DeviceUnavailable: ONNX Runtime does not run it on ``device``.
        """
        manifest = artifact.manifest
        assert isinstance(manifest, NetworkManifest)
        self._session = _open_checked(artifact, device.providers, [manifest.input], [manifest.output])
        classes = manifest.output.shape[-1]
        if len(manifest.labels) != classes:
            raise ModelDamaged(f"{artifact.spec} has {len(manifest.labels)} labels for {classes} outputs")
        if device.providers[0] not in self._session.get_providers():
            raise DeviceUnavailable(f"ONNX Runtime does not run {artifact.spec} on {device.name}")
        self._input, self._outputs = manifest.input.name, [manifest.output.name]

    def __call__(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities float32 [n, classes] of windows uint8 [n, 5, 48, 48].

        Raises:
            RunnerFailed: ONNX Runtime could not run them.
        """
        try:
            return cast(NDArray[np.float32], self._session.run(self._outputs, {self._input: windows})[0])
        except Exception as error:  # ONNX Runtime's errors have no common base.
            raise RunnerFailed(f"{type(error).__name__}: {error}") from error


class OnnxDetector:
    """The network of BlazeFace, always on the CPU: it takes a millisecond, less than the way to a GPU and back."""

    def __init__(self, artifact: Artifact) -> None:
        """Load and check the model.

        Raises:
            ModelDamaged: the file is not what the manifest says.
        """
        manifest = artifact.manifest
        assert isinstance(manifest, DetectorManifest)
        self._session = _open_checked(artifact, [CPU_PROVIDER], [manifest.input], manifest.outputs)
        self._input = manifest.input.name
        self._outputs = [output.name for output in manifest.outputs]

    def __call__(self, images: NDArray[np.uint8], /) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Regressions and score logits of images; shapes as `service.vision.detect.BlazeFaceRunner` has them."""
        regressions, logits = self._session.run(self._outputs, {self._input: images})
        return cast(NDArray[np.float32], regressions), cast(NDArray[np.float32], logits)


def require_windows(windows: NDArray[np.uint8]) -> None:
    """Refuse what a buffer of windows would take with another meaning: NumPy converts when it copies.

    Raises:
        RunnerFailed: ``windows`` is not uint8 [n, 5, 48, 48].
    """
    if windows.dtype != np.uint8 or windows.ndim != 4 or windows.shape[1:] != WINDOW_SHAPE:
        raise RunnerFailed(f"Not windows uint8 [n, 5, 48, 48]: {windows.dtype} {list(windows.shape)}")


def batch_sizes(limit: int) -> list[int]:
    """1, 2, 4 and so on, and the limit itself."""
    return sorted({*(2**power for power in range(limit.bit_length())), limit})


def worthwhile_batch(
    runner: Runner,
    window_shape: Sequence[int],
    *,
    limit: int,
    budget_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """The smallest batch at which a window costs next to the least that it costs at all; warms every size on the way.

    Sizes double up to ``limit``, which is tried too, as long as one runs within ``budget_s``. Where a window gets no
    cheaper (ResNet20 on a CPU), a larger batch would only make windows wait for each other.
    """
    windows = np.zeros((limit, *window_shape), np.uint8)
    taken_s: dict[int, float] = {}
    for size in batch_sizes(limit):
        best_s = min(_time_s(runner, windows[:size], clock) for _ in range(_WARM_RUNS))
        if best_s > budget_s:
            break
        taken_s[size] = best_s
    # In turn, so that a slow moment of the machine does not make one size look worse than the others.
    for size in [*taken_s] * _RUNS_IN_TURN:
        taken_s[size] = min(taken_s[size], _time_s(runner, windows[:size], clock))
    costs = {size: (best_s + _HANDLING_S) / size for size, best_s in taken_s.items()}
    least = min(costs.values(), default=0.0)
    return next((size for size, cost in costs.items() if cost <= _NEXT_TO * least), 1)


def _time_s(runner: Runner, windows: NDArray[np.uint8], clock: Callable[[], float]) -> float:
    start_s = clock()
    runner(windows)
    return clock() - start_s


def _open_checked(
    artifact: Artifact, providers: Sequence[str], inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> ort.InferenceSession:
    content = artifact.read()
    try:
        session = open_session(content, providers)
    except Exception as error:  # ONNX Runtime's errors have no common base.
        raise ModelDamaged(f"{artifact.spec}: ONNX Runtime cannot load it: {error}") from error
    for ours, theirs in ((inputs, session.get_inputs()), (outputs, session.get_outputs())):
        said = [(tensor.name, _ORT_DTYPES.get(tensor.dtype), _fixed(tensor.shape)) for tensor in ours]
        found = [(tensor.name, tensor.type, _fixed(tensor.shape)) for tensor in theirs]
        if sorted(said) != sorted(found):
            raise ModelDamaged(f"{artifact.spec}: the manifest says {said}, the model has {found}")
    return session


def _fixed(shape: Sequence[int | str | None]) -> tuple[int, ...]:
    """A shape with -1 for each free dimension."""
    return tuple(size if isinstance(size, int) else -1 for size in shape)
