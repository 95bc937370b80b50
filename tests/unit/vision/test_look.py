from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from service.errors import BadImage, ImageTooLarge
from service.vision.boxes import Box
from service.vision.crop import CropGeometry, crop_face, crop_whole
from service.vision.decode import decode_gray
from service.vision.detect import Face
from service.vision.look import Look, Sighting, StageTimes
from tests.conftest import jpeg
from tests.fakes import FixedDetector, ManualClock

PICTURE = jpeg(data.camera()[:240, :320])
GRAY = decode_gray(PICTURE, max_bytes=10**6, max_pixels=10**6)
LARGE, SMALL = Box(60.5, 40.25, 100, 120), Box(200, 20, 30, 30)


class SlowDetector(FixedDetector):
    """Takes 30 ms by the clock it was given, and remembers what it looked at."""

    def __init__(self, clock: ManualClock, *boxes: Box) -> None:
        super().__init__(*boxes)
        self.clock = clock
        self.looked_at: list[NDArray[np.uint8]] = []

    def detect(self, gray: NDArray[np.uint8]) -> list[Face]:
        self.clock.advance(0.03)
        self.looked_at.append(gray)
        return super().detect(gray)


@pytest.fixture
def clock() -> ManualClock:
    """A clock at rest."""
    return ManualClock()


def look_for(clock: ManualClock, *boxes: Box, max_bytes: int = 10**6, max_pixels: int = 10**6) -> Look:
    """A look whose detector finds these boxes."""
    return Look(SlowDetector(clock, *boxes), max_bytes=max_bytes, max_pixels=max_pixels, clock=clock)


def glance(look: Look, picture: bytes, region: Any, geometry: CropGeometry, times: StageTimes) -> Sighting | None:
    """One look at a frame, with nothing known of frames before it."""
    return look(picture, region, geometry, times, follower=look.follower(), time_s=0.0)


def test_first_face(clock: ManualClock) -> None:
    """Of several faces the detector's first, its largest, is cropped with the network's geometry."""
    geometry = CropGeometry(1.2, 0.0, 0.05)
    sighting = glance(look_for(clock, LARGE, SMALL), PICTURE, "detect", geometry, StageTimes())
    assert sighting is not None
    assert (sighting.box, sighting.crop_box, sighting.score) == (LARGE, geometry.region(LARGE), 0.9)
    np.testing.assert_array_equal(crop_face(GRAY, LARGE, geometry), sighting.crop)


def test_no_face(clock: ManualClock) -> None:
    """A frame without a face is None, which is no error, and has no time of cropping."""
    times = StageTimes()
    assert glance(look_for(clock), PICTURE, "detect", CropGeometry(), times) is None
    assert times.detect == pytest.approx(0.03)
    assert times.crop == 0


def test_whole(clock: ManualClock) -> None:
    """A frame that is already cropped is taken whole: nothing is looked for, and its centre square is the crop."""
    look = look_for(clock, LARGE)
    times = StageTimes()
    sighting = glance(look, PICTURE, "whole", CropGeometry(2.0, 0.5, 0.5), times)
    assert sighting is not None
    assert (Box(0, 0, 320, 240), Box(40, 0, 240, 240), 1.0) == (sighting.box, sighting.crop_box, sighting.score)
    np.testing.assert_array_equal(crop_whole(GRAY), sighting.crop)
    assert not look.detector.looked_at
    assert times.detect == 0


def test_a_flat_picture_is_no_face(clock: ManualClock) -> None:
    """A picture of one gray level, taken whole, is a covered lens, and not the face that it is said to be."""
    covered = jpeg(np.full((48, 48), 3, np.uint8))
    assert glance(look_for(clock), covered, "whole", CropGeometry(), StageTimes()) is None


def test_whole_crop_as_it_is(clock: ManualClock) -> None:
    """A picture of 48x48 is its own crop."""
    small = data.camera()[100:148, 200:248]
    encoded = jpeg(small, quality=100)
    sighting = glance(look_for(clock), encoded, "whole", CropGeometry(), StageTimes())
    assert sighting is not None
    np.testing.assert_array_equal(decode_gray(encoded, max_bytes=10**6, max_pixels=10**6), sighting.crop)


def test_detector_gets_the_upright_gray_frame(clock: ManualClock) -> None:
    """The detector sees the decoded frame at full size."""
    look = look_for(clock, LARGE)
    glance(look, PICTURE, "detect", CropGeometry(), StageTimes())
    (seen,) = look.detector.looked_at
    np.testing.assert_array_equal(GRAY, seen)


def test_times(clock: ManualClock) -> None:
    """Each stage is told its own time, and the others are left alone."""
    times = StageTimes(wait=1.0, queue=2.0, infer=3.0)
    glance(look_for(clock, LARGE), PICTURE, "detect", CropGeometry(), times)
    assert (times.wait, times.queue, times.infer) == (1.0, 2.0, 3.0)
    assert (times.decode, times.crop) == (0.0, 0.0)
    assert times.detect == pytest.approx(0.03)


@pytest.mark.parametrize("region", ["detect", "whole"])
def test_limits(clock: ManualClock, region: str) -> None:
    """The limits of bytes and pixels hold in both regions, before anything is looked for."""
    for look in (look_for(clock, LARGE, max_bytes=100), look_for(clock, LARGE, max_pixels=100)):
        with pytest.raises(ImageTooLarge):
            glance(look, PICTURE, region, CropGeometry(), StageTimes())
        assert not look.detector.looked_at


def test_bad_image(clock: ManualClock) -> None:
    """Bytes that are no JPEG are a bad image, and the next frame is looked at as ever."""
    look = look_for(clock, LARGE)
    with pytest.raises(BadImage):
        glance(look, b"text", "detect", CropGeometry(), StageTimes())
    assert glance(look, PICTURE, "detect", CropGeometry(), StageTimes()) is not None


def test_between_detections_the_face_is_followed_in_a_smaller_picture(clock: ManualClock) -> None:
    """A large face is followed without the detector, in a picture of half the size, and its box is the frame's."""
    face = Box(80, 40, 130, 130)

    class Detector(SlowDetector):
        """Finds the face in the frame and in half of it."""

        def detect(self, gray: NDArray[np.uint8]) -> list[Face]:
            super().detect(gray)
            return [Face(face.scaled(gray.shape[1] / 320, gray.shape[0] / 240), 0.9)]

    detector = Detector(clock)
    look = Look(detector, detect_every=3, max_bytes=10**6, max_pixels=10**6, clock=clock)
    follower, looked = look.follower(), []
    for index in range(4):
        times = StageTimes()
        sighting = look(PICTURE, "detect", CropGeometry(), times, follower=follower, time_s=index / 25)
        assert sighting is not None
        np.testing.assert_allclose(sighting.box, face, atol=0.5)
        whole = crop_face(GRAY, sighting.box, CropGeometry())
        assert np.abs(sighting.crop.astype(int) - whole).mean() < 2
        looked.append((times.detected, times.followed))
    assert looked == [(True, None), (False, True), (False, True), (True, None)]
    assert [seen.shape for seen in detector.looked_at] == [(240, 320), (120, 160)]


@pytest.mark.parametrize("found_in", ["the whole picture alone", "both"])
def test_a_smaller_face_is_looked_for_in_the_whole_picture(clock: ManualClock, found_in: str) -> None:
    """Where a large face gave way to a small one, or to one not seen in a small picture, the whole one is looked at."""
    large, small = Box(80, 40, 130, 130), Box(20, 30, 40, 40)

    class Detector(SlowDetector):
        """Finds the large face first, and the small one from then on."""

        def detect(self, gray: NDArray[np.uint8]) -> list[Face]:
            super().detect(gray)
            if len(self.looked_at) == 1:
                return [Face(large, 0.9)]
            if gray.shape != GRAY.shape and found_in != "both":
                return []
            return [Face(small.scaled(gray.shape[1] / 320, gray.shape[0] / 240), 0.9)]

    detector = Detector(clock)
    look = Look(detector, detect_every=100, max_bytes=10**6, max_pixels=10**6, clock=clock)
    follower = look.follower()
    look(PICTURE, "detect", CropGeometry(), StageTimes(), follower=follower, time_s=0.0)
    times = StageTimes()
    sighting = look(PICTURE, "detect", CropGeometry(), times, follower=follower, time_s=60.0)
    assert sighting is not None
    assert (sighting.box, times.detected, times.followed) == (small, True, None)
    np.testing.assert_array_equal(crop_face(GRAY, small, CropGeometry()), sighting.crop)
    assert [seen.shape for seen in detector.looked_at] == [(240, 320), (120, 160), (240, 320)]


def test_a_face_that_is_lost(clock: ManualClock) -> None:
    """Where the face is not what it was the detector looks, and the frame says why."""
    look = Look(SlowDetector(clock, LARGE), detect_every=100, max_bytes=10**6, max_pixels=10**6, clock=clock)
    follower, times = look.follower(), StageTimes()
    look(PICTURE, "detect", CropGeometry(), StageTimes(), follower=follower, time_s=0.0)
    look(jpeg(np.ascontiguousarray(GRAY[::-1])), "detect", CropGeometry(), times, follower=follower, time_s=0.04)
    assert (times.detected, times.followed) == (True, False)


def test_a_whole_picture_is_not_followed(clock: ManualClock) -> None:
    """Where nothing is searched nothing is followed or lost."""
    times = StageTimes()
    glance(look_for(clock), PICTURE, "whole", CropGeometry(), times)
    assert (times.detected, times.followed) == (False, None)
