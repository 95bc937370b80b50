"""A device beside ONNX Runtime on the CPU in f32, network by network: `python -m loadtest.devices --device openvino`.

Prints, for each network of the store, the time a window takes on both (milliseconds, one call at a time) at a few sizes
of batch, and their ratio. The two are measured in turn, so that a busy moment of the machine meets both; the quickest
tenth counts. With `--data fer2013.npz` also what each scores on PublicTest, for a precision that costs accuracy.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.inference.artifact import ModelStore
from service.inference.batch import Runner
from service.inference.device import CPU, Tuning, choose_device
from service.inference.network import open_network
from service.settings import shipped_model_store
from training.datasets import fer2013
from training.evaluate import answer, evaluate

SIZES = (1, 8, 32)
ROUNDS = 60


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="openvino", choices=["cpu", "cuda", "tensorrt", "openvino"])
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16", "int8"])
    parser.add_argument("--store", type=Path, default=shipped_model_store())
    parser.add_argument("--data", type=Path, help="fer2013.npz")
    options = parser.parse_args()
    faces = None if options.data is None else fer2013.load(options.data, fer2013.Split.PUBLIC)
    device = choose_device(options.device, options.precision)
    for artifact in ModelStore(options.store).artifacts("network"):
        opened = open_network(artifact, device, Tuning(), max_batch=max(SIZES))
        reference = open_network(artifact, CPU, Tuning(), max_batch=max(SIZES))
        if opened.differs is None:
            print(f"{artifact.spec} on {device.name}: nothing to compare, it runs in f32")
            continue
        print(f"{artifact.spec} on {device.name} {device.precision}, at most {opened.differs:.1e} from the CPU")
        for size in SIZES:
            ours_s, theirs_s = times_s(opened.runner, reference.runner, size)
            ratio = ours_s / theirs_s
            print(f"  batch {size:2}: {ours_s * 1e3:.3f} ms a window, CPU {theirs_s * 1e3:.3f} ms, ratio {ratio:.2f}")
        if faces is not None:
            for name, runner in ((f"{device.name} {device.precision}", opened.runner), ("cpu f32", reference.runner)):
                scores = evaluate(runner, faces)["deduplicated"]
                print(f"  {name}: FER+ accuracy {scores.ferplus_accuracy:.4f}, mean recall {scores.mean_recall:.4f}")
            difference = np.abs(answer(opened.runner, faces.images) - answer(reference.runner, faces.images)).max()
            print(f"  at most {difference:.1e} between them on {len(faces)} faces")


def times_s(ours: Runner, theirs: Runner, size: int) -> tuple[float, float]:
    """Seconds a window in batches of ``size``."""
    windows = np.random.default_rng(size).integers(0, 256, (size, 5, 48, 48), np.uint8)
    rounds = [(time_s(ours, windows), time_s(theirs, windows)) for _ in range(ROUNDS)]
    one, other = np.percentile(rounds, 10, axis=0) / size
    return float(one), float(other)


def time_s(runner: Runner, windows: NDArray[np.uint8]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    runner(windows)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
