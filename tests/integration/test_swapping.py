"""A new version of the network takes over under live sessions, and no frame is the worse for it."""

import asyncio
import itertools
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.inference.artifact import ModelStore
from service.settings import Settings, shipped_model_store
from tests.conftest import LiveServer, serving
from timeconv_client import (
    FrameOutcome,
    Prediction,
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
