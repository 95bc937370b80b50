"""Score an exported model: `python -m training.evaluate model_store/NAME/VERSION --data fer2013.npz --split public`.

The rule, everywhere and always: one pass over five identical copies of the picture, no flip; FER accuracy over all
pictures; FER+ accuracy over those where one of the seven columns strictly has the most of all ten columns' votes; with
and without the pictures that are pixel for pixel in Training too. Everything is chosen on PublicTest; PrivateTest is
for one look at the end. The scores go into the manifest. Needs ONNX Runtime, not torch.
"""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from training import cli, manifest
from training.datasets import FRAMES, fer2013
from training.datasets.fer2013 import Faces, Split
from training.scores import Scores, score_both

BATCH = 256
SPLITS = {"public": Split.PUBLIC, "private": Split.PRIVATE}

# Windows uint8 [n, 5, 48, 48] to probabilities float32 [n, 7].
Model = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def open_model(folder: Path) -> Model:
    """Open the ONNX file of a version folder on the CPU; `ValueError` if it is not the file the manifest names."""
    described = manifest.read(folder)
    file = folder / described["file"]
    if manifest.digest(file) != described["sha256"]:
        raise ValueError(f"{file} is not the file that {manifest.NAME} describes")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        answers: NDArray[np.float32] = session.run(["probabilities"], {"window": windows})[0]
        return answers

    return run


def answer(model: Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Show the model each picture of uint8 [n, 48, 48] five times; probabilities float32 [n, 7]."""
    starts = range(0, len(images), BATCH)
    return np.concatenate([model(np.repeat(images[at : at + BATCH, None], FRAMES, axis=1)) for at in starts])


def evaluate(model: Model, faces: Faces) -> dict[str, Scores]:
    """Score the model on `faces`, both ways: `plain` and `deduplicated`."""
    return score_both(answer(model, faces.images), faces)


def table(scores: dict[str, Scores]) -> str:
    """Lay scores out for a terminal: a column each way of counting."""
    rows = {way: _flat(values) for way, values in scores.items()}
    lines = [f"{'':20}" + "".join(f"{way:>14}" for way in rows)]
    names = next(iter(rows.values()))
    return "\n".join(lines + [f"{name:20}" + "".join(f"{row[name]:>14}" for row in rows.values()) for name in names])


def _flat(scores: Scores) -> dict[str, str]:
    recall = {f"recall {label}": "-" if value is None else f"{value:.4f}" for label, value in scores.recall.items()}
    return {
        "pictures": str(scores.pictures),
        "with FER+ label": str(scores.ferplus_pictures),
        "FER accuracy": f"{scores.fer_accuracy:.4f}",
        "FER+ accuracy": f"{scores.ferplus_accuracy:.4f}",
        "ECE": f"{scores.ece:.4f}",
    } | recall


def main() -> None:
    """Read the command line, score, print and record."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="version folder, e.g. model_store/timeconv-mini-xception/1")
    parser.add_argument("--data", type=Path, required=True, help="FER2013 with FER+ votes, .npz")
    parser.add_argument("--split", choices=sorted(SPLITS), default="public")
    options = parser.parse_args()
    scores = evaluate(open_model(options.model), fer2013.with_votes(fer2013.load(options.data, SPLITS[options.split])))
    described = manifest.read(options.model)
    described["scores"][options.split] = {way: values.rounded() for way, values in scores.items()}
    manifest.write(options.model, described)
    print(table(scores))


if __name__ == "__main__":
    cli.run(main)
