import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import DeviceUnavailable, ModelDamaged, RunnerFailed
from service.inference.artifact import ModelStore
from service.inference.device import CPU, Tuning, choose_device
from service.inference.network import (
    COARSE_PARITY_LIMIT,
    INT8_PARITY_LIMIT,
    PARITY_LIMIT,
    open_network,
    require_parity,
)
from service.inference.runner import OnnxNetwork
from service.settings import shipped_model_store
from tests.fakes import echo_runner

STORE = ModelStore(shipped_model_store())


class Device:
    """A network that answers as `echo_runner` does, but for a change to its answers; counts its batches."""

    def __init__(self, change: Callable[[NDArray[np.float32], int], object]) -> None:
        self.change = change
        self.sizes: list[int] = []

    def __call__(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.sizes.append(len(windows))
        answers = echo_runner(windows)
        self.change(answers, len(self.sizes))
        return answers


def off_by(amount: float) -> Callable[[NDArray[np.float32], int], object]:
    def change(answers: NDArray[np.float32], _: int) -> None:
        answers[-1, 3] += amount

    return change


def test_cpu() -> None:
    """The CPU is what others are held against, so it is not compared."""
    found = STORE.find("timeconv-mini-xception", "network")
    opened = open_network(found, CPU, Tuning(), max_batch=8)
    assert isinstance(opened.runner, OnnxNetwork)
    assert opened.artifact is found
    assert (opened.options, opened.differs) == ({}, None)


class TestInt8:
    def test_network_that_has_it(self) -> None:
        """In int8 the quantised file answers, near the other but not the same, and says how near."""
        found = STORE.find("timeconv-resnet20", "network")
        opened = open_network(found, choose_device("cpu", "int8"), Tuning(), max_batch=8)
        windows = np.random.default_rng(1).integers(0, 256, (4, 5, 48, 48), np.uint8)
        assert found.int8 is not None
        assert opened.artifact == found.int8
        np.testing.assert_array_equal(opened.runner(windows), OnnxNetwork(found.int8, CPU)(windows))
        assert opened.differs is not None
        assert 0 < opened.differs < INT8_PARITY_LIMIT

    def test_network_without(self) -> None:
        """A network that has no such form runs in f32."""
        found = STORE.find("timeconv-mini-xception", "network")
        opened = open_network(found, choose_device("cpu", "int8"), Tuning(), max_batch=8)
        assert (found.int8, opened.options, opened.differs) == (None, {}, None)
        assert opened.artifact is found

    def test_damaged(self, tmp_path: Path) -> None:
        """A quantised file that is not the manifest's is refused."""
        folder = tmp_path / "timeconv-resnet20" / "1"
        shutil.copytree(STORE.find("timeconv-resnet20", "network").folder, folder)
        (folder / "model.int8.onnx").write_bytes(b"other")
        found = ModelStore(tmp_path).find("timeconv-resnet20", "network")
        with pytest.raises(ModelDamaged, match=r"sha256 of model\.int8\.onnx"):
            open_network(found, choose_device("cpu", "int8"), Tuning(), max_batch=8)


class TestRequireParity:
    def test_equal(self) -> None:
        """A device that answers as the CPU does may serve; every size was tried more than once."""
        device = Device(off_by(0))
        assert require_parity(device, echo_runner, [1, 2, 8], PARITY_LIMIT, "fake") == 0
        assert set(device.sizes) == {1, 2, 8}
        assert all(device.sizes.count(size) > 1 for size in (1, 2, 8))

    def test_nearly(self) -> None:
        """A difference within the limit is let through, and said."""
        difference = require_parity(Device(off_by(0.9e-3)), echo_runner, [1, 2], PARITY_LIMIT, "fake")
        assert difference == pytest.approx(0.9e-3, rel=1e-3)

    @pytest.mark.parametrize("limit", [PARITY_LIMIT, COARSE_PARITY_LIMIT])
    def test_wrong(self, limit: float) -> None:
        """A single probability of a single window that is off by more refuses the device, with how much."""
        with pytest.raises(DeviceUnavailable, match=r"^device=fake cannot be had: its answers differ .* by 0\.1$"):
            require_parity(Device(off_by(0.1)), echo_runner, [1, 8], limit, "fake")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_a_number(self, value: float) -> None:
        """A device that answers what is no probability is refused."""
        with pytest.raises(DeviceUnavailable):
            require_parity(Device(off_by(value)), echo_runner, [1, 8], COARSE_PARITY_LIMIT, "fake")

    def test_failure(self) -> None:
        """A device that cannot run a batch is refused with its reason."""

        def fail(_answers: NDArray[np.float32], calls: int) -> None:
            if calls == 2:
                raise RunnerFailed("out of memory")

        with pytest.raises(DeviceUnavailable, match=r"^device=fake cannot be had: out of memory$"):
            require_parity(Device(fail), echo_runner, [1], PARITY_LIMIT, "fake")

    def test_answers_of_before(self) -> None:
        """A device that goes on answering its first windows, as a captured graph may, is refused."""
        first: list[NDArray[np.float32]] = []

        def repeat(answers: NDArray[np.float32], _: int) -> None:
            first.append(answers.copy())
            answers[:] = first[0]

        with pytest.raises(DeviceUnavailable):
            require_parity(Device(repeat), echo_runner, [1], PARITY_LIMIT, "fake")

    def test_wrong_at_one_size(self) -> None:
        """A device that is wrong at its largest batch alone is refused."""

        def change(answers: NDArray[np.float32], _: int) -> None:
            if len(answers) == 8:
                answers[:] = 0

        with pytest.raises(DeviceUnavailable):
            require_parity(Device(change), echo_runner, [1, 2, 4, 8], PARITY_LIMIT, "fake")
