from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import ModelDamaged, RunnerFailed
from service.inference.artifact import Artifact, ModelStore
from service.inference.device import CPU, Device, Tuning, choose_device
from service.inference.network import COARSE_PARITY_LIMIT, open_network
from service.inference.openvino import OpenVinoNetwork
from service.inference.runner import OnnxNetwork
from service.settings import shipped_model_store
from tests.fakes import assert_answers_in_threads

pytest.importorskip("openvino", reason="openvino is not installed: make test OPENVINO=1")

NETWORKS = ModelStore(shipped_model_store()).artifacts("network")


def windows(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 5, 48, 48), np.uint8)


@pytest.fixture(scope="module")
def network() -> OpenVinoNetwork:
    """The first network of the store, for two workers."""
    return OpenVinoNetwork(NETWORKS[0], workers=2, precision="f32")


def test_device() -> None:
    """Where OpenVINO is installed it is used, when asked for by name, in the precision asked for."""
    assert choose_device("openvino") == Device("openvino", ())
    assert choose_device("openvino", "bf16") == Device("openvino", (), precision="bf16")
    assert choose_device("auto").name != "openvino"


@pytest.mark.parametrize("artifact", NETWORKS, ids=lambda artifact: artifact.spec)
def test_parity(artifact: Artifact) -> None:
    """In f32 every network of the store says what it says in ONNX Runtime, to 1e-4, at any size of batch."""
    opened, reference = (
        open_network(artifact, choose_device("openvino"), Tuning(), max_batch=8),
        OnnxNetwork(artifact, CPU),
    )
    assert opened.differs is not None
    assert opened.differs <= 1e-4
    for count in (1, 2, 3, 8, 17):
        answers = opened.runner(windows(count, count))
        assert (answers.shape, answers.dtype) == ((count, 7), np.float32)
        np.testing.assert_allclose(answers, reference(windows(count, count)), atol=1e-4)


def test_options(network: OpenVinoNetwork) -> None:
    """A call keeps to its thread, and computes in f32 also where the CPU knows bf16."""
    assert network.options["INFERENCE_PRECISION_HINT"] == "f32"
    assert (network.options["NUM_STREAMS"], network.options["INFERENCE_NUM_THREADS"]) == ("1", "1")


def test_threads(network: OpenVinoNetwork) -> None:
    """More threads than it was opened for get their own answers each."""
    assert_answers_in_threads(network, [windows(2, seed) for seed in range(4)])


def test_an_answer_stays(network: OpenVinoNetwork) -> None:
    """An answer is not written over by the next."""
    first = network(windows(1))
    kept = first.copy()
    network(windows(1, seed=1))
    np.testing.assert_array_equal(kept, first)


@pytest.mark.parametrize("wrong", [np.zeros((1, 5, 48, 48), np.float32), np.zeros((1, 4, 48, 48), np.uint8)])
def test_wrong_input(network: OpenVinoNetwork, wrong: NDArray[Any]) -> None:
    """What is no window is a failure, and the next one is answered."""
    with pytest.raises(RunnerFailed):
        network(wrong)
    assert network(windows(1)).shape == (1, 7)


def test_damaged(tmp_path: Path) -> None:
    """A file that is no model is refused as damaged."""
    artifact = NETWORKS[0]
    (tmp_path / artifact.manifest.file).write_bytes(b"no model")
    with pytest.raises(ModelDamaged):
        OpenVinoNetwork(Artifact(artifact.manifest, tmp_path), workers=1, precision="f32")


def test_bf16() -> None:
    """In bf16 a network stays near f32, where the CPU knows bf16."""
    from openvino import Core  # noqa: PLC0415 - not there where this file is skipped

    if "BF16" not in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU does not know bf16")
    opened = open_network(NETWORKS[0], choose_device("openvino", "bf16"), Tuning(), max_batch=8)
    assert opened.differs is not None
    assert 0 < opened.differs <= COARSE_PARITY_LIMIT
