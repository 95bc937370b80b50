"""What each part costs alone."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest.bench import parts as parts_module
from loadtest.bench.parts import measure_parts, time_in_turn
from loadtest.errors import CannotGenerate
from service.vision.boxes import Box
from service.vision.crop import CropGeometry
from service.vision.decode import decode_gray
from service.vision.detect import Face


class Glance:
    """Finds a face at the same place in every picture, or none."""

    name = "glance"

    def __init__(self, *faces: Face) -> None:
        self._faces = list(faces)

    def detect(self, gray: NDArray[np.uint8]) -> list[Face]:  # noqa: ARG002 - looks at nothing
        return self._faces


def uniform(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The same answer to every window."""
    return np.full((len(windows), 7), 1 / 7, np.float32)


def test_parts_are_timed_in_turn_and_the_first_round_is_not_counted() -> None:
    """The median of the rounds, for one prediction."""
    order: list[str] = []
    lasting_us = iter([900, 0, 10, 6, 30, 2, 20, 4])

    def clock() -> Iterator[float]:
        now_s = 0.0
        while True:
            yield now_s
            now_s += next(lasting_us) / 1e6
            yield now_s

    ticks = clock()
    us = time_in_turn(
        {"one": (1, lambda: order.append("one")), "two": (2, lambda: order.append("two"))}, 3, lambda: next(ticks)
    )
    assert order == ["one", "two"] * 4
    assert us == pytest.approx({"one": 20.0, "two": 2.0})


def test_a_face_alone_is_neither_searched_nor_followed(face_clip: list[bytes]) -> None:
    """Decode, crop and network remain."""
    parts = measure_parts(
        face_clip[:8], "whole", detector=Glance(), detect_every=8, geometry=CropGeometry(), network=uniform
    )
    assert parts.following == parts.detecting
    assert (parts.following.detect, parts.follow) == (0.0, 0.0)
    assert min(parts.following.decode, parts.following.crop, parts.network, parts.metrics) > 0


def test_a_large_face_that_is_followed_is_decoded_at_a_smaller_scale(
    face_clip: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the service does it, so the floor is lower than with whole pictures."""
    scales: Counter[int] = Counter()

    def decode(jpeg: bytes, *, shrink: int, **limits: int) -> NDArray[np.uint8]:
        scales[shrink] += 1
        return decode_gray(jpeg, shrink=shrink, **limits)

    monkeypatch.setattr(parts_module, "decode_gray", decode)
    face = Face(Box(20.0, 20.0, 160.0, 160.0), 0.9)
    parts = measure_parts(
        face_clip[:8], "detect", detector=Glance(face), detect_every=8, geometry=CropGeometry(), network=uniform
    )
    assert scales.keys() > {1}
    assert parts.follow > 0


def test_a_clip_without_a_face_is_no_clip_to_measure(face_clip: list[bytes]) -> None:
    """It is said which frame."""
    with pytest.raises(CannotGenerate, match="frame 0"):
        measure_parts(
            face_clip[:8], "detect", detector=Glance(), detect_every=8, geometry=CropGeometry(), network=uniform
        )
