"""What each part of a prediction costs alone: CPU time of this thread, in microseconds."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loadtest.bench.clients import FRAME_US
from loadtest.errors import CannotGenerate
from service.inference.batch import Runner
from service.inference.scheduler import Batch, WindowItem
from service.protocol import FaceResult, Outcome, Quality
from service.telemetry.metrics import Metrics
from service.vision.boxes import Box
from service.vision.crop import CROP_SIDE, CropGeometry, crop_face, crop_whole
from service.vision.decode import decode_gray
from service.vision.detect import Detector, Face
from service.vision.follow import Follower
from service.vision.look import StageTimes
from service.vision.window import FRAMES

BATCHES = (1, 2, 4, 8, 16, 32)
_ROUNDS = 15
_EVERY_FRAMES = 7
"""Of the clip, those that are timed: all phases of the motion, few enough to stay in a cache as one frame would."""
_COUNTED = 1000
"""Frames whose counting is timed at once: one takes less than the clock can tell."""
_NEVER = 1_000_000_000
_MAX_PIXELS = 4_200_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Vision:
    """A frame's parts, each alone. ``detect``: one run of the detector; 0 where nothing is searched."""

    decode: float
    crop: float
    detect: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """All parts of one case.

    Attributes:
        following: as the service does it, pictures shrunk where it shrinks them.
        detecting: with no following, so that every picture is decoded whole.
        follow: following a face from one frame to the next.
        network: a window at the batch that costs least.
        network_batch: that batch.
        metrics: what the service counts and observes of a frame, in a batch of its own, which costs most.
    """

    following: Vision
    detecting: Vision
    follow: float
    network: float
    network_batch: int
    metrics: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """A frame as the service sees it: by how much it is shrunk, what that gives, and its face in the frame's pixels."""

    jpeg: bytes
    shrink: int
    gray: NDArray[np.uint8]
    box: Box


def measure_parts(
    clip: Sequence[bytes],
    region: Literal["detect", "whole"],
    *,
    detector: Detector,
    detect_every: int,
    geometry: CropGeometry,
    network: Runner,
) -> Parts:
    """Time all parts on the frames of a clip, in turn, so that what disturbs one disturbs all.

    Raises:
        CannotGenerate: the detector finds no face in a frame.
    """
    calls = _whole_calls(clip) if region == "whole" else _detect_calls(clip, detector, detect_every, geometry)
    windows = np.random.default_rng(0).integers(0, 256, (max(BATCHES), FRAMES, CROP_SIDE, CROP_SIDE), np.uint8)
    batches: Calls = {f"network {size}": (size, partial(network, windows[:size])) for size in BATCHES}
    us = time_in_turn({**calls, **batches, "metrics": (_COUNTED, _counting(Metrics()))})
    best = min(BATCHES, key=lambda size: us[f"network {size}"])
    ways = [
        Vision(**{part: us.get(f"{way} {part}", 0.0) for part in ("decode", "crop", "detect")})
        for way in (("following", "detecting") if region == "detect" else ("whole", "whole"))
    ]
    return Parts(
        following=ways[0],
        detecting=ways[1],
        follow=us.get("follow", 0.0),
        network=us[f"network {best}"],
        network_batch=best,
        metrics=us["metrics"],
    )


Calls = Mapping[str, tuple[int, Callable[[], object]]]
"""By name: what to call, and of how many predictions it is a part."""


def time_in_turn(
    calls: Calls, rounds: int = _ROUNDS, clock: Callable[[], float] = time.thread_time
) -> dict[str, float]:
    """Microseconds each takes for one prediction: the median of some rounds, after one that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, (predictions, call) in calls.items():
            start_s = clock()
            call()
            times[name].append((clock() - start_s) / predictions * 1e6)
    return {name: statistics.median(each[1:]) for name, each in times.items()}


def _whole_calls(clip: Sequence[bytes]) -> Calls:
    jpegs = clip[::_EVERY_FRAMES]
    grays = [_decode(jpeg) for jpeg in jpegs]
    return {
        "whole decode": (len(jpegs), lambda: _each(_decode(jpeg) for jpeg in jpegs)),
        "whole crop": (len(jpegs), lambda: _each(crop_whole(gray) for gray in grays)),
    }


def _detect_calls(clip: Sequence[bytes], detector: Detector, detect_every: int, geometry: CropGeometry) -> Calls:
    following = _seen(clip, detector, detect_every)
    ways = {"following": following, "detecting": _seen(clip, detector, 1)}
    calls = {
        f"{way} {part}": call
        for way, seen in ways.items()
        for part, call in _vision_calls(seen, detector, geometry).items()
    }
    return {**calls, "follow": (len(following), partial(_follow, following))}


def _vision_calls(every_frame: Sequence[_Seen], detector: Detector, geometry: CropGeometry) -> Calls:
    frames = every_frame[::_EVERY_FRAMES]
    crops = [(frame.gray, frame.box.scaled(1 / frame.shrink, 1 / frame.shrink)) for frame in frames]
    return {
        "decode": (len(frames), lambda: _each(_decode(frame.jpeg, frame.shrink) for frame in frames)),
        "crop": (len(frames), lambda: _each(crop_face(gray, box, geometry) for gray, box in crops)),
        "detect": (len(frames), lambda: _each(detector.detect(frame.gray) for frame in frames)),
    }


def _each(results: Iterable[object]) -> None:
    for _ in results:
        pass


def _decode(jpeg: bytes, shrink: int = 1) -> NDArray[np.uint8]:
    return decode_gray(jpeg, max_bytes=len(jpeg), max_pixels=_MAX_PIXELS, shrink=shrink)


def _seen(clip: Sequence[bytes], detector: Detector, detect_every: int) -> list[_Seen]:
    """Every frame of the clip as the service sees it once it follows the face: the first time through is not kept."""
    follower = Follower(detector, detect_every)
    seen = []
    for number, jpeg in enumerate([*clip, *clip]):
        shrink = follower.shrink
        gray = _decode(jpeg, shrink)
        face = follower.locate(gray, number * FRAME_US / 1e6, shrink)
        if face is None:
            raise CannotGenerate(f"The detector finds no face in frame {number % len(clip)} of the clip")
        seen.append(_Seen(jpeg, shrink, gray, face.box))
    return seen[len(clip) :]


def _counting(metrics: Metrics) -> Callable[[], None]:
    """All that is counted of `_COUNTED` frames that come to predictions."""
    lane = "measured@1"
    window = WindowItem(key=0, lane=lane, window=(), replaces=True, deliver=lambda _: None)
    batch = Batch(lane, lambda windows: windows, [window], [], "idle")
    times = StageTimes(0.001, 0.001, 0.001, 0.0001, 0.001, 0.001, detected=True, followed=False)
    probabilities = dict.fromkeys(("happy", "sad"), 0.5)
    face = FaceResult(
        id=0,
        box=(0.0, 0.0, 1.0, 1.0),
        crop_box=(0.0, 0.0, 1.0, 1.0),
        score=1.0,
        state="ready",
        emotion="happy",
        probabilities=probabilities,
        smoothed=probabilities,
        raw_emotion="happy",
        uncertain=True,
        quality=Quality(size=48.0, brightness=0.5, sharpness=0.5),
    )

    def count() -> None:
        for _ in range(_COUNTED):
            metrics.frame_received(20_000)
            metrics.batch_ran(batch, (0.001,), 0.001)
            metrics.text_sent(700)
            metrics.frame_done(Outcome.PREDICTION, times, 0.01, 0.01, (face,))
            metrics.message_sent(0.0001, 0.0001)

    return count


class _Told:
    """A detector that is told where the face is, and costs nothing."""

    name = "told"

    def __init__(self) -> None:
        self.face: Face | None = None

    def detect(self, gray: NDArray[np.uint8]) -> list[Face]:  # noqa: ARG002 - the protocol's
        """That face."""
        return [] if self.face is None else [self.face]


def _follow(seen: Sequence[_Seen]) -> None:
    """Follow the face through all frames; where it cannot be followed, be told."""
    told = _Told()
    follower = Follower(told, _NEVER)
    for frame in seen:
        told.face = Face(frame.box.scaled(1 / frame.shrink, 1 / frame.shrink), 1.0)
        follower.locate(frame.gray, 0.0, frame.shrink)
