from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import DeviceUnavailable, RunnerFailed
from service.inference.artifact import ModelStore
from service.inference.device import CPU, Tuning
from service.inference.network import COARSE_PARITY_LIMIT, PARITY_LIMIT, open_network, require_parity
from service.inference.runner import OnnxNetwork
from service.settings import shipped_model_store
from tests.fakes import echo_runner


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
    found = ModelStore(shipped_model_store()).find("timeconv-mini-xception", "network")
    opened = open_network(found, CPU, Tuning(), max_batch=8)
    assert isinstance(opened.runner, OnnxNetwork)
    assert (opened.options, opened.differs) == ({}, None)


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
