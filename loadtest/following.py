"""Following a face beside detecting it in every frame: `python -m loadtest.following CLIP ...`.

Both look at the same frames: of the videos named, and of the astronaut picture drifting at four speeds, with noise.
Printed as a table: the mean and the least IoU of the boxes; how much each trembles (root mean square of the second
difference of centre and size, in sides of the box); the detector's runs a frame; the share of windows in which the
network sees the same emotion; and CPU time a frame, decoding and cropping left out.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

from service.cli import read_settings
from service.engine import open_detector
from service.inference.artifact import ModelStore, NetworkManifest
from service.inference.batch import Runner
from service.inference.device import CPU, Tuning
from service.inference.network import open_network
from service.vision.boxes import Box, iou
from service.vision.crop import CropGeometry, crop_face
from service.vision.detect import Detector
from service.vision.follow import Follower
from service.vision.window import FRAMES

FRAME_S = 1 / 25
Frames = Sequence[NDArray[np.uint8]]
SPEEDS = {"still": 0.0, "slow": 0.003, "quick": 0.01, "wild": 0.02}
"""Standard deviation of the push that the astronaut gets each frame, in widths of her face; a third of it in size."""


@dataclass(frozen=True)
class Eyes:
    """What finds a face and judges it; ``model`` is the network's name and version."""

    detector: Detector
    detect_every_frames: int
    model: str
    network: Runner
    geometry: CropGeometry

    def follower(self) -> Follower:
        """For the face of one clip."""
        return Follower(self.detector, self.detect_every_frames)


@dataclass(frozen=True)
class Comparison:
    """One clip, as the module says; ``trembles`` and ``ms`` (milliseconds) are of detecting, then of following."""

    clip: str
    frames: int
    mean_iou: float
    least_iou: float
    trembles: tuple[float, float]
    detections: float
    agreement: float
    ms: tuple[float, float]


def main() -> int:
    """Compare on every clip, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, help="videos of a face")
    named = parser.parse_args().clips
    cv2.setNumThreads(1)
    eyes = default_eyes()
    print(f"Detector {eyes.detector.name}, every {eyes.detect_every_frames} frames; emotions by {eyes.model}.\n")
    print("| clip | frames | IoU | least | trembles: detected | followed | detections | same emotion | ms | followed |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    clips: list[tuple[str, Callable[[], Frames]]] = [(clip.stem, partial(read, clip)) for clip in named]
    clips += [(f"astronaut, {name}", partial(drifting, speed)) for name, speed in SPEEDS.items()]
    for name, frames in clips:
        print(row(compare(name, frames(), eyes.detector, eyes.follower(), eyes.network, eyes.geometry)))
    return 0


def default_eyes() -> Eyes:
    """The detector and network of the service's settings, on the CPU."""
    settings = read_settings()
    store = ModelStore(settings.model_store)
    detector = open_detector(settings, store)
    artifact = store.find(settings.model, "network")
    assert isinstance(artifact.manifest, NetworkManifest)
    crop = artifact.manifest.crop[detector.name]
    return Eyes(
        detector=detector,
        detect_every_frames=settings.detect_every_frames,
        model=str(artifact.spec),
        network=open_network(artifact, CPU, Tuning(), max_batch=1).runner,
        geometry=CropGeometry(crop.scale, crop.dx, crop.dy),
    )


def row(each: Comparison) -> str:
    """A line of the table."""
    return (
        f"| {each.clip} | {each.frames} | {each.mean_iou:.3f} | {each.least_iou:.3f} | {each.trembles[0]:.4f}"
        f" | {each.trembles[1]:.4f} | {each.detections:.2f} | {each.agreement:.3f}"
        f" | {each.ms[0]:.2f} | {each.ms[1]:.2f} |"
    )


def compare(
    clip: str, frames: Frames, detector: Detector, follower: Follower, network: Runner, geometry: CropGeometry
) -> Comparison:
    """Both ways through a clip; only frames in which both find a face are compared."""
    started_s = time.thread_time()
    detected = [next((face.box for face in detector.detect(frame)), None) for frame in frames]
    between_s = time.thread_time()
    followed = [follower.locate(frame, index * FRAME_S) for index, frame in enumerate(frames)]
    ended_s = time.thread_time()
    kept = [
        (frame, one, other.box)
        for frame, one, other in zip(frames, detected, followed, strict=True)
        if one is not None and other is not None
    ]
    overlaps = [iou(one, other) for _, one, other in kept]
    ours, theirs = ([box for _, _, box in kept], [box for _, box, _ in kept])
    pictures = [frame for frame, _, _ in kept]
    same = emotions(pictures, theirs, network, geometry) == emotions(pictures, ours, network, geometry)
    return Comparison(
        clip=clip,
        frames=len(kept),
        mean_iou=float(np.mean(overlaps)),
        least_iou=min(overlaps),
        trembles=(tremble(theirs), tremble(ours)),
        detections=follower.detections / len(frames),
        agreement=float(np.mean(same)),
        ms=((between_s - started_s) / len(frames) * 1e3, (ended_s - between_s) / len(frames) * 1e3),
    )


def tremble(boxes: Iterable[Box]) -> float:
    """How much a box shakes: even motion does not count."""
    places = np.array([(*box.center, (box.w + box.h) / 2) for box in boxes])
    second = np.diff(places, n=2, axis=0)
    return float(np.sqrt((second**2).sum(axis=1).mean()) / places[:, 2].mean())


def emotions(frames: Frames, boxes: Sequence[Box], network: Runner, geometry: CropGeometry) -> NDArray[np.int64]:
    """The winner of each full window."""
    return np.asarray(probabilities(frames, boxes, network, geometry).argmax(axis=1), np.int64)


def probabilities(frames: Frames, boxes: Sequence[Box], network: Runner, geometry: CropGeometry) -> NDArray[np.float32]:
    """What the network says of each full window: [windows, labels]."""
    crops = np.stack([crop_face(frame, box, geometry) for frame, box in zip(frames, boxes, strict=True)])
    windows = np.lib.stride_tricks.sliding_window_view(crops, FRAMES, axis=0).transpose(0, 3, 1, 2)
    return np.concatenate([network(window[None].copy()) for window in windows])


def read(clip: Path) -> Frames:
    """The gray frames of a video."""
    video, frames = cv2.VideoCapture(str(clip)), []
    while (read := video.read())[0]:
        frames.append(np.asarray(cv2.cvtColor(read[1], cv2.COLOR_BGR2GRAY), np.uint8))
    if not frames:
        sys.exit(f"{clip} is no video that can be read")
    return frames


def drifting(speed: float, frames: int = 150, size: tuple[int, int] = (640, 480)) -> Frames:
    """Gray frames of the astronaut, pushed about at random, nearer and away."""
    random = np.random.default_rng(0)
    picture = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)  # type: ignore[no-untyped-call] # it has no types
    face_px, centre = 110.0, np.array([225.0, 115.0])
    place, push = np.zeros(3), np.zeros(3)
    seen = []
    for _ in range(frames):
        push = 0.9 * push + random.normal(0, 1, 3) * (speed, speed, speed / 3)
        place = 0.98 * place + push
        zoom = 190 / face_px * float(np.exp(np.clip(place[2], -0.6, 0.6)))
        x, y = np.array(size) / 2 + np.clip(place[:2] * 190, -0.2 * size[0], 0.2 * size[0]) - zoom * centre
        way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        frame = cv2.warpAffine(
            picture, np.array([[zoom, 0, x], [0, zoom, y]]), size, flags=way, borderMode=cv2.BORDER_REPLICATE
        )
        seen.append(np.clip(frame + random.normal(0, 4, frame.shape), 0, 255).astype(np.uint8))
    return seen


if __name__ == "__main__":
    sys.exit(main())
