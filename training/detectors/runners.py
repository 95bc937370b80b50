"""The detectors as the service builds them, and the pictures they are measured on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.vision.detect import BlazeFace, BlazeFaceRunner

MODEL_FOLDER = Path(__file__).parents[2] / "model_store" / "blazeface-short" / "1"


def blazeface_runner(folder: Path = MODEL_FOLDER) -> BlazeFaceRunner:
    """Open the converted network on one CPU thread, as a worker of the service does."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(folder / manifest["file"], options, providers=["CPUExecutionProvider"])
    image = manifest["input"]["name"]
    outputs = [output["name"] for output in manifest["outputs"]]

    def run(images: NDArray[np.uint8], /) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        regressions, logits = session.run(outputs, {image: images})
        return regressions, logits

    return run


def blazeface() -> BlazeFace:
    """BlazeFace from the model store."""
    return BlazeFace(blazeface_runner())


class Clip(NamedTuple):
    """A clip, or a single picture as a clip of one frame: its name and gray frames uint8 [height, width]."""

    name: str
    frames: list[NDArray[np.uint8]]


def clips(media: Path) -> Iterator[Clip]:
    """Read every clip of ``media``/grid_ccby4."""
    for file in sorted((media / "grid_ccby4").glob("*.mpg")):
        yield Clip(file.stem, list(_frames(file)))


def pictures(media: Path) -> Iterator[Clip]:
    """Read every picture that lies in ``media`` itself."""
    for file in sorted([*media.glob("*.jpg"), *media.glob("*.png")]):
        picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        if picture is not None:
            yield Clip(file.stem, [np.asarray(picture, np.uint8)])


def _frames(file: Path) -> Iterator[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(file))
    while True:
        found, frame = capture.read()
        if not found:
            break
        yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
    capture.release()
