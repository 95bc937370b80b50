"""The floor of a case, and the service beside it."""

import dataclasses

import pytest

from loadtest.bench.floor import FLOOR_PARTS
from tests.loadtest.bench.examples import DETECT, WHOLE, bench


def test_the_floor_is_the_sum_of_its_parts_with_the_detector_as_often_as_the_service_ran_it() -> None:
    """20 + 100 + 30 + 150 and an eighth of 800 us; what following costs is not in it."""
    assert tuple(DETECT.floor) == FLOOR_PARTS
    assert DETECT.floor["detect"] == 100.0
    assert DETECT.floor_us == 400.0
    assert DETECT.ratio == pytest.approx(1.15)


def test_without_following_pictures_are_whole_and_the_detector_looks_at_each() -> None:
    """20 + 300 + 40 + 150 + 1000 us, under the service that follows no face."""
    assert sum(DETECT.floor_without_following.values()) == 1510.0
    assert DETECT.ratio_without_following == pytest.approx(1.1)


def test_where_nothing_is_searched_nothing_is_followed() -> None:
    """Both ratios are the same."""
    assert WHOLE.floor_us == 240.0
    assert WHOLE.ratio_without_following == WHOLE.ratio == pytest.approx(1.05)


def test_goals_name_the_figure_and_say_whether_it_is_met() -> None:
    """A ratio a case, the absolute figure of the face alone, what metrics cost each, and the idle service."""
    slow = dataclasses.replace(
        DETECT,
        served=dataclasses.replace(DETECT.served, us=500.0),
        parts=dataclasses.replace(DETECT.parts, metrics=11.0),
    )
    assert bench(results=(WHOLE, slow), idle_percent=1.0).goals() == [
        ("mini-xception/whole96: service / floor 1.05, at most 1.15", True),
        ("mini-xception/640x480: service / floor 1.25, at most 1.15", False),
        ("mini-xception/whole96: 252 us, at most 260 us", True),
        ("mini-xception/whole96: metrics 5.0 us, 1.98 % of the service, under 2 %", True),
        ("mini-xception/640x480: metrics 11.0 us, 2.20 % of the service, under 2 %", False),
        ("idle: 1.00 % of a core, under 1 %", False),
    ]


def test_the_papers_pipeline_is_held_against_the_full_frame() -> None:
    """46 ms are a hundred times 460 us; a network whose full frame was not measured is left out."""
    assert bench().times_less == {"mini-xception": pytest.approx(100.0)}
    assert bench(results=(WHOLE,)).times_less == {}
