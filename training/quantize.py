"""Quantise an exported model: `python -m training.quantize model_store/NAME/VERSION --data FER2013`.

Writes `model.int8.onnx` beside `model.onnx`, and into the manifest what it scores on PublicTest beside the float32
model: it may lose at most `MOST_LOST` of FER+ accuracy, de-duplicated, or nothing is written. Activations have 8 bits,
weights 7: with 8 a processor without VNNI adds up 16-bit sums that overflow, and would answer something else. Ranges
are the least and most seen on some Training pictures. Needs ONNX and ONNX Runtime, not torch.
"""

import logging
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

from training import cli, manifest
from training.datasets import FRAMES, fer2013
from training.datasets.fer2013 import Split
from training.evaluate import answer, evaluate, open_file, open_model

FILE = "model.int8.onnx"
MOST_LOST = 0.003
CALIBRATED_ON = 512
BATCH = 32


class Windows(CalibrationDataReader):  # type: ignore[misc] # onnxruntime.quantization has no types.
    """Windows for the calibration: pictures spread over the Training split, each five times in a row."""

    def __init__(self, images: NDArray[np.uint8], name: str) -> None:
        """`images` uint8 [n, 48, 48]; `name` of the model's input."""
        chosen = images[:: max(1, len(images) // CALIBRATED_ON)][:CALIBRATED_ON]
        batches = [chosen[at : at + BATCH] for at in range(0, len(chosen), BATCH)]
        self._inputs = iter([{name: np.repeat(batch[:, None], FRAMES, axis=1)} for batch in batches])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Give the next batch, None after the last."""
        return next(self._inputs, None)


def quantize(source: Path, target: Path, images: NDArray[np.uint8]) -> None:
    """Write `source`, a float32 ONNX file, to `target` with convolutions and sums of 8-bit numbers."""
    name = onnx.load(source).graph.input[0].name
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        # The batch is free, which symbolic shape inference does not take; what it would tell is not needed.
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            Windows(images, name),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Add", "Relu", "Gemm"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def compare(folder: Path, quantized: Path, faces: fer2013.Faces) -> dict[str, Any]:
    """Score both models on `faces`, de-duplicated: accuracy of each, and the largest difference of a probability."""
    ours, theirs = open_file(quantized), open_model(folder)
    scores = {name: evaluate(model, faces)["deduplicated"] for name, model in (("int8", ours), ("float32", theirs))}
    return {
        **{f"ferplus_accuracy_{name}": round(score.ferplus_accuracy, 4) for name, score in scores.items()},
        **{f"ece_{name}": round(score.ece, 4) for name, score in scores.items()},
        "differs": round(float(np.abs(answer(ours, faces.images) - answer(theirs, faces.images)).max()), 4),
    }


def main() -> None:
    """Read the command line, quantise, compare, describe."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a version folder of the model store")
    parser.add_argument("--data", type=Path, required=True, help="FER2013 with FER+ votes")
    options = parser.parse_args()
    partial = options.folder / f"{FILE}.partial"
    try:
        quantize(options.folder / "model.onnx", partial, fer2013.load(options.data, Split.TRAINING).images)
        scores = compare(options.folder, partial, fer2013.load(options.data, Split.PUBLIC))
        lost = scores["ferplus_accuracy_float32"] - scores["ferplus_accuracy_int8"]
        if lost > MOST_LOST:
            raise ValueError(f"int8 loses {lost:.4f} of accuracy, over {MOST_LOST}")
        partial.rename(options.folder / FILE)
    finally:
        partial.unlink(missing_ok=True)
    described = manifest.read(options.folder)
    described["int8"] = {"file": FILE, "sha256": manifest.digest(options.folder / FILE), "scores": scores}
    manifest.write(options.folder, described)
    print(f"{options.folder / FILE}: {scores}")


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # The package advises to do what is done here.
    cli.run(main)
