"""The crop: which square, at which size, with what at the border."""

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from service.vision.boxes import Box
from service.vision.crop import CROP_SIDE, CropGeometry, crop_face, crop_square, crop_whole

PLAIN = CropGeometry()


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    """A gray photograph, 512x512."""
    return np.ascontiguousarray(data.astronaut()[..., 1])


def ramp(height: int, width: int) -> NDArray[np.uint8]:
    """A frame whose gray value is its column, so that a crop tells where it was cut."""
    return np.tile(np.arange(width, dtype=np.uint8), (height, 1))


def exact_mean(gray: NDArray[np.uint8], region: Box) -> NDArray[np.float64]:
    """The area mean of every crop pixel, edges repeated, computed the slow way."""

    def weights(start: float, length: int) -> NDArray[np.float64]:
        step = region.w / CROP_SIDE
        matrix = np.zeros((CROP_SIDE, length))
        for row in range(CROP_SIDE):
            low, high = start + row * step, start + (row + 1) * step
            for column in range(int(np.floor(low)), int(np.ceil(high))):
                share = (min(high, column + 1) - max(low, column)) / step
                matrix[row, min(max(column, 0), length - 1)] += share
        return matrix

    return weights(region.y, gray.shape[0]) @ gray @ weights(region.x, gray.shape[1]).T


def test_region_is_a_square_around_the_moved_centre() -> None:
    """The square's side is scale times the box's mean side, moved by dx and dy of its own side."""
    region = CropGeometry(scale=2.0, dx=0.25, dy=-0.5).region(Box(100, 100, 30, 50))

    assert region == Box(115 + 0.25 * 80 - 40, 125 - 0.5 * 80 - 40, 80, 80)


def test_plain_geometry_crops_the_box_itself() -> None:
    """Scale 1 without a shift is the box, if it is square."""
    assert PLAIN.region(Box(3.5, 4.25, 20, 20)) == Box(3.5, 4.25, 20, 20)


def test_48_pixels_at_whole_places_are_copied(photo: NDArray[np.uint8]) -> None:
    """A square of 48 whole pixels comes back bit for bit."""
    crop = crop_face(photo, Box(200, 90, 48, 48), PLAIN)

    np.testing.assert_array_equal(crop, photo[90:138, 200:248])


@pytest.mark.parametrize("side", [0.3, 1, 7, 48, 49.5, 96, 130, 200, 500, 5000])
def test_crop_is_48_by_48_bytes(photo: NDArray[np.uint8], side: float) -> None:
    """Whatever the box's size, the crop is uint8 [48, 48]."""
    crop = crop_face(photo, Box(225 - side / 2, 115 - side / 2, side, side), PLAIN)

    assert crop.shape == (48, 48)
    assert crop.dtype == np.uint8


@pytest.mark.parametrize("shift", [0.25, 0.5, 0.75])
def test_place_is_kept_to_a_fraction_of_a_pixel(shift: float) -> None:
    """Moving the box by a part of a pixel moves the picture by as much."""
    frame = np.tile(np.arange(0, 200, 4, dtype=np.uint8), (50, 1)).repeat(2, axis=0)

    still = crop_face(frame, Box(1, 1, 48, 48), PLAIN).astype(np.float64)
    moved = crop_face(frame, Box(1 + shift, 1, 48, 48), PLAIN).astype(np.float64)

    np.testing.assert_allclose((moved - still)[:, :46], 4 * shift, atol=0.5)


@pytest.mark.parametrize("side", [60.0, 96.0, 150.4, 191.0])
def test_shrinking_averages_over_the_area(photo: NDArray[np.uint8], side: float) -> None:
    """A shrunk crop is the area mean to about a gray level, so that nothing flickers as a face moves."""
    region = Box(150.3, 40.8, side, side)

    error = crop_square(photo, region) - exact_mean(photo, region)

    assert np.sqrt(np.mean(error**2)) < 1.5


@pytest.mark.parametrize("side", [193.0, 300.0, 390.5])
def test_large_squares_keep_their_place(photo: NDArray[np.uint8], side: float) -> None:
    """A square that is halved beforehand still shows the area mean of the same place."""
    region = Box(60.7, 33.1, side, side)

    error = crop_square(photo, region) - exact_mean(photo, region)

    assert np.sqrt(np.mean(error**2)) < 4
    assert abs(error.mean()) < 0.2


def test_enlarging_is_smooth_between_pixels() -> None:
    """A small face is enlarged with values between those of its pixels."""
    crop = crop_face(ramp(40, 40), Box(10, 10, 12, 12), PLAIN).astype(np.int64)

    assert (np.diff(crop, axis=1) >= 0).all()
    assert np.diff(crop, axis=1).max() <= 1
    assert (crop.min(), crop.max()) == (10, 21)


def test_fine_stripes_become_gray_when_shrunk() -> None:
    """Detail too fine for 48 pixels is averaged, not aliased."""
    stripes = np.tile(np.array([0, 200], np.uint8), (480, 240))

    crop = crop_face(stripes, Box(0, 0, 480, 480), PLAIN)

    np.testing.assert_allclose(crop.astype(np.float64), 100, atol=2)


def test_large_squares_repeat_the_halved_edge() -> None:
    """A square that is halved beforehand repeats the mean of the frame's last few pixels."""
    crop = crop_face(ramp(250, 250), Box(-500, 0, 500, 500), PLAIN)

    np.testing.assert_allclose(crop, 1.5, atol=1)


def test_border_repeats_the_edge() -> None:
    """Where the square leaves the frame, the frame's last pixels go on."""
    frame = ramp(100, 100)

    crop = crop_face(frame, Box(-24, -24, 48, 48), PLAIN)

    np.testing.assert_array_equal(crop[:, :24], 0)
    np.testing.assert_array_equal(crop[:, 24:], np.tile(np.arange(24), (48, 1)))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (Box(500, 10, 30, 30), 99),
        (Box(-500, 10, 30, 30), 0),
        (Box(1e9, -1e9, 190, 190), 99),
        (Box(-1e9, 1e9, 190, 190), 0),
    ],
)
def test_a_box_outside_of_the_frame_shows_its_nearest_edge(box: Box, expected: int) -> None:
    """A box that misses the frame gives the edge's value throughout."""
    np.testing.assert_array_equal(crop_face(ramp(100, 100), box, PLAIN), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3), (47, 49), (100, 4000)])
@pytest.mark.parametrize("side", [0.01, 10.0, 250.0, 1e7])
def test_odd_frames_and_boxes_are_cropped(shape: tuple[int, int], side: float) -> None:
    """Frames of any shape and boxes of any size give a crop; an even frame gives an even one."""
    frame = np.full(shape, 77, np.uint8)

    np.testing.assert_array_equal(crop_face(frame, Box(0.4, 0.4, side, side), PLAIN), 77)


@pytest.mark.parametrize(
    "box", [Box(0, 0, 0, 0), Box(0, 0, -4, -4), Box(float("nan"), 0, 9, 9), Box(0, float("inf"), 9, 9)]
)
def test_a_box_that_is_no_place_is_refused(box: Box) -> None:
    """A box without size or with a number that is not finite is an error of the caller."""
    with pytest.raises(ValueError, match="cannot crop"):
        crop_face(ramp(50, 50), box, PLAIN)


def test_an_empty_frame_is_refused() -> None:
    """There is nothing to crop from an empty frame."""
    with pytest.raises(ValueError, match="cannot crop"):
        crop_whole(np.empty((0, 5), np.uint8))


def test_whole_pictures_of_48_pixels_pass_unchanged(photo: NDArray[np.uint8]) -> None:
    """A training picture of 48x48 is its own crop."""
    picture = photo[80:128, 200:248]

    np.testing.assert_array_equal(crop_whole(picture), picture)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_squares_on_whole_pixels_take_a_short_cut_to_the_same_crop(photo: NDArray[np.uint8], factor: int) -> None:
    """Where the square needs no sample between pixels its crop is that of the general way, to the bit."""
    square = Box(20.0, 10.0, 48.0 * factor, 48.0 * factor)
    moved = Box(20.0 + 1e-9, *square[1:])  # not on whole pixels, and nowhere else
    assert (crop_square(photo, square) == crop_square(photo, moved)).all()


def test_whole_takes_the_centre_square(photo: NDArray[np.uint8]) -> None:
    """An oblong picture is cut to its middle before it is squeezed."""
    np.testing.assert_array_equal(crop_whole(photo[:96, 50:246]), crop_whole(photo[:96, 100:196]))


def test_crop_leaves_the_frame_alone(photo: NDArray[np.uint8]) -> None:
    """A crop is a copy: writing to it does not change the frame."""
    frame = photo.copy()

    crop_face(frame, Box(200, 90, 48, 48), PLAIN)[:] = 0

    np.testing.assert_array_equal(frame, photo)


def test_views_are_cropped_like_copies(photo: NDArray[np.uint8]) -> None:
    """A frame that is a view into a larger picture needs no copy."""
    view = photo[10:300, 20:400]

    np.testing.assert_array_equal(
        crop_face(view, Box(170.5, 60.2, 90, 90), PLAIN),
        crop_face(np.ascontiguousarray(view), Box(170.5, 60.2, 90, 90), PLAIN),
    )
