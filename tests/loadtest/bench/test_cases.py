"""What is measured."""

import pytest

from loadtest.bench.cases import CASES, choose, clip_of
from loadtest.errors import BadLoad
from service.vision.decode import read_header


def test_cases_are_chosen_by_name_and_keep_their_order() -> None:
    """A list with commas, in any order."""
    chosen = choose("resnet20/640x480,mini-xception/whole96")
    assert [case.name for case in chosen] == ["mini-xception/whole96", "resnet20/640x480"]
    assert [(case.model, case.region) for case in chosen] == [
        ("timeconv-mini-xception", "whole"),
        ("timeconv-resnet20", "detect"),
    ]


def test_a_case_that_there_is_not() -> None:
    """The error names those there are."""
    with pytest.raises(BadLoad, match=r"xception/64x48.*resnet20/whole96"):
        choose("mini-xception/whole96,xception/64x48")


def test_pictures_have_the_size_of_their_name() -> None:
    """A face alone is 96x96."""
    sizes = {case.picture: read_header(clip_of(case.picture)[0]) for case in CASES[:2]}
    assert {picture: (header.width, header.height) for picture, header in sizes.items()} == {
        "whole96": (96, 96),
        "320x240": (320, 240),
    }
