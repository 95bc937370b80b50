"""A network on its device, held against the CPU before it serves: a wrong answer is worse than none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from service.errors import DeviceUnavailable, RunnerFailed
from service.inference.artifact import Artifact
from service.inference.batch import Runner
from service.inference.device import CPU, Device, Tuning
from service.inference.gpu import GpuNetwork, open_gpu_network
from service.inference.openvino import OpenVinoNetwork
from service.inference.runner import WINDOW_SHAPE, OnnxNetwork, batch_sizes

PARITY_LIMIT = 1e-3
"""Largest difference of a probability in f32. Sums in another order stay far below it (OpenVINO: 2e-6), and less than
this changes no figure that is shown."""

COARSE_PARITY_LIMIT = 0.05
"""The same where numbers keep fewer bits: bf16 (8 of 24; 0.02 was seen), and the TF32 (11) that TensorRT may take.
What bf16 costs in accuracy is in docs/benchmarks.md."""

INT8_PARITY_LIMIT = 0.1
"""And of a quantised network, on windows of noise, where 0.046 was seen: enough to find a processor that sums up
otherwise. On a single face it may be more (0.18); what it costs over many is in docs/benchmarks.md."""

_CHECKS = 3
"""Batches of each size: a captured graph that answers its first windows for ever is right the first time."""


@dataclass(frozen=True, slots=True)
class OpenNetwork:
    """A network that may serve.

    ``artifact`` is the one whose file was opened; ``options``: what its device was told; ``differs``: most from the
    CPU's probabilities in f32, None where it is just that.
    """

    runner: Runner
    artifact: Artifact
    options: Mapping[str, str] = field(default_factory=dict)
    differs: float | None = None


def open_network(artifact: Artifact, device: Device, tuning: Tuning, *, max_batch: int) -> OpenNetwork:
    """Load a network for batches up to ``max_batch``, and compare it with the CPU.

    Raises:
        ModelDamaged: its file is not what the manifest says.
        DeviceUnavailable: the device does not run it, or does not answer as the CPU does.
    """
    reference = OnnxNetwork(artifact, CPU)
    sizes = batch_sizes(max_batch)
    if device.name == "cpu":
        int8 = artifact.int8
        if device.precision != "int8" or int8 is None:
            return OpenNetwork(reference, artifact)
        quantized = OnnxNetwork(int8, CPU)
        differs = require_parity(quantized, reference, sizes, INT8_PARITY_LIMIT, "cpu in int8")
        return OpenNetwork(quantized, int8, differs=differs)
    network: GpuNetwork | OpenVinoNetwork
    if device.name == "openvino":
        network = OpenVinoNetwork(artifact, workers=tuning.workers, precision=device.precision)
    else:
        network = open_gpu_network(artifact, device, tuning, sizes)
    exact = device.precision == "f32" and device.name != "tensorrt"
    differs = require_parity(network, reference, sizes, PARITY_LIMIT if exact else COARSE_PARITY_LIMIT, device.name)
    return OpenNetwork(network, artifact, network.options, differs)


def require_parity(network: Runner, reference: Runner, sizes: Iterable[int], limit: float, device: str) -> float:
    """The largest difference of a probability between a network on ``device`` and on the CPU, at batches of ``sizes``.

    Raises:
        DeviceUnavailable: it is over ``limit``, or the device failed, or answered a number that is not finite.
    """
    random = np.random.default_rng(0)
    differences = []
    for size in sizes:
        for _ in range(_CHECKS):
            windows = random.integers(0, 256, (size, *WINDOW_SHAPE), np.uint8)
            windows[::2] //= 4  # Every other one is dark.
            try:
                differences.append(np.abs(network(windows) - reference(windows)).max())
            except RunnerFailed as error:
                raise DeviceUnavailable(f"device={device} cannot be had: {error}") from error
    largest = float(np.max(differences))
    if not largest <= limit:  # So that a difference that is not a number is refused as well.
        raise DeviceUnavailable(f"device={device} cannot be had: its answers differ from the CPU's by {largest:.2g}")
    return largest
