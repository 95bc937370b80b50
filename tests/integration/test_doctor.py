import pytest

from service import doctor
from service.doctor import examine
from service.inference.device import missing_for_openvino
from service.settings import DeviceName, Settings

with_openvino = pytest.mark.skipif(missing_for_openvino() is not None, reason=f"{missing_for_openvino()}")


@pytest.mark.parametrize(
    ("device", "more"), [("cpu", set()), pytest.param("openvino", {"options", "parity"}, marks=with_openvino)]
)
def test_findings(device: DeviceName, more: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor says what is in use, how fast it is by size of batch, and of another device how near to the CPU."""
    monkeypatch.setattr(doctor, "_MEASURE_S", 0.0)
    findings = dict(examine(Settings(device=device, workers=1)))
    assert findings["device"] == f"asked for {device}, uses {device}"
    assert findings["threads"].startswith("1 workers")
    assert {name for name in findings if name.startswith("batch")} == {f"batch {size}" for size in (1, 2, 4, 8, 16, 32)}
    assert {"options", "parity"} & findings.keys() == more


@pytest.mark.parametrize(
    ("model", "file"), [("timeconv-resnet20", "model.int8.onnx"), ("timeconv-mini-xception", "model.onnx")]
)
def test_int8(model: str, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor names the file that was opened, and says where a network has no int8 form."""
    monkeypatch.setattr(doctor, "_MEASURE_S", 0.0)
    findings = dict(examine(Settings(device="cpu", precision="int8", model=model, workers=1)))
    assert f", {file}, sha256" in findings["default"]
    assert ("precision" in findings, "parity" in findings) == (file == "model.onnx", file != "model.onnx")
