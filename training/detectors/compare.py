"""Compare the face detectors on real clips: recall, steadiness, time, smallest face.

``python -m training.detectors.compare --media DIR --yunet FILE`` prints a Markdown table. The truth is YuNet's
largest face at 320 px on the longest side; every detector gets the same gray frames on one thread.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import Box, iou
from service.vision.detect import BlazeFace, Detector, Haar, YuNet
from training.detectors.runners import Clip, blazeface, blazeface_runner, clips, pictures

MIN_IOU = 0.5
WEBCAM = (480, 640)
SHARES = tuple(share / 100 for share in range(60, 1, -1))


class Row(NamedTuple):
    """One detector's figures.

    ``recall``: share of frames whose largest face overlaps YuNet's by an IoU of 0.5 or more, over all clips and
    pictures; ``worst``: that of the worst clip; ``iou``: mean over the frames that count. ``shake_center`` and
    ``shake_size``: how far a box lies from the mean of its two neighbours in time, in percent of its side, mean
    over the clips' frames: a face that moves evenly does not count. ``ms``: median of a call on the clips' frames;
    ``webcam_ms``: on those frames enlarged to 640 px of width. ``smallest``: the least side of a face still found,
    in percent of the longer side of a 640x480 frame, mean over the pictures.
    """

    name: str
    recall: float
    worst: float
    iou: float
    shake_center: float
    shake_size: float
    ms: float
    webcam_ms: float
    smallest: float


def largest(detector: Detector, gray: NDArray[np.uint8]) -> Box | None:
    """The box of the largest face, which is the one the service follows."""
    faces = detector.detect(gray)
    return faces[0].box if faces else None


def timed(detector: Detector, frames: Sequence[NDArray[np.uint8]]) -> tuple[list[Box | None], list[float]]:
    """Box and milliseconds of every frame."""
    boxes, took_ms = [], []
    for frame in frames:
        start_s = time.perf_counter()
        boxes.append(largest(detector, frame))
        took_ms.append((time.perf_counter() - start_s) * 1000)
    return boxes, took_ms


def overlaps(truth: Sequence[Box | None], found: Sequence[Box | None]) -> list[float]:
    """IoU of every frame that has a true face; 0 where none was found."""
    return [iou(true, box) if box else 0.0 for true, box in zip(truth, found, strict=True) if true]


def shake(boxes: Sequence[Box | None]) -> tuple[list[float], list[float]]:
    """How far centre and side lie from the mean of the frames before and after, in parts of the side."""
    centers, sizes = [], []
    for before, now, after in zip(boxes, boxes[1:], boxes[2:], strict=False):
        if before is None or now is None or after is None:
            continue
        points = np.array([box.center for box in (before, now, after)])
        sides = [(box.w + box.h) / 2 for box in (before, now, after)]
        centers.append(float(np.linalg.norm(points[1] - (points[0] + points[2]) / 2)) / sides[1])
        sizes.append(abs(sides[1] - (sides[0] + sides[2]) / 2) / sides[1])
    return centers, sizes


def on_canvas(picture: NDArray[np.uint8], face: Box, share: float) -> tuple[NDArray[np.uint8], Box]:
    """Show ``picture`` in a gray 640x480 frame so that ``face`` has a side of ``share`` of the width; and its box."""
    height, width = WEBCAM
    scale = share * width / ((face.w + face.h) / 2)
    x, y = face.center
    place = np.array([[scale, 0, width / 2 - x * scale], [0, scale, height / 2 - y * scale]])
    small, inner = picture, place
    if scale < 1:
        small = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        inner = place / np.array([scale, scale, 1])
    frame = cv2.warpAffine(small, inner, (width, height), borderMode=cv2.BORDER_CONSTANT, borderValue=(128,))
    box = Box(width / 2 - face.w * scale / 2, height / 2 - face.h * scale / 2, face.w * scale, face.h * scale)
    return np.asarray(frame, np.uint8), box


def smallest_face(detector: Detector, picture: NDArray[np.uint8], face: Box) -> float:
    """The least share of the frame's width at which ``face`` is found, going down until it is lost."""
    least = 1.0
    for share in SHARES:
        frame, box = on_canvas(picture, face, share)
        if not any(iou(box, found.box) >= MIN_IOU for found in detector.detect(frame)):
            # Large faces may be lost for their size; only a loss after a find ends the search.
            if least < 1:
                break
            continue
        least = share
    return least


def measure(name: str, detector: Detector, films: Sequence[Clip], stills: Sequence[Clip], truth: Detector) -> Row:
    """All figures of one detector."""
    per_clip: list[list[float]] = []
    centers: list[float] = []
    sizes: list[float] = []
    took_ms: list[float] = []
    webcam_ms: list[float] = []
    for clip in [*films, *stills]:
        true = [largest(truth, frame) for frame in clip.frames]
        largest(detector, clip.frames[0])
        boxes, ms = timed(detector, clip.frames)
        per_clip.append(overlaps(true, boxes))
        if len(clip.frames) == 1:
            continue
        took_ms += ms
        clip_centers, clip_sizes = shake(boxes)
        centers += clip_centers
        sizes += clip_sizes
        webcam_ms += timed(detector, [_enlarged(frame) for frame in clip.frames[::5]])[1]
    every = np.concatenate(per_clip)
    hits = every >= MIN_IOU
    faces = [(still.frames[0], largest(truth, still.frames[0])) for still in stills]
    return Row(
        name,
        float(hits.mean()),
        min(float((np.array(ious) >= MIN_IOU).mean()) for ious in per_clip if ious),
        float(every[hits].mean()) if hits.any() else 0.0,
        float(np.mean(centers)),
        float(np.mean(sizes)),
        float(np.median(took_ms)),
        float(np.median(webcam_ms)),
        float(np.mean([smallest_face(detector, picture, face) for picture, face in faces if face])),
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| detector | recall | worst clip | IoU | centre shake, % | size shake, % | ms | ms, 640 px | least face, % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.recall:.3f} | {row.worst:.3f} | {row.iou:.2f} | {100 * row.shake_center:.2f} "
        f"| {100 * row.shake_size:.2f} | {row.ms:.2f} | {row.webcam_ms:.2f} | {100 * row.smallest:.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


def _enlarged(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = frame.shape
    return np.asarray(cv2.resize(frame, (WEBCAM[1], round(height * WEBCAM[1] / width))), np.uint8)


def main() -> None:
    """Measure every detector and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, required=True, help="folder with pictures and grid_ccby4/*.mpg")
    parser.add_argument("--yunet", type=Path, required=True, help="face_detection_yunet_2023mar.onnx")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)

    films, stills = list(clips(arguments.media)), list(pictures(arguments.media))
    truth = YuNet(arguments.yunet, max_side=320)
    makers: dict[str, Callable[[], Detector]] = {
        "blazeface": blazeface,
        "blazeface, one look": lambda: BlazeFace(blazeface_runner(), second_look=False),
        "haar, 160 px": lambda: Haar(max_side=160),
        "haar, 320 px": Haar,
        "haar, full size": lambda: Haar(max_side=10_000),
        "yunet, 320 px": lambda: YuNet(arguments.yunet, max_side=320),
    }
    rows = [measure(name, make(), films, stills, truth) for name, make in makers.items()]
    print(f"{len(films)} clips, {sum(len(film.frames) for film in films)} frames, {len(stills)} pictures\n")
    print(table(rows))


if __name__ == "__main__":
    main()
