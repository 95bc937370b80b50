"""The detectors: what they find, what they make of odd frames, and that threads may share them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from service.vision.boxes import Box, iou
from service.vision.detect import BlazeFace, Detector, Face, Haar, YuNet
from service.vision.detect.blazeface import Tile, blend, decode, letterbox, tiles
from service.vision.detect.face import largest_first

ASTRONAUT = Box(181, 75, 93, 98)
ODD_SHAPES = [(1, 1), (1, 700), (700, 1), (2, 3), (16, 16), (23, 24), (100, 4000), (4000, 100), (0, 0), (0, 9)]


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    """One smiling face, gray, 512x512."""
    return np.ascontiguousarray(data.astronaut()[..., 1])


class FakeNetwork:
    """Answers like BlazeFace with the same faces in every picture, and keeps the pictures it saw.

    A face is (cell x, cell y, side in pixels of 128, logit) on the 16x16 grid of two anchors a cell.
    """

    def __init__(self, *faces: tuple[int, int, float, float]) -> None:
        self.faces = faces
        self.seen: list[NDArray[np.uint8]] = []

    def __call__(self, images: NDArray[np.uint8], /) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See BlazeFaceRunner."""
        self.seen.append(images)
        regressions = np.zeros((len(images), 896, 16), np.float32)
        logits = np.full((len(images), 896), -50, np.float32)
        for index, (column, row, side, logit) in enumerate(self.faces):
            anchor = 2 * (16 * row + column) + index % 2
            regressions[:, anchor, 2:4] = side
            logits[:, anchor] = logit
        return regressions, logits


class EmptyAtFirst(FakeNetwork):
    """Finds nothing in the whole frame, and its faces in the first tile of the second look only."""

    def __call__(self, images: NDArray[np.uint8], /) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See BlazeFaceRunner."""
        regressions, logits = super().__call__(images)
        logits[1 if len(images) > 1 else 0 :] = -50
        return regressions, logits


def test_haar_finds_the_face(photo: NDArray[np.uint8]) -> None:
    """Haar finds the one face of a photograph, at any size of it."""
    for detector in (Haar(), Haar(max_side=200), Haar(max_side=10_000)):
        (face,) = detector.detect(photo)

        assert iou(face.box, ASTRONAUT) > 0.6
        assert 0 < face.score < 1
        assert face.keypoints is None


def test_yunet_needs_its_file(tmp_path: Path) -> None:
    """A missing file is told at start, not at the first frame."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        YuNet(tmp_path / "nowhere.onnx")


def test_yunet_refuses_another_file(tmp_path: Path) -> None:
    """A file that is no YuNet network is told at start, not at the first frame."""
    file = tmp_path / "text.onnx"
    file.write_text("not a network")

    with pytest.raises(ValueError, match="no YuNet network"):
        YuNet(file)


@pytest.mark.parametrize("shape", ODD_SHAPES)
@pytest.mark.parametrize("detector", [Haar(), BlazeFace(FakeNetwork())], ids=lambda detector: detector.name)
def test_odd_frames_have_no_face(detector: Detector, shape: tuple[int, int]) -> None:
    """Frames of any shape are answered with an empty list."""
    assert detector.detect(np.full(shape, 90, np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (100, 4000), (4000, 100), (480, 640)])
def test_blazeface_boxes_of_odd_frames_are_in_their_pixels(shape: tuple[int, int]) -> None:
    """A face in the middle of the network's picture is in the middle of the frame, and as large in proportion."""
    (face,) = BlazeFace(FakeNetwork((8, 8, 64, 3.0))).detect(np.zeros(shape, np.uint8))

    longer = max(shape)
    assert face.box.w == pytest.approx(longer / 2, rel=0.1)
    assert face.box.center[0] == pytest.approx(shape[1] / 2 + longer / 32, abs=longer / 100 + 0.5)


def test_a_face_larger_than_the_frame_keeps_its_box() -> None:
    """A box may reach over the frame's edges."""
    (face,) = BlazeFace(FakeNetwork((8, 8, 256, 3.0))).detect(np.zeros((128, 128), np.uint8))

    assert face.box == pytest.approx(Box(68 - 128, 68 - 128, 256, 256))


def test_letterbox_keeps_the_aspect_and_pads_black() -> None:
    """A wide frame fills the square's width and has black above and below."""
    image, _ = letterbox(np.full((480, 640), 200, np.uint8))

    assert image.shape == (128, 128)
    np.testing.assert_array_equal(image[16:112], 200)
    np.testing.assert_array_equal(image[:16], 0)
    np.testing.assert_array_equal(image[112:], 0)


@pytest.mark.parametrize("shape", [(480, 640), (288, 360), (721, 1283), (50, 90), (128, 128), (1283, 721)])
def test_letterbox_maps_back_to_the_frame(shape: tuple[int, int]) -> None:
    """A bright spot's place in the network's picture leads back to its place in the frame."""
    height, width = shape
    frame = np.zeros(shape, np.uint8)
    top, left, size = height // 3, width // 4, max(shape) // 8
    frame[top : top + size, left : left + size] = 255

    image, (factor, offset) = letterbox(frame)
    rows, columns = np.nonzero(image > 127)
    middle = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) * factor + offset

    np.testing.assert_allclose(middle, [left + size / 2, top + size / 2], atol=max(shape) / 128)


def test_decode_adds_the_anchor_to_all_but_the_size() -> None:
    """Centre and key points are relative to the anchor, width and height are not."""
    regressions, logits = FakeNetwork((3, 5, 20, 4.0))(np.zeros((1, 1, 128, 128), np.uint8))

    candidates, scores = decode(regressions[0], logits[0], 0.0)

    np.testing.assert_allclose(candidates[0, 1], [20, 20])
    np.testing.assert_allclose(candidates[0, [0, 2, 3, 4, 5, 6, 7]], np.tile([28, 44], (7, 1)))
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-4.0)), rtol=1e-6)
    assert candidates.dtype == scores.dtype == np.float32


def test_decode_places_the_coarse_anchors_on_the_8_by_8_grid() -> None:
    """The last 384 anchors are six in each cell of the coarse grid, row by row."""
    logits = np.full(896, -9, np.float32)
    logits[[512, 517, 518, 895]] = 9

    candidates, _ = decode(np.ones((896, 16), np.float32), logits, 0.0)

    np.testing.assert_allclose(candidates[:, 0], [[9, 9], [9, 9], [25, 9], [121, 121]])


def test_decode_leaves_nonsense_out() -> None:
    """Candidates without size, or with numbers that are not finite, are no faces."""
    regressions, logits = np.ones((896, 16), np.float32), np.full(896, -9, np.float32)
    logits[:5] = 500
    regressions[0, 2] = 0
    regressions[1, 3] = -4
    regressions[2, 0] = np.nan
    regressions[3, 9] = np.inf
    logits[5] = np.nan

    candidates, scores = decode(regressions, logits, 0.0)

    assert len(candidates) == 1
    np.testing.assert_allclose(scores, 1)


def test_blend_averages_by_score() -> None:
    """Candidates of one face are averaged with their scores as weights; the best score stays."""
    candidates = np.full((2, 8, 2), 40, np.float32)
    candidates[1] += 4

    ((row, score),) = blend(candidates, np.array([0.9, 0.6], np.float32), 0.3)

    np.testing.assert_allclose(row, 40 + 4 * 0.6 / 1.5, rtol=1e-6)
    assert score == pytest.approx(0.9)


def test_blend_keeps_faces_apart() -> None:
    """Candidates that do not overlap are different faces, most certain first."""
    candidates = np.full((3, 8, 2), 20, np.float32)
    candidates[1:, 0] = 90

    faces = blend(candidates, np.array([0.6, 0.9, 0.7], np.float32), 0.3)

    assert [score for _, score in faces] == pytest.approx([0.9, 0.6])


def test_blend_of_nothing_is_nothing() -> None:
    """Without candidates there is no face."""
    assert blend(np.empty((0, 8, 2), np.float32), np.empty(0, np.float32), 0.3) == []


def test_only_faces_over_the_score_count() -> None:
    """The least score is the caller's to set."""
    network = FakeNetwork((8, 8, 60, 0.0), (2, 2, 20, 1.0), (13, 13, 20, 3.0))

    assert len(BlazeFace(network, min_score=0.3).detect(np.zeros((128, 128), np.uint8))) == 3
    assert len(BlazeFace(network).detect(np.zeros((128, 128), np.uint8))) == 2
    assert len(BlazeFace(network, min_score=0.9).detect(np.zeros((128, 128), np.uint8))) == 1


def test_the_largest_face_comes_first() -> None:
    """Faces are sorted by area, whatever their score."""
    faces = [Face(Box(0, 0, 5, 5), 0.99), Face(Box(0, 0, 9, 9), 0.6), Face(Box(0, 0, 7, 7), 0.7)]

    assert [face.box.w for face in largest_first(faces)] == [9, 7, 5]


def test_a_found_face_needs_no_second_look() -> None:
    """Where the whole frame shows a face, the network runs once, on one picture."""
    network = FakeNetwork((8, 8, 60, 3.0))

    BlazeFace(network).detect(np.zeros((480, 640), np.uint8))

    assert [len(images) for images in network.seen] == [1]


def test_a_frame_without_a_face_is_looked_at_in_two_tiles() -> None:
    """A small face is found in a tile and its box is in pixels of the frame."""
    network = EmptyAtFirst((4, 8, 24, 3.0))

    (face,) = BlazeFace(network).detect(np.zeros((480, 640), np.uint8))

    assert [len(images) for images in network.seen] == [1, 2]
    assert face.box.w == pytest.approx(24 / 128 * 480, rel=0.01)
    assert face.box.center == pytest.approx((36 / 128 * 480, 68 / 128 * 480), rel=0.01)


def test_the_second_look_can_be_left_out() -> None:
    """Without the second look a frame costs one run at most."""
    network = FakeNetwork()

    BlazeFace(network, second_look=False).detect(np.zeros((480, 640), np.uint8))

    assert len(network.seen) == 1


@pytest.mark.parametrize(("height", "width"), [(480, 640), (720, 1280), (1280, 720), (100, 4000), (288, 360)])
def test_tiles_cover_the_frame_and_overlap(height: int, width: int) -> None:
    """Every pixel lies in a tile, and the two share a fifth of the longer side."""
    first, second = tiles(height, width)

    covered = np.zeros((height, width), np.int64)
    for tile in (first, second):
        covered[tile.top : tile.bottom, tile.left : tile.right] += 1
    assert covered.min() == 1
    assert (covered == 2).sum() >= 0.19 * height * width


@pytest.mark.parametrize(("height", "width"), [(100, 200), (512, 512), (1, 1)])
def test_small_and_square_frames_have_no_tiles(height: int, width: int) -> None:
    """Nothing is gained by a second look at a frame that is small, or square."""
    assert tiles(height, width) == []


def test_a_face_cut_by_an_inner_edge_does_not_count() -> None:
    """Half a face at a tile's inner edge is left to the other tile; one at the frame's edge counts."""
    tile = Tile(0, 0, 100, 100)
    candidates = np.full((3, 8, 2), 40, np.float32)
    candidates[:, 0] = [[50, 50], [90, 50], [5, 5]]

    np.testing.assert_array_equal(tile.shows_whole(candidates, (100, 160)), [True, False, True])


def test_threads_share_a_detector(photo: NDArray[np.uint8]) -> None:
    """Frames looked at in several threads at once give what one thread gives."""
    detector = Haar(max_side=200)
    frames = [np.ascontiguousarray(photo[: 300 + 10 * index]) for index in range(8)]
    expected = [[face.box for face in detector.detect(frame)] for frame in frames]

    with ThreadPoolExecutor(4) as pool:
        actual = [[face.box for face in faces] for faces in pool.map(detector.detect, frames)]

    assert actual == expected
