import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.vision.boxes import Box
from service.vision.track import same_face

FACE = Box(100, 80, 60, 60)
sizes = st.floats(8, 800)
places = st.floats(-500, 2000)
boxes = st.builds(Box, places, places, sizes, sizes)


@pytest.mark.parametrize(
    ("now", "same"),
    [
        (FACE, True),
        (Box(130, 80, 60, 60), True),
        (Box(145, 80, 60, 60), True),  # a step of three quarters of the face
        (Box(146, 80, 60, 60), False),
        (Box(54, 80, 60, 60), False),
        (Box(100, 126, 60, 60), False),
        (Box(135, 115, 60, 60), False),  # 35 across and 35 down: 49 in all
        (Box(131, 111, 60, 60), True),
        (Box(77, 57, 106, 106), True),  # grown by 1.77 about its centre
        (Box(75, 55, 110, 110), False),
        (Box(113, 93, 34, 34), True),
        (Box(114, 94, 32, 32), False),
        (Box(400, 80, 60, 60), False),
    ],
)
def test_step_and_zoom(now: Box, *, same: bool) -> None:
    """A face may move by three quarters of its size and grow or shrink by 1.8 from one frame to the next."""
    assert same == same_face(FACE, now)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(boxes, boxes)
def test_either_way(before: Box, now: Box) -> None:
    """What is one face forwards in time is one face backwards."""
    assert same_face(before, now) == same_face(now, before)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(boxes, boxes, st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_any_resolution(before: Box, now: Box, zoom: float) -> None:
    """The same two faces in a frame of another resolution get the same answer."""
    assert same_face(before, now) == same_face(before.scaled(zoom, zoom), now.scaled(zoom, zoom))
