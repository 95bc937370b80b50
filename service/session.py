"""One client: its inbox, the windows of its faces, and the one outcome of each of its frames.

The event loop calls everything but `Session.work` and `Session.aborted`, which a worker calls, one at a time. The two
sides meet in the inbox. What happens to a frame:

    received ──> inbox ──> looked at ──> window queued ──> run ──┐
        │          │           │              │                   ├──> outgoing ──> sent (counted)
        └──────────┴───────────┴──────────────┴───────────────────┘

A frame with several faces has a window for each, and its answer once all of them have theirs.

A frame is *open* from the moment it is received until its outcome is handed to the transport, and is counted exactly
then; whatever is still open when the client is gone is ``abandoned``. So received = sum of outcomes + open, always.
"""

import math
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from msgspec import structs

from service.answers import Answer, Smoothed, answer_of, filling, filling_beside, message_of, together
from service.errors import BadImage, ImageTooLarge
from service.inference.models import LoadedNetwork
from service.inference.scheduler import Delivery, Fate, WindowItem
from service.limits import TokenBucket
from service.protocol import (
    MAX_IN_FLIGHT,
    FaceResult,
    FramesOutcome,
    Freshness,
    Options,
    Outcome,
    ServerMessage,
    Totals,
    split_timestamp,
)
from service.smoothing import Smoothing
from service.vision.crop import CropGeometry
from service.vision.group import Group
from service.vision.look import Look, Sighting, StageTimes
from service.vision.window import Stride, Window

_MOST_OPEN: Mapping[Freshness, int] = {"latest": 64, "every": MAX_IN_FLIGHT["every"]}


_MOST_REFUSED_PER_S = 200
"""Frames over the rate of a `latest` session that are read, to be refused; cameras send fewer. A flood is not read."""


_TOLD_AS_RANGE = frozenset({Outcome.SUPERSEDED, Outcome.RATE_LIMITED})
"""Outcomes that come in runs, and say nothing of the single frame."""
_CLOCK_MEMORY_S = 30.0
_SOURCE_CHANGED_S = 1.0


class FrameObserver(Protocol):
    """Who wants to know of frames; called on the event loop."""

    def frame_received(self, size_bytes: int) -> None:
        """A binary message came."""
        ...

    def frame_done(
        self, outcome: Outcome, times: StageTimes, total_s: float, age_s: float, faces: Sequence[FaceResult] = ()
    ) -> None:
        """The outcome of a frame is decided; ``faces`` of a prediction."""
        ...


class FrameTracer(Protocol):
    """Who may make a trace of a frame; called on the event loop once all is known of it."""

    def frame_done(
        self,
        frame: "Frame",
        answer: Answer,
        *,
        done_s: float,
        age_s: float,
        encoding_s: float | None,
        encoded_s: float | None,
    ) -> None:
        """The frame is done at ``done_s``; its answer was encoded from then to then, if it was sent one."""
        ...


@dataclass(eq=False, slots=True)
class Frame:
    """One binary message. ``taken_s``: when it was captured, on the server's clock, as far as is known."""

    seq: int
    jpeg: bytes
    size_bytes: int
    options: Options
    network: LoadedNetwork
    received_s: float
    taken_s: float
    captured_us: int | None = None
    refused: BadImage | None = None
    answer: Answer | None = None
    answered: bool = False
    times: StageTimes = field(default_factory=StageTimes)

    @property
    def moment_s(self) -> float:
        """When it was captured, on the client's clock if that is known, so that spans between frames are true."""
        return self.received_s if self.captured_us is None else self.captured_us / 1e6

    @property
    def has_several(self) -> bool:
        """Whether several faces are looked for."""
        return self.options.faces > 1 and self.options.region == "detect"

    @property
    def expires_s(self) -> float | None:
        """When the frame is older than its ``max_age_ms``."""
        max_age_ms = self.options.max_age_ms
        return None if max_age_ms is None else self.taken_s + max_age_ms / 1000


@dataclass(eq=False, slots=True)
class _Outgoing:
    """Frames with one answer; several only where they are a run of ``superseded``."""

    frames: list[Frame]
    answer: Answer


@dataclass(eq=False, slots=True)
class _Face:
    """What is kept of one face: the worker its window, the event loop its smoothing."""

    window: Window
    smoothing: Smoothing

    def smoothed(self, frame: Frame) -> Smoothed | None:
        """How to smooth what comes of a frame, if at all; what was smoothed before one that is not is forgotten."""
        if not frame.options.smoothing_ms:
            self.smoothing.clear()
            return None
        return Smoothed(self.smoothing, frame.options.smoothing_ms / 1000, frame.moment_s)


class _Gathering:
    """The answers for the faces of one frame, as they come in; the one for the frame once all are there."""

    def __init__(self, answers: list[Answer | None]) -> None:
        """``answers``: by face, largest first; None for those that are to come."""
        self._answers = answers
        self._missing = answers.count(None)

    def add(self, place: int, answer: Answer) -> Answer | None:
        """The answer for the face at ``place`` came."""
        self._answers[place] = answer
        self._missing -= 1
        return None if self._missing else together([answer for answer in self._answers if answer is not None])


class CaptureClock:
    """Capture times on the server's clock: the fastest frame of the last half minute counts as undelayed.

    Forgetting makes up for clocks that do not run alike; stamps that go back by over a second are another source.
    """

    def __init__(self) -> None:
        """No frame seen yet."""
        self._captured_s = -math.inf
        self._offset_s = self._offset_before_s = math.inf
        self._since_s = -math.inf

    def taken_s(self, captured_us: int, received_s: float) -> float:
        """When a frame captured at ``captured_us`` (client's clock) was taken, in the seconds of ``received_s``."""
        captured_s = captured_us / 1e6
        if captured_s < self._captured_s - _SOURCE_CHANGED_S:
            self._offset_s = self._offset_before_s = math.inf
        if received_s - self._since_s > _CLOCK_MEMORY_S / 2:
            self._offset_before_s, self._offset_s, self._since_s = self._offset_s, math.inf, received_s
        self._captured_s = captured_s
        self._offset_s = min(self._offset_s, received_s - captured_s)
        return captured_s + min(self._offset_s, self._offset_before_s)


class Session:
    """One client's frames. See the module for which thread calls what."""

    def __init__(
        self,
        identity: str,
        options: Options,
        network: LoadedNetwork,
        *,
        look: Look,
        gap_reset_s: float,
        max_frame_bytes: int,
        observer: FrameObserver,
        tracer: FrameTracer | None = None,
        on_change: Callable[[], None],
        clock: Callable[[], float],
        rate: TokenBucket | None = None,
        before: "Session | None" = None,
    ) -> None:
        """``on_change`` is called on the event loop when there may be a message to send or room for a frame.

        ``rate``: frames it may send; None for any number. ``before``: the session that this one goes on with; it must
        be closed.
        """
        self.identity = identity
        self.options = structs.replace(options, model=network.lane)
        self.network = network
        self.blocked_since_s: float | None = None
        self.started_s = self.last_activity_s = clock()
        self.received = 0
        self.outcomes: Counter[Outcome] = Counter()
        self._look = look
        self._max_frame_bytes = max_frame_bytes
        self._observer = observer
        self._tracer = tracer
        self._on_change = on_change
        self._clock = clock
        self._rate = rate
        self._refusals = TokenBucket(_MOST_REFUSED_PER_S, self.started_s)
        self._capture_clock = CaptureClock()
        self._stride = Stride(options.stride)
        self._open: dict[int, Frame] = {}
        self._outgoing: deque[_Outgoing] = deque()
        self._sending: _Outgoing | None = None
        # Shared with the worker:
        self._lock = threading.Lock()
        self._inbox: deque[Frame] = deque()
        # Frames whose windows run, in order: appended to by the worker, taken from by the event loop.
        self._running: deque[Frame] = deque()
        # The worker's own:
        self._gap_reset_s = gap_reset_s
        self._ids = count()
        self._face = self._new_face()
        self._follower = look.follower()
        self._group: Group | None = None  # While several faces are looked for, with all their windows.
        self._faces: dict[int, _Face] = {}
        self._seen_as: tuple[str, CropGeometry, str] | None = None
        self._at_work: Frame | None = None
        if before is not None:
            self._go_on_with(before)

    def _go_on_with(self, before: "Session") -> None:
        """Take over totals and face ids, and windows and smoothing if what comes may be one motion with them."""
        self.received, self.outcomes = before.received, before.outcomes.copy()
        self.started_s, self._rate = before.started_s, before._rate  # noqa: SLF001
        with before._lock:  # noqa: SLF001 - a session like this one
            is_left = before._at_work is None  # noqa: SLF001
        self._ids = before._ids  # noqa: SLF001
        if not is_left:  # A worker still changes its windows.
            self._face = self._new_face()
            return
        self._face, self._seen_as = before._face, before._seen_as  # noqa: SLF001
        self._follower.go_on_with(before._follower.picture)  # noqa: SLF001
        self._group, self._faces = before._group, before._faces  # noqa: SLF001
        same_clock = self.options.timestamps == before.options.timestamps
        if not same_clock or self._clock() - before.last_activity_s > self._gap_reset_s:
            self._clear_windows()
            for face in (self._face, *self._faces.values()):
                face.smoothing.clear()

    # Event loop: frames in

    @property
    def has_room(self) -> bool:
        """Whether the next message should be read: in `every` no further than the credit.

        In `latest` a client that ignores its credit is read on, since newer frames replace the waiting one, up to a
        bound that only one that floods or does not read comes to.
        """
        return len(self._open) < _MOST_OPEN[self.options.freshness]

    @property
    def pause_s(self) -> float:
        """Seconds until the next frame may be read. In `latest` what comes too fast is answered so, up to a rate."""
        if self._rate is None:
            return 0.0
        return (self._rate if self.options.freshness == "every" else self._refusals).wait_s(self._clock())

    @property
    def has_frames(self) -> bool:
        """Whether a frame waits for a worker. While the client does not read its answers none is worth the work."""
        return bool(self._inbox) and not (self._blocked and self.options.freshness == "latest")

    def receive(self, message: bytes) -> None:
        """Take a binary message: it gets the next seq, and an outcome."""
        now_s = self._clock()
        self.last_activity_s = now_s
        frame = Frame(self.received, message, len(message), self.options, self.network, now_s, now_s)
        self.received += 1
        self._open[frame.seq] = frame
        self._observer.frame_received(frame.size_bytes)
        self._read_stamp(frame)
        if self._rate is not None:
            if self.options.freshness == "every":
                self._rate.owe(now_s)  # The next one is read when it is due, see `pause_s`.
            elif not self._rate.take(now_s):
                self._refusals.owe(now_s)
                self._settle(frame, Answer(Outcome.RATE_LIMITED))
                return
        # Nothing is looked at while a `latest` client does not read; skipping every other frame would say too much.
        looked_at = not self._blocked or self.options.freshness == "every"
        if looked_at and not self._stride.takes(frame.captured_us):
            self._settle(frame, Answer(Outcome.SKIPPED))
            return
        with self._lock:
            replaced = self._replaced_by(frame)
            self._inbox.append(frame)
        for old in replaced:
            self._settle(old, Answer(Outcome.SUPERSEDED))

    def touch(self) -> None:
        """The client said something."""
        self.last_activity_s = self._clock()

    def update(self, options: Options, network: LoadedNetwork) -> None:
        """Options and network for the frames from the next one on."""
        if options.stride != self.options.stride or options.timestamps != self.options.timestamps:
            self._stride = Stride(options.stride)
        if options.timestamps != self.options.timestamps:
            self._capture_clock = CaptureClock()
        self.options, self.network = structs.replace(options, model=network.lane), network

    def _replaced_by(self, frame: Frame) -> list[Frame]:
        """Take the frames out of the inbox that ``frame`` makes stale: those that came under `latest`, as it did."""
        if frame.options.freshness == "every":
            return []
        replaced = [waiting for waiting in self._inbox if waiting.options.freshness == "latest"]
        for old in replaced:
            self._inbox.remove(old)
        return replaced

    def _read_stamp(self, frame: Frame) -> None:
        """Split the capture time off; a message that is too large is not kept."""
        try:
            if frame.options.timestamps:
                frame.captured_us, frame.jpeg = split_timestamp(frame.jpeg)
                frame.taken_s = self._capture_clock.taken_s(frame.captured_us, frame.received_s)
            if len(frame.jpeg) > self._max_frame_bytes:
                raise ImageTooLarge(f"The frame has {len(frame.jpeg)} bytes; at most {self._max_frame_bytes} are taken")
        except BadImage as error:
            frame.refused, frame.jpeg = error, b""

    # Worker

    def work(self) -> WindowItem | tuple[WindowItem, ...] | Delivery | None:
        """Look at the frame that has waited longest: its windows, or its answer if it comes to none."""
        with self._lock:
            frame = self._at_work = self._inbox.popleft() if self._inbox else None
        if frame is None:
            return None
        step = self._step(frame)
        self._at_work = None
        if isinstance(step, Answer):
            return self._answering(frame, step)
        self._running.append(frame)
        return step

    def aborted(self, error: Exception | None) -> Delivery:
        """The answer for the frame that `work` could not finish."""
        frame, self._at_work = self._at_work, None
        if frame is None:
            return lambda: None
        reason = "stuck" if error is None else type(error).__name__
        return self._answering(frame, Answer(Outcome.FAILED, {"reason": reason}))

    def _step(self, frame: Frame) -> WindowItem | tuple[WindowItem, ...] | Answer:
        now_s = self._clock()
        frame.times.wait = now_s - frame.received_s
        if frame.expires_s is not None and now_s >= frame.expires_s:
            return Answer(Outcome.EXPIRED)
        try:
            if frame.refused is not None:
                raise frame.refused
            if frame.has_several:
                return self._enter_all(frame, self._see_all(frame))
            self._leave_group()
            sighting = self._look(
                frame.jpeg,
                frame.options.region,
                frame.network.geometry,
                frame.times,
                follower=self._follower,
                time_s=frame.moment_s,
            )
        except BadImage as error:
            return Answer(Outcome.BAD_IMAGE, {"reason": error.reason, "message": str(error)})
        finally:
            frame.jpeg = b""  # The frame stays open until its answer is sent, and needs its bytes no more.
        if sighting is None:
            return Answer(Outcome.NO_FACE)
        return self._enter(frame, sighting)

    def _see_all(self, frame: Frame) -> list[tuple[int, Sighting]]:
        """Ids and faces, largest first."""
        if self._group is None:
            self._begin_group()
        assert self._group is not None
        return self._look.several(
            frame.jpeg,
            frame.network.geometry,
            frame.times,
            group=self._group,
            time_s=frame.moment_s,
            most=frame.options.faces,
        )

    def _enter(self, frame: Frame, sighting: Sighting) -> WindowItem | Answer:
        """Put the crop into the window; the window if it is full."""
        self._see_as(frame)
        face = self._face
        is_another = self._follower.is_another and frame.options.region == "detect"
        face.window.push(sighting.crop, sighting.box, frame.moment_s, is_another=is_another)
        if needed := face.window.frames_needed:
            return filling(needed, sighting.box)
        return self._item(frame, face, sighting, face.window.face_id)

    def _enter_all(self, frame: Frame, seen: list[tuple[int, Sighting]]) -> tuple[WindowItem, ...] | Answer:
        """Put each crop into its face's window; the windows that are full."""
        assert self._group is not None
        self._see_as(frame)
        if not seen:
            return Answer(Outcome.NO_FACE)
        known = self._group.ids
        self._faces = {face_id: face for face_id, face in self._faces.items() if face_id in known}
        answers: list[Answer | None] = []
        for face_id, sighting in seen:
            if (face := self._faces.get(face_id)) is None:
                face = self._faces[face_id] = self._new_face(face_id)
            window = face.window
            window.add(sighting.crop, sighting.box, frame.moment_s)
            needed = window.frames_needed
            answers.append(filling_beside(needed, sighting, face_id) if needed else None)
        if None not in answers:
            return together([answer for answer in answers if answer is not None])
        gathering = _Gathering(answers)
        return tuple(
            self._item(frame, self._faces[face_id], sighting, face_id, gathering, place)
            for place, (face_id, sighting) in enumerate(seen)
            if answers[place] is None
        )

    def _item(
        self,
        frame: Frame,
        face: _Face,
        sighting: Sighting,
        face_id: int,
        gathering: _Gathering | None = None,
        place: int = 0,
    ) -> WindowItem:
        """The full window of a face; ``place``: of its answer among those of the frame's other faces."""

        def deliver(fate: Fate) -> None:
            if frame.seq not in self._open:  # It is nobody's, and the face may be another session's by now.
                self._conclude(frame, Answer(Outcome.ABANDONED))
                return
            answer = answer_of(fate, frame.network, sighting, face_id, frame.times, face.smoothed(frame))
            if gathering is None:
                self._conclude(frame, answer)
            elif (whole := gathering.add(place, answer)) is not None:
                self._conclude(frame, whole)

        return WindowItem(
            key=self,
            face=face_id,
            lane=frame.network.lane,
            window=face.window.crops(),
            replaces=frame.options.freshness == "latest",
            deliver=deliver,
            expires_s=frame.expires_s,
        )

    def _see_as(self, frame: Frame) -> None:
        """Begin windows anew where crops are not as they were.

        Another version takes windows over as they are, if it takes the same crops.
        """
        seen_as = frame.network.name, frame.network.geometry, frame.options.region
        if self._seen_as != seen_as:
            self._clear_windows()
            self._seen_as = seen_as

    def _new_face(self, face_id: int = -1) -> _Face:
        return _Face(Window(self._gap_reset_s, self._ids, face_id), Smoothing(self._gap_reset_s))

    def _clear_windows(self) -> None:
        for face in (self._face, *self._faces.values()):
            face.window.clear()

    def _begin_group(self) -> None:
        """Look for several faces from now on; the one that was there goes on."""
        self._group, window = self._look.group(self._ids, self._gap_reset_s), self._face.window
        if window.last is not None:
            self._group.begin(window.face_id, *window.last, self._follower.picture)
            self._faces = {window.face_id: self._face}

    def _leave_group(self) -> None:
        """Look for one face from now on: the largest of those that were there goes on."""
        if self._group is None:
            return
        # Of one that was found in a frame that could not be finished there is nothing to go on with.
        largest = None if self._group.largest is None else self._faces.get(self._group.largest)
        self._face = largest or self._new_face()
        self._follower = self._look.follower()
        if largest is not None:
            self._follower.go_on_with(self._group.picture(largest.window.face_id))
        self._group, self._faces = None, {}

    def _answering(self, frame: Frame, answer: Answer) -> Delivery:
        return lambda: self._settle(frame, answer)

    # Event loop: answers out

    @property
    def _blocked(self) -> bool:
        return self.blocked_since_s is not None

    @property
    def is_settled(self) -> bool:
        """Whether every frame received has its outcome sent."""
        return not self._open

    @property
    def in_flight(self) -> int:
        """Frames received whose outcome is not sent."""
        return len(self._open)

    def totals(self) -> Totals:
        """Frames received, and how many had each outcome."""
        return Totals(received=self.received, outcomes=dict(self.outcomes))

    def block(self) -> None:
        """The transport's buffer is over its mark."""
        self.blocked_since_s = self._clock()

    def unblock(self) -> None:
        """The transport takes messages again."""
        self.blocked_since_s = None

    def next_message(self) -> ServerMessage | None:
        """The next message to send, or None; tell `sent` once it is with the transport."""
        if not self._outgoing:
            return None
        out = self._sending = self._outgoing.popleft()
        frame, now_s = out.frames[0], self._clock()
        if out.answer.outcome is Outcome.PREDICTION and frame.expires_s is not None and now_s >= frame.expires_s:
            out.answer = Answer(Outcome.EXPIRED)
        if len(out.frames) > 1:
            return FramesOutcome(first=frame.seq, last=out.frames[-1].seq, outcome=out.answer.outcome)
        return message_of(
            out.answer,
            seq=frame.seq,
            age_s=_age_s(frame, now_s),
            total_s=now_s - frame.received_s,
            times=frame.times,
            captured_us=frame.captured_us,
        )

    def sent(self, encoding_s: float, encoded_s: float) -> None:
        """The message of `next_message` is with the transport: its frames are done.

        It was encoded from ``encoding_s`` to ``encoded_s``, on the session's clock.
        """
        out, self._sending = self._sending, None
        assert out is not None
        for frame in out.frames:
            self._done(frame, out.answer, encoding_s, encoded_s)
        self.last_activity_s = self._clock()
        self._on_change()

    def close(self) -> None:
        """The client is gone, or said all it had to: what is still open is ``abandoned``."""
        with self._lock:
            self._inbox.clear()
        self._outgoing.clear()
        self._running.clear()
        self._on_change = lambda: None  # A session that is kept must not keep its connection.
        for frame in list(self._open.values()):
            self._done(frame, Answer(Outcome.ABANDONED))

    def _conclude(self, frame: Frame, answer: Answer) -> None:
        """Settle a frame whose windows have run. Predictions keep the order of their frames, whichever ran first."""
        frame.answer = answer
        if answer.outcome is not Outcome.PREDICTION:
            self._settle(frame, answer)
        while self._running and (first := self._running[0]).answer is not None:
            self._running.popleft()
            self._settle(first, first.answer)

    def _settle(self, frame: Frame, answer: Answer) -> None:
        """Line an answer up. The first counts; for a frame that is not open (its client is gone) this is nothing."""
        if frame.answered or frame.seq not in self._open:
            return
        frame.answered = True
        frame.jpeg = b""  # Answers may wait for a client that does not read; pictures must not.
        if self._blocked and self.options.freshness == "latest":
            self._supersede_outgoing(answer)
        last = self._outgoing[-1] if self._outgoing else None
        if last is not None and _continues(last, frame, answer):
            last.frames.append(frame)
        else:
            self._outgoing.append(_Outgoing([frame], answer))
        self._on_change()

    def _supersede_outgoing(self, newer: Answer) -> None:
        """A prediction that a blocked client has not taken is stale once there is a newer one."""
        if newer.outcome is not Outcome.PREDICTION:
            return
        waiting, self._outgoing = self._outgoing, deque()
        for out in waiting:
            stale = out.answer.outcome is Outcome.PREDICTION and out.frames[0].options.freshness == "latest"
            answer = Answer(Outcome.SUPERSEDED) if stale else out.answer
            last = self._outgoing[-1] if self._outgoing else None
            if last is not None and _continues(last, out.frames[0], answer):
                last.frames.extend(out.frames)
            else:
                self._outgoing.append(_Outgoing(out.frames, answer))

    def _done(
        self, frame: Frame, answer: Answer, encoding_s: float | None = None, encoded_s: float | None = None
    ) -> None:
        if self._open.pop(frame.seq, None) is None:
            return
        self.outcomes[answer.outcome] += 1
        now_s = self._clock()
        age_s = _age_s(frame, now_s)
        self._observer.frame_done(answer.outcome, frame.times, now_s - frame.received_s, age_s, answer.faces)
        if self._tracer is not None:
            self._tracer.frame_done(
                frame, answer, done_s=now_s, age_s=age_s, encoding_s=encoding_s, encoded_s=encoded_s
            )


def _continues(out: _Outgoing, frame: Frame, answer: Answer) -> bool:
    same = answer.outcome is out.answer.outcome and answer.outcome in _TOLD_AS_RANGE
    return same and out.frames[-1].seq + 1 == frame.seq


def _age_s(frame: Frame, now_s: float) -> float:
    return max(0.0, now_s - frame.taken_s)
