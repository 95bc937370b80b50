"""Calibrate and export a network: `python -m training.export --checkpoint runs/NAME/best.pt --data DATA`.

Writes `model.onnx` and `manifest.json` into `model_store/NETWORK/VERSION`. The graph takes windows as the camera gave
them, uint8 [n, 5, 48, 48]; scaling to 0..1, calibration (`training.calibrate`) and softmax are inside it. A network is
calibrated on what its run was chosen by: PublicTest, or the validation part of a set of windows.
"""

import json
import shutil
import warnings
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from training import cli, manifest, networks, run_folder
from training.calibrate import Calibration, calibrate
from training.config import Config
from training.datasets import FRAMES, SIZE
from training.datasets.fer2013 import LABELS
from training.datasets.titles import FER2013, RENDERED
from training.networks.macs import count_macs
from training.sources import Source
from training.sources.windows import WindowSource
from training.train import Run, open_source

FILE = "model.onnx"
# Old enough for every ONNX Runtime since 1.13.
OPSET = 17
PARITY = 1e-5
# Measured once, by `training.detectors.geometry`, on pictures framed as every network here learns them.
GEOMETRY = Path(__file__).with_name("detectors") / "geometry.json"
PARITY_BATCHES = (1, 3, 64)


class Deployed(nn.Module):
    """A network as it is served: windows uint8 [n, 5, 48, 48] to probabilities float32 [n, 7]."""

    def __init__(self, network: nn.Module, temperature: float = 1.0, offset: Sequence[float] = ()) -> None:
        """Wrap a trained network and put it into evaluation mode; an empty `offset` is none."""
        super().__init__()
        self.network = network
        self.temperature = temperature
        self.offset = torch.tensor([*offset], dtype=torch.float32) if any(offset) else None
        self.eval()

    def forward(self, window: Tensor) -> Tensor:
        """Scale to 0..1, score, take the offset off, divide by the temperature, normalise."""
        logits: Tensor = self.network(window.to(torch.float32) / 255)
        if self.offset is not None:
            logits = logits - self.offset
        return (logits / self.temperature).softmax(dim=1)


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


def describe(
    run: Run, version: str, file: Path, source: Source, calibration: Calibration, begun: dict[str, Any]
) -> manifest.Manifest:
    """Gather all a service has to know of the model, and how it came about; the scores are `training.evaluate`'s.

    `begun` is what the run said of itself (`training.run_folder.begun`).
    """
    count, trust = networks.count_parameters(run.averaged), calibration.trust
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
        "macs": count_macs(run.averaged),
        "temperature": calibration.temperature,
        "prior_part": calibration.prior_part,
        "uncertain_below": trust.uncertain_below,
        "learnt_from": source.title,
        "for_people": source.title != RENDERED,
        "crop": json.loads(GEOMETRY.read_text()),
        "training": {
            "commit": begun["commit"],
            "command": command(run.config, source),
            "epochs": run.config.epochs,
            "chosen_epoch": run.epoch,
            "data": learnt_from(run.config, begun),
            **({"cut": source.cut} if isinstance(source, WindowSource) else {}),
        },
        "scores": {
            "certain": {
                "split": source.chosen_on,
                "accuracy": round(trust.accuracy, 4),
                "coverage": round(trust.coverage, 4),
            }
        },
    }


def learnt_from(config: Config, begun: dict[str, Any]) -> str:
    """Say in a sentence what a network learnt from, the run that it started from included."""
    own: str = begun["learnt_from"]
    if not config.start:
        return own
    earlier = run_folder.read_json(Path(config.start).parent / run_folder.CONFIG)
    return f"{own}; begun with the weights of a network that learnt from: {earlier['learnt_from']}"


def command(config: Config, source: Source) -> str:
    """Give the command line that repeats the run."""
    data = {FER2013: "fer2013.npz", RENDERED: "data/rendered"}.get(source.title, "DATA")
    return " ".join([f"python -m training.train --data {data} --out runs/NAME", *config.changed_options()])


def main() -> None:
    """Read the command line, calibrate, export, describe."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="best.pt of a run")
    parser.add_argument(
        "--data", type=Path, required=True, help="what it was trained on: FER2013 with FER+ votes, or windows"
    )
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--version", default="1")
    parser.add_argument("--replace", action="store_true", help="put it in the place of that version, scores and all")
    options = parser.parse_args()
    run = Run.resume(options.checkpoint, device="cpu")
    source = open_source(options.data, run.config)
    begun = run_folder.begun(options.checkpoint.parent, source)
    folder: Path = options.store / run.config.network / options.version
    if folder.exists() and not options.replace:
        raise ValueError(f"{folder} is there; --replace puts this one in its place, or take another --version")
    calibration = calibrate(*source.answers(run.averaged, "cpu"), source.prior(run.config))
    # Written beside its place, so that a stopped export leaves the store as it was.
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    export(Deployed(run.averaged, calibration.temperature, calibration.offset), partial / FILE)
    manifest.write(partial, describe(run, options.version, partial / FILE, source, calibration, begun))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    print(f"{folder}: {calibration}")


if __name__ == "__main__":
    cli.run(main)
