"""The account of one session, kept at the client. No I/O.

Every frame of the schedule is sent, or not sent and counted as that; every frame sent gets one outcome, or is left
over. Frames that were due during the warm-up are in the account, and in no figure.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from loadtest.histogram import Times

PREDICTION = "prediction"
NOT_SENT = "not_sent"
"""Stands among the measured outcomes for the frames that were due and not sent: there was no credit, or no time."""
UNANSWERED = "unanswered"
"""Stands there for the frames that were sent and whose outcome never came."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """What one session came to.

    Attributes:
        group: its place in the load.
        scheduled: frames that were due.
        sent: those of them that were sent; the others were not.
        outcomes: frames sent, by outcome.
        unanswered: frames sent whose outcome never came.
        unexpected: outcomes that came for no frame, or for one that had its outcome.
        measured: frames due after the warm-up, by outcome or as `NOT_SENT` or `UNANSWERED`.
        told: outcomes by the service's own count, at the end of the session; None where it told none.
        broken_by: what ended the session before its time, or a call; None where nothing did.
    """

    group: int
    scheduled: int
    sent: int
    outcomes: Mapping[str, int]
    unanswered: int
    unexpected: int
    measured: Mapping[str, int]
    told: Mapping[str, int] | None
    broken_by: str | None

    @property
    def offered(self) -> int:
        """Frames due after the warm-up."""
        return sum(self.measured.values())

    @property
    def answered(self) -> int:
        """Predictions for frames that were due after the warm-up."""
        return self.measured.get(PREDICTION, 0)


@dataclass
class Tally:
    """Counts as a session goes on; all moments are seconds of one monotonic clock.

    Attributes:
        group: the group's place in the load.
        measured_from_s: the end of the warm-up.
        latency: where to record predictions, from the moment the frame was *due*: a frame that could not be sent in
            time has waited all the same.
        lateness: where to record how much later than due each frame was sent.
    """

    group: int
    measured_from_s: float
    latency: Times
    lateness: Times
    told: Mapping[str, int] | None = None
    broken_by: str | None = None
    _open: dict[int, float] = field(default_factory=dict)
    _scheduled: int = 0
    _unexpected: int = 0
    _sent: int = 0
    _outcomes: Counter[str] = field(default_factory=Counter)
    _measured: Counter[str] = field(default_factory=Counter)

    def not_sent(self, due_s: float) -> None:
        """A frame that was due could not be sent, and never will be."""
        self._scheduled += 1
        if due_s >= self.measured_from_s:
            self._measured[NOT_SENT] += 1

    def sent(self, seq: int, due_s: float, now_s: float) -> None:
        """A frame is on its way."""
        self._scheduled += 1
        self._sent += 1
        self._open[seq] = due_s
        if due_s >= self.measured_from_s:
            self.lateness.record(now_s - due_s)

    def settled(self, seqs: Iterable[int], outcome: str, now_s: float) -> None:
        """The outcome of one frame or several came."""
        for seq in seqs:
            due_s = self._open.pop(seq, None)
            if due_s is None:
                self._unexpected += 1
                continue
            self._outcomes[outcome] += 1
            if due_s >= self.measured_from_s:
                self._measured[outcome] += 1
                if outcome == PREDICTION:
                    self.latency.record(now_s - due_s)

    def broke(self, reason: str) -> None:
        """The session, or a call, ended before its time; the first reason is kept."""
        self.broken_by = self.broken_by or reason

    def account(self) -> Account:
        """The account, once nothing more can come."""
        unanswered = Counter(UNANSWERED for due_s in self._open.values() if due_s >= self.measured_from_s)
        return Account(
            group=self.group,
            scheduled=self._scheduled,
            sent=self._sent,
            outcomes=dict(self._outcomes),
            unanswered=len(self._open),
            unexpected=self._unexpected,
            measured=dict(self._measured + unanswered),
            told=self.told,
            broken_by=self.broken_by,
        )
