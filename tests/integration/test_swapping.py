"""A new version of the network takes over under live sessions, and no frame is the worse for it."""

import asyncio
import gc
import itertools
import json
import re
import shutil
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import engine
from service.inference.artifact import ModelStore
from service.inference.batch import Runner
from service.inference.workers import WorkerPool
from service.settings import Settings, shipped_model_store
from tests.conftest import LiveServer, serving
from tests.fakes import GatedRunner
from timeconv_client import (
    FrameOutcome,
    Prediction,
    Session,
    SessionClosed,
    SessionUpdated,
    connect,
)

NAME = "timeconv-mini-xception"
SESSIONS = 6


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with the detector and one network, as version 1."""
    shipped = ModelStore(shipped_model_store())
    shutil.copytree(shipped_model_store() / "blazeface-short", tmp_path / "store" / "blazeface-short")
    publish(tmp_path / "store", "1", shipped.find(NAME, "network").folder)
    return tmp_path / "store"


def publish(store: Path, version: str, source: Path, **changes: Any) -> None:
    """Put a copy of a network into the store, with another version, all of it at once."""
    folder = store.parent / f"{NAME}-{version}"
    shutil.copytree(source, folder)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes | {"version": version}))
    (store / NAME).mkdir(exist_ok=True)
    folder.rename(store / NAME / version)


class Client:
    """A session that streams until it is told to end."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.busy = asyncio.Event()
        self.updates: list[SessionUpdated] = []
        self.updated = asyncio.Event()
        self.outcomes: Counter[str] = Counter()
        self.totals: dict[str, int] = {}

    async def run(self, server: LiveServer, clip: list[bytes], model: str) -> None:
        """Stream as fast as answered."""
        frames = itertools.takewhile(lambda _: not self.end.is_set(), itertools.cycle(clip))
        async with connect(server.url, freshness="every", model=model) as session:
            async for event in session.stream(frames):
                match event:
                    case SessionUpdated():
                        self.updates.append(event)
                        self.updated.set()
                    case Prediction() | FrameOutcome():
                        self.outcomes[str(event.outcome)] += 1
                        if isinstance(event, Prediction):
                            self.busy.set()
                    case SessionClosed():
                        self.totals = {str(outcome): count for outcome, count in event.totals.outcomes.items()}


def test_a_new_version_takes_over_under_load(store: Path, face_clip: list[bytes]) -> None:
    """No frame is lost, failed or out of its window; who named a version keeps it; one that is damaged is not taken."""

    async def swapped(http: httpx.AsyncClient, result: str) -> None:
        while f'timeconv_model_swaps_total{{result="{result}"}} 1.0' not in (await http.get("/metrics")).text:
            pass

    async def load(server: LiveServer) -> tuple[list[Client], Client]:
        clients, pinned = [Client() for _ in range(SESSIONS)], Client()
        async with asyncio.TaskGroup() as group, httpx.AsyncClient(base_url=server.url) as http:
            for client in (*clients, pinned):
                group.create_task(client.run(server, face_clip, f"{NAME}@1" if client is pinned else ""))
            for client in (*clients, pinned):
                await client.busy.wait()
            await asyncio.to_thread(publish, store, "2", store / NAME / "1")
            for client in clients:
                await client.updated.wait()
            assert (await http.get("/readyz")).json()["model"] == f"{NAME}@2"
            await asyncio.to_thread(publish, store, "3", store / NAME / "1", sha256="0" * 64)
            await swapped(http, "failed")
            await swapped(http, "swapped")
            assert (await http.get("/readyz")).json()["model"] == f"{NAME}@2"
            for client in (*clients, pinned):
                client.end.set()
        return clients, pinned

    with serving(Settings(port=0, model_store=store, model=NAME, model_poll_ms=20)) as server:
        clients, pinned = asyncio.run(asyncio.wait_for(load(server), 60))
    for client in clients:
        (update,) = client.updates
        assert (update.by, update.options.model) == ("service", f"{NAME}@2")
        assert 0 < update.from_seq <= client.outcomes.total()
    for client in (*clients, pinned):
        assert client.outcomes == client.totals
        assert client.outcomes == {"window_filling": 4, "prediction": client.outcomes.total() - 4}
    assert pinned.updates == []


def test_a_session_that_changes_other_options_still_follows(store: Path) -> None:
    """An update of another option does not tie a session to the version of the day; one that names a version does."""

    async def talk(server: LiveServer) -> None:
        async with connect(server.url) as session:
            assert (await session.update(stride=2)).options.model == f"{NAME}@1"
            await asyncio.to_thread(publish, store, "2", store / NAME / "1")
            async for event in session:
                if isinstance(event, SessionUpdated) and event.by == "service":
                    break
            assert (event.options.model, event.options.stride) == (f"{NAME}@2", 2)
            assert (await session.update(model=f"{NAME}@1")).options.model == f"{NAME}@1"

    with serving(Settings(port=0, model_store=store, model=NAME, model_poll_ms=20)) as server:
        asyncio.run(asyncio.wait_for(talk(server), 60))


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> "Lanes":
    """Of the services of a test."""
    lanes = Lanes()

    class WatchedPool(WorkerPool):
        def add_lane(self, name: str, runner: Runner, max_batch: int, *, parallel: bool = True) -> None:
            super().add_lane(name, lanes.opened(name, runner), max_batch, parallel=parallel)

        def close_lane(self, name: str) -> None:
            super().close_lane(name)
            lanes.closed(name)

    monkeypatch.setattr(engine, "WorkerPool", WatchedPool)
    return lanes


class Lanes:
    """Lanes that are open, by version, and their networks. One that is ``gated`` stands still in each batch."""

    def __init__(self) -> None:
        self.gated: GatedRunner | None = None
        self.networks: dict[str, weakref.ref[Runner]] = {}
        self.changed = threading.Condition()

    def opened(self, name: str, runner: Runner) -> Runner:
        with self.changed:
            runner = self.gated if self.gated is not None and not self.networks else runner
            self.networks[name.partition("@")[2]] = weakref.ref(runner)
            self.changed.notify_all()
        return runner

    def closed(self, name: str) -> None:
        with self.changed:
            network = self.networks.pop(name.partition("@")[2])
            assert network() in (None, self.gated)
            self.changed.notify_all()

    async def come_to(self, *versions: str) -> None:
        """Wait until just these are open."""

        def wait() -> bool:
            with self.changed:
                return self.changed.wait_for(lambda: list(self.networks) == list(versions), 30)

        assert await asyncio.to_thread(wait), self.networks


async def gone_over(session: Session, model: str) -> SessionUpdated:
    """Read on until the service says that another version has taken over."""
    async for event in session:
        if isinstance(event, SessionUpdated) and event.by == "service":
            assert event.options.model == model
            return event
    raise AssertionError("the session ended")


def test_a_version_that_nobody_uses_is_unloaded(store: Path, face_clip: list[bytes], lanes: Lanes) -> None:
    """Swap after swap one network is loaded: lane, network and metrics of the one before go once its sessions did."""

    async def talk(server: LiveServer) -> None:
        async with connect(server.url) as session, connect(server.url) as other:
            for version in ("2", "3", "4"):
                for frame in face_clip[:6]:
                    await session.send(frame)
                await asyncio.to_thread(publish, store, version, store / NAME / "1")
                await gone_over(session, f"{NAME}@{version}")
                await gone_over(other, f"{NAME}@{version}")
                await lanes.come_to(version)
            async with httpx.AsyncClient(base_url=server.url) as http:
                while set(re.findall('model="([^"]+)"', (await http.get("/metrics")).text)) != {f"{NAME}@4"}:
                    pass

    with serving(Settings(port=0, model_store=store, model=NAME, model_poll_ms=20)) as server:
        asyncio.run(asyncio.wait_for(talk(server), 60))


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is let go is let go by who held it: an idle service may not look for garbage for hours."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_version_that_a_session_names_stays_while_it_lasts(store: Path, lanes: Lanes) -> None:
    """A session that named the older version keeps it loaded, and takes it along when it leaves."""

    async def talk(server: LiveServer) -> None:
        async with connect(server.url) as follower:
            async with connect(server.url, model=f"{NAME}@1"):
                await asyncio.to_thread(publish, store, "2", store / NAME / "1")
                await gone_over(follower, f"{NAME}@2")
                await lanes.come_to("1", "2")
            await lanes.come_to("2")

    with serving(Settings(port=0, model_store=store, model=NAME, model_poll_ms=20)) as server:
        asyncio.run(asyncio.wait_for(talk(server), 60))


def test_windows_in_flight_keep_their_version(store: Path, face_clip: list[bytes], lanes: Lanes) -> None:
    """A window that runs when its session goes over is answered by the old version, which is unloaded only then."""
    gated = lanes.gated = GatedRunner()
    gated.let_go(100)  # It is warmed.

    async def talk(server: LiveServer) -> None:
        while gated.gate.acquire(blocking=False):
            pass
        while gated.entered.acquire(blocking=False):
            pass
        async with connect(server.url, freshness="every") as session:
            for frame in face_clip[:5]:
                await session.send(frame)
            await asyncio.to_thread(gated.await_call)
            await asyncio.to_thread(publish, store, "2", store / NAME / "1")
            await gone_over(session, f"{NAME}@2")
            await session.send(face_clip[5])
            # A look unloads what it can: two of them have been there once another version has failed.
            await asyncio.to_thread(publish, store, "3", store / NAME / "1", sha256="0" * 64)
            async with httpx.AsyncClient(base_url=server.url) as http:
                while 'timeconv_model_swaps_total{result="failed"} 1.0' not in (await http.get("/metrics")).text:
                    pass
            await lanes.come_to("1", "2")
            gated.let_go()
            predictions = (event async for event in session if isinstance(event, Prediction))
            assert [(await anext(predictions)).seq, (await anext(predictions)).seq] == [4, 5]
            await lanes.come_to("2")

    with serving(Settings(port=0, model_store=store, model=NAME, model_poll_ms=20)) as server:
        asyncio.run(asyncio.wait_for(talk(server), 60))


LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "calm")
CROP = {"scale": 1.5, "dx": 0.0, "dy": 0.0}


@pytest.mark.parametrize("other", [{"labels": LABELS}, {"crop": {"blazeface": CROP}}])
def test_other_labels_or_crops(store: Path, face_clip: list[bytes], other: dict[str, Any]) -> None:
    """A version of other labels or crops takes over no session unasked; one that asks, or is new, is told of them."""

    async def swapped(server: LiveServer) -> None:
        async with httpx.AsyncClient(base_url=server.url) as http:
            while (await http.get("/readyz")).json()["model"] != f"{NAME}@2":
                pass

    async def talk(server: LiveServer) -> None:
        async with connect(server.url, freshness="every") as session:
            started = session.started
            await asyncio.to_thread(publish, store, "2", store / NAME / "1", **other)
            await swapped(server)
            update = await session.update(stride=2)
            assert (update.options.model, update.labels, update.crop) == (f"{NAME}@1", None, None)
            await session.update(stride=1)
            for frame in face_clip[:5]:
                await session.send(frame)
            prediction = await anext(event async for event in session if isinstance(event, Prediction))
            assert tuple(prediction.faces[0].probabilities) == started.labels
            asked = await session.update(model=NAME)
            async with connect(server.url) as later:
                assert (later.started.version, later.started.labels) == ("2", asked.labels or started.labels)
                assert later.started.crop == (asked.crop or started.crop)
            assert (asked.options.model, asked.labels is None, asked.crop is None) == (
                f"{NAME}@2",
                "labels" not in other,
                "crop" not in other,
            )
            # Crops of another geometry are no part of a window; other labels make no difference to it.
            await session.send(face_clip[5])
            answer = await anext(event async for event in session if isinstance(event, Prediction | FrameOutcome))
            assert answer.outcome == ("window_filling" if "crop" in other else "prediction")
            if isinstance(answer, Prediction):
                assert tuple(answer.faces[0].probabilities) == LABELS

    with serving(Settings(port=0, model_store=store, model=NAME, model_poll_ms=20)) as server:
        asyncio.run(asyncio.wait_for(talk(server), 60))
