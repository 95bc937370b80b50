"""A face for the renderer's tests: half an ellipsoid of 500 triangles, with eyes, landmarks and named shapes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.rendering.expressions import ACTION_UNITS
from training.rendering.geometry import Region

Points = NDArray[np.float64]
WIDE, HIGH, DEEP = 7.5, 10.0, 8.0
EYE = np.array([3.1, 3.5])
MOUTH = np.array([0.0, -3.0])


def _on_face(xy: Points, lift: float = 0.0) -> Points:
    """Put points [n, 2] onto the ellipsoid, [n, 3]."""
    left = 1 - (xy[:, 0] / WIDE) ** 2 - (xy[:, 1] / HIGH) ** 2
    return np.column_stack([xy, DEEP * np.sqrt(np.maximum(left, 0)) + lift])


def _grid(center: Points, half: Points, n: int) -> tuple[Points, NDArray[np.int32]]:
    """N x n points [n*n, 2] about a center, and triangles that face the viewer."""
    line = np.linspace(-1, 1, n)
    across, up = np.meshgrid(line, line)
    number = np.arange(n * n).reshape(n, n)
    a, b, c, d = (each.ravel() for each in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]))
    triangles = np.concatenate([np.column_stack([a, b, c]), np.column_stack([a, c, d])]).astype(np.int32)
    return center + half * np.column_stack([across.ravel(), up.ravel()]), triangles


def _ring(center: Points, wide: float, high: float, n: int) -> Points:
    angle = np.pi - np.arange(n) * 2 * np.pi / n
    return center + np.column_stack([wide * np.cos(angle), high * np.sin(angle)])


def landmarks_2d() -> Points:
    """68 points [68, 2] in iBUG's order, those of jaw and nose just somewhere on their lines."""
    flip = np.array([-1.0, 1.0])
    brow = np.column_stack([np.linspace(-4.6, -1.4, 5), np.array([5.2, 5.6, 5.7, 5.6, 5.3])])
    return np.concatenate(
        [
            np.column_stack([np.linspace(-6, 6, 17), -7 + 5 * np.linspace(-1, 1, 17) ** 2]),
            brow,
            (brow * flip)[::-1],
            np.column_stack([np.zeros(4), np.linspace(3, 0, 4)]),
            np.column_stack([np.linspace(-1, 1, 5), np.full(5, -0.6)]),
            _ring(EYE * flip, 1.0, 0.4, 6),
            _ring(EYE, 1.0, 0.4, 6),
            _ring(MOUTH, 2.2, 0.8, 12),
            _ring(MOUTH, 1.8, 0.2, 8),
        ]
    )


def write_mesh(path: Path) -> Path:
    """Write the mesh in the packed form, with every shape that an action unit names."""
    face, tri = _grid(np.zeros(2), np.array([6.8, 6.8]), 17)
    parts, triangles, regions = [_on_face(face)], [tri], [np.full(len(face), Region.FACE)]
    for side in (-1, 1):
        eye, eye_tri = _grid(EYE * [side, 1], np.array([0.8, 0.35]), 5)
        triangles.append(eye_tri + sum(map(len, parts)))
        parts.append(_on_face(eye, lift=0.3))
        regions.append(np.full(len(eye), Region.EYE))
    marks = _on_face(landmarks_2d())
    first = sum(map(len, parts))
    neutral = np.concatenate([*parts, marks])
    names = sorted(
        {
            f"{name}{side}" if name.endswith("_") else name
            for unit in ACTION_UNITS.values()
            for name, _ in unit
            for side in ("LR" if name.endswith("_") else " ")
        }
        | {"eyeBlink_L", "eyeBlink_R"}
    )
    chance = np.random.default_rng(0)
    centers = neutral[chance.integers(0, len(neutral), len(names))]
    near = np.exp(-((np.linalg.norm(neutral[None] - centers[:, None], axis=2) / 2) ** 2))
    deltas = near[..., None] * chance.normal(size=(len(names), 1, 3))
    identity = 0.1 * neutral * chance.normal(size=(4, 1, 3))
    np.savez(
        path,
        neutral=neutral.astype(np.float32),
        tri=np.concatenate(triangles),
        expr=deltas.astype(np.float16),
        expr_names=np.array(names),
        ident=identity.astype(np.float16),
        landmarks=first + np.arange(68),
        regions=np.concatenate([*regions, np.full(68, Region.FACE)]).astype(np.uint8),
    )
    return path
