"""Nothing of ours reports to anybody."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN_A_NETWORK = """
from service.inference.artifact import ModelStore
from service.inference.device import CPU
from service.inference.runner import OnnxNetwork
from service.settings import Settings
OnnxNetwork(ModelStore(Settings().model_store).find("mini-xception-2d", "network"), CPU)
"""


def test_onnx_runtime_keeps_and_sends_nothing(tmp_path: Path) -> None:
    """A network is opened without a trace under the home folder: ONNX Runtime's own reporting is off."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", RUN_A_NETWORK], env=environment, cwd=ROOT, check=True)  # noqa: S603 - ours
    assert list(tmp_path.rglob("*")) == []
