"""Calibrate and export a network: `python -m training.export --checkpoint runs/NAME/best.pt --data fer2013.npz`.

Writes `model.onnx` and `manifest.json` into `model_store/NETWORK/VERSION`. The graph takes windows as the camera gave
them, uint8 [n, 5, 48, 48]; scaling to 0..1, temperature and softmax are inside it.
"""

import subprocess
import warnings
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from training import cli, manifest, networks
from training.calibrate import Trust, choose_threshold, fit_temperature, temper
from training.config import Config
from training.datasets import FRAMES, SIZE, fer2013
from training.datasets.fer2013 import LABELS, NO_LABEL, Faces, Split
from training.sources.faces import answer
from training.train import Run

FILE = "model.onnx"
# Old enough for every ONNX Runtime since 1.13.
OPSET = 17
PARITY = 1e-5
PARITY_BATCHES = (1, 3, 64)
DATA = (
    "28,556 of the 28,709 pictures of FER2013's Training split (without those that have no votes, or that half the "
    "annotators called not a face), labels mixed of FER+ votes and FER2013; windows of five frames made by moving them"
)


class Deployed(nn.Module):
    """A network as it is served: windows uint8 [n, 5, 48, 48] to probabilities float32 [n, 7]."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        """Wrap a trained network and put it into evaluation mode."""
        super().__init__()
        self.network = network
        self.temperature = temperature
        self.eval()

    def forward(self, window: Tensor) -> Tensor:
        """Scale to 0..1, score, divide by the temperature, normalise."""
        logits: Tensor = self.network(window.to(torch.float32) / 255)
        return (logits / self.temperature).softmax(dim=1)


def calibrate(network: nn.Module, public: Faces) -> tuple[float, Trust]:
    """Fit temperature and threshold on PublicTest's pictures that have a FER+ label and are in no other split."""
    truth = fer2013.ferplus_labels(public.votes)
    judged = (truth != NO_LABEL) & ~public.duplicate
    probabilities, truth = answer(network, public.where(judged)), truth[judged]
    temperature = round(fit_temperature(probabilities, truth), 4)
    tempered = temper(probabilities, temperature)
    return temperature, choose_threshold(tempered.max(axis=1), tempered.argmax(axis=1) == truth)


def export(model: Deployed, file: Path) -> float:
    """Write the ONNX file (batch norms folded by the exporter), check it and return what `check_parity` does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # dynamo=False is deprecated. The newer exporter needs the package onnxscript too, for a graph no better than
        # this one; go over to it when torch drops the older.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model.to("cpu"),
            (torch.zeros(1, FRAMES, SIZE, SIZE, dtype=torch.uint8),),
            file,
            input_names=["window"],
            output_names=["probabilities"],
            dynamic_axes={"window": {0: "n"}, "probabilities": {0: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return check_parity(model, file)


def check_parity(model: Deployed, file: Path) -> float:
    """Compare ONNX Runtime with torch on random windows at several batch sizes and return the largest difference.

    `ValueError` if that is over `PARITY`.
    """
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for n in PARITY_BATCHES:
        window = torch.randint(0, 256, (n, FRAMES, SIZE, SIZE), generator=generator).to(torch.uint8)
        with torch.no_grad():
            expected = model(window).numpy()
        (actual,) = session.run(["probabilities"], {"window": window.numpy()})
        worst = max(worst, float(np.abs(expected - actual).max()))
    if worst > PARITY:
        raise ValueError(f"{file} differs from torch by {worst:.1e}, over {PARITY:.0e}")
    return worst


def describe(run: Run, version: str, file: Path, temperature: float, trust: Trust) -> manifest.Manifest:
    """Gather all a service has to know of the model, and how it came about; the scores are `training.evaluate`'s."""
    count = networks.count_parameters(run.averaged)
    return {
        "name": run.config.network,
        "version": version,
        "kind": "network",
        "file": file.name,
        "sha256": manifest.digest(file),
        "input": {"name": "window", "dtype": "uint8", "shape": ["n", FRAMES, SIZE, SIZE]},
        "output": {"name": "probabilities", "dtype": "float32", "shape": ["n", len(LABELS)]},
        "labels": list(LABELS),
        "window": FRAMES,
        "parameters": {"total": count.total, "trainable": count.trainable},
        "temperature": temperature,
        "uncertain_below": trust.uncertain_below,
        "crop": {},
        "training": {
            "commit": commit(),
            "command": command(run.config),
            "epochs": run.config.epochs,
            "chosen_epoch": run.epoch,
            "data": DATA,
        },
        "scores": {
            "certain": {
                "split": "public, deduplicated",
                "ferplus_accuracy": round(trust.accuracy, 4),
                "coverage": round(trust.coverage, 4),
            }
        },
    }


def command(config: Config) -> str:
    """Give the command line that repeats the run."""
    return " ".join(["python -m training.train --data fer2013.npz --out runs/NAME", *config.changed_options()])


def commit() -> str | None:
    """Name the commit of the code at work; None where there is no history (an unpacked archive)."""
    asked = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 - constant arguments
    return done.stdout.strip() or None


def main() -> None:
    """Read the command line, calibrate, export, describe."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="best.pt of a run")
    parser.add_argument("--data", type=Path, required=True, help="FER2013 with FER+ votes, .npz; PublicTest is read")
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--version", default="1")
    options = parser.parse_args()
    run = Run.resume(options.checkpoint, device="cpu")
    folder = options.store / run.config.network / options.version
    temperature, trust = calibrate(run.averaged, fer2013.with_votes(fer2013.load(options.data, Split.PUBLIC)))
    export(Deployed(run.averaged, temperature), folder / FILE)
    manifest.write(folder, describe(run, options.version, folder / FILE, temperature, trust))
    print(f"{folder}: temperature {temperature}, {trust}")


if __name__ == "__main__":
    cli.run(main)
