"""Expressions, their course over time, and what else moves."""

import numpy as np
import pytest

from training.datasets.fer2013 import LABELS
from training.rendering.expressions import PROTOTYPES, blend, random_shapes, shapes_of
from training.rendering.timeline import Timeline, blinks, drift, random_timeline, talking, weak_timeline


def test_each_label_has_a_prototype() -> None:
    """No label is without a face, and neutral moves nothing."""
    assert set(PROTOTYPES) == set(LABELS)
    assert PROTOTYPES["neutral"] == ({},)


@pytest.mark.parametrize(
    ("emotion", "units"),
    [
        ("happy", {6, 12}),
        ("sad", {1, 4, 15}),
        ("surprise", {1, 2, 5, 26}),
        ("fear", {1, 2, 4, 5, 7, 20, 26}),
        ("angry", {4, 5, 7, 23}),
        ("disgust", {9, 15, 16}),
    ],
)
def test_the_first_variant_has_all_units_of_emfacs(emotion: str, units: set[int]) -> None:
    """The full prototype of each emotion is the published one."""
    assert units <= set(PROTOTYPES[emotion][0])


def test_units_become_both_sides_shapes() -> None:
    """A paired shape gets each side's share, a single one its weight; units that share a shape add up."""
    assert shapes_of({1: 0.5}, left=0.8) == {"browInnerUp_L": 0.4, "browInnerUp_R": 0.5}
    assert shapes_of({26: 1.0}) == {"jawOpen": 0.5}
    assert shapes_of({10: 1.0, 25: 1.0})["mouthUpperUp_L"] == 1.3


def test_expressions_differ_from_time_to_time_and_side_to_side() -> None:
    """Two draws differ; one draw is not symmetric; the same state draws the same."""
    first, second = (random_shapes("sad", np.random.default_rng(seed)) for seed in (1, 2))
    assert first != second
    assert first["mouthFrown_L"] != first["mouthFrown_R"]
    assert first == random_shapes("sad", np.random.default_rng(1))


def test_a_blend_lies_between() -> None:
    """A quarter of the second and three quarters of the first, shape by shape."""
    assert blend({"a": 1.0}, {"a": 0.0, "b": 2.0}, 0.25) == {"a": 0.75, "b": 0.5}


def test_a_timeline_rises_holds_and_falls() -> None:
    """Zero before the onset, the peak through the apex, zero after the offset; monotone between."""
    line = Timeline(begin=2, onset=4, apex=3, offset=5, peak=0.8).intensity(18)
    assert line.dtype == np.float32
    assert line[:3].tolist() == [0, 0, 0]
    assert line[6:10].tolist() == pytest.approx([0.8] * 4)
    assert line[14:].tolist() == [0] * 4
    assert (np.diff(line[2:7]) > 0).all()
    assert (np.diff(line[9:15]) < 0).all()


def test_a_timeline_may_have_begun_before_the_first_frame() -> None:
    """A negative begin starts in the middle of the expression."""
    assert Timeline(begin=-6, onset=4, apex=4, offset=6, peak=1.0).intensity(3).tolist() == [1, 1, 1]


def test_drawn_timelines_reach_into_the_clip_and_weak_ones_stay_weak() -> None:
    """Each plain timeline passes the threshold of a label; each weak one peaks between it and a half."""
    chance = np.random.default_rng(5)
    for _ in range(200):
        assert random_timeline(24, chance).intensity(24).max() >= 0.3
        weak = weak_timeline(24, chance)
        assert 0.3 <= weak.peak <= 0.5
        assert weak.intensity(24).max() <= 0.5


def test_other_motion_is_smooth_and_bounded() -> None:
    """Drift moves a little per frame; lids and mouth stay within 0 and 1, and lids do close in a long clip."""
    chance = np.random.default_rng(6)
    assert np.abs(np.diff(drift(500, chance, 3), axis=0)).max() < 1
    lids, mouth = blinks(500, chance), talking(500, chance)
    assert (lids.min(), lids.max()) == (0, 1)
    assert mouth.shape == (500, 3)
    assert mouth.min() >= 0
    assert mouth.max() <= 1
