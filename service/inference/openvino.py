"""Networks in OpenVINO on the CPU: the extra ``openvino``.

A compiled network of one stream and one thread runs in the thread that calls it, as ONNX Runtime's does here, but it
takes one call at a time: a second waits. One of several streams has threads of its own, which would fight the workers
for the cores. So there is a compiled network for each worker (eight of ResNet20 take 3 MB more than one).
"""

import queue
from collections.abc import Mapping
from typing import cast

import numpy as np
from numpy.typing import NDArray

from service.errors import DeviceUnavailable, ModelDamaged, RunnerFailed
from service.inference.artifact import Artifact, NetworkManifest
from service.inference.runner import require_windows
from service.settings import Precision


class OpenVinoNetwork:
    """A `service.inference.batch.Runner`; safe to call from several threads, ``workers`` of them at once."""

    def __init__(self, artifact: Artifact, *, workers: int, precision: Precision) -> None:
        """Load and compile the network.

        Raises:
            ModelDamaged: its file is not what the manifest says, or OpenVINO cannot read it.
            DeviceUnavailable: this CPU does not have ``precision``.
        """
        import openvino  # noqa: PLC0415 - an extra: whoever does not ask for it need not have it

        manifest = artifact.manifest
        assert isinstance(manifest, NetworkManifest)
        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise DeviceUnavailable("precision=bf16 cannot be had: this CPU does not have it")
        # Left to itself OpenVINO takes bf16 wherever the CPU knows it, and binds its threads to cores.
        self.options: Mapping[str, str] = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": "1",
            "NUM_STREAMS": "1",
            "ENABLE_CPU_PINNING": "NO",
        }
        # The last that was used comes first: its memory is warm.
        self._requests: queue.LifoQueue[openvino.InferRequest] = queue.LifoQueue()
        content = artifact.read()
        try:
            model = core.read_model(content)
            for _ in range(workers):
                self._requests.put(core.compile_model(model, "CPU", dict(self.options)).create_infer_request())
        except RuntimeError as error:
            raise ModelDamaged(f"{artifact.spec}: OpenVINO cannot load it: {error}") from error
        self._input, self._output = manifest.input.name, manifest.output.name

    def __call__(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities float32 [n, classes] of windows uint8 [n, 5, 48, 48].

        Raises:
            RunnerFailed: OpenVINO could not run them.
        """
        require_windows(windows)
        request = self._requests.get()
        try:
            answers = request.infer({self._input: windows}, share_inputs=True)
            return cast(NDArray[np.float32], answers[self._output])
        except RuntimeError as error:
            raise RunnerFailed(f"{type(error).__name__}: {error}") from error
        finally:
            self._requests.put(request)
