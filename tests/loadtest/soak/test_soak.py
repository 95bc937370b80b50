"""That a soak finds what it is there to find."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as Metric

from loadtest.servers import Sample
from loadtest.soak.held import InUse, leaks, parse_faults, parse_gauges, slope_kib_per_min
from loadtest.soak.lives import Ledger
from loadtest.soak.peer import CLOSED, Peer
from loadtest.soak.report import Soak, verdict, write
from loadtest.soak.service import FAULTS, FaultyRunner
from tests.fakes import echo_runner


def peer_that(sent: int, outcomes: list[str], told: dict[str, int] | None = None) -> Peer:
    """A client of that many frames, whose first ones had these outcomes."""

    async def made() -> Peer:
        return Peer("ws://x/v1/stream", Ledger().tally())

    peer = asyncio.run(made())
    for seq in range(sent):
        peer.tally.sent(seq, 0.0, 0.0)
    for seq, outcome in enumerate(outcomes):
        peer.tally.settled([seq], outcome, 0.0)
    peer.tally.told = dict(Counter(outcomes)) if told is None else told
    return peer


def soak(ledger: Ledger, **given: Any) -> Soak:
    """A soak of ten minutes in which nothing happened but what is given."""
    samples = [Sample(float(second), 0.0, 2**27) for second in range(600)]
    usual: dict[str, Any] = {
        "made_by": {}, "seconds": 600.0, "clients": 1, "leaks": {"tasks": 0}, "more": InUse(0, 0), "faults": {},
        "healthy": True, "samples": samples,
    }  # fmt: skip
    return Soak(ledger=ledger, **{**usual, **given})


def good() -> Ledger:
    """One steady session of two frames, answered as without chaos."""
    ledger = Ledger()
    ledger.ended("steady", peer_that(2, ["window_filling", "prediction"]), CLOSED, living=True)
    ledger.compare("steady", {0: "window_filling", 1: {"a": 0.5}}, {0: "window_filling", 1: {"a": 0.50005}})
    return ledger


class TestLedger:
    def test_all_is_well(self) -> None:
        """A session that was answered in full, and told so, breaks nothing."""
        assert (good().broken, good().unanswered, good().compared) == ([], 0, 1)

    def test_unanswered(self) -> None:
        """A frame without an outcome counts against a session that lived, and not against one that was killed."""
        ledger = Ledger()
        ledger.ended("killed", peer_that(3, ["prediction"]), "lost", living=False)
        assert (ledger.unanswered, ledger.broken) == (0, [])
        ledger.ended("steady", peer_that(3, ["prediction"]), CLOSED, living=True)
        assert (ledger.unanswered, ledger.broken) == (2, ["steady: 2 of 3 frames have no outcome"])

    def test_answered_twice(self) -> None:
        """An outcome that came for no frame is found, whoever got it."""
        ledger, peer = Ledger(), peer_that(1, ["prediction"])
        peer.tally.settled([0], "prediction", 0.0)
        ledger.ended("killed", peer, "lost", living=False)
        assert ledger.broken == ["killed: 1 outcomes for no frame, or a second one"]

    def test_told_otherwise(self) -> None:
        """A session that is told other outcomes at its end than frame by frame is found."""
        ledger = Ledger()
        ledger.ended("steady", peer_that(1, ["prediction"], told={"no_face": 1}), CLOSED, living=True)
        assert len(ledger.broken) == 1

    def test_ended_otherwise(self) -> None:
        """A session that the service ended, though it did no wrong, is found."""
        ledger = Ledger()
        ledger.ended("unruly", peer_that(0, []), "internal", living=True)
        assert ledger.broken == ["unruly: ended as 'internal'"]

    @pytest.mark.parametrize(("answer", "broken"), [("failed", 0), ("overloaded", 0), ("no_face", 1), ({"a": 0.7}, 0)])
    def test_other_answer(self, answer: Any, broken: int) -> None:
        """A fault may cost a frame its prediction, and never gives it another answer."""
        ledger = Ledger()
        ledger.compare("steady", {0: {"a": 0.5}}, {0: answer})
        assert len(ledger.broken) == broken
        assert ledger.max_difference == pytest.approx(0.2 if isinstance(answer, dict) else 0)


class TestBroken:
    def test_nothing(self) -> None:
        """A soak in which every promise was kept says so."""
        assert soak(good()).broken() == []
        assert verdict(soak(good()))[-1] == "every promise was kept"

    @pytest.mark.parametrize(
        ("given", "promise"),
        [
            ({"leaks": {"descriptors": 2}}, "2 descriptors more than before"),
            ({"more": InUse(1001, 0)}, "1001 memory blocks"),
            ({"healthy": False}, "not healthy"),
            ({"samples": [Sample(s, 0.0, int(2**27 + s * 10_000)) for s in range(600)]}, "Memory grows by 586 KiB/min"),
        ],
    )
    def test_found(self, given: dict[str, Any], promise: str) -> None:
        """What leaks, grows or is not healthy is a broken promise."""
        (broken,) = soak(good(), **given).broken()
        assert promise in broken

    def test_other_results(self) -> None:
        """A prediction that chaos changed by more than 1e-4 is one."""
        ledger = good()
        ledger.compare("steady", {0: {"a": 0.5}}, {0: {"a": 0.5002}})
        assert "differ" in soak(ledger).broken()[0]

    def test_nothing_compared(self) -> None:
        """Who compared nothing has shown nothing."""
        assert "could be held" in soak(Ledger()).broken()[0]

    def test_growth_is_not_judged_over_a_minute(self) -> None:
        """A short soak tells the slope of memory and is not judged by it."""
        samples = [Sample(float(s), 0.0, 2**27 + s * 10_000) for s in range(60)]
        short = soak(good(), seconds=60.0, samples=samples)
        assert short.broken() == []
        assert "too short" in " ".join(verdict(short))


def test_files(tmp_path: Path) -> None:
    """The file and the picture are written."""
    write(soak(good()), tmp_path / "new" / "soak.json")
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["soak.json", "soak.png"]


def test_slope() -> None:
    """Growth is by least squares, in KiB a minute; of no samples there is none."""
    assert slope_kib_per_min([Sample(60.0 * n, 0.0, 1024 * (7 + 3 * n)) for n in range(5)]) == pytest.approx(3)
    assert slope_kib_per_min([]) == 0


def test_leaks_are_waited_for() -> None:
    """What is given back late is no leak; what is not given back is."""
    counts = iter([9, 7, 5])
    assert leaks({"tasks": 5}, lambda: {"tasks": next(counts)}, timeout_s=30, poll_s=0) == {"tasks": 0}
    assert leaks({"tasks": 5}, lambda: {"tasks": 7}, timeout_s=0) == {"tasks": 2}


def test_metrics() -> None:
    """What is held is added up over its states, and faults are read by kind."""
    text = (
        'timeconv_sessions{state="active"} 2.0\ntimeconv_sessions{state="blocked"} 1.0\nsoak_tasks 7.0\n'
        '# TYPE soak_faults_total counter\nsoak_faults_total{kind="slow"} 3.0\n'
    )
    held = parse_gauges(text)
    assert (held["sessions"], held["tasks"], held["frames_in_flight"]) == (3, 7, 0)
    assert parse_faults(text) == {"slow": 3}


def test_every_fault_happens() -> None:
    """A faulty network raises, answers too little or no numbers, or takes long; all of it is counted."""
    counted = Metric("soak_faults", "", ["kind"], registry=CollectorRegistry())
    runner, windows, seen = FaultyRunner(echo_runner, counted, rate=1.0), np.zeros((2, 5, 48, 48), np.uint8), set()
    for _ in range(20):
        try:
            rows = runner(windows)
        except RuntimeError:
            seen.add("raises")
        else:
            seen.add("too_short" if len(rows) == 1 else "not_a_number" if np.isnan(rows).any() else "slow")
    assert seen == set(FAULTS)
    assert sum(counted.labels(fault)._value.get() for fault in FAULTS) == 20


def test_a_sound_network_is_left_alone() -> None:
    """At a rate of 0 a network answers as it does without us."""
    counted = Metric("soak_faults", "", ["kind"], registry=CollectorRegistry())
    windows = np.full((3, 5, 48, 48), 51, np.uint8)
    np.testing.assert_array_equal(FaultyRunner(echo_runner, counted, rate=0.0)(windows), echo_runner(windows))
