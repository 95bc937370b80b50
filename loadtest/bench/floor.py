"""The floor of a case, and the service beside it. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass

from loadtest.bench.cases import FULL_FRAME
from loadtest.bench.parts import Parts, Vision

GOAL_RATIO = 1.15
GOAL_WHOLE_US = 260.0
WHOLE = "mini-xception/whole96"
GOAL_IDLE_PERCENT = 1.0
GOAL_METRICS_PERCENT = 2.0

FLOOR_PARTS = ("echo", "decode", "crop", "network", "detect")


def floor_parts(echo_us: float, vision: Vision, network_us: float, detector_rate: float) -> dict[str, float]:
    """The floor's addends, `FLOOR_PARTS`, in microseconds a prediction. ``detector_rate``: its runs per frame."""
    return {
        "echo": echo_us,
        "decode": vision.decode,
        "crop": vision.crop,
        "network": network_us,
        "detect": vision.detect * detector_rate,
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """The service at saturation.

    Attributes:
        us: CPU time of its process, all threads, user and system, for one prediction.
        cores: CPU time per second.
        predictions_per_s: of all clients together.
        detector_rate: runs of the detector per frame.
        total_ms: percentiles (``p50``, ``p95``, ``p99``) of the time in the service.
        batches: ``mean`` windows, and the share ``over_one``.
    """

    us: float
    cores: float
    predictions_per_s: float
    detector_rate: float
    total_ms: Mapping[str, float]
    batches: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One case.

    Attributes:
        case: its name.
        echo_us: CPU time of the echo for one message.
        parts: everything else, alone.
        served: the service as it is.
        detecting: the service with the detector on every frame; None where nothing is searched.
        max_difference: largest difference of a probability between one client alone and each of several.
    """

    case: str
    echo_us: float
    parts: Parts
    served: Served
    detecting: Served | None
    max_difference: float

    @property
    def floor(self) -> dict[str, float]:
        """The addends of the floor."""
        return floor_parts(self.echo_us, self.parts.following, self.parts.network, self.served.detector_rate)

    @property
    def floor_us(self) -> float:
        """Their sum."""
        return sum(self.floor.values())

    @property
    def ratio(self) -> float:
        """The service by its floor."""
        return self.served.us / self.floor_us

    @property
    def metrics_percent(self) -> float:
        """What metrics cost, in percent of the service."""
        return 100 * self.parts.metrics / self.served.us

    @property
    def floor_without_following(self) -> dict[str, float]:
        """The same with whole pictures, and the detector on every frame."""
        rate = 0.0 if self.detecting is None else 1.0
        return floor_parts(self.echo_us, self.parts.detecting, self.parts.network, rate)

    @property
    def ratio_without_following(self) -> float:
        """The service that follows no face by that floor; where there is none to follow, `ratio`."""
        if self.detecting is None:
            return self.ratio
        return self.detecting.us / sum(self.floor_without_following.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Paper:
    """The paper's pipeline at `FULL_FRAME`: CPU time for one frame, and the share of frames with a face."""

    us: float
    found: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Mosec:
    """``WHOLE``'s network in mosec: CPU time of all its processes for one prediction, and predictions a second."""

    us: float
    predictions_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """A whole run.

    Attributes:
        made_by: command, commit, date and processor.
        load_percent: CPU use of the machine before it.
        results: of the cases that were chosen.
        paper: by network.
        mosec: None where it is not installed.
        idle_percent: CPU use of the service, in percent of a core, while its sessions are silent.
    """

    made_by: Mapping[str, str | None]
    load_percent: float
    results: tuple[Result, ...]
    paper: Mapping[str, Paper]
    mosec: Mosec | None
    idle_percent: float

    @property
    def times_less(self) -> dict[str, float]:
        """How many times less CPU time the service needs than the paper's pipeline, by network, at `FULL_FRAME`."""
        served = {result.case: result.served.us for result in self.results}
        return {
            network: paper.us / served[f"{network}/{FULL_FRAME}"]
            for network, paper in self.paper.items()
            if f"{network}/{FULL_FRAME}" in served
        }

    def goals(self) -> list[tuple[str, bool]]:
        """What was aimed at, with the figure, and whether it is met."""
        goals = [
            (f"{result.case}: service / floor {result.ratio:.2f}, at most {GOAL_RATIO:g}", result.ratio <= GOAL_RATIO)
            for result in self.results
        ]
        goals += [
            (f"{WHOLE}: {result.served.us:.0f} us, at most {GOAL_WHOLE_US:g} us", result.served.us <= GOAL_WHOLE_US)
            for result in self.results
            if result.case == WHOLE
        ]
        for result in self.results:
            cost = f"{result.parts.metrics:.1f} us, {result.metrics_percent:.2f} % of the service"
            is_met = result.metrics_percent < GOAL_METRICS_PERCENT
            goals.append((f"{result.case}: metrics {cost}, under {GOAL_METRICS_PERCENT:g} %", is_met))
        idle = self.idle_percent
        return [*goals, (f"idle: {idle:.2f} % of a core, under {GOAL_IDLE_PERCENT:g} %", idle < GOAL_IDLE_PERCENT)]
