import onnxruntime as ort
import pytest

from service.errors import DeviceUnavailable
from service.inference.device import CPU_PROVIDER, CUDA_PROVIDER, Device, choose_device, missing_for_cuda

MISSING = missing_for_cuda()
with_cuda = pytest.mark.skipif(MISSING is not None, reason=f"no CUDA here: {MISSING}")
without_cuda = pytest.mark.skipif(MISSING is None, reason="CUDA can be had here")


def test_cpu() -> None:
    """The CPU is used when it is asked for, wherever the service runs, and is no fallback."""
    assert choose_device("cpu") == Device("cpu", (CPU_PROVIDER,))
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
    assert ".so" in MISSING or "onnxruntime-gpu" in MISSING
    assert "site-packages" not in MISSING


@with_cuda
@pytest.mark.parametrize("wanted", ["cuda", "auto"])
def test_cuda(wanted: str) -> None:
    """Where CUDA can be had it is used, asked for or not, with no word of a fallback."""
    assert choose_device(wanted) == Device("cuda", (CUDA_PROVIDER,))
