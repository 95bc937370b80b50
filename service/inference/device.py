"""Which device a network runs on, and why not on another.

A setting that lies is worse than none: a device that was asked for by name is used or refused, never replaced.
"""

import contextlib
import ctypes
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import onnxruntime as ort

from service.errors import DeviceUnavailable
from service.settings import DeviceName, Precision

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"


@dataclass(frozen=True, slots=True)
class Device:
    """What is really used: ``name`` is cpu, cuda, tensorrt or openvino; ``fallback``: why ``auto`` took no GPU.

    ``providers`` are ONNX Runtime's, none for OpenVINO, which is not one here.
    """

    name: str
    providers: tuple[str, ...]
    fallback: str | None = None
    precision: Precision = "f32"

    @property
    def parallel(self) -> bool:
        """Whether batches of one network run side by side, one a worker; a GPU takes one at a time, so a larger one."""
        return self.name in ("cpu", "openvino")


CPU = Device("cpu", (CPU_PROVIDER,))
_ONLY_DEVICE: dict[Precision, DeviceName] = {"bf16": "openvino", "int8": "cpu"}


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a device is told beside its name.

    ``workers`` call a network at once. ``gpu_mem_limit_bytes`` is for one session's buffers on a GPU. ``engine_cache``
    is where TensorRT keeps its engines, None for nowhere.
    """

    workers: int = 1
    gpu_mem_limit_bytes: int = 2048 * 2**20
    engine_cache: Path | None = None


def choose_device(wanted: DeviceName, precision: Precision = "f32") -> Device:
    """The device for a setting; ``auto`` is CUDA if it can be had and else the CPU, the others go by name only.

    Raises:
        DeviceUnavailable: it was asked for by name and cannot be had, or not in ``precision``; the message names what
            is missing.
    """
    if precision != "f32" and wanted != (only := _ONLY_DEVICE[precision]):
        raise DeviceUnavailable(
            f"precision={precision} is for device={only} only, not for device={wanted}: set TIMECONV_DEVICE={only}"
        )
    if wanted == "cpu":
        return Device("cpu", (CPU_PROVIDER,), precision=precision)
    if wanted == "openvino":
        _require(wanted, missing_for_openvino())
        return Device("openvino", (), precision=precision)
    if wanted == "tensorrt":
        _require(wanted, missing_for_tensorrt())
        return Device("tensorrt", (TENSORRT_PROVIDER, CUDA_PROVIDER))
    missing = missing_for_cuda()
    if wanted == "cuda":
        _require(wanted, missing)
    return Device("cuda", (CUDA_PROVIDER,)) if missing is None else Device("cpu", (CPU_PROVIDER,), missing)


def _require(wanted: DeviceName, missing: str | None) -> None:
    if missing is not None:
        raise DeviceUnavailable(f"device={wanted} cannot be had: {missing}")


Load = Callable[[str], ctypes.CDLL]


def load_library(name: str) -> ctypes.CDLL:
    """Load a shared library for all to see; ONNX Runtime's parts take symbols from one another."""
    return ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)


def missing_for_cuda(load: Load = load_library, offered: Sequence[str] | None = None) -> str | None:
    """What CUDA lacks on this machine, or None if ONNX Runtime, which offers the providers ``offered``, can use it."""
    if CUDA_PROVIDER not in (ort.get_available_providers() if offered is None else offered):
        return "this onnxruntime is built without CUDA (install onnxruntime-gpu)"
    try:
        driver = load("libcuda.so.1")
    except OSError as error:
        return str(error)
    # The driver may be there without a GPU, or without the right to use one.
    if code := driver.cuInit(0):
        return f"the NVIDIA driver finds no GPU that it may use (cuInit answers {code})"
    # Libraries that came as Python packages lie where the loader does not look; what is missing it prints, and the
    # loader says it again below.
    with contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()
    return _missing_part(load, "shared") or _missing_part(load, "cuda")


def missing_for_tensorrt(load: Load = load_library, offered: Sequence[str] | None = None) -> str | None:
    """What TensorRT lacks on this machine, CUDA included: nodes that TensorRT does not know run there."""
    if TENSORRT_PROVIDER not in (ort.get_available_providers() if offered is None else offered):
        return "this onnxruntime is built without TensorRT (install onnxruntime-gpu)"
    # The provider is linked to libnvinfer and libnvonnxparser in the version it needs, so the loader names that one.
    return missing_for_cuda(load, offered) or _missing_part(load, "tensorrt")


def missing_for_openvino(is_installed: Callable[[str], object] = find_spec) -> str | None:
    """What OpenVINO lacks."""
    return None if is_installed("openvino") else "the package openvino is not installed (timeconv[openvino])"


def _missing_part(load: Load, part: str) -> str | None:
    """Which library a part of ONNX Runtime cannot do without.

    ONNX Runtime itself only logs a missing library and goes on with the CPU; the loader says which one it is.
    """
    capi = Path(ort.__file__).parent / "capi"
    try:
        load(str(capi / f"libonnxruntime_providers_{part}.so"))
    except OSError as error:
        return str(error).replace(f"{capi}/", "")
    return None
