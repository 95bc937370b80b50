"""What smoothing takes off the flicker, and what it costs in lag: `python -m loadtest.flicker CLIP ...`.

Faces are found, cropped and judged as the service does it, once; the probabilities then go through the service's
smoothing with each time constant, without hysteresis and with it. Printed as a table: changes a minute of the label
that is shown, over all clips; the share of frames in which it is the raw winner; and the lag, mean and largest: how
much later than without smoothing the new label is shown where the astronaut picture, who smiles, follows at once upon a
clip with another label, or a clip upon her.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from loadtest.following import FRAME_S, SPEEDS, Frames, default_eyes, drifting, probabilities, read
from service import smoothing
from service.smoothing import Smoothing

CONSTANTS_MS = (0, 250, 500, 1000)
_GAP_RESET_S = 1.0

Rows = NDArray[np.float32]


def main() -> int:
    """Look at every clip, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path, help="videos of a face")
    named = parser.parse_args().clips
    cv2.setNumThreads(1)
    clips = judged([read(clip) for clip in named])
    (smile,) = judged([drifting(SPEEDS["slow"])])
    minutes = sum(map(len, clips)) * FRAME_S / 60
    print(f"{len(clips)} clips, {sum(map(len, clips))} predictions, {minutes:.2f} minutes\n")
    print("| smoothing_ms | margin | changes a minute | shows the raw winner | lag ms | largest |")
    print("|---|---|---|---|---|---|")
    for constant_ms, margin in itertools.product(CONSTANTS_MS, (0.0, smoothing.HYSTERESIS, 2 * smoothing.HYSTERESIS)):
        if constant_ms or not margin:
            print(row(clips, smile, constant_ms / 1000, margin))
    return 0


def row(clips: Sequence[Rows], smile: Rows, constant_s: float, margin: float) -> str:
    """A line of the table."""
    shown = [labels(clip, constant_s, margin) for clip in clips]
    changed = sum(changes(each) for each in shown)
    same = np.mean(np.concatenate([each == clip.argmax(axis=1) for each, clip in zip(shown, clips, strict=True)]))
    pairs = [pair for clip in clips for pair in ((clip, smile), (smile, clip))]
    lags = [lag_s(one, other, constant_s, margin) * 1e3 for one, other in pairs]
    late = [lag for lag in lags if np.isfinite(lag)]
    minutes = sum(map(len, clips)) * FRAME_S / 60
    return (
        f"| {constant_s * 1000:.0f} | {margin:.2f} | {changed / minutes:.0f} | {same:.2f}"
        f" | {np.mean(late):.0f} | {max(late):.0f} |"
    )


def labels(rows: Rows, constant_s: float, margin: float) -> NDArray[np.int64]:
    """The label that is shown with each prediction; ``constant_s`` 0: the winner."""
    if constant_s == 0:
        return np.asarray(rows.argmax(axis=1), np.int64)
    smooth = Smoothing(_GAP_RESET_S, margin)
    return np.array(
        [
            smooth.push(each, of="clip", time_s=index * FRAME_S, constant_s=constant_s)[1]
            for index, each in enumerate(rows.tolist())
        ]
    )


def changes(shown: NDArray[np.int64]) -> int:
    """How often the label is another than the one before."""
    return int((np.diff(shown) != 0).sum())


def lag_s(one: Rows, other: Rows, constant_s: float, margin: float) -> float:
    """How much later than without smoothing the label of ``other`` comes after ``one``; NaN if they have the same.

    A clip's label is the one it shows most. Where it does not come at all, the lag is the whole of the clip.
    """
    usual = [int(np.bincount(rows.argmax(axis=1)).argmax()) for rows in (one, other)]
    if usual[0] == usual[1]:
        return float("nan")
    rows = np.concatenate([one, other])
    firsts = []
    for constant in (0.0, constant_s):
        shown = labels(rows, constant, margin)[len(one) :] == usual[1]
        firsts.append(int(shown.argmax()) if shown.any() else len(other))
    return (firsts[1] - firsts[0]) * FRAME_S


def judged(clips: Sequence[Frames]) -> list[Rows]:
    """What the default network says of each clip's windows."""
    eyes = default_eyes()
    found = []
    for frames in clips:
        follower = eyes.follower()
        faces = [follower.locate(frame, index * FRAME_S) for index, frame in enumerate(frames)]
        kept = [(frame, face.box) for frame, face in zip(frames, faces, strict=True) if face is not None]
        pictures, boxes = [frame for frame, _ in kept], [box for _, box in kept]
        found.append(probabilities(pictures, boxes, eyes.network, eyes.geometry))
    return found


if __name__ == "__main__":
    sys.exit(main())
