"""What a load is: groups of sessions, and what they send for how long. No I/O.

The first group is the one that is judged: thresholds, ramp, knee and plots go by it. The others keep it company, as a
flooder or callers of REST do.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from loadtest.errors import BadLoad

Kind = Literal["latest", "every", "rest"]
Arrival = Literal["metronome", "poisson"]
Region = Literal["detect", "whole"]

FLOOD = "flood"
_KINDS: Mapping[str, Kind] = {"latest": "latest", "every": "every", "rest": "rest"}
_ARRIVALS: Mapping[str, Arrival] = {"metronome": "metronome", "poisson": "poisson"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Clients that are alike.

    Attributes:
        name: what the report calls them; no two groups of a load have the same.
        sessions: how many there are; with ``rest`` these are callers, each with connections of its own.
        frames_per_s: frames that each of them is due to send a second; with ``rest``, calls of five frames.
        kind: freshness of a stream, or ``rest``.
        arrival: ``metronome``: at even intervals, from a random moment of the first on; ``poisson``: at random.
        ignores_credit: a flooder, who sends what is due as long as TCP takes it.
    """

    name: str
    sessions: int
    frames_per_s: float
    kind: Kind = "latest"
    arrival: Arrival = "metronome"
    ignores_credit: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            BadLoad: no session, no rate, or a caller of REST who ignores a credit that there is not.
        """
        if self.sessions < 1 or not 0 < self.frames_per_s < float("inf"):
            raise BadLoad(f"A group has 1 session or more and a rate over 0, not {self.sessions}x{self.frames_per_s:g}")
        if self.ignores_credit and self.kind == "rest":
            raise BadLoad("REST knows no credit that a flooder could ignore: flood goes with latest or every")

    @property
    def offered_per_s(self) -> float:
        """Frames (``rest``: calls) that all of them together are due to send a second."""
        return self.sessions * self.frames_per_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """Groups that send side by side.

    Attributes:
        groups: the judged one first.
        warm_up_s: seconds at the beginning that fill windows and caches; sent and counted, but not measured.
        duration_s: seconds after it that are measured.
        region: ``detect`` a face, or take the ``whole`` picture.
        model: network, ``name`` or ``name@version``; None: the service's default.
        seed: what schedules are drawn from; the same seed gives the same schedules.
    """

    groups: tuple[Group, ...]
    warm_up_s: float = 2.0
    duration_s: float = 10.0
    region: Region = "detect"
    model: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            BadLoad: no group, two of one name, no time, or a negative seed.
        """
        names = [group.name for group in self.groups]
        if not names:
            raise BadLoad("A load needs a group")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise BadLoad(f"Two groups are called {twice!r}; give them names: 60x15,name=talks")
        if not 0 < self.duration_s < float("inf") or not 0 <= self.warm_up_s < float("inf"):
            raise BadLoad(f"Durations must be over 0 s: {self.duration_s:g} s after {self.warm_up_s:g} s of warm-up")
        if self.seed < 0:
            raise BadLoad(f"A seed is 0 or more, not {self.seed}")

    @property
    def end_s(self) -> float:
        """When the last frame is due, in seconds from the start."""
        return self.warm_up_s + self.duration_s

    def scaled(self, factor: float) -> "Load":
        """The same load with every rate multiplied."""
        groups = (dataclasses.replace(group, frames_per_s=group.frames_per_s * factor) for group in self.groups)
        return dataclasses.replace(self, groups=tuple(groups))


def parse_group(text: str) -> Group:
    """A group from the command line: ``60x15``, ``1x150,flood``, ``4x5,rest,poisson,name=callers``.

    Raises:
        BadLoad: what is wrong with it.
    """
    size, *words = (word.strip() for word in text.split(","))
    sessions, _, rate = size.partition("x")
    try:
        count, frames_per_s = int(sessions), float(rate)
    except ValueError as error:
        raise BadLoad(f"{text!r} does not begin with sessions x frames/s, such as 60x15") from error
    return _with_words(count, frames_per_s, words)


def _with_words(sessions: int, frames_per_s: float, words: Sequence[str]) -> Group:
    kind: Kind = "latest"
    arrival: Arrival = "metronome"
    ignores_credit, name = False, ""
    for word in words:
        if word in _KINDS:
            kind = _KINDS[word]
        elif word in _ARRIVALS:
            arrival = _ARRIVALS[word]
        elif word == FLOOD:
            ignores_credit = True
        elif word.startswith("name="):
            name = word.removeprefix("name=")
        else:
            known = ", ".join([*_KINDS, FLOOD, *_ARRIVALS, "name=..."])
            raise BadLoad(f"A group is no {word!r}; words after its size are {known}")
    return Group(
        name=name or (FLOOD if ignores_credit else kind),
        sessions=sessions,
        frames_per_s=frames_per_s,
        kind=kind,
        arrival=arrival,
        ignores_credit=ignores_credit,
    )
