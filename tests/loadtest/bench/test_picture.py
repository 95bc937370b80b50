"""The picture of a run."""

from pathlib import Path

import cv2

from loadtest.bench.picture import draw
from tests.loadtest.bench.examples import DETECT, WHOLE


def test_a_picture_is_written(tmp_path: Path) -> None:
    """It can be read, and shows something."""
    draw([WHOLE, DETECT], tmp_path / "bench.png")
    picture = cv2.imread(str(tmp_path / "bench.png"))
    assert picture is not None
    assert picture.std() > 10
