"""Every network of the store is served, and says over the wire what its file says offline."""

import asyncio
import json

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from service.inference.artifact import MANIFEST, Artifact, ModelStore
from service.settings import Settings, shipped_model_store
from service.vision.crop import crop_whole
from service.vision.decode import decode_gray
from tests.conftest import LiveServer, jpeg
from timeconv_client import Prediction, connect

TOLERANCE = 1e-4
WINDOW = 5
LONGEST_MS = 2.0
# Where the astronaut's face is in her picture, 512x512. The box slides off it, so that answers come to differ.
LEFT, TOP, SIDE = 170, 70, 110
NETWORKS = ModelStore(shipped_model_store()).artifacts("network")


@pytest.fixture(scope="module")
def crops(astronaut: NDArray[np.uint8]) -> list[bytes]:
    """Twelve frames cropped to a face that leaves the picture and darkens, 110x110."""
    gray = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    frames = []
    for at in range(12):
        left, top = LEFT + 8 * at, TOP + 4 * at
        frames.append(jpeg((gray[top : top + SIDE, left : left + SIDE] * (1 - at / 30)).astype(np.uint8)))
    return frames


def offline(artifact: Artifact, crops: list[bytes]) -> NDArray[np.float32]:
    """Run the network's file on each full window of the frames; probabilities float32 [n, 7]."""
    session = onnxruntime.InferenceSession(artifact.read(), providers=["CPUExecutionProvider"])
    grays = [crop_whole(decode_gray(crop, max_bytes=10**6, max_pixels=10**6)) for crop in crops]
    windows = np.stack([np.stack(grays[at : at + WINDOW]) for at in range(len(grays) - WINDOW + 1)])
    probabilities: NDArray[np.float32] = session.run(["probabilities"], {"window": windows})[0]
    return probabilities


async def streamed(url: str, model: str, crops: list[bytes]) -> list[Prediction]:
    """Stream the frames, and give what came of the full windows."""
    async with connect(url, model=model, region="whole", freshness="every") as session:
        return [event async for event in session.stream(crops) if isinstance(event, Prediction)]


def test_the_store_holds_the_papers_six() -> None:
    """The six networks of Table II are there."""
    assert {artifact.manifest.name for artifact in NETWORKS} == {
        "mini-xception-2d",
        "timeconv-mini-xception",
        "timeconv-resnet20",
        "timeconv-mobilenetv2",
        "resnet20-3d",
        "resnet20-2plus1d",
    }


def test_the_default_is_the_best_that_is_quick() -> None:
    """The default is the network for people of the best FER+ accuracy (PublicTest) that takes at most 2 ms a window."""
    manifests = [json.loads((artifact.folder / MANIFEST).read_text()) for artifact in NETWORKS]
    quick = [each for each in manifests if each["for_people"] and each["latency"]["mean_ms"] <= LONGEST_MS]
    best = max(quick, key=lambda each: each["scores"]["public"]["deduplicated"]["ferplus_accuracy"])
    assert Settings().model == best["name"]


@pytest.mark.parametrize("artifact", NETWORKS, ids=lambda artifact: artifact.spec)
def test_the_service_says_what_the_file_says(artifact: Artifact, live_server: LiveServer, crops: list[bytes]) -> None:
    """Over WebSocket each window gets the probabilities that ONNX Runtime gives offline on the same crops, to 1e-4."""
    expected = offline(artifact, crops)
    predictions = asyncio.run(streamed(live_server.url, artifact.spec, crops))
    assert [prediction.seq for prediction in predictions] == list(range(WINDOW - 1, len(crops)))
    actual = np.array([list(prediction.faces[0].probabilities.values()) for prediction in predictions])
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE)
    # Windows that differ get answers that differ, so that equal ones mean something.
    assert np.ptp(expected, axis=0).max() > 10 * TOLERANCE
