"""BlazeFace, short range (Bazarevsky et al. 2019): the network of MediaPipe's face detection."""

from __future__ import annotations

from copy import copy
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.boxes import Box
from service.vision.detect.face import Face, largest_first
from service.vision.pyramid import halve, halvings

_SIDE = 128
_GRIDS = ((16, 2), (8, 6))  # (cells a side, anchors a cell): stride 8, and three layers of stride 16 in one
_PLACES = [0, 2, 3, 4, 5, 6, 7]  # of the 8 pairs all but the size
_TILE_SHARE = 0.6
_SCORE_LIMIT = 80.0  # logits beyond it saturate the sigmoid and would overflow exp in float32


class BlazeFaceRunner(Protocol):
    """The network itself, handed in so that this module knows no inference engine; called from several threads."""

    def __call__(self, images: NDArray[np.uint8], /) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run uint8 [n, 1, 128, 128]; return float32 regressions [n, 896, 16] and score logits [n, 896]."""
        ...


class Tile(NamedTuple):
    """A part of a frame, in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    def shows_whole(self, candidates: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Which candidates (in pixels of the frame) no inner edge of the tile cuts: bool [k]."""
        low = candidates[:, 0] - candidates[:, 1] / 2
        high = low + candidates[:, 1]
        least = [self.left or -np.inf, self.top or -np.inf]
        most = [self.right if self.right < shape[1] else np.inf, self.bottom if self.bottom < shape[0] else np.inf]
        return np.asarray(((low >= least) & (high <= most)).all(axis=1), np.bool_)


class BlazeFace:
    """Faces by BlazeFace short range, made for selfies and webcams.

    The frame is fitted into 128x128 pixels, its middle to the square's middle, black around it, as MediaPipe does.
    That finds faces from about 15 % of the frame's longer side on. Only where it finds none, a second look takes
    the two ends of an oblong frame as two pictures in one run: from about 11 % on at 4:3, 9 % at 16:9, where
    someone at arm's length from a laptop is no larger. That the first look finds the largest face does not mean that it
    finds the others, so where several are wanted both looks are always taken, `for_several`: 2.9 ms for 1.2 ms.

    Overlapping candidates are averaged with their scores as weights (the paper's section 3.4), which keeps the box
    steady from frame to frame. Key points 3 to 5 are the middle of the mouth and the ears (tragions), the picture's
    left one first. It holds no state: threads share one instance as far as they may share the runner.
    """

    name = "blazeface"

    def __init__(
        self, run: BlazeFaceRunner, *, min_score: float = 0.5, blend_iou: float = 0.3, second_look: bool = True
    ) -> None:
        """Take the network ``run``; ``min_score`` 0..1 (exclusive) and ``blend_iou`` are MediaPipe's by default."""
        self._run = run
        self._min_logit = float(np.log(min_score / (1 - min_score)))
        self._blend_iou = blend_iou
        self._second_look = second_look
        self._looks_twice = False

    def for_several(self) -> BlazeFace:
        """The same detector, which takes the second look where the first has found a face, too."""
        twice = copy(self)
        twice._looks_twice = self._second_look  # noqa: SLF001 - one of its own
        return twice

    def detect(self, gray: NDArray[np.uint8]) -> list[Face]:
        """Find the faces of ``gray``, uint8 [height, width], largest first, with six key points each."""
        if not gray.size:
            return []
        height, width = gray.shape
        whole = Tile(0, 0, height, width)
        candidates, scores = self._look(gray, [whole, *tiles(height, width)] if self._looks_twice else [whole])
        if not len(scores) and self._second_look and not self._looks_twice:
            candidates, scores = self._look(gray, tiles(height, width))
        return largest_first(_face(row, score) for row, score in blend(candidates, scores, self._blend_iou))

    def _look(self, gray: NDArray[np.uint8], parts: list[Tile]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Candidates of all ``parts`` in pixels of the frame, as ``decode`` gives them, from one run."""
        if not parts:
            return np.empty((0, 8, 2), np.float32), np.empty(0, np.float32)
        fitted = [letterbox(gray[part.top : part.bottom, part.left : part.right]) for part in parts]
        regressions, logits = self._run(np.stack([image for image, _ in fitted])[:, np.newaxis])
        found = []
        for index, part in enumerate(parts):
            candidates, scores = decode(regressions[index], logits[index], self._min_logit)
            factor, offset = fitted[index][1]
            candidates *= factor
            candidates[:, _PLACES] += offset + np.array([part.left, part.top], np.float32)
            whole = part.shows_whole(candidates, gray.shape)
            found.append((candidates[whole], scores[whole]))
        return np.concatenate([rows for rows, _ in found]), np.concatenate([scores for _, scores in found])


def tiles(height: int, width: int) -> list[Tile]:
    """Cover an oblong frame with two overlapping tiles, near to square, of 60 % of its longer side or more.

    They share a fifth of the longer side or more, so a face too small for the first look lies whole in one of them.
    A frame of less than 256 pixels gives none, since enlarging it shows nothing new, nor does a square one: four
    tiles would cost five times the first look on every frame without a face.
    """
    longer, shorter = max(height, width), min(height, width)
    side = max(round(_TILE_SHARE * longer), shorter)
    if longer < 2 * _SIDE or side == longer:
        return []
    end = Tile(max(0, height - side), max(0, width - side), height, width)
    return [Tile(0, 0, min(side, height), min(side, width)), end]


def letterbox(gray: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Fit ``gray``, uint8 [height, width], into uint8 [128, 128] with black borders.

    Returns the picture and float32 [2, 2]: rows factor and offset, columns x and y, such that a point p of the
    picture (0..128) lies at p * factor + offset in the frame.
    """
    times = halvings(max(gray.shape) / _SIDE)
    cell = 2**times
    small = halve(gray, times)
    height, width = small.shape
    scale = _SIDE / max(height, width)
    new_w, new_h = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (_SIDE - new_w) // 2, (_SIDE - new_h) // 2
    image = np.zeros((_SIDE, _SIDE), np.uint8)
    image[top : top + new_h, left : left + new_w] = cv2.resize(small, (new_w, new_h))
    factor = np.array([cell * width / new_w, cell * height / new_h], np.float32)
    return image, np.stack([factor, -factor * np.array([left, top], np.float32)])


def decode(
    regressions: NDArray[np.float32], logits: NDArray[np.float32], min_logit: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Turn the network's outputs for one picture into candidate faces.

    ``regressions`` float32 [896, 16] are offsets from the anchors' centres in pixels of the 128x128 picture,
    ``logits`` float32 [896]. Only anchors over ``min_logit`` are decoded: a dozen of 896. Returns float32 [k, 8, 2]
    (centre, size, six key points) in pixels of that picture, and scores float32 [k] in 0..1.
    """
    chosen = np.flatnonzero(logits > min_logit)
    candidates = regressions[chosen].reshape(-1, 8, 2) + _ANCHORS[chosen]
    scores = 1 / (1 + np.exp(-np.minimum(logits[chosen], _SCORE_LIMIT)))
    usable = (candidates[:, 1] > 0).all(axis=1) & np.isfinite(candidates).all(axis=(1, 2))
    return candidates[usable], scores[usable]


def blend(
    candidates: NDArray[np.float32], scores: NDArray[np.float32], min_iou: float
) -> list[tuple[NDArray[np.float32], float]]:
    """Average candidates that overlap the most certain one left by more than ``min_iou``, until none is left.

    Takes what ``decode`` gives; returns (float32 [8, 2], best score) a face, most certain first.
    """
    order = np.argsort(-scores, kind="stable")
    candidates, scores = candidates[order], scores[order]
    low = candidates[:, 0] - candidates[:, 1] / 2
    high = low + candidates[:, 1]
    area = candidates[:, 1].prod(axis=1)
    flat = candidates.reshape(-1, 16)
    left = np.ones(len(scores), np.bool_)
    faces = []
    while left.any():
        best = int(left.argmax())
        shared = np.maximum(np.minimum(high, high[best]) - np.maximum(low, low[best]), 0).prod(axis=1)
        same = left & (shared > min_iou * (area + area[best] - shared))
        same[best] = True
        weights = scores[same] / scores[same].sum()
        faces.append(((weights @ flat[same]).reshape(8, 2), float(scores[best])))
        left &= ~same
    return faces


def _face(row: NDArray[np.float32], score: float) -> Face:
    """One face from a row [8, 2] in pixels of the frame."""
    (x, y), (w, h) = row[:2].tolist()
    return Face(Box(x - w / 2, y - h / 2, w, h), score, row[2:])


def _anchors() -> NDArray[np.float32]:
    """What is added to each anchor's 8 pairs: its centre, except to the size; float32 [896, 8, 2], in pixels."""
    centers = []
    for cells, per_cell in _GRIDS:
        middles = (np.arange(cells, dtype=np.float32) + 0.5) * (_SIDE / cells)
        grid = np.stack(np.meshgrid(middles, middles), axis=-1)  # [row, column, (x, y)]
        centers.append(grid.reshape(-1, 2).repeat(per_cell, axis=0))
    anchors = np.repeat(np.concatenate(centers)[:, np.newaxis], 8, axis=1)
    anchors[:, 1] = 0
    return anchors


_ANCHORS = _anchors()
