"""How long an exported network takes for one window on one CPU core: `python -m training.latency model_store/*/*`.

The figures go into the manifests, with the machine they hold for. Needs ONNX Runtime, not torch.
"""

from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, pstdev
from time import perf_counter

import numpy as np
import onnxruntime

from training import cli, manifest
from training.datasets import FRAMES, SIZE
from training.provenance import processor, today

# As many as the paper's Table II is the mean of (Lee & Wong 2020).
RUNS = 1000
# The first calls allocate; they are not counted.
WARM_UP = 20
THREADS = 1


@dataclass(frozen=True)
class Latency:
    """Time a window over `runs` runs; `std_ms` is the deviation of single runs, not of their mean."""

    mean_ms: float
    std_ms: float
    runs: int
    threads: int


def measure(path: Path, runs: int = RUNS, clock: Callable[[], float] = perf_counter) -> Latency:
    """Time the ONNX file at `path` (`training.export`) at batch 1 in ONNX Runtime on the CPU; `clock` is in seconds.

    `ValueError` if there is nothing to measure.
    """
    if runs < 1:
        raise ValueError(f"{runs} runs: at least one is needed")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    window = np.random.default_rng(0).integers(0, 256, (1, FRAMES, SIZE, SIZE), dtype=np.uint8)

    def run() -> float:
        started = clock()
        session.run(["probabilities"], {"window": window})
        return 1000 * (clock() - started)

    for _ in range(WARM_UP):
        run()
    times_ms = [run() for _ in range(runs)]
    return Latency(fmean(times_ms), pstdev(times_ms), runs, THREADS)


def main() -> None:
    """Read the command line, measure, print and record."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+", help="version folders; detectors are passed over")
    for folder in parser.parse_args().models:
        described = manifest.read(folder)
        if described["kind"] == "network":
            timed = measure(folder / described["file"])
            described["latency"] = asdict(timed) | {"processor": processor(), "date": today()}
            manifest.write(folder, described)
            print(f"{described['name']}: {timed.mean_ms:.2f} ms")


if __name__ == "__main__":
    cli.run(main)
