"""The threads that carry out what the scheduler decides.

One worker per core, each with OpenCV and ONNX Runtime at one thread. They release the interpreter's lock while they
decode, look for faces and run the network; while there is nothing to do they sleep on a condition, without a timer.
"""

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from service.errors import Overloaded
from service.inference.batch import Runner, run_batch
from service.inference.scheduler import (
    Batch,
    Delivery,
    Dropped,
    Fate,
    Scheduler,
    Scores,
    Source,
    SourceKind,
    Turn,
    WindowItem,
    Work,
)

log = logging.getLogger(__name__)


class BatchObserver(Protocol):
    """Who wants to know of batches; called on workers."""

    def batch_ran(self, batch: Batch, queue_s: Sequence[float], infer_s: float) -> None:
        """A batch ran for ``infer_s``; its windows had waited ``queue_s``."""
        ...


@dataclass(eq=False, slots=True)
class Worker:
    """One thread, what it is at since when (None: waiting), and the windows that its turn came to."""

    thread: threading.Thread
    work: Work | None = None
    windows: tuple[WindowItem, ...] = ()
    since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkerState:
    """For health: ``state`` is idle, busy or dead; ``busy_s`` how long the present call has taken."""

    name: str
    state: str
    busy_s: float


class WorkerPool:
    """Workers around one scheduler.

    ``post`` hands results to the event loop: called from workers, once per piece of work, with all that came of it.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        workers: int,
        post: Callable[[Sequence[Delivery]], None],
        observer: BatchObserver,
        clock: Callable[[], float],
    ) -> None:
        """``clock``: seconds, monotonic. No thread runs before `start`."""
        self._scheduler = scheduler
        self._post = post
        self._observer = observer
        self._clock = clock
        self._changed = threading.Condition()
        self._closing = False
        self._idle = 0
        self._busy_s = {"frames": 0.0, "batch": 0.0}
        self._workers = [Worker(threading.Thread(name=f"worker-{index}", daemon=True)) for index in range(workers)]
        for worker in self._workers:
            worker.thread = threading.Thread(target=self._run, args=(worker,), name=worker.thread.name, daemon=True)

    def start(self) -> None:
        """Start the threads."""
        for worker in self._workers:
            worker.thread.start()

    def close(self, timeout_s: float) -> bool:
        """Tell all that waits that it will not run, let what runs finish; whether every thread ended in time."""
        with self._changed:
            self._closing = True
            waiting = self._scheduler.close()
            self._changed.notify_all()
        self._post([_fate_of(item, Dropped.CLOSING) for item in waiting])
        deadline_s = self._clock() + timeout_s
        for worker in self._workers:
            if worker.thread.ident is not None:
                worker.thread.join(max(0.0, deadline_s - self._clock()))
        return not any(worker.thread.is_alive() for worker in self._workers)

    def add_lane(self, name: str, runner: Runner, max_batch: int, *, parallel: bool = True) -> None:
        """Open a lane for a model; see `Scheduler.add_lane`."""
        with self._changed:
            self._scheduler.add_lane(name, runner, max_batch, parallel=parallel)

    def close_lane(self, name: str) -> None:
        """Forget a lane and its runner; see `Scheduler.close_lane`."""
        with self._changed:
            runner = self._scheduler.close_lane(name)
        del runner  # What it takes to free a network holds up no worker.

    def ready(self, *sources: Source, kind: SourceKind) -> None:
        """Sources have frames."""
        with self._changed:
            if self._closing:
                return
            if sum(self._scheduler.ready(source, kind) for source in sources):
                self._changed.notify()

    def leave(self, source: Source, key: Hashable) -> None:
        """A caller is gone: drop its turn and its waiting windows, untold, for it has no one to tell."""
        with self._changed:
            self._scheduler.forget(source)
            self._scheduler.drop(key)

    @property
    def waiting_windows(self) -> int:
        """Windows that wait for a batch."""
        return self._scheduler.waiting_windows

    @property
    def waiting_turns(self) -> int:
        """Sources that wait for a worker."""
        return self._scheduler.waiting_turns

    def busy_s(self) -> dict[str, float]:
        """Seconds that workers were busy with ``frames`` and with a ``batch``, what they are at now included."""
        with self._changed:
            busy_s, now_s = dict(self._busy_s), self._clock()
            for worker in self._workers:
                if worker.work is not None:
                    busy_s[_kind(worker.work)] += now_s - worker.since_s
        return busy_s

    @property
    def call_age_s(self) -> float:
        """How long the oldest piece of work that a worker is at has taken; 0 if none is at any."""
        return max((state.busy_s for state in self.states()), default=0.0)

    def states(self) -> list[WorkerState]:
        """What each worker is at."""
        now_s = self._clock()
        return [_state(worker, now_s) for worker in self._workers]

    def stuck(self, longer_than_s: float) -> list[WorkerState]:
        """Workers whose present call has taken longer, or that died."""
        return [
            state
            for state in self.states()
            if state.state == "dead" or (state.state == "busy" and state.busy_s > longer_than_s)
        ]

    def fail_stuck(self, longer_than_s: float) -> None:
        """Answer the frames that are with stuck or dead workers; the workers themselves cannot be helped."""
        now_s = self._clock()
        for worker in self._workers:
            work, dead = worker.work, _state(worker, now_s).state == "dead"
            if work is not None and (dead or now_s - worker.since_s > longer_than_s):
                self._post(_given_up(work))

    def _run(self, worker: Worker) -> None:
        while self._next(worker):
            # Posted first: once it is done, another worker may run the next window of the same session.
            self._post(self._carried_out(worker))

    def _next(self, worker: Worker) -> bool:
        """Hand over what came of the last piece of work, and wait for the next; whether there is one.

        Under one lock: each time that it is taken a worker may have to wait for the others and for the event loop. And
        nothing is kept of a frame while the worker sleeps.
        """
        with self._changed:
            self._hand_over(worker)
            while not self._closing:
                now_s = self._clock()
                if (work := self._scheduler.next(now_s, self._idle)) is not None:
                    worker.since_s, worker.work = now_s, work
                    if self._idle and self._scheduler.has_work:
                        self._changed.notify()
                    return True
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            return False

    def _hand_over(self, worker: Worker) -> None:
        (work, worker.work), (windows, worker.windows) = (worker.work, None), (worker.windows, ())
        if work is None:
            return
        now_s = self._clock()
        self._busy_s[_kind(work)] += now_s - worker.since_s
        for window in windows:
            if (untold := self._submitted(window, now_s)) is not None:
                self._post([untold])
        self._scheduler.done(work, now_s)

    def _submitted(self, item: WindowItem, now_s: float) -> Delivery | None:
        """Queue a window; who is to be told that it was not taken, or that another was replaced."""
        if self._closing:
            return _fate_of(item, Dropped.CLOSING)
        try:
            replaced = self._scheduler.submit(item, now_s)
        except Overloaded:
            return _fate_of(item, Dropped.FULL)
        return None if replaced is None else _fate_of(replaced, Dropped.REPLACED)

    def _carried_out(self, worker: Worker) -> list[Delivery]:
        work = worker.work
        assert work is not None
        try:
            if isinstance(work, Batch):
                return self._batch(work)
            step = work.source.work()
        except Exception as error:
            # The edge of the thread: whatever went wrong, the frames at hand are answered and the worker lives.
            log.exception("A worker's call failed")
            return [work.source.aborted(error)] if isinstance(work, Turn) else _given_up(work)
        if isinstance(step, WindowItem):
            worker.windows = (step,)
            return []
        if isinstance(step, tuple):
            worker.windows = step
            return []
        return [] if step is None else [step]

    def _batch(self, batch: Batch) -> list[Delivery]:
        deliveries = [_fate_of(item, Dropped.EXPIRED) for item in batch.expired]
        if not batch.items:
            return deliveries
        start_s = self._clock()
        crops = np.concatenate([crop for item in batch.items for crop in item.window])
        rows = run_batch(batch.runner, crops.reshape(len(batch.items), -1, *batch.items[0].window[0].shape))
        infer_s = self._clock() - start_s
        queue_s = [start_s - item.waiting_since_s for item in batch.items]
        self._observer.batch_ran(batch, queue_s, infer_s)
        for item, row, waited_s in zip(batch.items, rows, queue_s, strict=True):
            fate: Fate = Scores(row, len(rows), waited_s, infer_s, start_s) if isinstance(row, list) else row
            deliveries.append(_fate_of(item, fate))
        return deliveries


def _kind(work: Work) -> str:
    return "batch" if isinstance(work, Batch) else "frames"


def _fate_of(item: WindowItem, fate: Fate) -> Delivery:
    return lambda: item.deliver(fate)


def _given_up(work: Work) -> list[Delivery]:
    if isinstance(work, Turn):
        return [work.source.aborted(None)]
    return [_fate_of(item, Dropped.STUCK) for item in work.items + work.expired]


def _state(worker: Worker, now_s: float) -> WorkerState:
    if worker.thread.ident is not None and not worker.thread.is_alive():
        return WorkerState(worker.thread.name, "dead", 0.0)
    if worker.work is None:
        return WorkerState(worker.thread.name, "idle", 0.0)
    return WorkerState(worker.thread.name, "busy", now_s - worker.since_s)
