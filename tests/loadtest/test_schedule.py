"""When frames are due."""

import numpy as np
import pytest

from loadtest.plan import Load, parse_group
from loadtest.schedule import due_s


def load(group: str, seed: int = 1) -> Load:
    """A load of one group, for ten seconds."""
    return Load(groups=(parse_group(group),), warm_up_s=2.0, duration_s=8.0, seed=seed)


@pytest.mark.parametrize("group", ["2x30", "2x30,poisson"])
def test_a_seed_fixes_the_schedule(group: str) -> None:
    """The same seed gives the same moments; another seed, or another session, gives others."""
    first = due_s(load(group), 0, 0)
    np.testing.assert_array_equal(due_s(load(group), 0, 0), first)
    assert not np.array_equal(due_s(load(group), 0, 1), first)
    assert not np.array_equal(due_s(load(group, seed=2), 0, 0), first)


@pytest.mark.parametrize("group", ["1x30", "1x30,poisson"])
def test_moments_ascend_within_the_load(group: str) -> None:
    """No frame is due before the start or after the end."""
    due = due_s(load(group), 0, 0)
    assert (np.diff(due) >= 0).all()
    assert 0 <= due[0] <= due[-1] <= 10


def test_a_metronome_keeps_its_interval_from_a_phase_of_its_own() -> None:
    """Frames are a period apart; sessions do not send in lockstep."""
    schedules = [due_s(load("50x20"), 0, session) for session in range(50)]
    for due in schedules:
        assert len(due) == 200
        np.testing.assert_allclose(np.diff(due), 1 / 20)
    phases = sorted(due[0] for due in schedules)
    assert phases[0] < 0.01
    assert 0.04 < phases[-1] < 0.05


def test_poisson_arrivals_are_as_many_and_as_irregular() -> None:
    """Of a Poisson process the number has the rate as its mean, and gaps vary as much as they are long."""
    due = [due_s(load("100x20,poisson"), 0, session) for session in range(100)]
    assert np.mean([len(one) for one in due]) == pytest.approx(200, rel=0.03)
    gaps = np.concatenate([np.diff(one) for one in due])
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(1, rel=0.05)
