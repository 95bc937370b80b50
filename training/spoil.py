"""Spoil single frames as life does: a jerk, a hand, a lost face, a thin line, a dark room.

One rule for training, where some windows have one or two spoiled frames, and for `training.robustness`, which measures
what such frames cost. NumPy and OpenCV only.
"""

from collections.abc import Callable
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

Kind = Literal["motion_blur", "hand", "lost_crop", "jpeg", "darkness"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Frame = NDArray[np.uint8]


def motion_blur(frame: Frame, rng: np.random.Generator) -> Frame:
    """Smear along a straight line of 9 to 15 pixels: a quick turn of the head at a long exposure."""
    length = int(rng.integers(9, 16))
    angle = rng.uniform(0, np.pi)
    half = (length - 1) / 2
    kernel = np.zeros((length, length), np.float32)
    reach = np.array([np.cos(angle), np.sin(angle)]) * half
    start, end = (np.rint(half + sign * reach).astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return np.asarray(cv2.filter2D(frame, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE), np.uint8)


def hand(frame: Frame, rng: np.random.Generator) -> Frame:
    """Cover a third to a half of the frame with an evenly lit blob that comes in from one side."""
    size = frame.shape[0]
    # An ellipse whose middle lies near a random side's edge.
    angle = rng.uniform(0, 2 * np.pi)
    middle = size / 2 + size * 0.35 * np.array([np.cos(angle), np.sin(angle)])
    axes = (rng.uniform(0.35, 0.5, 2) * size).astype(int).tolist()
    gray = int(rng.integers(60, 210))
    covered = frame.copy()
    cv2.ellipse(covered, np.rint(middle).astype(int).tolist(), axes, rng.uniform(0, 180), 0, 360, gray, -1)
    return covered


def lost_crop(frame: Frame, rng: np.random.Generator) -> Frame:
    """Show a corner of the picture, three times enlarged: a box that has slid off the face onto hair or wall."""
    size = frame.shape[0]
    side = size // 3
    down, right = rng.integers(0, 2, 2) * (size - side)
    corner = frame[down : down + side, right : right + side]
    return np.asarray(cv2.resize(corner, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)


def jpeg(frame: Frame, rng: np.random.Generator) -> Frame:
    """Encode the crop itself at quality 2 to 10, so that blocks of eight pixels are all that is left."""
    encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(2, 11))])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)


def darkness(frame: Frame, rng: np.random.Generator) -> Frame:
    """Leave 3 to 10 % of the light, and a sensor's noise of two levels."""
    dark = frame * rng.uniform(0.03, 0.1) + rng.normal(0, 2, frame.shape)
    return np.clip(np.rint(dark), 0, 255).astype(np.uint8)


SPOILERS: dict[Kind, Callable[[Frame, np.random.Generator], Frame]] = {
    "motion_blur": motion_blur,
    "hand": hand,
    "lost_crop": lost_crop,
    "jpeg": jpeg,
    "darkness": darkness,
}


def spoil_some(windows: NDArray[np.uint8], share: float, rng: np.random.Generator) -> None:
    """Spoil one or two frames of a random `share` of windows uint8 [n, 5, 48, 48], in place, each by a random kind."""
    for row in np.flatnonzero(rng.random(len(windows)) < share):
        for at in rng.choice(windows.shape[1], rng.integers(1, 3), replace=False):
            kind = KINDS[rng.integers(len(KINDS))]
            windows[row, at] = SPOILERS[kind](windows[row, at], rng)


def shrink_some(windows: NDArray[np.uint8], share: float, rng: np.random.Generator) -> None:
    """Give a random `share` of windows uint8 [n, 5, 48, 48] the detail of a face 20 to 44 pixels wide, in place."""
    for row in np.flatnonzero(rng.random(len(windows)) < share):
        windows[row] = shrink(windows[row], int(rng.integers(20, 45)))


def shrink(frames: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Give frames uint8 [k, 48, 48] the detail they would have from a face `side` pixels wide: down, and up again."""
    size = frames.shape[-1]
    small = (cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in frames)
    return np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR) for frame in small])
