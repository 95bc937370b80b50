"""The paper's pipeline, which the service is held against: Haar on the full frame, one window a call."""

import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from loadtest.bench.floor import Paper
from service.inference.batch import Runner
from service.vision.crop import CROP_SIDE
from service.vision.detect import Haar
from service.vision.window import FRAMES

_FULL_FRAME_PX = 10_000  # `Haar` brings down what is larger.


def run_paper(
    clip: Sequence[bytes], network: Runner, seconds: float, clock: Callable[[], float] = time.thread_time
) -> Paper:
    """CPU time for one frame, in this thread alone; nobody is served, which is in the pipeline's favour.

    Frames go through until ``seconds`` of CPU time are over, the first not counted.
    """
    haar = Haar(max_side=_FULL_FRAME_PX, scale_factor=1.1, min_neighbors=5)
    window: list[NDArray[np.uint8]] = []

    def predict(jpeg: bytes) -> bool:
        gray = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)
        faces = haar.detect(gray)
        if not faces:
            return False
        x, y, w, h = map(int, faces[0].box)
        window.append(np.asarray(cv2.resize(gray[y : y + h, x : x + w], (CROP_SIDE, CROP_SIDE)), np.uint8))
        del window[:-FRAMES]
        if len(window) == FRAMES:
            network(np.stack(window)[np.newaxis])
        return True

    for jpeg in clip[:FRAMES]:
        predict(jpeg)
    found, frames, start_s = 0, 0, clock()
    while frames == 0 or clock() - start_s < seconds:
        found += predict(clip[(FRAMES + frames) % len(clip)])
        frames += 1
    return Paper(us=(clock() - start_s) / frames * 1e6, found=found / frames)
