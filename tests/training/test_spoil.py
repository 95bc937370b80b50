"""Spoiled frames: one rule for training and for measuring."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.spoil import KINDS, SPOILERS, Kind, shrink, shrink_some, spoil_some

pytestmark = pytest.mark.training

Windows = NDArray[np.uint8]


@pytest.fixture
def windows() -> Windows:
    """Give 200 windows of noise, whose frames all differ."""
    return np.random.default_rng(0).integers(0, 256, (200, 5, 48, 48), np.uint8)


def changed(before: Windows, after: Windows) -> NDArray[np.bool_]:
    """Tell which frames, bool [n, 5], are not what they were."""
    different: NDArray[np.bool_] = (before != after).any(axis=(2, 3))
    return different


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_changes_a_frame_and_leaves_the_given_one(windows: Windows, kind: Kind) -> None:
    """A spoiled frame is another picture of that shape; what was given stays; equal chance, equal pixels."""
    frame, before = windows[0, 0], windows[0, 0].copy()
    first, again = (SPOILERS[kind](frame, np.random.default_rng(1)) for _ in range(2))
    assert (first.shape, first.dtype) == (frame.shape, np.uint8)
    assert not np.array_equal(first, frame)
    assert np.array_equal(first, again)
    assert np.array_equal(frame, before)


def test_darkness_is_dark_and_blur_has_no_detail(windows: Windows) -> None:
    """Darkness leaves a tenth of the light at most; a line of nine pixels or more evens noise out."""
    rng, frame = np.random.default_rng(0), windows[0, 0]
    assert SPOILERS["darkness"](frame, rng).mean() < 0.12 * frame.mean()
    assert SPOILERS["motion_blur"](frame, rng).std() < 0.6 * frame.std()


def test_one_or_two_frames_of_the_share_are_spoiled(windows: Windows) -> None:
    """About the share of the windows is hit, each in one or two frames, at any place."""
    before = windows.copy()
    spoil_some(windows, 0.3, np.random.default_rng(0))
    frames = changed(before, windows)
    hit = frames.sum(axis=1)
    assert set(hit.tolist()) == {0, 1, 2}
    assert 0.2 < (hit > 0).mean() < 0.4
    assert frames.any(axis=0).all()


def test_no_share_changes_nothing(windows: Windows) -> None:
    """With shares of zero the windows stay as they are."""
    before = windows.copy()
    spoil_some(windows, 0.0, np.random.default_rng(0))
    shrink_some(windows, 0.0, np.random.default_rng(0))
    assert np.array_equal(before, windows)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_shrunk_windows_are_shrunk_as_one(windows: Windows, share: float) -> None:
    """About the share of the windows is shrunk, all five frames of each."""
    before = windows.copy()
    shrink_some(windows, share, np.random.default_rng(0))
    hit = changed(before, windows)
    assert (hit.all(axis=1) == hit.any(axis=1)).all()
    assert abs(hit.any(axis=1).mean() - share) < 0.1


def test_smaller_faces_keep_less(windows: Windows) -> None:
    """The smaller the face was, the less detail is left; at full size all of it."""
    deviations = [shrink(windows[0], side).std() for side in (20, 32, 44)]
    assert deviations == sorted(deviations)
    assert np.array_equal(shrink(windows[0], 48), windows[0])
