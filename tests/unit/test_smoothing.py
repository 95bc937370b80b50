"""service.smoothing: what it does to a step, at any frame rate, and to two emotions that take turns."""

import math

import pytest

from service.smoothing import HYSTERESIS, Smoothing

FACE = (0, "network")


def pushed(smoothing: Smoothing, *rows: list[float], every_s: float = 0.04, constant_s: float = 0.5) -> list[float]:
    """The first of the smoothed probabilities after each row, which come so many seconds apart."""
    return [
        smoothing.push(row, of=FACE, time_s=index * every_s, constant_s=constant_s)[0][0]
        for index, row in enumerate(rows)
    ]


def test_the_first_is_as_it_came() -> None:
    """Nothing pulls the first probabilities of a face anywhere."""
    assert Smoothing(1.0).push([0.2, 0.8], of=FACE, time_s=5.0, constant_s=0.5) == ([0.2, 0.8], 1)


@pytest.mark.parametrize("every_s", [0.01, 0.05, 0.1, 0.5])
def test_a_step_at_any_frame_rate(every_s: float) -> None:
    """After the time constant a step has been taken to 1 - 1/e, however many frames there were on the way."""
    frames = round(0.5 / every_s)
    last = pushed(Smoothing(1.0), [0.0, 1.0], *[[1.0, 0.0]] * frames, every_s=every_s)[-1]
    assert last == pytest.approx(1 - math.exp(-1))


def test_frames_that_come_irregularly() -> None:
    """Only the time that passed counts: frames in a bunch move it as little as the time they took."""
    smoothing = Smoothing(1.0)
    smoothing.push([0.0, 1.0], of=FACE, time_s=0.0, constant_s=0.5)
    for time_s in (0.001, 0.002, 0.3, 0.301, 0.5):
        smoothed, _ = smoothing.push([1.0, 0.0], of=FACE, time_s=time_s, constant_s=0.5)
    assert list(smoothed) == pytest.approx([1 - math.exp(-1), math.exp(-1)])


def test_it_stays_a_distribution() -> None:
    """Probabilities that are smoothed sum to one."""
    smoothing = Smoothing(1.0)
    for index, row in enumerate(([0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.1, 0.8, 0.1])):
        smoothed, _ = smoothing.push(row, of=FACE, time_s=index * 0.1, constant_s=0.3)
        assert sum(smoothed) == pytest.approx(1)


def test_the_label_waits_for_a_clear_winner() -> None:
    """Another emotion takes over once it is ahead by the margin, not as soon as it is ahead."""
    smoothing, winners = Smoothing(1.0), []
    for index, ahead in enumerate((-0.2, 0.02, HYSTERESIS - 0.01, HYSTERESIS + 0.01, 0.02, -0.02, -HYSTERESIS - 0.01)):
        row = [0.5 - ahead / 2, 0.5 + ahead / 2]
        winners.append(smoothing.push(row, of=FACE, time_s=index * 0.9, constant_s=0.001)[1])
    assert winners == [0, 0, 0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("time_s", "of"),
    [
        pytest.param(1.001, FACE, id="a gap"),
        pytest.param(-0.1, FACE, id="another clock"),
        pytest.param(0.1, (1, "network"), id="another face"),
        pytest.param(0.1, (0, "other"), id="another network"),
    ],
)
def test_it_begins_anew(time_s: float, of: tuple[int, str]) -> None:
    """After a gap, and with another face, network or clock, what was before counts for nothing."""
    smoothing = Smoothing(1.0)
    smoothing.push([0.0, 1.0], of=FACE, time_s=0.0, constant_s=0.5)
    assert smoothing.push([1.0, 0.0], of=of, time_s=time_s, constant_s=0.5) == ([1.0, 0.0], 0)


def test_clear() -> None:
    """What is cleared begins anew, too."""
    smoothing = Smoothing(1.0)
    smoothing.push([0.0, 1.0], of=FACE, time_s=0.0, constant_s=0.5)
    smoothing.clear()
    assert smoothing.push([0.9, 0.1], of=FACE, time_s=0.1, constant_s=0.5) == ([0.9, 0.1], 0)


def test_up_to_the_gap_it_goes_on() -> None:
    """A pause as long as the gap allows is weighed by its length."""
    assert pushed(Smoothing(1.0), [0.0, 1.0], [1.0, 0.0], every_s=1.0) == [0.0, pytest.approx(1 - math.exp(-2))]
