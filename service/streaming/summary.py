"""What a run came to."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from timeconv_client import Totals


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and 95th percentile, in milliseconds."""

    median_ms: float
    p95_ms: float

    @classmethod
    def of(cls, values_ms: Sequence[float]) -> "Spread | None":
        """Of these values; None where there are none."""
        if not values_ms:
            return None
        median_ms, p95_ms = np.percentile(values_ms, [50, 95])
        return cls(float(median_ms), float(p95_ms))

    def __str__(self) -> str:
        """For people."""
        return f"median {self.median_ms:.1f} ms, 95th percentile {self.p95_ms:.1f} ms"


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Figures of a run.

    Attributes:
        model: ``name@version`` that answered.
        clip_s: length of the clip as far as it was read, in seconds.
        frames_told: frames that the clip says it has; None if it says nothing.
        frames_read: frames of the clip.
        frames_sent: those of them that were sent.
        outcomes: frames by outcome, as their answers came.
        totals: the service's own count; None where the session did not end in order.
        unanswered: frames sent whose outcome never came.
        unexpected: outcomes that came for no frame, or twice.
        frames_with_face: frames whose answer shows a face.
        emotions: faces predicted by emotion, those that are uncertain as "not sure".
        total_ms: time of a prediction in the service.
        round_trip_ms: time of a prediction from sending the frame to its answer.
        wall_s: from the first frame to the end of the session, in seconds.
        interrupted: it was stopped before the end of the clip.
    """

    model: str
    clip_s: float
    frames_told: int | None
    frames_read: int
    frames_sent: int
    outcomes: Mapping[str, int]
    totals: Totals | None
    unanswered: int
    unexpected: int
    frames_with_face: int
    emotions: Mapping[str, int]
    total_ms: Spread | None
    round_trip_ms: Spread | None
    wall_s: float
    interrupted: bool

    @property
    def frames_not_sent(self) -> int:
        """Frames that found no credit: the service was still busy with those before."""
        return self.frames_read - self.frames_sent

    @property
    def frames_per_s(self) -> float:
        """Frames sent in a second."""
        return self.frames_sent / self.wall_s if self.wall_s else 0.0

    @property
    def is_short(self) -> bool:
        """Whether the clip ended before it should: it is damaged, or does not know its own length."""
        ended_in_order = self.totals is not None and not self.interrupted
        return ended_in_order and self.frames_told is not None and self.frames_read < self.frames_told

    @property
    def agrees(self) -> bool:
        """Whether every frame sent was received and got exactly one outcome, by both sides' count."""
        return (
            self.totals is not None
            and self.unanswered == self.unexpected == 0
            and self.frames_sent == self.totals.received == sum(self.outcomes.values())
            and dict(self.outcomes) == {str(name): count for name, count in self.totals.outcomes.items() if count}
        )

    def as_dict(self) -> dict[str, Any]:
        """For programs: the attributes, and what follows from them."""
        totals = None if self.totals is None else self.totals.model_dump(mode="json")
        figures = {name: _rounded(value) for name, value in asdict(replace(self, totals=None)).items()}
        return {**figures, "totals": totals, "agrees": self.agrees}

    def __str__(self) -> str:
        """For people, without a newline at the end."""
        return "\n".join(f"{name:<12} {text}" for name, text in self._lines())

    def _lines(self) -> list[tuple[str, str]]:
        received = "not told" if self.totals is None else str(self.totals.received)
        lines = [
            ("model", self.model),
            (
                "frames",
                (
                    f"{self.frames_read} read, {self.frames_sent} sent, {self.frames_not_sent} not sent, "
                    f"{received} received, {self.unanswered} unanswered"
                ),
            ),
            ("outcomes", _counts(self.outcomes)),
            ("emotions", _shares(self.emotions)),
            ("in service", str(self.total_ms or "no prediction")),
            ("round trip", str(self.round_trip_ms or "no prediction")),
            ("time", f"{self.wall_s:.2f} s, {self.frames_per_s:.1f} frames/s"),
            ("check", self._verdict()),
        ]
        if self.is_short:
            lines.append(("", f"the clip says it has {self.frames_told} frames; no more than these can be read"))
        if self.interrupted:
            lines.append(("", "interrupted before the end of the clip"))
        return lines

    def _verdict(self) -> str:
        if self.agrees:
            return "sent = received = sum of outcomes"
        if self.totals is None:
            return "the session did not end in order"
        return (
            f"FAILED: sent {self.frames_sent}, received {self.totals.received}, "
            f"outcomes {sum(self.outcomes.values())}, unexpected {self.unexpected}; "
            f"the service counts {_counts(self.totals.outcomes)}"
        )


def _rounded(value: object) -> object:
    """Figures to a microsecond, or to a nanosecond where they are milliseconds: no clock here tells more."""
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in _largest_first(counts)) or "none"


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{name} {count / total:.1%}" for name, count in _largest_first(counts)) or "no prediction"


def _largest_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(((str(name), count) for name, count in counts.items()), key=lambda item: -item[1])
