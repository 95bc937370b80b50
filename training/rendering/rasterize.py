"""A z-buffer in numpy: all triangles of a frame at once, no loop over them.

Each triangle that faces the viewer is expanded to the pixels of its bounding box; a barycentric test keeps the pixels
whose centre it covers, and of those candidates the nearest one wins its pixel (Pineda, "A parallel algorithm for
polygon rasterization", 1988). Meant for triangles of a few pixels: a large one costs its whole bounding box.
"""

import numpy as np
from numpy.typing import NDArray

from training.rendering.geometry import Floats, Ints


def rasterize(points: Floats, triangles: Ints, values: Floats, side: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Draw ``values`` float32 [v], interpolated over each triangle, into a picture of ``side`` x ``side`` pixels.

    ``points`` float32 [v, 3]: x right and y down in pixels from the picture's corner, z towards the viewer. A triangle
    is seen from the side from which its corners run anticlockwise. Returns the picture float32 [side, side], 0 where
    nothing is, and which pixels are covered, bool [side, side].
    """
    planes, boxes = _seen(points, triangles, values, side)
    of, column, row = _candidates(boxes)
    x, y = column.astype(np.float32), row.astype(np.float32)
    first, second = (_at(planes[k : k + 3], of, x, y) for k in (0, 3))
    inside = np.flatnonzero((first >= 0) & (second >= 0) & (first + second <= 1))
    of, x, y = of[inside], x[inside], y[inside]
    depth = _at(planes[6:9], of, x, y)
    pixel = row[inside] * side + column[inside]
    nearest = np.full(side * side, -np.inf, np.float32)
    np.maximum.at(nearest, pixel, depth)
    won = np.flatnonzero(depth == nearest[pixel])
    picture = np.zeros(side * side, np.float32)
    picture[pixel[won]] = _at(planes[9:], of[won], x[won], y[won])
    return picture.reshape(side, side), np.isfinite(nearest).reshape(side, side)


def _at(plane: Floats, of: Ints, x: Floats, y: Floats) -> Floats:
    """Values float32 [n] of the functions float32 [3, t] of triangles ``of`` at pixels (x, y)."""
    a, b, c = plane
    value: Floats = np.take(a, of) * x + np.take(b, of) * y + np.take(c, of)
    return value


def _seen(points: Floats, triangles: Ints, values: Floats, side: int) -> tuple[Floats, Ints]:
    """Keep the triangles that face the viewer and touch a pixel's centre's box.

    Returns four functions a*x + b*y + c of the pixel (x, y), float32 [12, t]: the weights of the first and second
    corner, the depth and the value; and the pixels to try, int64 [4, t]: left, top, columns, rows.
    """
    # Pixel (0, 0) has its centre at (0.5, 0.5): taken off here, so that below a pixel's number is its centre's place.
    across, down = points[:, 0] - np.float32(0.5), points[:, 1] - np.float32(0.5)
    (ax, bx, cx), (ay, by, cy) = across[triangles.T], down[triangles.T]
    front = np.flatnonzero((bx - cx) * (ay - cy) - (ax - cx) * (by - cy) > 1e-6)
    (ax, bx, cx), (ay, by, cy) = ((c[front] for c in each) for each in ((ax, bx, cx), (ay, by, cy)))
    left, right = np.ceil(np.minimum(np.minimum(ax, bx), cx)), np.floor(np.maximum(np.maximum(ax, bx), cx))
    top, bottom = np.ceil(np.minimum(np.minimum(ay, by), cy)), np.floor(np.maximum(np.maximum(ay, by), cy))
    left, top = np.maximum(left, 0), np.maximum(top, 0)
    right, bottom = np.minimum(right, side - 1), np.minimum(bottom, side - 1)
    hit = np.flatnonzero((right >= left) & (bottom >= top))
    kept = front[hit]
    (ax, bx, cx), (ay, by, cy) = ((c[hit] for c in each) for each in ((ax, bx, cx), (ay, by, cy)))
    area = (bx - cx) * (ay - cy) - (ax - cx) * (by - cy)
    boxes = np.stack([each[hit].astype(np.int64) for each in (left, top, right - left + 1, bottom - top + 1)])
    # Barycentric weights by Cramer's rule; the third corner's is what is left of 1.
    first = ((cy - by) / area, (bx - cx) / area)
    second = ((ay - cy) / area, (cx - ax) / area)
    weights = [(*each, -(each[0] * cx + each[1] * cy)) for each in (first, second)]
    planes = [*weights[0], *weights[1]]
    for corner in (points[:, 2], values):
        a, b, c = corner[triangles[kept].T]
        planes += [(a - c) * u + (b - c) * v for u, v in zip(*weights, strict=True)]
        planes[-1] = planes[-1] + c
    return np.stack(planes).astype(np.float32), boxes


def _candidates(boxes: Ints) -> tuple[Ints, Ints, Ints]:
    """Every pixel of every box: the box's number, x and y, each int64 [n]."""
    left, top, columns, rows = boxes
    count = columns * rows
    of = np.repeat(np.arange(len(count)), count)
    place = np.arange(len(of)) - np.take(np.cumsum(count) - count, of)
    # Whole division by an array is slow; half a pixel keeps the rounding of a quotient away from the next row.
    row = ((place + 0.5) * np.take(1 / columns, of)).astype(np.int64)
    column = place - row * np.take(columns, of)
    return of, np.take(left, of) + column, np.take(top, of) + row
