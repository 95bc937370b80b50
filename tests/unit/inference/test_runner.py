import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import DeviceUnavailable, ModelDamaged, RunnerFailed
from service.inference.artifact import Artifact, ModelStore
from service.inference.device import CPU_PROVIDER, Device, choose_device
from service.inference.runner import OnnxDetector, OnnxNetwork, open_session, worthwhile_batch
from service.settings import shipped_model_store
from tests.fakes import ManualClock, assert_answers_in_threads, echo_runner

CPU = choose_device("cpu")


def find(spec: str = "timeconv-mini-xception", kind: Any = "network") -> Artifact:
    return ModelStore(shipped_model_store()).find(spec, kind)


def windows(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 5, 48, 48), np.uint8)


@pytest.fixture(scope="module")
def network() -> OnnxNetwork:
    """A shipped network."""
    return OnnxNetwork(find(), CPU)


@pytest.fixture
def copied(tmp_path: Path) -> Callable[..., Artifact]:
    """Copies a shipped network, with changes to its manifest."""

    def copy(change: Callable[[dict[str, Any]], object] = lambda _: None, content: bytes | None = None) -> Artifact:
        original = find()
        manifest = json.loads((original.folder / "manifest.json").read_bytes())
        folder = tmp_path / manifest["name"] / manifest["version"]
        shutil.copytree(original.folder, folder)
        if content is not None:
            (folder / "model.onnx").write_bytes(content)
            manifest["sha256"] = hashlib.sha256(content).hexdigest()
        change(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return ModelStore(tmp_path).find(manifest["name"], "network")

    return copy


class TestOnnxNetwork:
    @pytest.mark.parametrize("count", [1, 2, 3, 8, 17])
    def test_probabilities(self, network: OnnxNetwork, count: int) -> None:
        """A batch of any size gives one distribution a window, as float32."""
        output = network(windows(count))
        assert (output.shape, output.dtype) == ((count, 7), np.float32)
        assert (output >= 0).all()
        np.testing.assert_allclose(output.sum(axis=1), 1, atol=1e-5)

    def test_batch_changes_nothing(self, network: OnnxNetwork) -> None:
        """A window's answer is the same alone and among others, to within 1e-5."""
        together = network(windows(8))
        alone = np.concatenate([network(window[np.newaxis]) for window in windows(8)])
        np.testing.assert_allclose(together, alone, atol=1e-5)

    def test_windows_matter(self, network: OnnxNetwork) -> None:
        """Different windows get different answers."""
        flat = network(np.zeros((1, 5, 48, 48), np.uint8))
        assert np.abs(network(windows(1)) - flat).max() > 1e-3

    def test_threads(self, network: OnnxNetwork) -> None:
        """One network serves several threads at once, each with its own answer."""
        assert_answers_in_threads(network, [windows(2, seed) for seed in range(4)])

    @pytest.mark.parametrize(
        "wrong",
        [
            np.zeros((1, 5, 48, 48), np.float32),
            np.zeros((1, 4, 48, 48), np.uint8),
            np.zeros((5, 48, 48), np.uint8),
            np.zeros((1, 5, 24, 24), np.uint8),
        ],
    )
    def test_wrong_input(self, network: OnnxNetwork, wrong: NDArray[Any]) -> None:
        """A window of another type or shape is a failure of the runner, and the next one is answered."""
        with pytest.raises(RunnerFailed):
            network(wrong)
        assert network(windows(1)).shape == (1, 7)

    def test_not_on_a_device_that_is_not_there(self) -> None:
        """A network that ONNX Runtime does not put on its device is refused, not run elsewhere."""
        with pytest.raises((DeviceUnavailable, ModelDamaged)):
            OnnxNetwork(find(), Device("nowhere", ("NoSuchExecutionProvider",)))


class TestManifest:
    def test_as_it_is(self, copied: Callable[..., Artifact]) -> None:
        """A copy of a model, whole, loads."""
        assert OnnxNetwork(copied(), CPU)(windows(1)).shape == (1, 7)

    @pytest.mark.parametrize(
        "change",
        [
            lambda manifest: manifest["input"].update(name="frames"),
            lambda manifest: manifest["output"].update(name="logits"),
            lambda manifest: manifest["input"].update(dtype="float32"),
            lambda manifest: manifest["output"].update(dtype="float64"),
            lambda manifest: manifest["input"].update(shape=["n", 4, 48, 48]),
            lambda manifest: manifest["input"].update(shape=[1, 5, 48, 48]),
            lambda manifest: manifest["output"].update(shape=["n", 8]),
        ],
    )
    def test_another_contract(self, copied: Callable[..., Artifact], change: Callable[[dict[str, Any]], None]) -> None:
        """A model whose inputs or outputs are not those of its manifest is refused, with both said."""
        with pytest.raises(ModelDamaged, match=r"the manifest says .*, the model has"):
            OnnxNetwork(copied(change), CPU)

    def test_another_number_of_labels(self, copied: Callable[..., Artifact]) -> None:
        """A network with more outputs than labels is refused, with both said."""
        with pytest.raises(ModelDamaged, match="6 labels for 7 outputs"):
            OnnxNetwork(copied(lambda manifest: manifest["labels"].pop()), CPU)

    def test_name_of_a_free_dimension(self, copied: Callable[..., Artifact]) -> None:
        """What a free dimension is called does not matter."""
        artifact = copied(lambda manifest: manifest["input"].update(shape=["batch", 5, 48, 48]))
        assert OnnxNetwork(artifact, CPU)(windows(2)).shape == (2, 7)

    @pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x01" * 100])
    def test_no_model(self, copied: Callable[..., Artifact], content: bytes) -> None:
        """A file that is no model is refused as damaged, though its sha256 is right."""
        with pytest.raises(ModelDamaged, match="ONNX Runtime cannot load it"):
            OnnxNetwork(copied(content=content), CPU)

    def test_sha256(self, copied: Callable[..., Artifact]) -> None:
        """A file whose sha256 is not the manifest's is not even loaded."""
        with pytest.raises(ModelDamaged, match="sha256"):
            OnnxNetwork(copied(lambda manifest: manifest.update(sha256="0" * 64)), CPU)


class TestOnnxDetector:
    def test_shapes(self) -> None:
        """The detector gives regressions and logits of each picture."""
        detector = OnnxDetector(find("blazeface-short", "detector"))
        regressions, logits = detector(np.zeros((2, 1, 128, 128), np.uint8))
        assert (regressions.shape, logits.shape) == ((2, 896, 16), (2, 896))
        assert (regressions.dtype, logits.dtype) == (np.float32, np.float32)

    def test_on_the_cpu(self) -> None:
        """It runs on the CPU, whatever the networks run on."""
        detector = OnnxDetector(find("blazeface-short", "detector"))
        assert detector._session.get_providers() == [CPU_PROVIDER]


class TestOpenSession:
    def test_one_thread(self) -> None:
        """A session has one thread and does not spin while it waits."""
        options = open_session(find().read(), [CPU_PROVIDER]).get_session_options()
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


class Sized:
    """A network that remembers the sizes it was run at."""

    def __init__(self, *, fails_over: int = 1000) -> None:
        self.sizes: list[int] = []
        self.fails_over = fails_over

    def __call__(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert batch.shape[1:] == (5, 48, 48)
        self.sizes.append(len(batch))
        if len(batch) > self.fails_over:
            raise RunnerFailed("too large")
        return echo_runner(batch)


class Timed(Sized):
    """A network that takes so many milliseconds a call and a window, by a clock of its own."""

    def __init__(self, call_ms: float, window_ms: float) -> None:
        super().__init__()
        self.call_ms, self.window_ms = call_ms, window_ms
        self.clock = ManualClock()

    def __call__(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.clock.advance((self.call_ms + self.window_ms * len(batch)) / 1000)
        return super().__call__(batch)


class TestWorthwhileBatch:
    @pytest.mark.parametrize(
        ("limit", "sizes"),
        [
            (1, [1]),
            (2, [1, 2]),
            (3, [1, 2, 3]),
            (8, [1, 2, 4, 8]),
            (12, [1, 2, 4, 8, 12]),
            (256, [1, 2, 4, 8, 16, 32, 64, 128, 256]),
        ],
    )
    def test_up_to_the_limit(self, limit: int, sizes: list[int]) -> None:
        """With calls that cost and windows that do not the limit is worthwhile, and every size was run beforehand."""
        runner = Timed(1.0, 0.0)
        assert worthwhile_batch(runner, (5, 48, 48), limit=limit, budget_s=3600, clock=runner.clock) == limit
        assert sorted(set(runner.sizes)) == sizes

    @pytest.mark.parametrize(
        ("call_ms", "window_ms", "batch"),
        [
            pytest.param(0.0, 20.0, 1, id="a window costs the same in any batch"),
            pytest.param(0.0, 1.5, 8, id="so it does, but is quick: to handle a batch costs too"),
            pytest.param(0.02, 0.19, 16, id="a window of a fifth of a millisecond"),
            pytest.param(1.0, 0.1, 16, id="a call like ten windows"),
        ],
    )
    def test_no_larger_than_is_worth_it(self, call_ms: float, window_ms: float, batch: int) -> None:
        """The smallest batch at which a window costs at most 5 % more than in the batch where it costs least."""
        runner = Timed(call_ms, window_ms)
        assert worthwhile_batch(runner, (5, 48, 48), limit=16, budget_s=3600, clock=runner.clock) == batch

    @pytest.mark.parametrize("window_ms", [1.3, 1.5, 1.7, 2.0, 2.4])
    def test_a_slow_minute(self, window_ms: float) -> None:
        """With the settings as they come a network like ResNet20 gets four, however fast the machine is just then."""
        runner = Timed(0.0, window_ms)
        assert worthwhile_batch(runner, (5, 48, 48), limit=8, budget_s=0.01, clock=runner.clock) == 4

    def test_within_the_time(self) -> None:
        """A batch that takes too long is none, and no larger one is tried."""
        runner = Timed(1.0, 1.0)
        assert worthwhile_batch(runner, (5, 48, 48), limit=16, budget_s=0.006, clock=runner.clock) == 4
        assert set(runner.sizes) == {1, 2, 4, 8}

    def test_no_time(self) -> None:
        """A network that no batch of which is in time still runs windows one by one."""
        runner = Timed(1.0, 1.0)
        assert worthwhile_batch(runner, (5, 48, 48), limit=8, budget_s=0.0, clock=runner.clock) == 1
        assert set(runner.sizes) == {1}

    def test_failure(self) -> None:
        """A network that fails while it is warmed says so."""
        with pytest.raises(RunnerFailed):
            worthwhile_batch(Sized(fails_over=2), (5, 48, 48), limit=8, budget_s=3600)
