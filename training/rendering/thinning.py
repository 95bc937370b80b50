"""Make a mesh as coarse as its pictures, and find what of it lies in the dark."""

import numpy as np
from numpy.typing import NDArray

from training.rendering.geometry import Floats, Ints, Region
from training.rendering.rasterize import rasterize

# Sides of the cells, in parts of the distance between the eyes' centres: at the eyes and nostrils, where brows and
# mouth move, elsewhere on the face, and on what is behind it.
FINEST, FINE, MEDIUM, COARSE = 0.032, 0.053, 0.125, 0.2
TURNED_AWAY = -0.45  # a normal's part towards the viewer below which no turn of the head shows a triangle


def thin(points: Floats, tri: NDArray[np.int32], landmarks: Ints, regions: NDArray[np.uint8]) -> tuple[Ints, Ints]:
    """Cluster vertices in cubic cells; returns the vertices kept, int64 [v'], and triangles of them, int64 [t', 3].

    A cell's vertex nearest to the cell's mean stands for all of them (Rossignac & Borrel 1993), so each shape is
    thinned by picking rows. Cells are taken on ``points`` float32 [v, 3], the face with its mouth open: closed lips
    touch, and would grow together. Landmarks always stay, and regions never mix.
    """
    marks = points[landmarks]
    eyes = float(np.linalg.norm(marks[36:42].mean(0) - marks[42:48].mean(0)))
    to_mark = np.linalg.norm(points[:, None] - marks[17:], axis=2) / eyes
    cell = np.where(to_mark.min(1) < 0.25, FINE, MEDIUM)
    cell[to_mark[:, 14:31].min(1) < 0.14] = FINEST
    cell[~np.isin(regions, (Region.FACE, Region.EYE))] = COARSE
    cell[regions == Region.EYE] = FINE
    cell[np.isin(regions, (Region.TEETH, Region.SOCKET))] = MEDIUM
    cells = np.round(points / (cell * eyes)[:, None])
    keys = np.column_stack([cells, regions, np.round(cell * 1000)]).astype(np.int64)
    _, cluster = np.unique(keys, axis=0, return_inverse=True)
    cluster = cluster.reshape(-1)
    count = np.bincount(cluster)
    mean = np.stack([np.bincount(cluster, points[:, axis]) / count for axis in range(3)], axis=1)
    distance = np.linalg.norm(points - mean[cluster], axis=1)
    distance[landmarks] = -1
    order = np.lexsort((distance, cluster))
    first = order[np.concatenate([[0], np.cumsum(count)[:-1]])]
    stands_for = first[cluster]
    stands_for[landmarks] = landmarks
    corners = stands_for[tri[(regions[tri] != Region.HIDDEN).all(axis=1)]]
    a, b, c = (points[corners[:, corner]] for corner in range(3))
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1)
    whole = (length > 0) & (normals[:, 2] > TURNED_AWAY * length)
    kept = np.union1d(corners[whole], landmarks)
    return kept, np.searchsorted(kept, corners[whole])


SKY_SIDE = 128
SKY = [(right, up) for right in (-0.8, -0.4, 0.0, 0.4, 0.8) for up in (-0.3, 0.2, 0.7)]


def open_sky(points: Floats, triangles: Ints, eyes: float) -> Floats:
    """From how much of what is before the face each vertex is seen, float32 [v] in 0..1: nostrils and folds are dark.

    Ambient occlusion by depth maps: 15 parallel projections, in each of which a vertex is seen if it is not behind the
    nearest surface by more than a 16th of ``eyes``, the distance between them.
    """
    seen = np.zeros(len(points), np.float32)
    for right, up in SKY:
        along = points[:, 2] + right * points[:, 0] + up * points[:, 1]
        # Sheared rather than turned: lines along (right, up, 1) become lines along z.
        across, above = points[:, 0] - right * points[:, 2], points[:, 1] - up * points[:, 2]
        scale = (SKY_SIDE - 2) / max(np.ptp(across), np.ptp(above))
        x, y = 1 + (across - across.min()) * scale, 1 + (above.max() - above) * scale
        depth, covered = rasterize(np.stack([x, y, along], axis=1).astype(np.float32), triangles, along, SKY_SIDE)
        nearest = np.where(covered, depth, -np.inf)[y.astype(int), x.astype(int)]
        seen += along > nearest - eyes / 16
    return seen / np.float32(len(SKY))
