from collections.abc import Callable
from typing import Any

import onnxruntime as ort
import pytest

from service.errors import DeviceUnavailable
from service.inference.device import (
    CPU,
    CPU_PROVIDER,
    CUDA_PROVIDER,
    TENSORRT_PROVIDER,
    Device,
    choose_device,
    missing_for_cuda,
    missing_for_openvino,
    missing_for_tensorrt,
)
from service.settings import DeviceName, Precision

MISSING = missing_for_cuda()
MISSING_FOR_TENSORRT = missing_for_tensorrt()
with_cuda = pytest.mark.skipif(MISSING is not None, reason=f"no CUDA here: {MISSING}")
without_cuda = pytest.mark.skipif(MISSING is None, reason="CUDA can be had here")
with_tensorrt = pytest.mark.skipif(MISSING_FOR_TENSORRT is not None, reason=f"no TensorRT here: {MISSING_FOR_TENSORRT}")
without_tensorrt = pytest.mark.skipif(MISSING_FOR_TENSORRT is None, reason="TensorRT can be had here")
OFFERED = (TENSORRT_PROVIDER, CUDA_PROVIDER, CPU_PROVIDER)


def test_cpu() -> None:
    """The CPU is used when it is asked for, wherever the service runs, and is no fallback."""
    assert choose_device("cpu") == CPU == Device("cpu", (CPU_PROVIDER,))
    assert CPU_PROVIDER in ort.get_available_providers()


@without_cuda
def test_cuda_that_cannot_be_had() -> None:
    """CUDA that was asked for and is missing is refused with what is missing, never replaced."""
    with pytest.raises(DeviceUnavailable, match=r"^device=cuda cannot be had: ") as refused:
        choose_device("cuda")
    assert str(refused.value).endswith(str(MISSING))


@without_cuda
def test_auto_falls_back() -> None:
    """Left to itself the service takes the CPU where there is no GPU, and says why."""
    assert choose_device("auto") == Device("cpu", (CPU_PROVIDER,), MISSING)


@without_cuda
def test_reason() -> None:
    """The reason names a library or a package, without the folders of this machine."""
    assert MISSING is not None
    assert ".so" in MISSING or "onnxruntime-gpu" in MISSING or "no GPU" in MISSING
    assert "site-packages" not in MISSING


@with_cuda
@pytest.mark.parametrize("wanted", ["cuda", "auto"])
def test_cuda(wanted: DeviceName) -> None:
    """Where CUDA can be had it is used, asked for or not, with no word of a fallback."""
    assert choose_device(wanted) == Device("cuda", (CUDA_PROVIDER,))


@without_tensorrt
def test_tensorrt_that_cannot_be_had() -> None:
    """TensorRT that was asked for and is missing is refused with what is missing, never replaced by CUDA."""
    with pytest.raises(DeviceUnavailable, match=r"^device=tensorrt cannot be had: ") as refused:
        choose_device("tensorrt")
    assert str(refused.value).endswith(str(MISSING_FOR_TENSORRT))


@with_tensorrt
def test_tensorrt() -> None:
    """Where TensorRT can be had it is used when asked for, with CUDA behind it."""
    assert choose_device("tensorrt") == Device("tensorrt", (TENSORRT_PROVIDER, CUDA_PROVIDER))


@pytest.mark.parametrize(
    ("precision", "only", "wanted"),
    [
        *[("bf16", "openvino", wanted) for wanted in ("auto", "cpu", "cuda", "tensorrt")],
        *[("int8", "cpu", wanted) for wanted in ("auto", "openvino", "cuda", "tensorrt")],
    ],
)
def test_a_precision_elsewhere(precision: Precision, only: DeviceName, wanted: DeviceName) -> None:
    """A precision that a device does not have is refused, not ignored."""
    with pytest.raises(DeviceUnavailable, match=f"precision={precision} is for device={only} only, not for .*{wanted}"):
        choose_device(wanted, precision)


def test_int8() -> None:
    """The CPU takes networks in int8 when asked."""
    assert choose_device("cpu", "int8") == Device("cpu", (CPU_PROVIDER,), precision="int8")


@pytest.mark.parametrize(
    ("name", "parallel"), [("cpu", True), ("openvino", True), ("cuda", False), ("tensorrt", False)]
)
def test_parallel(name: str, *, parallel: bool) -> None:
    """On cores every worker runs a batch of its own; a GPU gets one at a time."""
    assert Device(name, ()).parallel == parallel


class FakeDriver:
    """libcuda, with or without a GPU."""

    def __init__(self, code: int = 0) -> None:
        self.code = code

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's name for it
        assert flags == 0
        return self.code


def loader(*missing: str, driver: FakeDriver | None = None) -> Callable[[str], Any]:
    """Loads every library but those whose name holds one of ``missing``, as the real one fails."""

    def load(name: str) -> object:
        for part in missing:
            if part in name:
                raise OSError(f"{name}: cannot open shared object file: No such file or directory")
        return driver or FakeDriver()

    return load


class TestMissing:
    def test_nothing(self) -> None:
        """With all libraries and a GPU nothing is missing."""
        assert missing_for_cuda(loader(), OFFERED) is None
        assert missing_for_tensorrt(loader(), OFFERED) is None

    @pytest.mark.parametrize("missing", [missing_for_cuda, missing_for_tensorrt])
    def test_provider(self, missing: Callable[..., str | None]) -> None:
        """An ONNX Runtime without the provider is said to be one, with the package that has it."""
        assert "install onnxruntime-gpu" in str(missing(loader(), [CPU_PROVIDER]))

    @pytest.mark.parametrize("missing", [missing_for_cuda, missing_for_tensorrt])
    def test_driver(self, missing: Callable[..., str | None]) -> None:
        """A machine without NVIDIA's driver misses that."""
        assert str(missing(loader("libcuda"), OFFERED)).startswith("libcuda.so.1: ")

    def test_driver_without_a_gpu(self) -> None:
        """A driver that has no GPU to offer is refused with its answer (100: no device)."""
        assert "no GPU" in str(missing_for_cuda(loader(driver=FakeDriver(100)), OFFERED))
        assert "100" in str(missing_for_cuda(loader(driver=FakeDriver(100)), OFFERED))

    @pytest.mark.parametrize("part", ["shared", "cuda"])
    def test_part_of_cuda(self, part: str) -> None:
        """A part of ONNX Runtime that does not load is named, without the folder it lies in."""
        library = f"libonnxruntime_providers_{part}.so"
        assert str(missing_for_cuda(loader(library), OFFERED)).startswith(f"{library}: ")

    def test_tensorrt_alone(self) -> None:
        """Without TensorRT's libraries CUDA can still be had."""
        load = loader("libonnxruntime_providers_tensorrt.so")
        assert missing_for_cuda(load, OFFERED) is None
        assert str(missing_for_tensorrt(load, OFFERED)).startswith("libonnxruntime_providers_tensorrt.so: ")

    def test_openvino(self) -> None:
        """The extra that brings OpenVINO is named."""
        assert missing_for_openvino(lambda _: object()) is None
        assert "timeconv[openvino]" in str(missing_for_openvino(lambda _: None))
