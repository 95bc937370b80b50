"""The paper's pipeline."""

from itertools import count

import numpy as np
from numpy.typing import NDArray

from loadtest.bench.floor import Paper
from loadtest.bench.paper import run_paper


def test_one_window_a_frame_goes_to_the_network(face_clip: list[bytes]) -> None:
    """Alone in its call, once five frames with a face have come."""
    shapes: list[tuple[int, ...]] = []

    def network(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        shapes.append(windows.shape)
        return np.zeros((len(windows), 7), np.float32)

    ticks = count()
    assert run_paper(face_clip, network, 2.0, lambda: float(next(ticks))) == Paper(us=3e6 / 2, found=1.0)
    assert shapes == [(1, 5, 48, 48)] * 3


def test_a_frame_without_a_face_counts_and_is_not_predicted(empty_jpeg: bytes) -> None:
    """What looking for nothing costs is CPU time too."""
    ticks = count()
    paper = run_paper([empty_jpeg], lambda _: np.zeros((0, 7), np.float32), 1.0, lambda: float(next(ticks)))
    assert paper.found == 0.0
