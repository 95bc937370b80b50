"""service.session: whoever shows up in whatever order, no window is of two people and each frame has one outcome."""

from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from numpy.typing import NDArray

from service.errors import Overloaded, RunnerFailed
from service.inference.scheduler import Batch, Dropped, Fate, Scheduler, Scores, WindowItem
from service.protocol import FrameOutcome, FramesOutcome, Options, Prediction
from service.session import Session
from service.vision.boxes import Box
from service.vision.detect import Face
from service.vision.look import Look
from tests.fakes import LABELS, NETWORK, ManualClock, Recorder, echo_runner

LANES = {"one": 2, "two": 3}
NETWORKS = {name: replace(NETWORK, version=name, lane=f"fake@{name}", max_batch=size) for name, size in LANES.items()}
BRIGHTNESS = {"a": 45, "b": 115, "c": 185}
PITCH, TOP = 130, 50


def portraits() -> dict[str, NDArray[np.uint8]]:
    """A picture of each person; who it is shows in how bright it is on the whole."""
    random = np.random.default_rng(5)
    coarse = {name: random.uniform(-30, 30, (6, 6)) for name in BRIGHTNESS}
    return {
        name: np.asarray(cv2.resize(coarse[name] - coarse[name].mean(), (size, size)) + BRIGHTNESS[name], np.uint8)
        for name, size in zip(BRIGHTNESS, (100, 97, 94), strict=True)
    }


PORTRAITS = portraits()


def person_in(crop: NDArray[np.uint8]) -> str:
    """Whose crop it is."""
    return min(BRIGHTNESS, key=lambda name: abs(float(crop.mean()) - BRIGHTNESS[name]))


class Stage(Look):
    """Looks at frames whose JPEG is a word: at each place the person of that letter, or nobody."""

    name = "stage"

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(self, detect_every=4, max_bytes=1000, max_pixels=10**6, clock=clock)
        self.faces: list[Face] = []

    def _decoded(self, jpeg: bytes, shrink: int) -> NDArray[np.uint8]:
        gray = np.full((200, 4 * PITCH), 240, np.uint8)
        self.faces = []
        for place, name in enumerate(jpeg.decode()):
            if name in PORTRAITS:
                left, size = place * PITCH, len(PORTRAITS[name])
                gray[TOP : TOP + size, left : left + size] = PORTRAITS[name]
                self.faces.append(Face(Box(left, TOP, size, size), 0.9))
        return gray[::shrink, ::shrink]

    def detect(self, gray: NDArray[np.uint8]) -> list[Face]:
        del gray
        return sorted(self.faces, key=lambda face: -face.box.area)


class Sitting(RuleBasedStateMachine):
    """A session, its client, and workers that take their steps in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.scheduler = Scheduler(max_waiting=7, hold_s=0.005)
        for network in NETWORKS.values():
            self.scheduler.add_lane(network.lane, echo_runner, network.max_batch)
        self.stage, self.recorder = Stage(self.clock), Recorder()
        self.people: dict[int, str] = {}
        self.told: dict[int, str] = {}
        self.last_predicted = -1
        self.running: list[Batch] = []
        self.abandoned = 0
        self.session = self.opened(None)

    def opened(self, before: Session | None) -> Session:
        return Session(
            "id",
            Options() if before is None else before.options,
            NETWORKS["one"],
            look=self.stage,
            gap_reset_s=1.0,
            max_frame_bytes=1000,
            observer=self.recorder,
            on_change=lambda: None,
            clock=self.clock,
            before=before,
        )

    # The client

    @rule(word=st.text("abc.", max_size=4), after_s=st.sampled_from([0.04, 0.04, 0.04, 0.3, 1.5]))
    def send(self, word: str, after_s: float) -> None:
        self.clock.advance(after_s)
        if self.session.has_room:
            self.session.receive(word.encode())

    @rule(word=st.sampled_from(["a", "b", "ab", "ba", ".ab", "abc", "cab"]), times=st.integers(2, 6))
    def stay(self, word: str, times: int) -> None:
        """The same people for a while, each frame looked at as it comes."""
        for _ in range(times):
            self.send(word, 0.04)
            self.turn()

    @rule(
        faces=st.sampled_from([1, 2, 8]),
        freshness=st.sampled_from(["latest", "every"]),
        smoothing_ms=st.sampled_from([0, 300]),
        max_age_ms=st.sampled_from([None, 100]),
        network=st.sampled_from(list(NETWORKS)),
    )
    def update(
        self,
        faces: int,
        freshness: Literal["latest", "every"],
        smoothing_ms: int,
        max_age_ms: int | None,
        network: str,
    ) -> None:
        age = max_age_ms if freshness == "latest" else None
        options = Options(faces=faces, freshness=freshness, smoothing_ms=smoothing_ms, max_age_ms=age)
        self.session.update(options, NETWORKS[network])

    @rule(is_blocked=st.booleans())
    def read(self, *, is_blocked: bool) -> None:
        """The client takes what there is, or stops taking."""
        if is_blocked:
            self.session.block()
            return
        self.session.unblock()
        while (message := self.session.next_message()) is not None:
            if isinstance(message, FramesOutcome):
                for seq in range(message.first, message.last + 1):
                    self.tell(seq, message.outcome.value)
            elif isinstance(message, Prediction):
                self.check(message)
            else:
                assert isinstance(message, FrameOutcome)
                self.tell(message.seq, message.outcome.value)
            self.session.sent(self.clock(), self.clock())

    @rule()
    def resume(self) -> None:
        """The connection breaks; the client goes on with another."""
        before = self.session
        before.close()
        self.scheduler.forget(before)
        self.scheduler.drop(before)
        self.session = self.opened(before)

    def tell(self, seq: int, outcome: str) -> None:
        assert seq not in self.told
        self.told[seq] = outcome

    def check(self, message: Prediction) -> None:
        self.tell(message.seq, "prediction")
        assert message.seq > self.last_predicted
        self.last_predicted = message.seq
        ids = [face.id for face in message.faces]
        assert len(set(ids)) == len(ids) <= 8
        assert [face.box[2] for face in message.faces] == sorted((face.box[2] for face in message.faces), reverse=True)
        for face in message.faces:
            if face.state == "ready":
                assert isinstance(face.smoothed, dict)
                assert abs(sum(face.smoothed.values()) - 1) < 1e-5
                assert face.smoothed[face.emotion] > 0  # type: ignore[index] # a face that is ready has one

    # The workers

    @rule()
    def turn(self) -> None:
        if not self.session.has_frames:
            return
        step = self.session.work()
        if isinstance(step, WindowItem | tuple):
            for item in (step,) if isinstance(step, WindowItem) else step:
                self.take(item)
        elif step is not None:
            step()

    def take(self, item: WindowItem) -> None:
        """A window comes to the queue: it is of one person, who is the only one that ever had this id."""
        (person,) = {person_in(crop) for crop in item.window}
        assert self.people.setdefault(item.face, person) == person
        try:
            replaced = self.scheduler.submit(item, self.clock())
        except Overloaded:
            item.deliver(Dropped.FULL)
            return
        if replaced is not None:
            assert replaced.face == item.face
            replaced.deliver(Dropped.REPLACED)

    @rule()
    def begin(self) -> None:
        work = self.scheduler.next(self.clock())
        if isinstance(work, Batch):
            assert len({(item.key, item.face) for item in work.items}) + len(work.expired) > 0
            self.running.append(work)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        batch = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        for item in batch.expired:
            item.deliver(Dropped.EXPIRED)
        for item in batch.items:
            fate: Fate = RunnerFailed("a bad window")
            if data.draw(st.booleans(), label="runs"):
                row = [0.0] * len(LABELS)
                row[data.draw(st.integers(0, 6))] = 1.0
                fate = Scores(row, len(batch.items), 0.001, 0.001, self.clock())
            item.deliver(fate)
        self.scheduler.done(batch, self.clock())

    # What always holds

    @invariant()
    def one_outcome_each(self) -> None:
        assert self.session.received == sum(self.session.outcomes.values()) + self.session.in_flight
        assert len(self.recorder.outcomes) == sum(self.session.outcomes.values())

    @invariant()
    def little_is_kept(self) -> None:
        assert len(self.session._faces) <= 40

    def teardown(self) -> None:
        """Once all is run and read, nothing is open, and nothing is left."""
        self.session.unblock()
        while self.session.has_frames:
            self.turn()
        while self.running or isinstance(work := self.scheduler.next(self.clock()), Batch):
            if not self.running:
                self.running.append(work)
            batch = self.running.pop()
            for item in batch.items + batch.expired:
                item.deliver(Dropped.EXPIRED)
            self.scheduler.done(batch, self.clock())
        self.read(is_blocked=False)
        assert (self.session.in_flight, len(self.session._running), self.scheduler.waiting_windows) == (0, 0, 0)
        assert self.session.received == sum(self.session.outcomes.values())


Sitting.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, derandomize=True, report_multiple_bugs=False
)
TestSitting = Sitting.TestCase
