"""The z-buffer against a slow reference, and what hides what."""

import numpy as np
from numpy.typing import NDArray

from training.rendering.rasterize import rasterize


def slow(
    points: NDArray[np.float32], triangles: NDArray[np.int64], values: NDArray[np.float32], side: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Draw triangle by triangle and pixel by pixel, in float64."""
    picture, depth = np.zeros((side, side)), np.full((side, side), -np.inf)
    for triangle in triangles:
        a, b, c = points[triangle].astype(np.float64)
        matrix = np.array([[a[0], b[0], c[0]], [a[1], b[1], c[1]], [1, 1, 1]])
        if np.linalg.det(matrix) >= 0:  # clockwise as y points down is anticlockwise to the eye
            continue
        for y in range(side):
            for x in range(side):
                weights = np.linalg.solve(matrix, [x + 0.5, y + 0.5, 1])
                z = weights @ points[triangle, 2]
                if (weights >= 0).all() and z > depth[y, x]:
                    depth[y, x], picture[y, x] = z, weights @ values[triangle]
    return picture, np.isfinite(depth)


def test_many_triangles_are_drawn_as_the_slow_way_draws_them() -> None:
    """Coverage, hiding and interpolation are those of a loop over triangles and pixels, to float32's rounding."""
    chance = np.random.default_rng(3)
    points = chance.uniform(-4, 24, (60, 3)).astype(np.float32)
    triangles = chance.integers(0, 60, (40, 3))
    triangles = triangles[[len(set(each)) == 3 for each in triangles.tolist()]]
    values = chance.uniform(0, 255, 60).astype(np.float32)
    expected, covered = slow(points, triangles, values, 20)
    picture, seen = rasterize(points, triangles, values, 20)
    assert (picture.dtype, picture.shape) == (np.float32, (20, 20))
    assert 100 < covered.sum() < 400
    np.testing.assert_array_equal(seen, covered)
    np.testing.assert_allclose(picture, expected, atol=0.02)


FRONT, BACK = 5.0, 1.0
SQUARE = np.array([[2, 2], [2, 10], [10, 10], [10, 2]])  # anticlockwise to the eye, y down


def square(z: float, shift: int = 0) -> NDArray[np.float32]:
    return np.column_stack([SQUARE + shift, np.full(4, z)]).astype(np.float32)


HALVES = np.array([[0, 1, 2], [0, 2, 3]])


def test_what_is_in_front_hides_what_is_behind() -> None:
    """The nearer square is seen where two overlap, in whichever order they come."""
    points = np.concatenate([square(FRONT), square(BACK, shift=4)])
    values = np.repeat([200, 50], 4).astype(np.float32)
    for triangles in (np.concatenate([HALVES, HALVES + 4]), np.concatenate([HALVES + 4, HALVES])):
        picture, _ = rasterize(points, triangles, values, 16)
        assert (picture[3, 3], picture[8, 8], picture[12, 12], picture[0, 0]) == (200, 200, 50, 0)


def test_a_square_of_two_triangles_has_no_seam() -> None:
    """Pixels whose centre lies on a shared edge are covered, and no pixel outside is."""
    _, covered = rasterize(square(FRONT), HALVES, np.ones(4, np.float32), 16)
    expected = np.zeros((16, 16), bool)
    expected[2:10, 2:10] = True
    np.testing.assert_array_equal(covered, expected)


def test_a_triangle_seen_from_behind_is_not_drawn() -> None:
    """Turning the corners' order round makes a triangle vanish."""
    _, covered = rasterize(square(FRONT), HALVES[:, ::-1], np.ones(4, np.float32), 16)
    assert not covered.any()


def test_triangles_beyond_the_edge_are_cut_off() -> None:
    """A triangle that reaches over the picture is drawn inside it, one beyond it not at all."""
    _, covered = rasterize(square(FRONT, shift=9), HALVES, np.ones(4, np.float32), 16)
    assert covered.sum() == 5 * 5
    _, covered = rasterize(square(FRONT, shift=40), HALVES, np.ones(4, np.float32), 16)
    assert not covered.any()
