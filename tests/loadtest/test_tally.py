"""The account of one session."""

import pytest

from loadtest.histogram import Times
from loadtest.tally import Tally

START_S = 1000.0
MEASURED_FROM_S = 1002.0


def tally() -> Tally:
    """A tally whose warm-up ends two seconds after the start."""
    return Tally(0, MEASURED_FROM_S, latency=Times(), lateness=Times())


def test_latency_counts_from_when_the_frame_was_due() -> None:
    """A frame that was sent late has waited since it was due; how late it was is recorded by itself."""
    kept = tally()
    kept.sent(0, due_s=1003.0, now_s=1003.5)
    kept.settled([0], "prediction", now_s=1003.6)
    assert kept.latency.percentiles_ms([100])[0] == pytest.approx(600, rel=1e-3)
    assert kept.lateness.percentiles_ms([100])[0] == pytest.approx(500, rel=1e-3)


def test_frames_of_the_warm_up_are_in_the_sums_and_in_no_figure() -> None:
    """What was due before the warm-up ended is not measured, even if its answer came later."""
    kept = tally()
    kept.not_sent(due_s=1000.5)
    kept.sent(0, due_s=1001.9, now_s=1001.9)
    kept.settled([0], "prediction", now_s=1002.5)
    account = kept.account()
    assert (account.scheduled, account.sent, account.outcomes) == (2, 1, {"prediction": 1})
    assert (account.offered, account.answered, kept.latency.count, kept.lateness.count) == (0, 0, 0, 0)


def test_every_frame_of_the_schedule_is_accounted_for() -> None:
    """Frames are answered, have another outcome, were not sent, or have none yet."""
    kept = tally()
    for seq in range(4):
        kept.sent(seq, due_s=1003.0 + seq, now_s=1003.0 + seq)
    kept.not_sent(due_s=1007.0)
    kept.settled([0], "prediction", now_s=1003.1)
    kept.settled(range(1, 3), "superseded", now_s=1005.1)
    account = kept.account()
    assert (account.scheduled, account.sent, account.unanswered, account.unexpected) == (5, 4, 1, 0)
    assert account.outcomes == {"prediction": 1, "superseded": 2}
    assert account.measured == {"prediction": 1, "superseded": 2, "not_sent": 1, "unanswered": 1}
    assert (account.offered, account.answered, kept.latency.count) == (5, 1, 1)


def test_an_outcome_for_no_frame_is_counted_as_that() -> None:
    """An outcome told twice, or for a frame never sent, is no outcome of another."""
    kept = tally()
    kept.sent(0, due_s=1003.0, now_s=1003.0)
    for seq in (0, 0, 7):
        kept.settled([seq], "no_face", now_s=1003.1)
    account = kept.account()
    assert (account.outcomes, account.unexpected, account.unanswered) == ({"no_face": 1}, 2, 0)


def test_the_first_reason_for_a_break_is_kept() -> None:
    """What follows a break follows from it."""
    kept = tally()
    kept.broke("slow_reader")
    kept.broke("connection lost")
    assert kept.account().broken_by == "slow_reader"
