"""Score an exported model: `python -m training.evaluate model_store/NAME/VERSION --data DATA --split SPLIT`.

The rule for FER2013 (splits public, private), everywhere and always: one pass over five identical copies of the
picture, no flip; FER accuracy over all pictures; FER+ accuracy over those where one of the seven columns strictly has
the most of all ten columns' votes; with and without the pictures that are pixel for pixel in Training too. Everything
is chosen on PublicTest; PrivateTest is for one look at the end. Of a folder of windows (splits validation, test) every
window of the part is answered. The scores go into the manifest. Needs ONNX Runtime, not torch.
"""

import json
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from training import cli, config, confusion, manifest, splits
from training.datasets import FRAMES, fer2013, windowset
from training.datasets.fer2013 import Faces, Split
from training.datasets.windowset import WindowSet
from training.scores import Scores, certain, score_both

BATCH = 256
SPLITS = {"public": Split.PUBLIC, "private": Split.PRIVATE}
WINDOW_SPLITS = ("validation", "test")

# Windows uint8 [n, 5, 48, 48] to probabilities float32 [n, 7].
Model = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def open_model(folder: Path) -> Model:
    """Open the ONNX file of a version folder on the CPU; `ValueError` if it is not the file the manifest names."""
    described = manifest.read(folder)
    file = folder / described["file"]
    if manifest.digest(file) != described["sha256"]:
        raise ValueError(f"{file} is not the file that {manifest.NAME} describes")
    return open_file(file)


def open_file(file: Path) -> Model:
    """Open an ONNX file on the CPU."""
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


@dataclass(frozen=True)
class Answers:
    """What a model said of what can be judged: probabilities [n, 7], the truth [n] in the same order."""

    probabilities: NDArray[np.float32]
    truth: NDArray[np.int64]

    @property
    def confidence(self) -> NDArray[np.float32]:
        """The winners' probabilities [n]."""
        highest: NDArray[np.float32] = self.probabilities.max(axis=1)
        return highest

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which answers are right [n]."""
        right: NDArray[np.bool_] = self.probabilities.argmax(axis=1) == self.truth
        return right


def judged(faces: Faces) -> NDArray[np.bool_]:
    """Mark, bool [n], the pictures that have a FER+ label and no copy in Training."""
    labelled: NDArray[np.bool_] = fer2013.ferplus_labels(faces.votes) != fer2013.NO_LABEL
    return labelled & ~faces.duplicate


def answers(model: Model, described: manifest.Manifest, data: Path, split: str) -> Answers:
    """Answer what can be judged of a split: `judged` pictures, or the windows of a part."""
    if split in WINDOW_SPLITS:
        windows, rows = open_part(data, split, described["training"].get("cut"))
        starts = range(0, len(rows), BATCH)
        parts = [model(windows.windows(rows[at : at + BATCH])) for at in starts]
        return Answers(np.concatenate(parts), np.asarray(windows.label)[rows])
    faces = load_faces(data, split)
    faces = faces.where(judged(faces))
    return Answers(answer(model, faces.images), fer2013.ferplus_labels(faces.votes))


def load_faces(data: Path, split: str) -> Faces:
    """Read a split of FER2013, which must have FER+ votes."""
    return fer2013.with_votes(fer2013.load(data, SPLITS[split]))


def open_part(folder: Path, split: str, cut: dict[str, Any] | None) -> tuple[WindowSet, NDArray[np.int64]]:
    """Open a set of windows, cut as the network's run cut it, by subject if it learnt from others; give a part's rows.

    Raises:
        ValueError: the network learnt from another set of windows.
    """
    windows = windowset.load(folder)
    if cut is not None and cut["frames_sha256"] != windows.frames_sha256:
        raise ValueError(f"{folder} is not the set that the network learnt from, so its parts would be others")
    how: config.Split = "subject" if cut is None else cut["split"]
    seed = 0 if cut is None else cut["seed"]
    parts = splits.split(windows, how, seed)
    return windows, parts.validation if split == "validation" else parts.test


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
        "mean recall": f"{scores.mean_recall:.4f}",
        "ECE": f"{scores.ece:.4f}",
    } | recall


def main() -> None:
    """Read the command line, score, print and record."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="version folder, e.g. model_store/timeconv-mini-xception/1")
    parser.add_argument(
        "--data", type=Path, required=True, help="FER2013 with FER+ votes, .npz; or a folder of windows"
    )
    parser.add_argument("--split", choices=[*SPLITS, *WINDOW_SPLITS], default="public")
    options = parser.parse_args()
    described = manifest.read(options.model)
    score = score_windows if options.split in WINDOW_SPLITS else score_faces
    measured, text = score(open_model(options.model), described, options.data, options.split)
    described["scores"][options.split] = measured
    manifest.write(options.model, described)
    print(text)


def score_faces(model: Model, described: manifest.Manifest, data: Path, split: str) -> tuple[dict[str, object], str]:
    """Score a split of FER2013, for the manifest and for a terminal."""
    faces = load_faces(data, split)
    probabilities, chosen = answer(model, faces.images), judged(faces)
    scores = score_both(probabilities, faces)
    answered = Answers(probabilities[chosen], fer2013.ferplus_labels(faces.votes)[chosen])
    trusted = certain(answered.confidence, answered.right, described["uncertain_below"])
    measured: dict[str, object] = {way: values.rounded() for way, values in scores.items()}
    return measured | {"certain": trusted}, f"{table(scores)}\ncertain (de-duplicated): {trusted}"


def score_windows(model: Model, described: manifest.Manifest, data: Path, split: str) -> tuple[dict[str, object], str]:
    """Score a part of a set of windows, for the manifest and for a terminal."""
    answered = answers(model, described, data, split)
    trusted = certain(answered.confidence, answered.right, described["uncertain_below"])
    measured = asdict(confusion.score(answered.probabilities, answered.truth)) | {"certain": trusted}
    return measured, json.dumps(measured, indent=2)


if __name__ == "__main__":
    cli.run(main)
