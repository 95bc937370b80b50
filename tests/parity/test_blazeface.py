"""The converted BlazeFace in ONNX Runtime: what it finds in a photograph."""

import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from skimage import data

from service.vision.boxes import Box, iou
from service.vision.crop import CropGeometry
from service.vision.detect import BlazeFace

FOLDER = Path(__file__).parents[2] / "model_store" / "blazeface-short" / "1"
GEOMETRY = Path(__file__).parents[2] / "training" / "detectors" / "geometry.json"
FACE = Box(181, 75, 93, 98)
# Of the TensorFlow Lite original, for a ramp: mean size of each regression over all anchors, and every 128th logit.
ORIGINAL_REGRESSIONS = [
    *(2.425, 3.492, 58.723, 58.724, 4.831, 3.608, 10.125, 3.269),
    *(3.017, 11.464, 3.835, 17.102, 15.116, 7.179, 17.254, 5.237),
]
ORIGINAL_LOGITS = [-5.3616, -5.8937, -6.0989, -6.2323, -5.726, -39.9272, -3.8735]


class Network:
    """The model store's file in ONNX Runtime on one thread."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(FOLDER / "model.onnx", options, providers=["CPUExecutionProvider"])

    def __call__(self, images: NDArray[np.uint8], /) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See BlazeFaceRunner."""
        regressions, logits = self.session.run(["regressions", "logits"], {"image": images})
        return regressions, logits


@pytest.fixture(scope="module")
def network() -> Network:
    """One session for all tests."""
    return Network()


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    """One smiling face, gray, 512x512."""
    return np.ascontiguousarray(data.astronaut()[..., 1])


def test_the_manifest_describes_the_file(network: Network) -> None:
    """Digest, names, types and shapes of the manifest are those of the network."""
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))

    assert manifest["kind"] == "detector"
    assert manifest["sha256"] == sha256((FOLDER / manifest["file"]).read_bytes()).hexdigest()
    for described, real in zip(
        [manifest["input"], *manifest["outputs"]],
        [*network.session.get_inputs(), *network.session.get_outputs()],
        strict=True,
    ):
        assert (described["name"], described["shape"]) == (real.name, real.shape)
        assert real.type == {"uint8": "tensor(uint8)", "float32": "tensor(float)"}[described["dtype"]]


def test_outputs_are_those_of_the_original(network: Network) -> None:
    """Figures taken from the TensorFlow Lite original on the same picture hold to a thousandth.

    The picture is a gray ramp, so that it needs no file: pixel (row, column) is row + column.
    """
    ramp = np.add.outer(np.arange(128), np.arange(128)).astype(np.uint8)

    regressions, logits = network(ramp[np.newaxis, np.newaxis])

    assert regressions.dtype == logits.dtype == np.float32
    np.testing.assert_allclose(np.abs(regressions).mean(axis=(0, 1)), ORIGINAL_REGRESSIONS, rtol=1e-3)
    np.testing.assert_allclose(logits[0, ::128], ORIGINAL_LOGITS, rtol=1e-3)


def test_batches_give_what_single_pictures_give(network: Network, photo: NDArray[np.uint8]) -> None:
    """A picture's result does not depend on the others in its batch."""
    sizes = (200, 350, 512)
    images = np.stack([np.asarray(cv2.resize(photo[:side, :side], (128, 128)), np.uint8) for side in sizes])
    images = images[:, np.newaxis]

    together = network(images)

    for index in range(len(images)):
        for batched, alone in zip(together, network(images[index : index + 1]), strict=True):
            np.testing.assert_allclose(batched[index], alone[0], atol=1e-3)


def test_blazeface_finds_the_face(network: Network, photo: NDArray[np.uint8]) -> None:
    """The one face is found, with the key points where they belong."""
    (face,) = BlazeFace(network).detect(photo)

    assert iou(face.box, FACE) > 0.75
    assert face.score > 0.8
    assert face.keypoints is not None
    assert face.keypoints.shape == (6, 2)
    left_eye, right_eye, nose, mouth, left_ear, right_ear = face.keypoints
    assert left_ear[0] < left_eye[0] < nose[0] < right_eye[0] < right_ear[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < mouth[1]


@pytest.mark.parametrize("scale", [1.3, 1.8, 2.3])
def test_the_box_follows_the_face(network: Network, photo: NDArray[np.uint8], scale: float) -> None:
    """A frame scaled and moved gives the same box, scaled and moved."""
    (still,) = BlazeFace(network).detect(photo)
    place = np.array([[scale, 0, -117.0 * scale], [0, scale, 9.0]])
    frame = cv2.warpAffine(photo, place, (640, 480), borderMode=cv2.BORDER_REPLICATE)
    x, y, w, h = still.box
    expected = Box((x - 117) * scale, y * scale + 9, w * scale, h * scale)

    face = BlazeFace(network).detect(np.asarray(frame, np.uint8))[0]

    assert iou(face.box, expected) > 0.75


def test_small_faces_are_found_at_the_second_look(network: Network, photo: NDArray[np.uint8]) -> None:
    """A face of a tenth of a wide frame's width is found in a tile, and only there."""
    frame = np.full((720, 1280), 110, np.uint8)
    frame[14:704, 560:1250] = cv2.resize(photo, (690, 690))
    expected = FACE.scaled(690 / 512, 690 / 512)
    expected = expected._replace(x=expected.x + 560, y=expected.y + 14)

    assert iou(BlazeFace(network).detect(frame)[0].box, expected) > 0.6
    assert BlazeFace(network, second_look=False).detect(frame) == []


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (2, 900), (100, 4000), (4000, 100), (1080, 1920)])
def test_frames_without_a_face_give_none(network: Network, shape: tuple[int, int]) -> None:
    """Even frames and smooth ramps of any shape have no face."""
    ramp = np.linspace(0, 255, shape[0] * shape[1]).reshape(shape).astype(np.uint8)

    assert BlazeFace(network).detect(ramp) == []
    assert BlazeFace(network).detect(np.full(shape, 128, np.uint8)) == []


def test_threads_share_one_detector(network: Network, photo: NDArray[np.uint8]) -> None:
    """Frames looked at in several threads at once give what one thread gives."""
    detector = BlazeFace(network)
    frames = [np.ascontiguousarray(photo[: 400 + 10 * index]) for index in range(12)]
    expected = [[face.box for face in detector.detect(frame)] for frame in frames]

    with ThreadPoolExecutor(4) as pool:
        actual = [[face.box for face in faces] for faces in pool.map(detector.detect, frames)]

    for found, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_the_crop_shows_the_face_as_the_training_pictures_do(network: Network, photo: NDArray[np.uint8]) -> None:
    """With the measured geometry eyes and mouth lie about where FER2013's pictures have them on average."""
    geometry = CropGeometry(**json.loads(GEOMETRY.read_text(encoding="utf-8"))["blazeface"])
    (face,) = BlazeFace(network).detect(photo)
    assert face.keypoints is not None

    region = geometry.region(face.box)
    left_eye, right_eye, _, mouth = (face.keypoints[:4] - [region.x, region.y]) / region.w

    assert right_eye[0] - left_eye[0] == pytest.approx(0.365, abs=0.06)
    assert (left_eye[1] + right_eye[1]) / 2 == pytest.approx(0.39, abs=0.06)
    assert mouth[1] == pytest.approx(0.77, abs=0.06)
