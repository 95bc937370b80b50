"""service.session: freshness and the one outcome of every frame, with a clock and workers of the test's own."""

import json
import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.answers import Answer
from service.errors import BadImage, RunnerFailed
from service.inference.scheduler import Dropped, Fate, Scores, WindowItem
from service.limits import TokenBucket
from service.protocol import (
    FaceResult,
    FrameOutcome,
    FramesOutcome,
    Options,
    Outcome,
    Prediction,
    ServerMessage,
    encode,
)
from service.session import CaptureClock, Frame, Session
from service.vision.boxes import Box
from service.vision.crop import CropGeometry
from service.vision.detect import Face
from service.vision.follow import Follower
from service.vision.group import Group
from service.vision.look import Sighting, StageTimes
from service.vision.quality import CropQuality
from tests.fakes import NETWORK, FixedDetector, ManualClock, Recorder

FACE = Box(10, 10, 100, 100)


class ScriptedLook:
    """A look at a frame whose JPEG is a word: ``face``, ``far`` (another face), ``none`` or ``bad``."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.moments_s: list[float] = []
        self.during: Callable[[], object] = lambda: None
        self.people = FixedDetector()
        self.gray = np.random.default_rng(0).integers(0, 256, (200, 2000), np.uint8)

    def follower(self) -> Follower:
        return Follower(FixedDetector(), every=1)

    def __call__(
        self,
        jpeg: bytes,
        region: str,
        geometry: CropGeometry,
        times: StageTimes,
        *,
        follower: Follower,
        time_s: float,
    ) -> Sighting | None:
        del region, geometry, times, follower
        self.seen.append(jpeg)
        self.moments_s.append(time_s)
        self.during()
        if jpeg.startswith(b"bad"):
            raise BadImage("corrupt", "damaged")
        if jpeg.startswith(b"none"):
            return None
        return self.sighting(Box(1000, 10, 100, 100) if jpeg.startswith(b"far") else FACE)

    def sighting(self, box: Box) -> Sighting:
        return Sighting(box, box, 0.9, np.full((48, 48), len(self.seen), np.uint8), CropQuality(0.5, 0.1))

    def group(self, ids: Iterator[int], keep_s: float) -> Group:
        return Group(self.people, 1, ids, keep_s)

    def several(
        self, jpeg: bytes, geometry: CropGeometry, times: StageTimes, *, group: Group, time_s: float, most: int
    ) -> list[tuple[int, Sighting]]:
        """Faces by letter, each where it always is: ``abc`` has three, the first the largest."""
        del geometry, times
        self.seen.append(jpeg)
        self.moments_s.append(time_s)
        self.during()
        if jpeg.startswith(b"bad"):
            raise BadImage("corrupt", "damaged")
        self.people.faces = [Face(Box(200.0 * (letter - ord("a")), 50, 100 - letter % 8, 100), 0.9) for letter in jpeg]
        found = group.detect(self.gray, time_s, most)
        return [(face_id, self.sighting(face.box)) for face_id, face in found]

    def that_breaks(self, *args: Any, **named: Any) -> list[tuple[int, Sighting]]:
        """The same, when a crop cannot be cut."""
        ScriptedLook.several(self, *args, **named)
        raise ValueError("no finite place")


class RecordingTracer:
    """Writes down the frames that are done, and when their answer was encoded."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.told: list[tuple[int, Outcome, float, float | None, float | None]] = []

    def frame_done(
        self,
        frame: Frame,
        answer: Answer,
        *,
        done_s: float,
        age_s: float,  # noqa: ARG002 - the protocol's
        encoding_s: float | None,
        encoded_s: float | None,
    ) -> None:
        self.frames.append(frame)
        self.told.append((frame.seq, answer.outcome, done_s, encoding_s, encoded_s))


class Desk:
    """A session, the worker's side of it played by the test, and what it would have sent."""

    def __init__(self, before: "Desk | None" = None, *, frames_per_s: float | None = None, **options: Any) -> None:
        self.clock = ManualClock() if before is None else before.clock
        self.look = ScriptedLook()
        self.recorder = Recorder()
        self.tracer = RecordingTracer()
        self.windows: list[WindowItem] = []
        self.session = Session(
            "id",
            Options(**options),
            NETWORK,
            look=self.look,  # type: ignore[arg-type] # the same call
            gap_reset_s=1.0,
            max_frame_bytes=1000,
            observer=self.recorder,
            tracer=self.tracer,
            on_change=lambda: None,
            clock=self.clock,
            rate=None if frames_per_s is None else TokenBucket(frames_per_s, self.clock()),
            before=None if before is None else before.session,
        )

    def gone_on_with(self, **changes: Any) -> "Desk":
        """Close the session, and go on with it on another connection."""
        self.session.close()
        return Desk(self, freshness="every", **changes)

    def receive(self, *frames: bytes, after_s: float = 0.04) -> None:
        """Frames, each this long after the one before."""
        for frame in frames:
            self.clock.advance(after_s)
            self.session.receive(frame)

    def work(self) -> None:
        """Work the inbox off; windows pile up."""
        while self.session.has_frames:
            step = self.session.work()
            if isinstance(step, WindowItem):
                self.windows.append(step)
            elif isinstance(step, tuple):
                self.windows += step
            elif step is not None:
                step()

    def feed(self, *frames: bytes, after_s: float = 0.04) -> None:
        """Receive and work off one after the other, so that none is superseded."""
        for frame in frames:
            self.receive(frame, after_s=after_s)
            self.work()

    def run(self, fate: Fate | None = None) -> None:
        """Deliver a fate, else scores, to every window that waits."""
        windows, self.windows = self.windows, []
        for item in windows:
            item.deliver(fate or scores())

    def send(self) -> list[ServerMessage]:
        """All that can be sent, sent."""
        sent = []
        while (message := self.session.next_message()) is not None:
            sent.append(message)
            self.session.sent(self.clock(), self.clock())
        return sent

    def outcomes(self) -> list[tuple[int, str]]:
        """What is sent now, as (seq, outcome); ranges are spelled out."""
        return [pair for message in self.send() for pair in spelled(message)]


def spelled(message: ServerMessage) -> list[tuple[int, str]]:
    if isinstance(message, FramesOutcome):
        return [(seq, message.outcome.value) for seq in range(message.first, message.last + 1)]
    if isinstance(message, Prediction):
        return [(message.seq, "prediction")]
    assert isinstance(message, FrameOutcome)
    return [(message.seq, message.outcome.value)]


def scores(best: int = 3, probability: float = 0.9) -> Scores:
    row = [(1 - probability) / 6] * 7
    row[best] = probability
    return Scores(row, batch_size=2, queue_s=0.001, infer_s=0.002, ran_s=1000.0)


def filled(**options: Any) -> Desk:
    """A desk whose window has four crops."""
    desk = Desk(**options)
    desk.feed(*[b"face"] * 4)
    desk.send()
    return desk


# Traces


def test_a_tracer_is_told_of_each_frame_once() -> None:
    """With what it was and when it was answered; of frames whose client is gone too, which were not."""
    desk = Desk()
    desk.feed(*[b"face"] * 5)
    desk.run()
    desk.receive(b"face", b"last")
    desk.send()
    desk.session.close()
    now_s = desk.clock()
    sent = [(seq, Outcome.WINDOW_FILLING, now_s, now_s, now_s) for seq in range(4)]
    assert desk.tracer.told == [
        *sent,
        (4, Outcome.PREDICTION, now_s, now_s, now_s),
        (5, Outcome.SUPERSEDED, now_s, now_s, now_s),
        (6, Outcome.ABANDONED, now_s, None, None),
    ]
    assert [frame.size_bytes for frame in desk.tracer.frames] == [4] * 7


def test_a_trace_knows_when_the_batch_ran() -> None:
    """Only of frames that came to a batch."""
    desk = filled()
    desk.feed(b"face")
    desk.run()
    desk.send()
    assert [frame.times.ran_s for frame in desk.tracer.frames] == [None] * 4 + [1000.0]


# One outcome each


def test_four_frames_fill_the_window_and_the_fifth_is_predicted() -> None:
    """A new session answers `window_filling` four times, with what is missing, then predictions."""
    desk = Desk()
    desk.feed(*[b"face"] * 6)
    desk.run()
    messages = desk.send()
    assert [m.detail["frames_needed"] for m in messages if isinstance(m, FrameOutcome)] == [4, 3, 2, 1]
    assert [m.seq for m in messages if isinstance(m, Prediction)] == [4, 5]


def test_a_prediction_says_it_all() -> None:
    """A prediction names the face, its scores by label, the winner and how the frame spent its time."""
    desk = filled()
    desk.feed(b"face")
    desk.clock.advance(0.010)
    desk.run(scores(best=3, probability=0.9))
    (message,) = desk.send()
    assert isinstance(message, Prediction)
    face = message.faces[0]
    assert (face.emotion, face.probabilities["happy"], face.uncertain, face.box) == ("happy", 0.9, False, FACE)
    assert (message.batch_size, message.age_ms, message.timing_ms.total) == (2, 10.0, 10.0)
    assert (message.timing_ms.queue, message.timing_ms.infer) == (1.0, 2.0)


def test_a_weak_winner_is_uncertain() -> None:
    """Below the network's threshold the answer says that it is uncertain."""
    desk = filled()
    desk.feed(b"face")
    desk.run(scores(probability=0.49))
    (message,) = desk.send()
    assert isinstance(message, Prediction)
    assert message.faces[0].uncertain


@pytest.mark.parametrize(
    ("frame", "outcome"),
    [(b"none", "no_face"), (b"bad", "bad_image"), (b"", "window_filling"), (b"x" * 1001, "bad_image")],
)
def test_frames_without_a_window_are_answered(frame: bytes, outcome: str) -> None:
    """A frame that comes to no window has the outcome that says why, and the session goes on."""
    desk = Desk()
    desk.feed(frame, b"face")
    assert [outcome for _, outcome in desk.outcomes()] == [outcome, "window_filling"]


@pytest.mark.parametrize(
    ("fate", "outcome"),
    [
        (RunnerFailed("boom"), "failed"),
        (Dropped.FULL, "overloaded"),
        (Dropped.EXPIRED, "expired"),
        (Dropped.REPLACED, "superseded"),
        (Dropped.STUCK, "failed"),
        (Dropped.CLOSING, "abandoned"),
    ],
)
def test_the_fate_of_a_window_is_the_outcome_of_its_frame(fate: Fate, outcome: str) -> None:
    """Whatever became of a window is said of its frame."""
    desk = filled()
    desk.feed(b"face")
    desk.run(fate)
    assert desk.outcomes() == [(4, outcome)]


def test_scores_that_are_not_the_labels_are_a_failure() -> None:
    """A network that answers with another number of classes than it has labels fails on the frame, no more."""
    desk = filled()
    desk.feed(b"face")
    desk.run(Scores([0.125] * 8, batch_size=1, queue_s=0.0, infer_s=0.0, ran_s=0.0))
    assert (desk.outcomes(), desk.session.in_flight) == ([(4, "failed")], 0)


def test_received_is_the_sum_of_outcomes_and_open() -> None:
    """At every moment the frames received are those with an outcome and those in flight."""
    desk = Desk()
    for step in range(30):
        desk.receive(*[b"face", b"none", b"bad"][: step % 4])
        if step % 3 == 0:
            desk.work()
        if step % 5 == 0:
            desk.run()
        if step % 2 == 0:
            desk.send()
        assert desk.session.received == sum(desk.session.outcomes.values()) + desk.session.in_flight
    desk.session.close()
    assert desk.session.received == sum(desk.session.outcomes.values()) == len(desk.recorder.outcomes)


def test_a_second_answer_for_a_frame_is_nothing() -> None:
    """Scores that come after their frame was given up change nothing."""
    desk = filled()
    desk.feed(b"face")
    (item,) = desk.windows
    item.deliver(Dropped.STUCK)
    item.deliver(scores())
    assert desk.outcomes() == [(4, "failed")]


def test_a_frame_whose_work_broke_off_is_failed() -> None:
    """When a worker gives up on a frame, that frame is `failed` and says why."""
    desk = Desk()
    desk.receive(b"face")
    desk.session._at_work = desk.session._inbox.popleft()
    desk.session.aborted(ValueError("unforeseen"))()
    (message,) = desk.send()
    assert isinstance(message, FrameOutcome)
    assert (message.outcome, message.detail) == (Outcome.FAILED, {"reason": "ValueError"})


# A client that leaves


def test_what_is_open_when_the_client_leaves_is_abandoned() -> None:
    """Frames in the inbox, in a batch and in the outgoing queue are all counted once, as abandoned."""
    desk = filled(freshness="every")
    desk.feed(b"face", b"face")
    desk.windows[0].deliver(scores())
    desk.receive(b"face")
    desk.session.close()
    assert desk.session.outcomes == {Outcome.WINDOW_FILLING: 4, Outcome.ABANDONED: 3}


def test_scores_for_a_client_that_left_harm_nothing() -> None:
    """A batch that comes back after its client is gone is not counted again."""
    desk = filled()
    desk.feed(b"face")
    desk.session.close()
    desk.run()
    assert (desk.send(), desk.session.outcomes[Outcome.ABANDONED]) == ([], 1)


def test_an_answer_not_handed_over_is_abandoned() -> None:
    """A message whose sending broke off did not count as sent."""
    desk = Desk()
    desk.feed(b"none")
    assert desk.session.next_message() is not None
    desk.session.close()
    assert desk.session.outcomes == {Outcome.ABANDONED: 1}


# Freshness


def test_latest_keeps_the_newest_frame() -> None:
    """In `latest` a frame that waits is superseded by a newer one, and is never looked at."""
    desk = Desk()
    desk.receive(b"none 0", b"none 1", b"none 2")
    desk.work()
    assert desk.look.seen == [b"none 2"]
    assert sorted(desk.outcomes()) == [(0, "superseded"), (1, "superseded"), (2, "no_face")]


def test_every_keeps_all_frames() -> None:
    """In `every` all frames are looked at, in order."""
    desk = Desk(freshness="every")
    desk.receive(b"none 0", b"none 1", b"none 2")
    desk.work()
    assert desk.outcomes() == [(0, "no_face"), (1, "no_face"), (2, "no_face")]


def test_every_reads_no_further_than_its_credit() -> None:
    """In `every` there is room for eight frames without an outcome; an outcome sent makes room for one."""
    desk = Desk(freshness="every")
    desk.receive(*[b"none"] * 7)
    assert desk.session.has_room
    desk.receive(b"none")
    assert not desk.session.has_room
    desk.work()
    assert not desk.session.has_room
    desk.send()
    assert desk.session.has_room


def test_an_old_frame_is_not_decoded() -> None:
    """A frame that waited past its max_age_ms is `expired` without being looked at."""
    desk = Desk(max_age_ms=100)
    desk.receive(b"face")
    desk.clock.advance(0.1)
    desk.work()
    assert (desk.outcomes(), desk.look.seen) == ([(0, "expired")], [])


def test_an_old_window_says_when_it_is_too_old() -> None:
    """A window carries the moment from which it must not be run."""
    desk = filled(max_age_ms=100)
    desk.feed(b"face")
    assert desk.windows[0].expires_s == pytest.approx(desk.clock.now_s + 0.1)


def test_an_old_prediction_is_not_sent() -> None:
    """A prediction that got too old on its way out is `expired`."""
    desk = filled(max_age_ms=100)
    desk.feed(b"face")
    desk.run()
    desk.clock.advance(0.1)
    assert desk.outcomes() == [(4, "expired")]


def test_windows_replace_each_other_in_latest_only() -> None:
    """Only windows of `latest` give way to a newer one."""
    replaces = []
    for freshness in ("latest", "every"):
        desk = filled(freshness=freshness)
        desk.feed(b"face")
        replaces.append(desk.windows[0].replaces)
    assert replaces == [True, False]


def test_latest_takes_frames_up_to_a_bound() -> None:
    """In `latest` a client that ignores its credit is read on until 64 frames have no outcome."""
    desk = Desk()
    desk.receive(*[b"face"] * 63)
    assert desk.session.has_room
    desk.receive(b"face")
    assert not desk.session.has_room
    desk.send()
    assert desk.session.has_room


def test_answered_frames_are_not_kept() -> None:
    """A frame whose answer waits to be sent holds no picture, whether it was replaced, skipped or looked at."""
    desk = Desk(stride=3)
    desk.receive(*[b"face"] * 5)
    desk.work()
    *answered, _ = desk.session._open.values()
    assert [len(frame.jpeg) for frame in answered] == [0] * 4


def test_a_text_counts_as_activity() -> None:
    """Whoever says something is not silent."""
    desk = Desk()
    desk.clock.advance(50)
    desk.session.touch()
    assert desk.session.last_activity_s == desk.clock.now_s


# Windows


def test_a_gap_empties_the_window() -> None:
    """After more than gap_reset_ms without a face the window fills anew."""
    desk = filled()
    desk.feed(b"face", after_s=1.1)
    (message,) = desk.send()
    assert isinstance(message, FrameOutcome)
    assert message.detail["frames_needed"] == 4


def test_another_face_gets_a_window_and_an_id_of_its_own() -> None:
    """When the face is suddenly elsewhere its frames are not mixed with those before."""
    desk = filled()
    desk.feed(b"face", *[b"far"] * 5)
    desk.run()
    predictions = [message for message in desk.send() if isinstance(message, Prediction)]
    assert [(message.seq, message.faces[0].id) for message in predictions] == [(4, 0), (9, 1)]


def test_a_window_holds_the_last_five_crops_in_order() -> None:
    """The window that goes to the network is the last five crops, oldest first."""
    desk = filled()
    desk.feed(b"face", b"none", b"face")
    assert [[crop[0, 0] for crop in item.window] for item in desk.windows] == [[1, 2, 3, 4, 5], [2, 3, 4, 5, 7]]


def test_stride_skips_frames_unseen() -> None:
    """With stride 2 every other frame is `skipped`, costs no look, and supersedes nothing."""
    desk = Desk(stride=2)
    desk.receive(b"none 0", b"none 1")
    desk.work()
    desk.feed(b"none 2", b"none 3")
    assert desk.look.seen == [b"none 0", b"none 2"]
    assert sorted(desk.outcomes()) == [(0, "no_face"), (1, "skipped"), (2, "no_face"), (3, "skipped")]


# Capture times


def stamped(captured_us: int, frame: bytes = b"face") -> bytes:
    return captured_us.to_bytes(8, "big") + frame


def test_the_age_goes_by_capture_time() -> None:
    """A frame that came later after its capture than the fastest one is older by as much."""
    desk = Desk(timestamps=True)
    messages = []
    for captured_us, after_s in ((5_000_000, 0), (5_040_000, 0.1)):
        desk.feed(stamped(captured_us), after_s=after_s)
        messages += desk.send()
    ages = [(message.captured_us, message.age_ms) for message in messages if isinstance(message, FrameOutcome)]
    assert ages == [(5_000_000, 0.0), (5_040_000, 60.0)]


def test_gaps_go_by_capture_time() -> None:
    """Frames a second apart when captured are no window, however fast they were sent."""
    desk = Desk(timestamps=True, freshness="every")
    desk.feed(*(stamped(index * 1_100_000) for index in range(5)), after_s=0.001)
    messages = desk.send()
    assert [m.detail["frames_needed"] for m in messages if isinstance(m, FrameOutcome)] == [4] * 5


def test_a_missing_time_stamp_is_a_bad_image() -> None:
    """With timestamps=1 a message shorter than a time stamp is `bad_image` and says so."""
    desk = Desk(timestamps=True)
    desk.feed(b"short")
    (message,) = desk.send()
    assert isinstance(message, FrameOutcome)
    assert (message.outcome, message.detail["reason"]) == (Outcome.BAD_IMAGE, "timestamp_missing")


def ages(stamps_us: list[int], *, apart_s: float = 0.04) -> list[float]:
    """Ages of frames with these stamps, in seconds, that come at even times."""
    clock = CaptureClock()
    return [
        1000 + index * apart_s - clock.taken_s(stamp_us, 1000 + index * apart_s)
        for index, stamp_us in enumerate(stamps_us)
    ]


def test_a_source_that_starts_anew_is_aligned_anew() -> None:
    """A clip that begins again, its stamps with it, is as fresh as before."""
    clip = [40_000 * index for index in range(50)]
    assert max(ages(clip * 3)) == pytest.approx(0, abs=1e-6)


def test_one_absurd_stamp_ages_nothing() -> None:
    """After the largest stamp there is, the frames that follow with sensible ones are fresh."""
    assert ages([0, 40_000, 2**64 - 1, 120_000, 160_000]) == pytest.approx([0] * 5, abs=0.01)


def test_a_slow_clock_does_not_age_a_stream() -> None:
    """A client's clock that runs one percent slow puts its frames a third of a second off at most, for ever."""
    slow = ages([int(39_600 * index) for index in range(3000)])
    assert 0.1 < max(slow[750:]) < 0.31


def test_a_frame_that_came_late_is_older() -> None:
    """Against the fastest frame of the last half minute a later one is as old as it was delayed."""
    clock = CaptureClock()
    assert clock.taken_s(0, 1000.0) == 1000.0
    assert clock.taken_s(40_000, 1000.5) == pytest.approx(1000.04)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.floats(0, 1e5)), min_size=1, max_size=20))
def test_no_stamp_is_of_the_future(stamps: list[tuple[int, float]]) -> None:
    """Whatever the stamps are and however much time passes between them, no frame was taken after it came."""
    clock, received_s = CaptureClock(), 1000.0
    for captured_us, passed_s in stamps:
        received_s += passed_s
        # A float has 53 bits, so a stamp of hundreds of thousands of years is exact to a millisecond or so.
        assert clock.taken_s(captured_us, received_s) <= received_s + max(1e-6, captured_us / 1e6 * 2**-51)


@pytest.mark.parametrize("freshness", ["latest", "every"])
@pytest.mark.parametrize("jump_s", [3600.0, 1e7])
def test_time_that_jumps_ahead(freshness: str, jump_s: float) -> None:
    """After a machine slept, with frames at every point of their way, each has one outcome, and what follows too."""
    desk = filled(freshness=freshness)
    desk.feed(b"face")  # Its window waits.
    desk.receive(b"face")  # It waits itself.
    desk.clock.advance(jump_s)
    desk.work()
    desk.run()
    desk.feed(*[b"face"] * 5)
    desk.run()
    seqs = [seq for seq, _ in desk.outcomes()]
    assert sorted(seqs) == list(range(4, 11))
    assert desk.session.is_settled
    assert desk.session.outcomes[Outcome.PREDICTION] >= 2


@pytest.mark.parametrize("jump_us", [-3_600_000_000, -500_000, 3_600_000_000, 2**63])
def test_a_capture_clock_that_jumps(jump_us: int) -> None:
    """A client's clock may be set while it streams: every frame is answered, and the stream goes on."""
    desk = Desk(timestamps=True, freshness="every")
    base_us = 10**10
    for number in range(20):
        stamp_us = base_us + 40_000 * number + (jump_us if number >= 10 else 0)
        desk.feed(stamp_us.to_bytes(8, "big") + b"face")
        desk.run()
    sent = desk.send()
    assert [seq for message in sent for seq, _ in spelled(message)] == list(range(20))
    assert all(0 <= message.age_ms < 1000 for message in sent if isinstance(message, Prediction))
    assert isinstance(sent[-1], Prediction)


# A client that does not read


def test_a_blocked_latest_session_is_not_worked_for() -> None:
    """While the client does not read, its frames are superseded by newer ones and none is looked at."""
    desk = Desk()
    desk.session.block()
    desk.receive(*[b"face"] * 5)
    assert not desk.session.has_frames
    desk.session.unblock()
    desk.work()
    messages = desk.send()
    assert (len(desk.look.seen), len(messages)) == (1, 2)
    assert isinstance(messages[0], FramesOutcome)
    assert (messages[0].first, messages[0].last, messages[0].outcome) == (0, 3, Outcome.SUPERSEDED)


def test_a_blocked_client_is_owed_a_bounded_number_of_messages() -> None:
    """However long a client does not read, what waits for it is a few messages, and every frame is accounted for."""
    desk = Desk(stride=2)
    desk.session.block()
    desk.receive(*[b"face", b"bad", b"x" * 2000] * 200)
    desk.session.unblock()
    desk.work()
    messages = desk.send()
    assert len(messages) <= 3
    assert sorted(seq for message in messages for seq, _ in spelled(message)) == list(range(600))


def test_a_newer_prediction_supersedes_one_that_was_not_read() -> None:
    """Of two predictions that come back while the client does not read only the newer is sent."""
    desk = filled()
    desk.feed(b"face", b"face")
    desk.session.block()
    desk.run()
    desk.session.unblock()
    assert desk.outcomes() == [(4, "superseded"), (5, "prediction")]


def test_a_blocked_every_session_loses_nothing() -> None:
    """In `every` a client that reads late gets every answer."""
    desk = filled(freshness="every")
    desk.feed(b"face", b"face")
    desk.session.block()
    desk.run()
    desk.session.unblock()
    assert desk.outcomes() == [(4, "prediction"), (5, "prediction")]


def test_stride_goes_on_while_a_client_of_every_does_not_read() -> None:
    """In `every` a frame is skipped or looked at by its place alone, however slowly the client reads."""
    desk = Desk(freshness="every", stride=2)
    desk.receive(b"none", b"none", b"none")
    desk.session.block()
    desk.receive(b"none", b"none")
    desk.session.unblock()
    desk.receive(b"none")
    desk.work()
    assert [outcome for _, outcome in sorted(desk.outcomes())] == ["no_face", "skipped"] * 3


# Updates


def test_an_update_holds_from_the_next_frame_on() -> None:
    """Frames received before an update keep the options they came with."""
    desk = Desk(freshness="every")
    desk.receive(b"none 0")
    desk.session.update(Options(freshness="every", timestamps=True), NETWORK)
    desk.receive(stamped(7, b"none 1"))
    desk.work()
    assert [(m.seq, m.captured_us) for m in desk.send() if isinstance(m, FrameOutcome)][1] == (1, 7)
    assert desk.look.seen == [b"none 0", b"none 1"]


def test_another_stride_keeps_the_clocks_aligned() -> None:
    """An update that does not touch the time stamps does not make a delayed frame look fresh."""
    desk = Desk(timestamps=True)
    desk.feed(stamped(5_000_000), after_s=0)
    desk.session.update(Options(timestamps=True, stride=2), NETWORK)
    desk.send()
    desk.feed(stamped(5_040_000), after_s=0.1)
    assert [message.age_ms for message in desk.send() if isinstance(message, FrameOutcome)] == [60.0]


def test_frames_of_every_are_kept_when_the_session_turns_to_latest() -> None:
    """A frame that came under `every` is not superseded by one that came under `latest`."""
    desk = Desk(freshness="every")
    desk.receive(b"none 0", b"none 1")
    desk.session.update(Options(freshness="latest"), NETWORK)
    desk.receive(b"none 2", b"none 3")
    desk.work()
    assert sorted(desk.outcomes()) == [(0, "no_face"), (1, "no_face"), (2, "superseded"), (3, "no_face")]


def test_another_region_begins_a_new_window() -> None:
    """Crops that were made in different ways are not mixed in one window."""
    desk = filled()
    desk.session.update(Options(region="whole"), NETWORK)
    desk.feed(b"face")
    assert desk.outcomes() == [(4, "window_filling")]


# Rates


def test_frames_over_the_rate_are_answered_so() -> None:
    """In `latest` a frame over the rate is `rate_limited`, runs are told as one range, and nobody looks at them."""
    desk = Desk(frames_per_s=2)
    desk.feed(*[b"none"] * 5, after_s=0)
    *looked_at, ranged = desk.send()
    assert ranged == FramesOutcome(first=2, last=4, outcome=Outcome.RATE_LIMITED)
    assert [pair for message in looked_at for pair in spelled(message)] == [(0, "no_face"), (1, "no_face")]
    assert len(desk.look.seen) == 2
    assert desk.session.is_settled
    desk.feed(b"none", after_s=0.5)
    assert desk.outcomes() == [(5, "no_face")]
    assert desk.session.totals().outcomes == {Outcome.NO_FACE: 3, Outcome.RATE_LIMITED: 3}


def test_every_is_read_later_instead() -> None:
    """In `every` no frame is dropped: the next one is read once the rate allows it."""
    desk = Desk(frames_per_s=2, freshness="every")
    pauses = []
    for _ in range(4):
        desk.feed(b"none", after_s=0)
        pauses.append(desk.session.pause_s)
    assert pauses == [0.0, 0.5, 1.0, 1.5]
    desk.clock.advance(1.5)
    assert desk.session.pause_s == 0.0
    assert desk.outcomes() == [(seq, "no_face") for seq in range(4)]


def test_latest_is_read_on() -> None:
    """Reading goes on in `latest` over the rate: a frame that is to be fresh must not wait in a socket."""
    desk = Desk(frames_per_s=1)
    desk.feed(*[b"none"] * 200, after_s=0)
    assert desk.session.pause_s == 0.0


def test_a_flood_is_read_no_faster_than_it_may_be_refused() -> None:
    """In `latest` two hundred frames a second may be refused; what is beyond waits to be read."""
    desk = Desk(frames_per_s=1)
    desk.feed(*[b"none"] * 202, after_s=0)
    assert desk.session.pause_s == pytest.approx(2 / 200)
    desk.clock.advance(0.01)
    assert desk.session.pause_s == pytest.approx(0.0, abs=1e-9)


class TestGoingOn:
    """A session that goes on with one whose connection broke."""

    def test_only_the_session_is_kept(self) -> None:
        """A session that is closed keeps nothing of its connection alive."""

        class Connection:
            def changed(self) -> None:
                """What a session is given to call."""

        connection, desk = Connection(), Desk()
        session = Session(
            "id",
            Options(),
            NETWORK,
            look=desk.look,  # type: ignore[arg-type] # the same call
            gap_reset_s=1.0,
            max_frame_bytes=1000,
            observer=desk.recorder,
            on_change=connection.changed,
            clock=desk.clock,
        )
        session.receive(b"face")
        session.close()
        kept = weakref.ref(connection)
        del connection
        assert kept() is None

    def test_totals_and_window(self) -> None:
        """Seqs, totals, the face's id and a window that is one motion with what comes go on."""
        before = Desk(freshness="every")
        before.feed(b"face", b"far", b"far", b"far", b"far")
        after = before.gone_on_with()
        assert (after.session.received, after.session.totals()) == (5, before.session.totals())
        after.feed(b"far")
        (item,) = after.windows
        item.deliver(Scores([0.9, *[0.0] * 5, 0.1], 1, 0.0, 0.0, 0.0))
        prediction = after.session.next_message()
        assert isinstance(prediction, Prediction)
        assert (prediction.seq, prediction.faces[0].id) == (5, 1)

    def test_age(self) -> None:
        """The session is as old as it was: a break does not make it last longer."""
        before = Desk()
        before.clock.advance(60.0)
        assert before.gone_on_with().session.started_s == before.session.started_s == before.clock() - 60.0

    def test_rate(self) -> None:
        """What it has sent too much is owed after a break too: no burst comes with each new connection."""
        before = Desk(freshness="every", frames_per_s=2)
        before.receive(*[b"face"] * 4, after_s=0.0)
        after = before.gone_on_with(frames_per_s=2)
        assert after.session.pause_s == before.session.pause_s == 1.5

    def test_abandoned(self) -> None:
        """What was open is abandoned before, and an answer that comes late reaches nobody."""
        before = Desk(freshness="every")
        before.feed(*[b"face"] * 5)
        before.send()
        (late,) = before.windows
        after = before.gone_on_with()
        late.deliver(Dropped.FULL)
        assert after.session.totals().outcomes[Outcome.ABANDONED] == 1
        assert sum(after.session.outcomes.values()) == after.session.received == 5
        assert after.session.next_message() is None

    def test_another_clock(self) -> None:
        """The window begins anew where times come from another clock, however near they are by chance."""
        before = Desk(freshness="every")
        before.feed(*[b"face"] * 4)
        after = before.gone_on_with(timestamps=True)
        after.feed(round(after.clock() * 1e6).to_bytes(8, "big") + b"face")
        assert after.windows == []

    def test_a_long_break(self) -> None:
        """After a break over the gap the window begins anew, whatever the client's clock says."""
        before = Desk(freshness="every", timestamps=True)
        before.feed(*[bytes(8) + b"face"] * 4)
        before.clock.advance(2.0)
        after = before.gone_on_with(timestamps=True)
        after.feed(bytes(8) + b"face")
        assert after.windows == []

    def test_a_worker_is_still_at_it(self) -> None:
        """The window that a worker may still change is left to it, and what comes is another face."""
        before = Desk(freshness="every")
        before.feed(*[b"face"] * 4)
        before.receive(b"face")
        resumed: list[Desk] = []
        before.look.during = lambda: resumed.append(before.gone_on_with())
        before.work()
        (after,) = resumed
        after.feed(*[b"face"] * 4)
        assert after.windows == []
        after.feed(b"face")
        after.windows[0].deliver(Scores([0.9, *[0.0] * 5, 0.1], 1, 0.0, 0.0, 0.0))
        prediction = after.send()[-1]
        assert isinstance(prediction, Prediction)
        assert prediction.faces[0].id == 1


def test_faces_are_told_with_the_prediction_that_was_sent() -> None:
    """The observer hears of the faces of what clients were told, and of no others."""
    desk = Desk(freshness="every")
    desk.feed(*[b"face"] * 6)
    desk.run()
    assert desk.recorder.faces == []
    message = desk.send()[-1]
    assert isinstance(message, Prediction)
    assert desk.recorder.faces == [*message.faces] * 2
    desk.feed(b"face")
    desk.run()
    desk.session.close()
    assert len(desk.recorder.faces) == 2


# Several faces


def several(count: int = 4, people: bytes = b"ab", **options: Any) -> Desk:
    """A desk that has looked at some frames with these people."""
    desk = Desk(faces=8, **options)
    desk.feed(*[people] * count)
    return desk


def settle_as_stuck(desk: Desk) -> None:
    """What the watchdog does about the frame that a worker is at."""
    desk.session.aborted(None)()


def faces_of(message: ServerMessage) -> list[tuple[int, str, object]]:
    """Id, state, and emotion or frames needed, of each face."""
    assert isinstance(message, Prediction)
    return [
        (face.id, face.state, face.frames_needed if face.state == "filling" else face.emotion) for face in message.faces
    ]


class TestSeveralFaces:
    def test_windows_fill(self) -> None:
        """Until one window is full the frame says how many frames are missing, and where the largest face is."""
        desk = several(3)
        desk.feed(b"abc")
        message = desk.send()[-1]
        assert isinstance(message, FrameOutcome)
        assert (message.outcome, message.detail["frames_needed"]) == (Outcome.WINDOW_FILLING, 1)
        assert message.detail["box"] == pytest.approx((0, 50, 99, 100), abs=0.1)

    def test_a_prediction_has_all_faces(self) -> None:
        """Largest first, each with its own window and emotion; one that is new fills beside them."""
        desk = several(4)
        desk.send()
        desk.feed(b"abc")
        assert desk.windows[0].key is desk.windows[1].key is desk.session
        assert [item.face for item in desk.windows] == [0, 1]
        first, second = desk.windows
        first.deliver(replace(scores(best=3), batch_size=5))
        assert desk.send() == []
        second.deliver(scores(best=4))
        (message,) = desk.send()
        assert isinstance(message, Prediction)
        assert message.batch_size == 5
        assert faces_of(message) == [(0, "ready", "happy"), (1, "ready", "sad"), (2, "filling", 4)]

    def test_a_filling_face(self) -> None:
        """It says where it is and how good its crop is, and nothing of emotions."""
        desk = several(4)
        desk.feed(b"abc")
        desk.run()
        message = desk.send()[-1]
        assert isinstance(message, Prediction)
        said = json.loads(encode(message))["faces"][2]
        assert set(said) == {"id", "box", "crop_box", "score", "state", "frames_needed", "quality"}

    def test_crops_are_never_mixed(self) -> None:
        """A face that was away for a frame has the crops of the frames it was in."""
        desk = several(4)
        desk.feed(b"b", b"ab")
        windows = {(item.face, tuple(int(crop[0, 0]) for crop in item.window)) for item in desk.windows}
        assert windows == {(1, (1, 2, 3, 4, 5)), (0, (1, 2, 3, 4, 6)), (1, (2, 3, 4, 5, 6))}

    def test_the_largest_only(self) -> None:
        """No more faces than were asked for."""
        desk = Desk(faces=2)
        desk.feed(*[b"abc"] * 5)
        desk.run()
        assert [face_id for face_id, _, _ in faces_of(desk.send()[-1])] == [0, 1]

    def test_no_face(self) -> None:
        """A frame without any face is told as ever."""
        desk = Desk(faces=2)
        desk.feed(b"", b"bad")
        assert desk.outcomes() == [(0, "no_face"), (1, "bad_image")]

    @pytest.mark.parametrize("lost", [Dropped.REPLACED, Dropped.EXPIRED, Dropped.FULL, RunnerFailed("x")])
    def test_one_is_not_answered(self, lost: Fate) -> None:
        """The frame is a prediction with the faces that were."""
        desk = several(5)
        first, second = desk.windows
        second.deliver(scores(best=4))
        first.deliver(lost)
        assert faces_of(desk.send()[-1]) == [(1, "ready", "sad")]

    def test_none_is_answered(self) -> None:
        """Then the frame's outcome is that of the largest face, and it is counted once."""
        desk = several(4)
        desk.feed(b"abc")
        first, second = desk.windows
        second.deliver(RunnerFailed("x"))
        first.deliver(Dropped.REPLACED)
        assert desk.outcomes()[-1] == (4, "superseded")
        assert desk.session.totals().outcomes == {Outcome.WINDOW_FILLING: 4, Outcome.SUPERSEDED: 1}

    def test_order(self) -> None:
        """A frame whose faces were answered before an older frame's waits for it."""
        desk = several(6, freshness="every")
        desk.send()
        old_a, old_b, new_a, new_b = desk.windows
        for item in (old_a, new_a, new_b):
            item.deliver(scores())
        assert desk.outcomes() == []
        old_b.deliver(scores())
        assert desk.outcomes() == [(4, "prediction"), (5, "prediction")]

    def test_a_frame_that_failed_holds_up_nobody(self) -> None:
        """Other outcomes overtake predictions, and those that come after go their way."""
        desk = several(6, freshness="every")
        desk.send()
        old_a, old_b, new_a, new_b = desk.windows
        new_a.deliver(Dropped.FULL)
        new_b.deliver(Dropped.FULL)
        assert desk.outcomes() == [(5, "overloaded")]
        old_a.deliver(scores())
        old_b.deliver(scores())
        assert desk.outcomes() == [(4, "prediction")]

    def test_a_worker_that_came_back(self) -> None:
        """A frame given up while a worker was with it holds up none that come later."""
        desk = several(4)
        desk.send()
        desk.receive(b"ab")
        desk.look.during = lambda: settle_as_stuck(desk)
        desk.work()
        desk.look.during = lambda: None
        assert desk.outcomes() == [(4, "failed")]
        desk.run()
        desk.feed(b"ab")
        desk.run()
        assert desk.outcomes() == [(5, "prediction")]

    def test_closed(self) -> None:
        """What runs when the client leaves is abandoned once, and its answers reach nobody."""
        desk = several(5)
        desk.session.close()
        desk.run()
        assert desk.send() == []
        assert desk.session.totals().outcomes[Outcome.ABANDONED] == 5

    def test_more_faces_from_now_on(self) -> None:
        """An update from one face to several: the face that was there keeps its id and its window."""
        desk = Desk()
        desk.feed(*[b"face"] * 4)
        desk.session.update(Options(faces=2), NETWORK)
        desk.feed(b"ab")
        assert [item.face for item in desk.windows] == [0]
        desk.run()
        assert faces_of(desk.send()[-1]) == [(0, "ready", "happy"), (1, "filling", 4)]

    def test_one_face_from_now_on(self) -> None:
        """An update from several faces to one: the largest keeps its id and its window, another gets a new id."""
        desk = several(4)
        desk.session.update(Options(faces=1), NETWORK)
        desk.feed(b"face")
        desk.run()
        assert faces_of(desk.send()[-1]) == [(0, "ready", "happy")]
        desk.feed(*[b"far"] * 5)
        desk.run()
        assert faces_of(desk.send()[-1]) == [(2, "ready", "happy")]

    def test_whole_pictures_have_one_face(self) -> None:
        """With region=whole the picture is the face, however many are asked for."""
        desk = Desk(faces=8, region="whole")
        desk.feed(*[b"face"] * 5)
        desk.run()
        assert faces_of(desk.send()[-1]) == [(0, "ready", "happy")]

    def test_resumed(self) -> None:
        """Ids and windows of all faces go on over a short break; after a long one the ids do."""
        before = several(4, freshness="every")
        after = before.gone_on_with(faces=8)
        after.feed(b"ab")
        assert [item.face for item in after.windows] == [0, 1]
        after.clock.advance(5.0)
        last = after.gone_on_with(faces=8)
        last.feed(*[b"ab"] * 4)
        assert last.windows == []
        last.feed(b"ab")
        assert [item.face for item in last.windows] == [0, 1]

    def test_more_faces_while_windows_wait(self) -> None:
        """The scheduler, which keeps the order of a face's windows, is told of the face that goes on as of the same."""
        desk = Desk()
        desk.feed(*[b"far"] * 5, *[b"face"] * 5)
        desk.session.update(Options(faces=2), NETWORK)
        desk.feed(b"ab")
        assert [item.face for item in desk.windows] == [0, 1, 1]

    def test_fewer_faces_while_windows_wait(self) -> None:
        """The one that goes on does not take the place of another's window, nor get before an older one of its own."""
        desk = several(1, people=b"b")
        desk.feed(*[b"ab"] * 5)
        desk.session.update(Options(faces=1), NETWORK)
        desk.feed(b"face")
        assert [item.face for item in desk.windows] == [0, 1, 0, 1]

    def test_one_face_after_a_frame_that_could_not_be_finished(self) -> None:
        """Of a face that was found and never cropped nothing goes on, and the session does."""
        desk = several(4, people=b"b")
        desk.look.several = desk.look.that_breaks  # type: ignore[method-assign]
        desk.receive(b"ab")
        with pytest.raises(ValueError, match="no finite place"):
            desk.session.work()
        desk.session.aborted(ValueError())()
        desk.session.update(Options(faces=1), NETWORK)
        desk.feed(b"face")
        assert desk.outcomes()[-2:] == [(4, "failed"), (5, "window_filling")]

    def test_another_network(self) -> None:
        """The windows of all faces begin anew."""
        desk = several(4)
        desk.session.update(Options(faces=8), replace(NETWORK, name="other"))
        desk.feed(b"ab")
        assert desk.windows == []


# Smoothing


def said(desk: Desk, *best: int, after_s: float = 0.1) -> list[FaceResult]:
    """The first face of the predictions for as many frames, by what the network sees in each."""
    faces = []
    for each in best:
        desk.feed(b"face", after_s=after_s)
        desk.run(scores(best=each))
        message = desk.send()[-1]
        assert isinstance(message, Prediction)
        faces.append(message.faces[0])
    return faces


class TestSmoothing:
    def test_off(self) -> None:
        """Without it what is smoothed is what the network said."""
        for face in said(filled(), 3, 4, 3):
            assert (face.smoothed, face.emotion) == (face.probabilities, face.raw_emotion)

    def test_on(self) -> None:
        """One frame of another emotion is seen in the raw scores and not in the label; if it lasts it is."""
        faces = said(filled(smoothing_ms=500), 3, 4, 3, *[4] * 8)
        assert [face.raw_emotion for face in faces[:3]] == ["happy", "sad", "happy"]
        assert [face.emotion for face in faces[:3]] == ["happy"] * 3
        assert faces[-1].emotion == "sad"
        share = 1 - math.exp(-0.1 / 0.5)
        first, second = faces[:2]
        assert first.smoothed == pytest.approx(first.probabilities, abs=1e-6)
        expected = {
            label: value * (1 - share) + second.probabilities[label] * share
            for label, value in first.probabilities.items()
        }
        assert second.smoothed == pytest.approx(expected, abs=1e-6)

    def test_uncertain_goes_by_what_is_shown(self) -> None:
        """In between two emotions the one that is shown is not probable enough to be sure of."""
        faces = said(filled(smoothing_ms=500), 3, *[4] * 8)
        shown = [face.smoothed[face.emotion] for face in faces]
        assert [face.uncertain for face in faces] == [probability < NETWORK.uncertain_below for probability in shown]
        assert {face.uncertain for face in faces} == {True, False}

    def test_off_for_a_while(self) -> None:
        """Where it was off it begins anew: what is shown does not go back to what it was before."""
        desk = filled(smoothing_ms=5000)
        said(desk, 3)
        for smoothing_ms in (0, 5000):
            desk.session.update(Options(smoothing_ms=smoothing_ms), NETWORK)
            (face,) = said(desk, 4)
            assert face.emotion == "sad"
            assert face.smoothed == pytest.approx(face.probabilities, abs=1e-6)

    def test_another_time_constant(self) -> None:
        """It goes on from where it is, by the constant that the frame came under."""
        desk = filled(smoothing_ms=5000)
        said(desk, 3)
        desk.feed(b"face", after_s=0.1)
        desk.session.update(Options(smoothing_ms=100), NETWORK)
        desk.feed(b"face", after_s=0.1)
        desk.run(scores(best=4))
        told = [message.faces[0].smoothed["sad"] for message in desk.send() if isinstance(message, Prediction)]
        low, high = (1 - 0.9) / 6, 0.9
        slow = high - (high - low) * math.exp(-0.1 / 5)
        assert told == pytest.approx([slow, high - (high - slow) * math.exp(-0.1 / 0.1)], abs=1e-6)

    def test_another_face(self) -> None:
        """A new id begins anew."""
        desk = filled(smoothing_ms=5000)
        said(desk, 3)
        desk.feed(*[b"far"] * 5)
        desk.run(scores(best=4))
        assert faces_of(desk.send()[-1]) == [(1, "ready", "sad")]

    def test_each_face_has_its_own(self) -> None:
        """What one face shows moves no other."""
        desk = several(6, smoothing_ms=5000, freshness="every")
        for item in desk.windows:
            item.deliver(scores(best=3 + item.face))
        assert [emotion for _, _, emotion in faces_of(desk.send()[-1])] == ["happy", "sad"]

    def test_over_a_break(self) -> None:
        """It goes on with the window, and begins anew where the window does."""
        before = filled(smoothing_ms=5000, freshness="every")
        said(before, 3)
        after = before.gone_on_with(smoothing_ms=5000)
        (face,) = said(after, 4)
        assert (face.raw_emotion, face.emotion) == ("sad", "happy")
        after.clock.advance(5.0)
        last = after.gone_on_with(smoothing_ms=5000)
        last.feed(*[b"face"] * 4)
        (face,) = said(last, 4)
        assert face.emotion == "sad"

    def test_over_a_break_with_another_clock(self) -> None:
        """It begins anew where times come from another clock, however near they are by chance."""
        before = filled(smoothing_ms=5000, freshness="every")
        said(before, 3)
        after = before.gone_on_with(smoothing_ms=5000, timestamps=True)
        for _ in range(5):
            after.feed(round(after.clock() * 1e6 + 40_000).to_bytes(8, "big") + b"face")
        after.run(scores(best=4))
        assert faces_of(after.send()[-1]) == [(0, "ready", "sad")]

    def test_an_answer_for_nobody(self) -> None:
        """What comes for a session that was gone on with moves nothing."""
        before = filled(smoothing_ms=5000, freshness="every")
        said(before, 3)
        before.feed(b"face")
        (late,) = before.windows
        after = before.gone_on_with(smoothing_ms=5000)
        late.deliver(scores(best=4))
        (face,) = said(after, 3)
        assert face.smoothed == pytest.approx(face.probabilities, abs=1e-6)
