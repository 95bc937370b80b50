"""Which device a network runs on, and why not on another.

A setting that lies is worse than none: a device that was asked for by name is used or refused, never replaced.
"""

import ctypes
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from service.errors import DeviceUnavailable
from service.settings import DeviceName

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True, slots=True)
class Device:
    """What is really used: ``name`` is cpu or cuda; ``fallback``: why ``auto`` took no GPU."""

    name: str
    providers: tuple[str, ...]
    fallback: str | None = None


def choose_device(wanted: DeviceName) -> Device:
    """The device for a setting.

    Raises:
        DeviceUnavailable: ``cuda`` was asked for and cannot be had; the message names what is missing.
    """
    if wanted == "cpu":
        return Device("cpu", (CPU_PROVIDER,))
    missing = missing_for_cuda()
    if missing is None:
        return Device("cuda", (CUDA_PROVIDER,))
    if wanted == "cuda":
        raise DeviceUnavailable(f"device=cuda cannot be had: {missing}")
    return Device("cpu", (CPU_PROVIDER,), missing)


def missing_for_cuda() -> str | None:
    """What CUDA lacks on this machine, or None if ONNX Runtime can load it."""
    if CUDA_PROVIDER not in ort.get_available_providers():
        return "this onnxruntime is built without CUDA (install onnxruntime-gpu)"
    # ONNX Runtime itself only logs a missing library and goes on with the CPU; the loader says which one it is. The
    # shared part comes first: the CUDA part takes symbols from it.
    capi = Path(ort.__file__).parent / "capi"
    parts = ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so")
    for library in ("libcuda.so.1", *(str(capi / part) for part in parts)):
        try:
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            return str(error).replace(f"{capi}/", "")
    return None
