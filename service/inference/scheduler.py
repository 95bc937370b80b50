"""What runs next: the frames of sessions in turn, and batches of the windows that came of them.

No threads, no clock and no I/O: `service.inference.workers` owns the lock under which every method is called and the
threads that carry the work out.

There are two kinds of work. A *turn* takes one frame of a source (a session, a REST call) from bytes to a window. A
*batch* runs waiting windows through a network. A worker that asks for work gets a batch

- when no frame waits (a lone window leaves at once: there is no timer), or
- when a full batch waits, or
- when the oldest window has waited for ``hold_s``,

and else the next frame. So windows leave together exactly when workers are busy anyway; workers that are free share
what waits. The obvious rule, windows first, would make every batch at saturation a batch of one: the worker that made a
window would always take it itself.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice, takewhile
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from service.errors import Overloaded, RunnerFailed
from service.inference.batch import Runner

STREAM_TURNS_PER_PREDICT_TURN = 3
"""REST is a class of its own: while both wait, it gets every fourth turn, however many sessions there are."""

BatchReason = Literal["idle", "full", "held"]


@dataclass(frozen=True, slots=True)
class Scores:
    """What a network says of a window: a probability per class, and how it got there (seconds).

    ``ran_s``: when its batch began to run, on the workers' clock.
    """

    probabilities: Sequence[float]
    batch_size: int
    queue_s: float
    infer_s: float
    ran_s: float


class Dropped(Enum):
    """Why a window was not run."""

    REPLACED = "replaced"
    EXPIRED = "expired"
    FULL = "full"
    STUCK = "stuck"
    CLOSING = "closing"


Fate = Scores | Dropped | RunnerFailed


@dataclass(eq=False, slots=True)
class WindowItem:
    """Five crops uint8 [48, 48], oldest first, that wait for a batch of their lane.

    Windows of one ``face`` of one ``key`` (a session) are run in the order they came, whatever their lanes. With
    ``replaces`` a newer window takes the place of the newest that waits, if that is of its lane and may be replaced as
    well (it is ``Dropped.REPLACED``); without, they queue up. Keys take turns, so that eight faces of one get no more
    than the single face of another. After ``expires_s`` it is not run any more. ``deliver`` is told its fate, once, on
    the event loop.
    """

    key: Hashable
    lane: str
    window: Sequence[NDArray[np.uint8]]
    replaces: bool
    deliver: Callable[[Fate], None]
    expires_s: float | None = None
    face: int = 0
    waiting_since_s: float = 0.0


Delivery = Callable[[], None]
"""Something to be done on the event loop."""


class Source(Protocol):
    """Whose frames wait for a worker. At most one worker is with a source at a time, which keeps its order."""

    @property
    def has_frames(self) -> bool:
        """Whether a frame waits."""
        ...

    def work(self) -> WindowItem | tuple[WindowItem, ...] | Delivery | None:
        """Take the next frame; its window, those of its faces, or what to tell the event loop. Runs on a worker."""
        ...

    def aborted(self, error: Exception | None) -> Delivery:
        """What to tell the event loop when `work` raised ``error``, or (None) did not come back."""
        ...


SourceKind = Literal["stream", "predict"]


@dataclass(eq=False, slots=True)
class Turn:
    """One frame of a source."""

    source: Source
    kind: SourceKind


@dataclass(eq=False, slots=True)
class Batch:
    """Windows that run together; ``expired`` ones came too late and are only to be told so."""

    lane: str
    runner: Runner
    items: list[WindowItem]
    expired: list[WindowItem]
    reason: BatchReason


Work = Turn | Batch


@dataclass(eq=False, slots=True)
class _Queue:
    """The waiting windows of one face of a key, of whatever lane, oldest first, and since when it waits for a turn."""

    since_s: float = 0.0
    items: deque[WindowItem] = field(default_factory=deque)


_Faces = dict[int, _Queue]
"""Queues of one key, by face, in the order of their turns."""


class _Lane:
    """Keys that wait for a batch of one model, in turn: faces whose oldest window is of it, and of which none runs."""

    def __init__(self, name: str, runner: Runner, max_batch: int) -> None:
        self.name = name
        self.runner = runner
        self.max_batch = max_batch
        self.parallel = True
        self.running = 0
        self.waiting: OrderedDict[Hashable, _Faces] = OrderedDict()

    @property
    def may_run(self) -> bool:
        """Whether a batch may be handed out now."""
        return bool(self.waiting) and (self.parallel or not self.running)

    @property
    def fills_a_batch(self) -> bool:
        """Whether as many windows wait as one batch takes; looks at no more than that."""
        waiting = (item for faces in self.waiting.values() for queue in faces.values() for item in self._own(queue))
        return next(islice(waiting, self.max_batch - 1, None), None) is not None

    @property
    def since_s(self) -> float:
        """Since when the face waits whose turn is next."""
        return next(iter(next(iter(self.waiting.values())).values())).since_s

    def share(self, workers: int) -> int:
        """How many faces a batch may hold, if as many workers share what waits."""
        return math.ceil(sum(map(len, self.waiting.values())) / workers)

    def line_up(self, key: Hashable, face: int, queue: _Queue) -> None:
        """Have a face wait behind the others of its key, and a key behind the other keys."""
        self.waiting.setdefault(key, {})[face] = queue

    def take(
        self, now_s: float, most_faces: int
    ) -> tuple[list[WindowItem], list[WindowItem], dict[tuple[Hashable, int], _Queue]]:
        """Up to a batch of items, keys in turn, the expired ones met on the way, and the queues they are of.

        A face takes its next turn once the batch is done, so that no two batches hold it.
        """
        items: list[WindowItem] = []
        expired: list[WindowItem] = []
        taken: dict[tuple[Hashable, int], _Queue] = {}
        while self.waiting and len(items) < self.max_batch and len(taken) < most_faces:
            key, faces = self.waiting.popitem(last=False)
            face = next(iter(faces))
            taken[key, face] = queue = faces.pop(face)
            self._take_one(queue, now_s, items, expired)
            if queue.items and self._leads(queue):
                faces[face] = queue
            if faces:
                self.waiting[key] = faces
        while len(items) < self.max_batch and any(self._leads(queue) for queue in taken.values()):
            for queue in taken.values():
                if len(items) < self.max_batch:
                    self._take_one(queue, now_s, items, expired)
        for key, face in taken if self.waiting else ():
            if (left := self.waiting.get(key)) is not None:
                left.pop(face, None)
                if not left:
                    del self.waiting[key]
        return items, expired, taken

    def _take_one(self, queue: _Queue, now_s: float, items: list[WindowItem], expired: list[WindowItem]) -> None:
        """Move the first item that is still fresh to ``items``, and the stale ones before it to ``expired``."""
        while self._leads(queue):
            item = queue.items.popleft()
            if item.expires_s is None or now_s < item.expires_s:
                items.append(item)
                return
            expired.append(item)

    def _leads(self, queue: _Queue) -> bool:
        return bool(queue.items) and queue.items[0].lane == self.name

    def _own(self, queue: _Queue) -> Iterator[WindowItem]:
        """The windows that may run before those of another lane."""
        return takewhile(lambda item: item.lane == self.name, queue.items)


def _replaces(newer: WindowItem, older: WindowItem) -> bool:
    return newer.replaces and older.replaces and newer.lane == older.lane


class Scheduler:
    """Decides what a free worker does next. Not thread-safe; see the module."""

    def __init__(self, *, max_waiting: int, hold_s: float) -> None:
        """``max_waiting``: windows that may wait in all lanes; ``hold_s``: see the module."""
        self._max_waiting = max_waiting
        self._hold_s = hold_s
        self._lanes: dict[str, _Lane] = {}
        self._queues: dict[Hashable, _Faces] = {}
        self._turns: dict[SourceKind, OrderedDict[Source, None]] = {"stream": OrderedDict(), "predict": OrderedDict()}
        self._at_work: set[Source] = set()
        self._running: set[tuple[Hashable, int]] = set()
        self._stream_turns = 0
        self._waiting_windows = 0

    @property
    def waiting_windows(self) -> int:
        """Windows that wait for a batch."""
        return self._waiting_windows

    @property
    def waiting_turns(self) -> int:
        """Sources that wait for a worker."""
        return len(self._turns["stream"]) + len(self._turns["predict"])

    @property
    def has_work(self) -> bool:
        """Whether a free worker would get something."""
        return bool(self.waiting_turns) or any(lane.may_run for lane in self._lanes.values())

    def add_lane(self, name: str, runner: Runner, max_batch: int, *, parallel: bool = True) -> None:
        """Open a lane for a model. A lane that exists gets the new runner from its next batch on.

        Without ``parallel`` one batch of the lane runs at a time, and what comes meanwhile makes the next one larger.
        """
        lane = self._lanes.setdefault(name, _Lane(name, runner, max_batch))
        lane.runner, lane.max_batch, lane.parallel = runner, max_batch, parallel

    def close_lane(self, name: str) -> Runner:
        """Forget a lane; its runner. No window may be of it any more, waiting or running."""
        lane = self._lanes[name]
        assert not lane.waiting
        assert not lane.running
        del self._lanes[name]
        return lane.runner

    def ready(self, source: Source, kind: SourceKind) -> bool:
        """A source has frames: give it a turn, unless it has one. Whether a worker should wake."""
        if source in self._at_work or source in self._turns[kind]:
            return False
        self._turns[kind][source] = None
        return True

    def forget(self, source: Source) -> None:
        """The source wants no more turns; one that runs is let finish."""
        for turns in self._turns.values():
            turns.pop(source, None)

    def submit(self, item: WindowItem, now_s: float) -> WindowItem | None:
        """Queue a window; the older one that it replaced, if any.

        Raises:
            Overloaded: as many windows wait as may; nothing was queued. Replacing needs no room.
        """
        faces = self._queues.get(item.key)
        queue = None if faces is None else faces.get(item.face)
        if queue is not None and _replaces(item, replaced := queue.items[-1]):
            item.waiting_since_s = now_s
            queue.items[-1] = item
            return replaced
        if self._waiting_windows >= self._max_waiting:
            raise Overloaded(f"{self._waiting_windows} windows wait; no more are taken")
        item.waiting_since_s = now_s
        self._waiting_windows += 1
        if queue is not None:
            queue.items.append(item)
        else:
            self._queues.setdefault(item.key, {})[item.face] = _Queue(items=deque([item]))
            self._line_up(item.key, item.face, now_s)
        return None

    def drop(self, key: Hashable) -> list[WindowItem]:
        """Remove the waiting windows of a key whose caller is gone; one that runs is let finish."""
        dropped = [item for queue in self._queues.pop(key, {}).values() for item in queue.items]
        for lane in {item.lane: None for item in dropped}:
            self._lanes[lane].waiting.pop(key, None)
        self._waiting_windows -= len(dropped)
        return dropped

    def next(self, now_s: float, others: int = 0) -> Work | None:
        """What a free worker does now, while as many ``others`` are free; None when there is nothing to do."""
        oldest: tuple[_Lane, BatchReason] | None = None
        for lane in self._lanes.values():
            if lane.may_run and (reason := self._batch_reason(lane, now_s)) is not None:
                if oldest is not None and oldest[0].since_s <= lane.since_s:
                    continue
                oldest = lane, reason
        return self._turn() if oldest is None else self._batch(*oldest, now_s, others)

    def done(self, work: Work, now_s: float) -> None:
        """A worker finished what `next` gave it."""
        if isinstance(work, Turn):
            self._at_work.discard(work.source)
            if work.source.has_frames and self.ready(work.source, work.kind) and work.kind == "predict":
                # A call is of use only once its last frame is done: first come, first finished.
                self._turns["predict"].move_to_end(work.source, last=False)
            return
        self._lanes[work.lane].running -= 1
        for who in {(item.key, item.face): None for item in work.items}:  # Each once, in order.
            self._running.discard(who)
            if who[0] in self._queues:
                self._line_up(*who, now_s)

    def close(self) -> list[WindowItem]:
        """Forget all that waits; the windows, so that each can be told."""
        for turns in self._turns.values():
            turns.clear()
        waiting = [item for faces in self._queues.values() for queue in faces.values() for item in queue.items]
        self._queues.clear()
        for lane in self._lanes.values():
            lane.waiting.clear()
        self._waiting_windows = 0
        return waiting

    def _line_up(self, key: Hashable, face: int, now_s: float) -> None:
        """Have a face wait for a turn in the lane of its oldest window, unless one of its windows runs."""
        faces = self._queues.get(key)
        queue = None if faces is None else faces.get(face)
        if queue is not None and (key, face) not in self._running:
            queue.since_s = now_s
            self._lanes[queue.items[0].lane].line_up(key, face, queue)

    def _remove(self, key: Hashable, face: int) -> None:
        """Forget the queue of a face, of which nothing waits."""
        faces = self._queues[key]
        del faces[face]
        if not faces:
            del self._queues[key]

    def _batch_reason(self, lane: _Lane, now_s: float) -> BatchReason | None:
        if lane.fills_a_batch:
            return "full"
        if not self.waiting_turns:
            return "idle"
        return "held" if now_s - lane.since_s >= self._hold_s else None

    def _batch(self, lane: _Lane, reason: BatchReason, now_s: float, others: int) -> Batch:
        # With nothing else to do, small batches side by side are done sooner than one large one.
        sharing = others if lane.parallel and reason == "idle" else 0
        items, expired, taken = lane.take(now_s, lane.share(1 + sharing) if sharing else lane.max_batch)
        lane.running += 1
        self._waiting_windows -= len(items) + len(expired)
        self._running.update((item.key, item.face) for item in items)
        for (key, face), queue in taken.items():
            if queue.items:
                self._line_up(key, face, now_s)
            else:
                self._remove(key, face)
        return Batch(lane.name, lane.runner, items, expired, reason)

    def _turn(self) -> Turn | None:
        stream, predict = self._turns["stream"], self._turns["predict"]
        if not (stream or predict):
            return None
        predict_due = self._stream_turns >= STREAM_TURNS_PER_PREDICT_TURN
        kind: SourceKind = "predict" if predict and (predict_due or not stream) else "stream"
        self._stream_turns = self._stream_turns + 1 if kind == "stream" and predict else 0
        source, _ = self._turns[kind].popitem(last=False)
        self._at_work.add(source)
        return Turn(source, kind)
