"""Choose the crop of each detector so that faces are as large, and lie where, FER2013 shows them.

``python -m training.detectors.geometry --fer NPZ --media DIR [--yunet FILE] --out docs/images/crop_geometry.png``

The network learns from FER2013's pictures, so the service's crops must look like them. Eyes and mouth are found by the
same rulers on both sides: BlazeFace (and YuNet, where its file is given) on 48x48 pictures, enlarged, with repeated
border. From there the square that brings the service's mean eyes and mouth onto FER2013's is solved for, the clips are
cropped anew with it, and so on until it stays. Only faces that look at the camera count, on both sides, since turning
the head brings the eyes together. Writes ``geometry.json`` beside this file, the picture, and prints a table.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from service.vision.boxes import Box
from service.vision.crop import CROP_SIDE, CropGeometry, crop_face
from service.vision.detect import Detector, Haar, YuNet
from training.detectors.runners import Clip, blazeface, clips, pictures

ENLARGED, MARGIN = 192, 64
MIN_SCORE = 0.8
LARGEST_TURN, LARGEST_TILT = 0.2, 0.2  # nose off the eyes' middle, and slope of the eyes' line, in eye distances
ROUNDS = 4
FILE = Path(__file__).with_name("geometry.json")


class Ruler(NamedTuple):
    """A detector that measures where eyes and mouth lie, and which of its key points are the mouth."""

    detector: Detector
    mouth: slice

    def points(self, picture: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """Left eye, right eye, middle of the mouth of a picture [48, 48] as float64 [3, 2], in parts of its side.

        None where the face is not found with certainty or does not look at the camera.
        """
        big = cv2.resize(picture, (ENLARGED, ENLARGED), interpolation=cv2.INTER_CUBIC)
        canvas = cv2.copyMakeBorder(big, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_REPLICATE)
        faces = self.detector.detect(np.asarray(canvas, np.uint8))
        if not faces or faces[0].keypoints is None or faces[0].score < MIN_SCORE:
            return None
        placed = (faces[0].keypoints.astype(np.float64) - MARGIN) / ENLARGED
        left, right, nose, mouth = placed[0], placed[1], placed[2], placed[self.mouth].mean(axis=0)
        apart = right - left
        turn = abs(nose[0] - (left[0] + right[0]) / 2)
        if apart[0] <= 0 or turn > LARGEST_TURN * apart[0] or abs(apart[1]) > LARGEST_TILT * apart[0]:
            return None
        return np.stack([left, right, mouth])


class Measure(NamedTuple):
    """Mean points float64 [3, 2] by one ruler over ``found`` of ``tried`` pictures."""

    points: NDArray[np.float64]
    found: int
    tried: int


class Source(NamedTuple):
    """A clip with the box of its largest face in every frame that has one."""

    clip: Clip
    boxes: list[tuple[NDArray[np.uint8], Box]]


def measure(ruler: Ruler, groups: Sequence[Iterable[NDArray[np.uint8]]]) -> Measure:
    """Mean over the groups (one a person, so that long clips do not weigh more) of the means within them."""
    means, found, tried = [], 0, 0
    for group in groups:
        pictures_points = [ruler.points(picture) for picture in group]
        seen = [points for points in pictures_points if points is not None]
        tried, found = tried + len(pictures_points), found + len(seen)
        if seen:
            means.append(np.mean(seen, axis=0))
    return Measure(np.mean(means, axis=0), found, tried)


def crops(sources: Sequence[Source], geometry: CropGeometry) -> list[list[NDArray[np.uint8]]]:
    """The service's crops of every source."""
    return [[crop_face(frame, box, geometry) for frame, box in source.boxes] for source in sources]


def improve(
    geometry: CropGeometry, ours: Sequence[NDArray[np.float64]], wanted: Sequence[NDArray[np.float64]]
) -> CropGeometry:
    """The square that brings the points ``ours`` (a ruler each) of crops by ``geometry`` onto ``wanted``.

    Least squares over scale and height; sideways it stays in the middle, as faces are alike on both sides.
    """
    before = np.concatenate([points - points.mean(axis=0) for points in ours])
    after = np.concatenate([points - points.mean(axis=0) for points in wanted])
    grow = float((before * after).sum() / (before * before).sum())
    middle, goal = np.mean(ours, axis=(0, 1))[1], np.mean(wanted, axis=(0, 1))[1]
    down = middle - 0.5 - (goal - 0.5) / grow
    return CropGeometry(scale=geometry.scale / grow, dx=0.0, dy=float(geometry.dy + down) * grow)


def choose(sources: Sequence[Source], rulers: Mapping[str, Ruler], fer: Mapping[str, Measure]) -> CropGeometry:
    """Crop, measure and improve until the crop stays."""
    geometry = CropGeometry(1.1, 0.0, 0.0)
    for _ in range(ROUNDS):
        cut = crops(sources, geometry)
        ours = [measure(ruler, cut).points for ruler in rulers.values()]
        geometry = improve(geometry, ours, [fer[name].points for name in rulers])
    return CropGeometry(round(geometry.scale, 3), 0.0, round(geometry.dy, 3))


def locate(detector: Detector, films: Sequence[Clip], every: int) -> list[Source]:
    """Boxes of every ``every``-th frame."""
    sources = []
    for film in films:
        found = [(frame, detector.detect(frame)) for frame in film.frames[::every]]
        sources.append(Source(film, [(frame, faces[0].box) for frame, faces in found if faces]))
    return sources


def line(name: str, ruler: str, seen: Measure) -> str:
    """A row of the table: eye distance, eye line, mouth line in percent of the picture's side."""
    left, right, mouth = 100 * seen.points
    eyes = (left + right) / 2
    return (
        f"| {name} | {ruler} | {seen.found}/{seen.tried} | {right[0] - left[0]:.1f} | {eyes[1]:.1f} | {mouth[1]:.1f} "
        f"| {eyes[0]:.1f} |"
    )


class Panel(NamedTuple):
    """A mean picture [48, 48] with its title and the points of one ruler."""

    title: str
    mean: NDArray[np.float64]
    points: NDArray[np.float64]


def draw(panels: Sequence[Panel], out: Path) -> None:
    """Draw the means side by side: their own points as crosses, those of the first panel as circles."""
    figure = Figure(figsize=(2.6 * len(panels), 3.1), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        axis.imshow(panel.mean, cmap="gray", extent=(0, 1, 1, 0), interpolation="bicubic")
        axis.scatter(*panels[0].points.T, s=120, facecolors="none", edgecolors="orange", label="FER2013")
        axis.scatter(*panel.points.T, s=60, marker="+", color="deepskyblue", label="this mean")
        axis.set_title(panel.title, fontsize=9)
        axis.set_xticks([0, 0.5, 1])
        axis.set_yticks([0, 0.5, 1])
        axis.tick_params(labelsize=7)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


def fer_pictures(file: Path, count: int) -> NDArray[np.uint8]:
    """``count`` of FER2013's training pictures, evenly spread, uint8 [count, 48, 48]."""
    with np.load(file, allow_pickle=False) as data:
        training = np.asarray(data["images"][data["usage"] == 0], np.uint8)
    return training[np.linspace(0, len(training) - 1, min(count, len(training))).astype(np.int64)]


def main() -> None:
    """Measure, choose, draw, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fer", type=Path, required=True, help="fer2013.npz")
    parser.add_argument("--media", type=Path, required=True, help="folder with pictures and grid_ccby4/*.mpg")
    parser.add_argument("--yunet", type=Path, help="face_detection_yunet_2023mar.onnx: second ruler, third detector")
    parser.add_argument("--out", type=Path, required=True, help="the picture, PNG")
    parser.add_argument("--pictures", type=int, default=8000, help="how many of FER2013's pictures")
    parser.add_argument("--every", type=int, default=5, help="take every n-th frame of the clips")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)

    rulers = {"blazeface": Ruler(blazeface(), slice(3, 4))}
    detectors: dict[str, Detector] = {"haar": Haar(), "blazeface": blazeface()}
    if arguments.yunet:
        rulers["yunet"] = Ruler(YuNet(arguments.yunet), slice(3, 5))
        detectors["yunet"] = YuNet(arguments.yunet)
    training = fer_pictures(arguments.fer, arguments.pictures)
    fer = {name: measure(ruler, [training]) for name, ruler in rulers.items()}
    print("| pictures | ruler | measured | eye distance | eye line | mouth line | middle |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(line("FER2013", name, seen) for name, seen in fer.items()))

    films, stills = list(clips(arguments.media)), list(pictures(arguments.media))
    chosen: dict[str, CropGeometry] = {}
    panels = [Panel(f"FER2013, mean of {len(training)}", training.mean(axis=0), fer["blazeface"].points)]
    for name, detector in detectors.items():
        sources = locate(detector, [*films, *stills], arguments.every)
        chosen[name] = choose(sources, rulers, fer)
        cut = crops(sources, chosen[name])
        seen = {ruler: measure(rulers[ruler], cut) for ruler in rulers}
        print("\n".join(line(name, ruler, ours) for ruler, ours in seen.items()))
        of_films = [np.mean(group, axis=0) for group in cut[: len(films)] if group]
        title = f"{name}, mean of {len(of_films)} clips"
        panels.append(Panel(title, np.mean(of_films, axis=0), seen["blazeface"].points))
    draw(panels, arguments.out)
    values = {name: asdict(geometry) for name, geometry in chosen.items()}
    FILE.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    print(f"\n{json.dumps(values)}\n{CROP_SIDE}x{CROP_SIDE} crops; picture in {arguments.out}")


if __name__ == "__main__":
    main()
