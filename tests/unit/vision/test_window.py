from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.vision.boxes import Box
from service.vision.crop import CROP_SIDE
from service.vision.window import FRAMES, Stride, Window

FACE = Box(100, 80, 60, 60)
ELSEWHERE = Box(400, 80, 60, 60)
INTERVAL_US = 40_000


def crop(mark: int) -> NDArray[np.uint8]:
    """A crop of one gray level."""
    return np.full((CROP_SIDE, CROP_SIDE), mark, np.uint8)


def window_of(count: int) -> Window:
    """A window with crops 0, 1, ... of one face, 40 ms apart from 0 s on."""
    window = Window(gap_reset_s=1.0)
    for mark in range(count):
        window.push(crop(mark), FACE, mark * 0.04)
    return window


def marks(window: Window) -> list[int]:
    """The gray levels of a full window."""
    return [int(crop[0, 0]) for crop in window.crops()]


class TestWindow:
    def test_fills(self) -> None:
        """Each crop of one motion leaves one less to go, and a full window stays full."""
        assert [window_of(count).frames_needed for count in range(7)] == [5, 4, 3, 2, 1, 0, 0]

    def test_newest_five_in_order(self) -> None:
        """The window holds the newest five crops, oldest first, each uint8 [48, 48]."""
        crops = window_of(8).crops()
        assert [(crop.dtype, crop.shape) for crop in crops] == [(np.uint8, (CROP_SIDE, CROP_SIDE))] * FRAMES
        assert [crop[0, 0] for crop in crops] == [3, 4, 5, 6, 7]

    def test_taken_crops_stay(self) -> None:
        """What was taken does not change with the next crop."""
        window = window_of(5)
        before = window.crops()
        window.push(crop(9), FACE, 0.2)
        assert [crop[0, 0] for crop in before] == [0, 1, 2, 3, 4]
        assert marks(window) == [1, 2, 3, 4, 9]

    def test_not_full(self) -> None:
        """A window with crops missing cannot be taken."""
        with pytest.raises(AssertionError):
            window_of(4).crops()

    @pytest.mark.parametrize(("gap_s", "needed"), [(0.99, 0), (1.0, 0), (1.001, 4), (60.0, 4)])
    def test_gap(self, gap_s: float, needed: int) -> None:
        """A gap over the limit empties the window of all but the new crop; the limit itself does not."""
        window = Window(gap_reset_s=1.0)
        for mark in range(5):
            window.push(crop(mark), FACE, float(mark) / 32)
        window.push(crop(5), FACE, 4 / 32 + gap_s)
        assert needed == window.frames_needed

    def test_gap_is_between_neighbours(self) -> None:
        """Frames each within the limit fill the window however long they last together."""
        window = Window(gap_reset_s=1.0)
        for mark in range(5):
            window.push(crop(mark), FACE, mark * 0.9)
        assert marks(window) == [0, 1, 2, 3, 4]

    def test_time_goes_back(self) -> None:
        """A capture time before the last one begins a new motion."""
        window = window_of(5)
        window.push(crop(5), FACE, 0.1)
        assert window.frames_needed == 4

    def test_same_time(self) -> None:
        """Two frames of one capture time are one motion."""
        window = window_of(4)
        window.push(crop(4), FACE, 0.12)
        assert window.frames_needed == 0

    def test_gap_keeps_the_face(self) -> None:
        """The face that is in its place again after a gap keeps its id."""
        window = window_of(5)
        window.push(crop(5), FACE, 30.0)
        assert window.face_id == 0

    def test_other_face(self) -> None:
        """A box elsewhere is another face: it gets the next id, and no crop of the one before."""
        window = window_of(5)
        window.push(crop(5), ELSEWHERE, 0.2)
        assert (window.face_id, window.frames_needed) == (1, 4)
        for mark in range(6, 10):
            window.push(crop(mark), ELSEWHERE, mark * 0.04)
        assert marks(window) == [5, 6, 7, 8, 9]

    def test_another_at_the_same_place(self) -> None:
        """Who is known to be another gets the next id, and no crop of the one before, wherever they are."""
        window = window_of(5)
        window.push(crop(5), FACE, 0.2, is_another=True)
        assert (window.face_id, window.frames_needed) == (1, 4)

    def test_faces_in_turn(self) -> None:
        """A box that jumps to and fro never fills a window, and no id is given twice."""
        window = Window(gap_reset_s=1.0)
        ids = []
        for index in range(6):
            window.push(crop(index), (FACE, ELSEWHERE)[index % 2], index * 0.04)
            ids.append(window.face_id)
            assert window.frames_needed == 4
        assert ids == [0, 1, 2, 3, 4, 5]

    def test_moving_face(self) -> None:
        """A face that crosses the picture in small steps stays one face."""
        window = Window(gap_reset_s=1.0)
        for index in range(30):
            window.push(crop(index), Box(10.0 * index, 80, 60, 60), index * 0.04)
        assert (window.face_id, window.frames_needed) == (0, 0)

    def test_clear(self) -> None:
        """A cleared window needs all its crops again and keeps the face's id."""
        window = window_of(5)
        window.push(crop(5), ELSEWHERE, 0.2)
        window.clear()
        assert (window.face_id, window.frames_needed) == (1, 5)


def taken(stride: Stride, captured_us: Iterable[int | None]) -> list[int]:
    """Which of the frames, by their place, the window takes."""
    return [index for index, time_us in enumerate(captured_us) if stride.takes(time_us)]


class TestStrideByCount:
    @pytest.mark.parametrize("stride", [1, 2, 3, 4, 5])
    def test_every_nth(self, stride: int) -> None:
        """Without capture times every n-th frame is taken, the first one included."""
        assert list(range(0, 20, stride)) == taken(Stride(stride), [None] * 20)


class TestStrideByCaptureTime:
    @pytest.mark.parametrize("stride", [1, 2, 3, 4, 5])
    def test_steady(self, stride: int) -> None:
        """Frames of a steady source are taken as by count."""
        assert list(range(0, 60, stride)) == taken(Stride(stride), range(0, 60 * INTERVAL_US, INTERVAL_US))

    def test_stride_of_one_takes_all(self) -> None:
        """With a stride of one every frame is taken, whatever its capture time."""
        assert taken(Stride(1), [5, 5, 3, 1_000_000]) == [0, 1, 2, 3]

    @pytest.mark.parametrize("stride", [2, 3])
    def test_dropped_frames(self, stride: int) -> None:
        """Where frames are lost on the way the taken ones still lie as close to their places as they can."""
        sent = [index for index in range(120) if index % 10 != 4 * (index // 10 % 2)]
        frames = [sent[place] for place in taken(Stride(stride), [index * INTERVAL_US for index in sent])]
        steps = np.diff(frames)
        assert steps.min() >= stride
        assert steps.max() <= stride + 1
        by_count = np.diff(sent[::stride])
        assert (steps != stride).sum() < (by_count != stride).sum()

    def test_one_dropped_frame(self) -> None:
        """By count a lost frame would shift and stretch the window; by time the next due frame is taken."""
        sent = [0, 1, 2, 3, 5, 6, 7, 8]
        places = taken(Stride(2), [index * INTERVAL_US for index in sent])
        assert [sent[place] for place in places] == [0, 2, 5, 7]

    @settings(max_examples=100, derandomize=True, deadline=None)
    @given(st.integers(2, 5), st.lists(st.integers(-9_000, 9_000), min_size=60, max_size=60))
    def test_jitter(self, stride: int, jitter_us: list[int]) -> None:
        """Capture times that shake by up to a fifth of an interval shift no window by more than one frame."""
        times_us = [1_000_000 + index * INTERVAL_US + shake for index, shake in enumerate(jitter_us)]
        steps = np.diff(taken(Stride(stride), times_us))
        assert steps.min() >= stride - 1
        assert steps.max() <= stride + 1
        assert abs(steps.mean() - stride) < 0.5

    def test_small_jitter(self) -> None:
        """Capture times that shake by a few milliseconds, as a webcam's do, take every second frame exactly."""
        rng = np.random.default_rng(3)
        times_us = [index * INTERVAL_US + int(rng.integers(-3000, 3000)) for index in range(60)]
        assert list(range(0, 60, 2)) == taken(Stride(2), times_us)

    def test_restart(self) -> None:
        """A source whose clock begins anew is taken from its first frame on."""
        times_us = [*range(10**9, 10**9 + 5 * INTERVAL_US, INTERVAL_US), *range(0, 5 * INTERVAL_US, INTERVAL_US)]
        assert taken(Stride(2), times_us) == [0, 2, 4, 5, 7, 9]

    def test_pause(self) -> None:
        """After a pause of the source the next frame is taken, and then every second one as before."""
        times_us = [index * INTERVAL_US + (10**7 if index >= 7 else 0) for index in range(14)]
        assert taken(Stride(2), times_us) == [0, 2, 4, 6, 7, 9, 11, 13]

    def test_same_time_twice(self) -> None:
        """A frame of the capture time that was just taken is not taken again."""
        assert taken(Stride(2), [1000, 1000, 1000]) == [0]

    def test_change_of_rate(self) -> None:
        """A source that halves its rate is followed within a few frames: every second of what it sends then."""
        stride = Stride(2)
        taken(stride, range(0, 20 * INTERVAL_US, INTERVAL_US))
        slow = range(21 * INTERVAL_US, 81 * INTERVAL_US, 2 * INTERVAL_US)
        assert {2} == set(np.diff(taken(stride, slow)[-8:]).tolist())
