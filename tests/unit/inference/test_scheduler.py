"""service.inference.scheduler: the contract of design, line by line, without threads or clocks."""

from collections import Counter

import pytest

from service.errors import Overloaded
from service.inference.scheduler import Batch, Scheduler, Turn, WindowItem, Work
from tests.fakes import FailingOn, Letterbox, ScriptedSource, echo_runner

HOLD_S = 0.005


@pytest.fixture
def scheduler() -> Scheduler:
    scheduler = Scheduler(max_waiting=16, hold_s=HOLD_S)
    scheduler.add_lane("fake@1", echo_runner, max_batch=4)
    return scheduler


@pytest.fixture
def box() -> Letterbox:
    return Letterbox()


def batch(work: Work | None) -> Batch:
    assert isinstance(work, Batch)
    return work


def turn(work: Work | None) -> Turn:
    assert isinstance(work, Turn)
    return work


def keys(work: Work | None) -> list[object]:
    return [item.key for item in batch(work).items]


def submit(scheduler: Scheduler, *items: WindowItem, now_s: float = 0.0) -> None:
    for item in items:
        assert scheduler.submit(item, now_s) is None


def frames(count: int = 1) -> ScriptedSource:
    return ScriptedSource(*[None] * count)


# Batches


def test_nothing_to_do(scheduler: Scheduler) -> None:
    """With nothing waiting a worker gets nothing."""
    assert scheduler.next(0.0) is None


def test_a_lone_window_leaves_at_once(scheduler: Scheduler, box: Letterbox) -> None:
    """A window that finds the workers idle runs alone, without waiting for company."""
    submit(scheduler, box.item("a"))
    work = batch(scheduler.next(0.0))
    assert ([item.key for item in work.items], work.reason) == (["a"], "idle")


def test_windows_that_came_meanwhile_leave_together(scheduler: Scheduler, box: Letterbox) -> None:
    """What came while the workers were busy is one batch, in the order it came."""
    submit(scheduler, box.item("a"), box.item("b"), box.item("c"))
    assert keys(scheduler.next(0.0)) == ["a", "b", "c"]


def test_a_batch_has_its_largest_size(scheduler: Scheduler, box: Letterbox) -> None:
    """More windows than a batch takes leave in several."""
    submit(scheduler, *(box.item(name) for name in "abcdef"))
    assert (keys(scheduler.next(0.0)), keys(scheduler.next(0.0))) == (list("abcd"), list("ef"))


def test_workers_that_are_free_share_what_waits(scheduler: Scheduler, box: Letterbox) -> None:
    """Three windows and two free workers: two windows leave, then one, side by side."""
    submit(scheduler, box.item("a"), box.item("b"), box.item("c"))
    assert (keys(scheduler.next(0.0, others=1)), keys(scheduler.next(0.0))) == (["a", "b"], ["c"])


def test_one_key_is_not_shared(scheduler: Scheduler, box: Letterbox) -> None:
    """The windows of one key stay together, for no other worker may run them meanwhile."""
    submit(scheduler, box.item("a"), box.item("a"), box.item("b"))
    assert keys(scheduler.next(0.0, others=1)) == ["a", "a"]


def test_a_device_for_one_batch_is_not_shared(scheduler: Scheduler, box: Letterbox) -> None:
    """A lane that runs one batch at a time gives the free worker all that waits."""
    scheduler.add_lane("fake@1", echo_runner, max_batch=4, parallel=False)
    submit(scheduler, box.item("a"), box.item("b"), box.item("c"))
    assert keys(scheduler.next(0.0, others=1)) == ["a", "b", "c"]


def test_a_frame_goes_before_a_batch_that_is_not_full(scheduler: Scheduler, box: Letterbox) -> None:
    """While frames wait, a worker takes one more rather than run a batch that could still grow."""
    submit(scheduler, box.item("a"))
    scheduler.ready(frames(), "stream")
    assert isinstance(scheduler.next(0.0), Turn)


def test_a_full_batch_goes_before_a_frame(scheduler: Scheduler, box: Letterbox) -> None:
    """A full batch does not wait for frames."""
    submit(scheduler, *(box.item(name) for name in "abcd"))
    scheduler.ready(frames(), "stream")
    assert batch(scheduler.next(0.0)).reason == "full"


def test_a_window_held_too_long_goes_before_a_frame(scheduler: Scheduler, box: Letterbox) -> None:
    """However many frames wait, a window waits no longer than the hold."""
    submit(scheduler, box.item("a"), now_s=0.0)
    scheduler.ready(frames(2), "stream")
    assert isinstance(scheduler.next(HOLD_S / 2), Turn)
    scheduler.ready(frames(2), "stream")
    assert batch(scheduler.next(HOLD_S)).reason == "held"


def test_a_lane_closes(scheduler: Scheduler, box: Letterbox) -> None:
    """A lane that is closed gives its network back; one of its name may be opened again, and others know nothing."""
    assert scheduler.close_lane("fake@1") is echo_runner
    scheduler.add_lane("other@1", FailingOn(), max_batch=4)
    scheduler.add_lane("fake@1", echo_runner, max_batch=4)
    submit(scheduler, box.item("a"), now_s=0.0)
    assert batch(scheduler.next(0.0)).runner is echo_runner


def test_lanes_do_not_mix(scheduler: Scheduler, box: Letterbox) -> None:
    """A batch holds windows of one model; the lane that has waited longest goes first."""
    scheduler.add_lane("other@1", echo_runner, max_batch=4)
    other = box.item("b")
    other.lane = "other@1"
    submit(scheduler, box.item("a"), now_s=0.0)
    submit(scheduler, other, now_s=1.0)
    submit(scheduler, box.item("c"), now_s=2.0)
    first, second = batch(scheduler.next(3.0)), batch(scheduler.next(3.0))
    assert [(work.lane, [item.key for item in work.items]) for work in (first, second)] == [
        ("fake@1", ["a", "c"]),
        ("other@1", ["b"]),
    ]


# Order, fairness, replacement


def test_sessions_take_turns_in_a_batch(scheduler: Scheduler, box: Letterbox) -> None:
    """One with many windows gets only the slots that the others leave, its own in order."""
    submit(scheduler, *(box.item(f"a{index}", key="a") for index in range(4)), box.item("b"), box.item("c"))
    work = batch(scheduler.next(0.0))
    assert [item.key for item in work.items] == ["a", "b", "c", "a"]


def test_no_two_batches_hold_one_session(scheduler: Scheduler, box: Letterbox) -> None:
    """A session's later windows wait until its running ones are done, so answers cannot overtake each other."""
    submit(scheduler, box.item("a0", key="a"))
    running = batch(scheduler.next(0.0))
    submit(scheduler, box.item("a1", key="a"), box.item("b"))
    assert keys(scheduler.next(0.0)) == ["b"]
    assert scheduler.next(0.0) is None
    scheduler.done(running, 0.0)
    assert keys(scheduler.next(0.0)) == ["a"]


def test_what_a_full_batch_left_of_a_session_waits_for_it(scheduler: Scheduler, box: Letterbox) -> None:
    """The fifth window of a session runs after the batch with its first four is done."""
    submit(scheduler, *(box.item(f"a{index}", key="a") for index in range(5)))
    running = batch(scheduler.next(0.0))
    assert (len(running.items), scheduler.next(0.0)) == (4, None)
    scheduler.done(running, 0.0)
    assert keys(scheduler.next(0.0)) == ["a"]


def test_a_newer_window_replaces_the_waiting_one(scheduler: Scheduler, box: Letterbox) -> None:
    """In `latest` at most one window of a session waits: the newest, in the place of the older."""
    old, new = box.item("old", key="a", replaces=True), box.item("new", key="a", replaces=True)
    submit(scheduler, old, box.item("b"))
    assert scheduler.submit(new, 0.0) is old
    assert (batch(scheduler.next(0.0)).items[0], scheduler.waiting_windows) == (new, 0)


def test_a_window_that_runs_is_not_replaced(scheduler: Scheduler, box: Letterbox) -> None:
    """A newer window waits behind the one that runs, and is itself replaced by a newer still."""
    submit(scheduler, box.item("first", key="a", replaces=True))
    running = scheduler.next(0.0)
    second, third = box.item("second", key="a", replaces=True), box.item("third", key="a", replaces=True)
    assert scheduler.submit(second, 0.0) is None
    assert scheduler.submit(third, 0.0) is second
    assert running is not None
    scheduler.done(running, 0.0)
    assert batch(scheduler.next(0.0)).items == [third]


def test_every_keeps_all(scheduler: Scheduler, box: Letterbox) -> None:
    """In `every` nothing is replaced."""
    submit(scheduler, box.item("a0", key="a"), box.item("a1", key="a"))
    assert len(batch(scheduler.next(0.0)).items) == 2


def test_expired_windows_are_not_run(scheduler: Scheduler, box: Letterbox) -> None:
    """A window past its time leaves the queue beside the batch, not in it."""
    stale, fresh = box.item("stale", expires_s=1.0), box.item("fresh", expires_s=3.0)
    submit(scheduler, stale, fresh)
    work = batch(scheduler.next(2.0))
    assert (work.items, work.expired, scheduler.waiting_windows) == ([fresh], [stale], 0)


def test_a_full_queue_refuses_at_once(scheduler: Scheduler, box: Letterbox) -> None:
    """Over the bound a window is refused and nothing is queued; replacing needs no room."""
    submit(scheduler, *(box.item(f"w{index}", replaces=True) for index in range(16)))
    with pytest.raises(Overloaded):
        scheduler.submit(box.item("one too many"), 0.0)
    assert scheduler.submit(box.item("newer", key="w3", replaces=True), 0.0) is not None
    assert scheduler.waiting_windows == 16


def test_a_caller_that_left_is_dropped(scheduler: Scheduler, box: Letterbox) -> None:
    """Windows of a caller who is gone are not run, whether they wait for their turn or behind a running one."""
    submit(scheduler, box.item("a0", key="a"))
    running = batch(scheduler.next(0.0))
    submit(scheduler, box.item("a1", key="a"), box.item("b"))
    assert [item.key for item in scheduler.drop("a") + scheduler.drop("b")] == ["a", "b"]
    scheduler.done(running, 0.0)
    assert (scheduler.next(0.0), scheduler.waiting_windows) == (None, 0)


# One session, several models


def in_lane(item: WindowItem, lane: str = "other@1") -> WindowItem:
    item.lane = lane
    return item


@pytest.fixture
def lanes(scheduler: Scheduler) -> Scheduler:
    """The scheduler with a second lane."""
    scheduler.add_lane("other@1", echo_runner, max_batch=4)
    return scheduler


def test_a_session_that_changed_its_model_waits_for_its_older_windows(lanes: Scheduler, box: Letterbox) -> None:
    """A window of another model runs only after the older windows of its session have waited, run and are done."""
    submit(lanes, box.item("old", key="a"), in_lane(box.item("new", key="a")))
    first = batch(lanes.next(0.0))
    assert (first.lane, len(first.items), lanes.next(0.0)) == ("fake@1", 1, None)
    lanes.done(first, 0.0)
    assert batch(lanes.next(0.0)).lane == "other@1"


def test_a_session_that_changed_its_model_back_keeps_its_order(lanes: Scheduler, box: Letterbox) -> None:
    """Windows run in the order they came, though the first and the last of three could share a batch."""
    submit(lanes, box.item("1", key="a"), in_lane(box.item("2", key="a")), box.item("3", key="a"), box.item("b"))
    ran = []
    while (work := lanes.next(0.0)) is not None:
        ran.append((batch(work).lane, keys(work)))
        lanes.done(work, 0.0)
    assert ran == [("fake@1", ["a", "b"]), ("other@1", ["a"]), ("fake@1", ["a"])]


def test_expired_windows_make_way_for_another_model(lanes: Scheduler, box: Letterbox) -> None:
    """When all windows that a session's newer one waits for have expired, it waits for nothing."""
    submit(lanes, box.item("stale", key="a", expires_s=1.0), in_lane(box.item("new", key="a")))
    work = batch(lanes.next(2.0))
    assert (work.items, len(work.expired)) == ([], 1)
    assert (keys(lanes.next(2.0)), lanes.waiting_windows) == (["a"], 0)


def test_a_caller_that_left_is_dropped_from_every_lane(lanes: Scheduler, box: Letterbox) -> None:
    """Of a caller who is gone no window is left, whatever model it is for."""
    submit(lanes, box.item("1", key="a"), in_lane(box.item("2", key="a")))
    assert len(lanes.drop("a")) == 2
    assert (lanes.next(0.0), lanes.waiting_windows) == (None, 0)


def test_a_full_lane_goes_before_one_that_may_still_fill(lanes: Scheduler, box: Letterbox) -> None:
    """A full batch does not wait for the hold of another model's older window."""
    submit(lanes, box.item("old"), now_s=0.0)
    submit(lanes, *(in_lane(box.item(name)) for name in "abcd"), now_s=0.001)
    lanes.ready(frames(), "stream")
    work = batch(lanes.next(0.002))
    assert (work.lane, work.reason) == ("other@1", "full")


def test_a_device_gets_one_batch_at_a_time(scheduler: Scheduler, box: Letterbox) -> None:
    """A lane that is not parallel gives its next batch out once the last is done; frames go on, and it has grown."""
    scheduler.add_lane("fake@1", echo_runner, max_batch=4, parallel=False)
    submit(scheduler, box.item("a"))
    first = scheduler.next(0.0)
    assert keys(first) == ["a"]
    submit(scheduler, *(box.item(name) for name in "bcdef"))
    scheduler.ready(frames(), "stream")
    turn(scheduler.next(1.0))
    assert scheduler.next(1.0) is None
    scheduler.done(batch(first), 1.0)
    assert keys(scheduler.next(1.0)) == list("bcde")


def test_a_busy_device_holds_up_no_other_lane(scheduler: Scheduler, box: Letterbox) -> None:
    """While a device runs a batch of one model, those of another leave at once."""
    scheduler.add_lane("fake@1", echo_runner, max_batch=4, parallel=False)
    scheduler.add_lane("other@1", echo_runner, max_batch=4)
    other = box.item("other")
    other.lane = "other@1"
    submit(scheduler, box.item("a"))
    scheduler.next(0.0)
    submit(scheduler, box.item("b"), other)
    assert keys(scheduler.next(0.0)) == ["other"]
    assert scheduler.next(0.0) is None


def test_latest_does_not_replace_a_window_of_every(scheduler: Scheduler, box: Letterbox) -> None:
    """A window that was promised to be run is, though a newer one of its session would replace others."""
    submit(scheduler, box.item("kept", key="a"), box.item("newer", key="a", replaces=True))
    assert len(batch(scheduler.next(0.0)).items) == 2


# Turns


def test_sources_take_turns(scheduler: Scheduler) -> None:
    """A source with more frames goes to the end of the queue, so one with many cannot starve the others."""
    flooder, other = frames(10), frames(1)
    scheduler.ready(flooder, "stream")
    first = turn(scheduler.next(0.0))
    scheduler.ready(other, "stream")
    scheduler.done(first, 0.0)
    assert [turn(scheduler.next(0.0)).source for _ in range(2)] == [other, flooder]


def test_a_source_is_with_one_worker_at_a_time(scheduler: Scheduler) -> None:
    """While a worker has a source, its next frame waits, which keeps its order."""
    source = frames(2)
    scheduler.ready(source, "stream")
    first = turn(scheduler.next(0.0))
    scheduler.ready(source, "stream")
    assert scheduler.next(0.0) is None
    scheduler.done(first, 0.0)
    assert turn(scheduler.next(0.0)).source is source


def test_a_frame_that_came_during_a_turn_is_not_forgotten(scheduler: Scheduler) -> None:
    """A source that got frames while a worker had it is given another turn."""
    source = frames(1)
    scheduler.ready(source, "stream")
    first = turn(scheduler.next(0.0))
    source.work()
    source.steps.append(None)
    scheduler.ready(source, "stream")
    scheduler.done(first, 0.0)
    assert turn(scheduler.next(0.0)).source is source


def test_a_source_without_frames_gets_no_turn(scheduler: Scheduler) -> None:
    """A source that has worked off its frames leaves the queue."""
    source = frames(1)
    scheduler.ready(source, "stream")
    first = turn(scheduler.next(0.0))
    source.work()
    scheduler.done(first, 0.0)
    assert scheduler.next(0.0) is None


def test_a_forgotten_source_gets_no_turn(scheduler: Scheduler) -> None:
    """A client that left before its turn is passed over."""
    gone, here = frames(), frames()
    scheduler.ready(gone, "stream")
    scheduler.ready(here, "stream")
    scheduler.forget(gone)
    assert turn(scheduler.next(0.0)).source is here


def test_rest_gets_every_fourth_turn(scheduler: Scheduler) -> None:
    """REST neither starves beside many sessions nor starves them: three turns of theirs to one of its."""
    for _ in range(12):
        scheduler.ready(frames(), "stream")
    for _ in range(12):
        scheduler.ready(frames(), "predict")
    kinds = [turn(scheduler.next(0.0)).kind for _ in range(24)]
    assert kinds[:12] == ["stream", "stream", "stream", "predict"] * 3
    assert kinds[16:] == ["predict"] * 8


def test_a_lone_rest_call_waits_for_no_session(scheduler: Scheduler) -> None:
    """With no session waiting REST goes at once."""
    scheduler.ready(frames(), "predict")
    assert turn(scheduler.next(0.0)).kind == "predict"


def test_a_rest_call_that_was_begun_is_finished_first(scheduler: Scheduler) -> None:
    """The frames of one call follow each other: a call is of use only once its last frame is done."""
    first, second = frames(3), frames(3)
    scheduler.ready(first, "predict")
    scheduler.ready(second, "predict")
    served = []
    while (work := scheduler.next(0.0)) is not None:
        source = turn(work).source
        source.work()
        served.append(source)
        scheduler.done(work, 0.0)
    assert served == [first] * 3 + [second] * 3


# Closing


def test_closing_returns_all_that_waits(scheduler: Scheduler, box: Letterbox) -> None:
    """On closing every waiting window is handed back, and every gauge is 0."""
    submit(scheduler, box.item("a0", key="a"))
    scheduler.next(0.0)
    submit(scheduler, box.item("a1", key="a"), box.item("b"))
    scheduler.ready(frames(), "stream")
    assert sorted(str(item.key) for item in scheduler.close()) == ["a", "b"]
    assert (scheduler.waiting_windows, scheduler.waiting_turns, scheduler.next(0.0)) == (0, 0, None)


def test_has_work(scheduler: Scheduler, box: Letterbox) -> None:
    """There is work for another worker while a turn waits, or a window of a key of which none runs."""
    assert not scheduler.has_work
    scheduler.ready(frames(), "stream")
    assert scheduler.has_work
    scheduler.next(0.0)
    submit(scheduler, box.item("a1", key="a"), box.item("a2", key="a"), box.item("a3", key="a"))
    assert scheduler.has_work
    scheduler.next(0.0)
    submit(scheduler, box.item("a4", key="a"))
    assert (scheduler.has_work, scheduler.waiting_windows) == (False, 1)


# Several faces


def test_faces_of_a_session_leave_together(scheduler: Scheduler, box: Letterbox) -> None:
    """The windows of one frame's faces are one batch, and so are those of others."""
    submit(scheduler, *(box.item("a", face=face) for face in range(2)), box.item("b"))
    work = batch(scheduler.next(0.0))
    assert [(item.key, item.face) for item in work.items] == [("a", 0), ("b", 0), ("a", 1)]


def test_a_window_replaces_that_of_its_face(scheduler: Scheduler, box: Letterbox) -> None:
    """A newer window takes the place of the older one of the same face, and of no other."""
    olds = [box.item("a", face=face, replaces=True) for face in range(2)]
    submit(scheduler, *olds)
    assert scheduler.submit(box.item("a", face=1, replaces=True), 0.0) is olds[1]
    assert scheduler.waiting_windows == 2


def test_eight_faces_get_no_more_than_one(scheduler: Scheduler, box: Letterbox) -> None:
    """Under load, sessions take turns by windows: one with eight faces has the share of one with a single face."""

    def line_up() -> None:
        for face in range(8):
            scheduler.submit(box.item("many", face=face, replaces=True), 0.0)
        for name in ("one", "two", "three", "four", "five", "six", "seven"):
            scheduler.submit(box.item(name, replaces=True), 0.0)

    ran: Counter[object] = Counter()
    faces: Counter[int] = Counter()
    for _ in range(160):
        line_up()
        work = batch(scheduler.next(0.0))
        ran.update(item.key for item in work.items)
        faces.update(item.face for item in work.items if item.key == "many")
        scheduler.done(work, 0.0)
    assert set(ran.values()) == {80}
    assert set(faces.values()) == {10}, "its faces have the same share each"


def test_many_faces_with_many_frames_get_no_more(scheduler: Scheduler, box: Letterbox) -> None:
    """Nor do they where nothing is dropped: both sessions have half of each batch while both wait."""
    for _ in range(4):
        scheduler.submit(box.item("one"), 0.0)
    submit(scheduler, *(box.item("many", face=face) for face in range(8)))
    for _ in range(2):
        work = batch(scheduler.next(0.0))
        assert Counter(item.key for item in work.items) == {"one": 2, "many": 2}
        scheduler.done(work, 0.0)


def test_a_session_that_leaves_takes_all_its_faces(scheduler: Scheduler, box: Letterbox) -> None:
    """The windows of all faces of a caller that is gone are dropped."""
    submit(scheduler, *(box.item("a", face=face) for face in range(3)), box.item("b"))
    assert len(scheduler.drop("a")) == 3
    assert keys(scheduler.next(0.0)) == ["b"]
    assert scheduler.next(0.0) is None
