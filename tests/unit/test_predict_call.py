import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from service.errors import FrameRefused, GoingAway, Overloaded, RunnerFailed, TimeConvError
from service.inference.scheduler import Dropped, Scores, WindowItem
from service.predict import PredictCall
from service.protocol import FrameOutcome, Outcome, Prediction, PredictOptions
from service.vision.boxes import Box
from service.vision.crop import CropGeometry
from service.vision.decode import decode_gray
from service.vision.detect import Face
from service.vision.look import Look
from tests.conftest import jpeg
from tests.fakes import NETWORK, ManualClock

FRAMES = [jpeg(np.asarray(np.roll(data.camera(), 40 * index, axis=1)[:200, :200], np.uint8)) for index in range(5)]
BOX = Box(40, 40, 96, 96)
SCORES = Scores([0.1, 0, 0, 0.9, 0, 0, 0], batch_size=2, queue_s=0.25, infer_s=0.125, ran_s=1000.0)


class Detector:
    """Takes a quarter of a second, and finds a face in every frame but those it is told."""

    name = "fixed"

    def __init__(self, clock: ManualClock, *, blind_at: int | None = None) -> None:
        self.clock = clock
        self.blind_at = blind_at
        self.calls = 0

    def detect(self, gray: NDArray[np.uint8]) -> list[Face]:  # noqa: ARG002 - the protocol's
        self.clock.advance(0.25)
        self.calls += 1
        return [] if self.calls - 1 == self.blind_at else [Face(BOX, 0.9)]


class Scene:
    """A call with its detector, clock and answer."""

    def __init__(self, frames: Sequence[bytes], *, region: str = "detect", blind_at: int | None = None) -> None:
        self.clock = ManualClock()
        self.detector = Detector(self.clock, blind_at=blind_at)
        self.answer: asyncio.Future[Prediction | FrameOutcome] = asyncio.get_running_loop().create_future()
        self.call = PredictCall(
            frames,
            PredictOptions(region=region),
            NETWORK,
            look=Look(self.detector, max_bytes=10**6, max_pixels=10**6, clock=self.clock),
            answer=self.answer,
            clock=self.clock,
        )

    def window(self) -> WindowItem:
        """Let the call look at all of its frames."""
        steps = []
        while self.call.has_frames:
            steps.append(self.call.work())
        assert steps[:-1] == [None] * (len(steps) - 1)
        assert isinstance(steps[-1], WindowItem)
        return steps[-1]

    def work_through(self) -> None:
        """Let the call look at frames until it has its answer."""
        while self.call.has_frames:
            step = self.call.work()
            assert not isinstance(step, WindowItem)
            if step is not None:
                step()


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test on an event loop."""

    async def main() -> None:
        await test()

    asyncio.run(main())


def test_window_of_five() -> None:
    """Five frames make one window, oldest first, that queues behind others instead of replacing one."""

    async def test() -> None:
        item = Scene(FRAMES, region="whole").window()
        assert (item.lane, item.replaces, item.expires_s) == (NETWORK.lane, False, None)
        assert [(crop.shape, crop.dtype) for crop in item.window] == [((48, 48), np.uint8)] * 5
        singles = [Scene([frame], region="whole").window().window[0] for frame in FRAMES]
        np.testing.assert_array_equal(np.stack(singles), item.window)
        assert len({crop.tobytes() for crop in singles}) == 5

    run(test)


def test_one_frame_stands_for_five() -> None:
    """One frame is looked at once and repeated, and the answer says so."""

    async def test() -> None:
        scene = Scene(FRAMES[:1])
        item = scene.window()
        assert scene.detector.calls == 1
        assert (item.window == item.window[0]).all()
        item.deliver(SCORES)
        answer = await scene.answer
        assert isinstance(answer, Prediction)
        assert (answer.seq, answer.repeated) == (0, True)

    run(test)


def test_prediction() -> None:
    """The answer is of the last frame, with the times of all five added up."""

    async def test() -> None:
        scene = Scene(FRAMES)
        scene.clock.advance(2.0)
        item = scene.window()
        scene.clock.advance(0.5)
        item.deliver(SCORES)
        answer = await scene.answer
        assert isinstance(answer, Prediction)
        assert (answer.seq, answer.batch_size, answer.repeated) == (4, 2, False)
        (face,) = answer.faces
        assert (face.id, face.emotion, face.box) == (0, "happy", (40.0, 40.0, 96.0, 96.0))
        timing = answer.timing_ms
        assert (timing.wait, timing.detect, timing.queue, timing.infer) == (2000.0, 1250.0, 250.0, 125.0)
        assert (timing.total, answer.age_ms) == (3750.0, 3750.0)

    run(test)


@pytest.mark.parametrize("blind_at", [0, 2, 4])
def test_no_face(blind_at: int) -> None:
    """A frame without a face is an answer that says which; the frames behind it are not looked at."""

    async def test() -> None:
        scene = Scene(FRAMES, blind_at=blind_at)
        scene.work_through()
        answer = await scene.answer
        assert isinstance(answer, FrameOutcome)
        assert (answer.outcome, answer.seq, answer.detail) == (Outcome.NO_FACE, blind_at, {"index": blind_at})
        assert scene.detector.calls == blind_at + 1

    run(test)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [(b"", "empty"), (b"text", "not_jpeg"), (FRAMES[0][:900], "corrupt"), (bytes(1_000_001), "too_large")],
)
def test_bad_frame(frame: bytes, reason: str) -> None:
    """A frame that is no picture refuses the call, says which it is and why."""

    async def test() -> None:
        scene = Scene([*FRAMES[:3], frame, FRAMES[4]])
        scene.work_through()
        with pytest.raises(FrameRefused, match=r"^Frame 3: ") as refused:
            await scene.answer
        assert (refused.value.index, refused.value.reason) == (3, reason)

    run(test)


@pytest.mark.parametrize(
    ("fate", "error"),
    [
        (Dropped.FULL, Overloaded),
        (Dropped.CLOSING, GoingAway),
        (Dropped.STUCK, RunnerFailed),
        (Dropped.EXPIRED, RunnerFailed),
        (Dropped.REPLACED, RunnerFailed),
        (RunnerFailed("the network's own words"), RunnerFailed),
    ],
)
def test_not_run(fate: Dropped | RunnerFailed, error: type[TimeConvError]) -> None:
    """A window that was not run is an error of its reason, without the engine's own words."""

    async def test() -> None:
        scene = Scene(FRAMES)
        scene.window().deliver(fate)
        with pytest.raises(error) as raised:
            await scene.answer
        assert "own words" not in str(raised.value)

    run(test)


def test_a_failed_call_is_not_looked_at_again() -> None:
    """Once a frame has decided the answer the call has none left, though the event loop has not heard of it yet."""

    async def test() -> None:
        for scene in (Scene(FRAMES, blind_at=0), Scene([b"text", *FRAMES[1:]])):
            assert callable(scene.call.work())
            assert (scene.call.has_frames, scene.answer.done()) == (False, False)

    run(test)


def test_scores_that_are_not_the_labels() -> None:
    """A network that answers with another number of classes than it has labels is the engine's failure."""

    async def test() -> None:
        scene = Scene(FRAMES)
        scene.window().deliver(Scores([0.125] * 8, batch_size=1, queue_s=0.0, infer_s=0.0, ran_s=0.0))
        with pytest.raises(RunnerFailed):
            await scene.answer

    run(test)


@pytest.mark.parametrize("error", [None, MemoryError("secret")])
def test_aborted(error: Exception | None) -> None:
    """A worker that is stuck or whose look raised is the engine's failure."""

    async def test() -> None:
        scene = Scene(FRAMES)
        scene.call.work()
        scene.call.aborted(error)()
        with pytest.raises(RunnerFailed) as raised:
            await scene.answer
        assert "secret" not in str(raised.value)
        assert not scene.call.has_frames

    run(test)


def test_caller_is_gone() -> None:
    """A call whose caller gave up has no frame to look at, and whatever comes late harms nobody."""

    async def test() -> None:
        scene = Scene(FRAMES)
        assert scene.call.work() is None
        scene.answer.cancel()
        assert not scene.call.has_frames
        scene.call.aborted(None)()
        other = Scene(FRAMES)
        item = other.window()
        other.answer.cancel()
        item.deliver(SCORES)
        item.deliver(Dropped.FULL)
        assert other.answer.cancelled()

    run(test)


def test_first_answer_counts() -> None:
    """A window that a stuck worker delivers after all changes nothing."""

    async def test() -> None:
        scene = Scene(FRAMES)
        item = scene.window()
        item.deliver(SCORES)
        item.deliver(Dropped.STUCK)
        assert isinstance(await scene.answer, Prediction)

    run(test)


def test_geometry() -> None:
    """The crop is cut by the network's geometry, whole frames as they are."""

    async def test() -> None:
        found = Scene(FRAMES[:1]).window()
        found_whole = Scene(FRAMES[:1], region="whole").window()
        gray = decode_gray(FRAMES[0], max_bytes=10**6, max_pixels=10**6)
        assert NETWORK.geometry == CropGeometry()
        inside = gray[40:136, 40:136].reshape(48, 2, 48, 2).mean(axis=(1, 3))
        np.testing.assert_allclose(found.window[0].astype(float), inside, atol=1)
        assert np.abs(found_whole.window[0].astype(float) - inside).max() > 20

    run(test)
