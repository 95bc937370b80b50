"""One REST prediction: five frames, or one in the place of all five, and what comes of them."""

import asyncio
from collections.abc import Callable, Sequence

from service.answers import Answer, answer_of, message_of
from service.errors import BadImage, FrameRefused, GoingAway, Overloaded, RunnerFailed
from service.inference.models import LoadedNetwork
from service.inference.scheduler import Delivery, Dropped, Fate, WindowItem
from service.protocol import FrameOutcome, Outcome, Prediction, PredictOptions
from service.vision.look import Look, Sighting, StageTimes
from service.vision.window import FRAMES

_REFUSALS: dict[Dropped, type[Overloaded | GoingAway]] = {Dropped.FULL: Overloaded, Dropped.CLOSING: GoingAway}


class PredictCall:
    """A source (see `service.inference.scheduler`) with five frames, whose window waits in the same lanes as all.

    ``answer`` is a `Prediction`, a `FrameOutcome` (``no_face``), or raises what went wrong.
    """

    def __init__(
        self,
        frames: Sequence[bytes],
        options: PredictOptions,
        network: LoadedNetwork,
        *,
        look: Look,
        answer: asyncio.Future[Prediction | FrameOutcome],
        clock: Callable[[], float],
    ) -> None:
        """``frames``: five JPEGs, oldest first, or one."""
        assert len(frames) in (1, FRAMES)
        self.answer = answer
        self.network = network
        self.size_bytes = sum(map(len, frames))
        self.started_s = clock()
        self.times = StageTimes()
        self.looks: list[tuple[float, StageTimes]] = []
        """When each look at a frame began, and the times of that frame alone; in `times` they are added up."""
        self._frames = frames
        self._options = options
        self._look = look
        self._follower = look.follower()
        self._clock = clock
        self._sightings: list[Sighting] = []
        self._failed = False

    @property
    def has_frames(self) -> bool:
        """Whether a frame is left to look at."""
        return len(self._sightings) < len(self._frames) and not (self._failed or self.answer.done())

    def work(self) -> WindowItem | Delivery | None:
        """Look at the next frame; after the last, the window."""
        index = len(self._sightings)
        start_s = self._clock()
        if index == 0:
            self.times.wait = start_s - self.started_s
        times = StageTimes()
        self.looks.append((start_s, times))
        try:
            sighting = self._look(
                self._frames[index],
                self._options.region,
                self.network.geometry,
                times,
                follower=self._follower,
                time_s=0.0,  # The frames come without times; they are taken as one motion.
            )
        except BadImage as error:
            return self._failing(FrameRefused(index, error))
        self.times.decode += times.decode
        self.times.detect += times.detect
        self.times.detected |= times.detected
        self.times.crop += times.crop
        if sighting is None:
            self._failed = True
            return lambda: self._settle(Answer(Outcome.NO_FACE, {"index": index}))
        self._sightings.append(sighting)
        return self._window() if len(self._sightings) == len(self._frames) else None

    def aborted(self, error: Exception | None) -> Delivery:
        """The answer when `work` raised or did not come back."""
        reason = "A worker is stuck" if error is None else f"A frame could not be looked at: {type(error).__name__}"
        return self._failing(RunnerFailed(reason))

    def _window(self) -> WindowItem:
        repeats = FRAMES // len(self._sightings)
        window = [sighting.crop for sighting in self._sightings] * repeats
        return WindowItem(key=self, lane=self.network.lane, window=window, replaces=False, deliver=self._deliver)

    def _deliver(self, fate: Fate) -> None:
        if isinstance(fate, Dropped) and fate in _REFUSALS:
            self._fail(_REFUSALS[fate](f"The window was not run: {fate.value}"))
        elif isinstance(fate, Dropped):
            self._fail(RunnerFailed(f"The window was not run: {fate.value}"))
        else:
            answer = answer_of(fate, self.network, self._sightings[-1], 0, self.times)
            if answer.outcome is Outcome.FAILED:
                self._fail(RunnerFailed("The network failed on this window"))
            else:
                self._settle(answer)

    def _settle(self, answer: Answer) -> None:
        if self.answer.done():
            return
        age_s = self._clock() - self.started_s
        message = message_of(
            answer,
            seq=answer.detail.get("index", len(self._frames) - 1),
            age_s=age_s,
            total_s=age_s,
            times=self.times,
            repeated=len(self._frames) == 1,
        )
        self.answer.set_result(message)

    def _failing(self, error: Exception) -> Delivery:
        self._failed = True
        return lambda: self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
