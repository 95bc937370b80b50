"""``POST /v1/models/{name}/load``: who may have a version taken into use, and what becomes of it."""

import asyncio
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.access import new_key
from service.inference.artifact import ModelStore
from service.settings import Settings, shipped_model_store
from tests.conftest import LiveServer, serving
from tests.integration.test_swapping import NAME, publish
from timeconv_client import connect

ADMIN, ADMIN_LINE = new_key("boss", admin=True)
KEY, KEY_LINE = new_key("app")


@dataclass(frozen=True)
class Operated:
    """A service that never looks at its store by itself, with version 1 of one network; an admin's key and another."""

    server: LiveServer
    store: Path

    def publish(self, version: str, **changes: Any) -> None:
        publish(self.store, version, self.store / NAME / "1", **changes)

    def load(self, spec: str = NAME, key: str | None = ADMIN) -> httpx.Response:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.post(f"{self.server.url}/v1/models/{spec}/load", headers=headers, timeout=30)

    def loaded(self) -> list[str]:
        answer = httpx.get(f"{self.server.url}/v1/models", headers={"Authorization": f"Bearer {KEY}"})
        return [model["version"] for model in answer.json()["models"] if model["loaded"]]

    def swaps(self) -> str:
        lines = httpx.get(f"{self.server.url}/metrics").text.splitlines()
        return " ".join(line[-3:] for line in sorted(lines) if line.startswith("timeconv_model_swaps_total"))


@pytest.fixture
def operated(tmp_path: Path) -> Iterator[Operated]:
    """One for each test: what serves is what they change."""
    store = tmp_path / "store"
    shutil.copytree(shipped_model_store() / "blazeface-short", store / "blazeface-short")
    publish(store, "1", ModelStore(shipped_model_store()).find(NAME, "network").folder)
    keys = f"{ADMIN_LINE};{KEY_LINE}"
    with serving(Settings(port=0, model_store=store, model=NAME, model_poll_ms=0, keys=keys, workers=1)) as server:
        yield Operated(server, store)


def swap(version: str, before: str | None) -> dict[str, str | None]:
    return {"model": NAME, "version": version, "version_before": before}


def test_the_newest_takes_over(operated: Operated) -> None:
    """The newest version serves once it answers, live sessions too; again it changes nothing."""

    async def talk() -> None:
        async with connect(operated.server.url, key=KEY) as session:
            operated.publish("2")
            assert (await asyncio.to_thread(operated.load)).json() == swap("2", "1")
            update = await anext(aiter(session))
            assert (update.type, update.by, update.options.model) == ("session.updated", "service", f"{NAME}@2")
            assert (await asyncio.to_thread(operated.load)).json() == swap("2", "2")

    asyncio.run(asyncio.wait_for(talk(), 60))
    assert httpx.get(f"{operated.server.url}/readyz").json()["model"] == f"{NAME}@2"
    assert operated.swaps() == "0.0 1.0"


def test_a_version_by_its_name(operated: Operated) -> None:
    """A version that is named is loaded, beside what serves."""
    operated.publish("2")
    assert operated.load(f"{NAME}@2").json() == swap("2", None)
    assert httpx.get(f"{operated.server.url}/readyz").json()["model"] == f"{NAME}@1"
    assert (operated.loaded(), operated.swaps()) == (["1", "2"], "0.0 0.0")
    assert operated.load(f"{NAME}@2").json() == swap("2", "2")


def test_what_cannot_be_used(operated: Operated) -> None:
    """A damaged version is refused with the reason, and the one before goes on."""
    operated.publish("2", sha256="0" * 64)
    answer = operated.load()
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["retryable"]) == (500, "model_damaged", False)
    assert problem["detail"] == f"{NAME}@2: the sha256 of model.onnx is not the manifest's"
    assert (operated.loaded(), operated.swaps()) == (["1"], "1.0 0.0")


@pytest.mark.parametrize("spec", ["nothing", f"{NAME}@9", "blazeface-short", "..", "**", "%2e%2e"])
def test_what_there_is_none_of(operated: Operated, spec: str) -> None:
    """A name that is no network's is unknown, and no failure of what serves."""
    answer = operated.load(spec)
    assert answer.status_code in {HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.NOT_FOUND}
    assert answer.json()["code"] in {"unknown_model", "not_found"}
    assert operated.swaps() == "0.0 0.0"


def test_who_may(operated: Operated) -> None:
    """Only an admin's key loads: no other key, no token of the admin's, and nobody without one."""
    operated.publish("2")
    headers = {"Authorization": f"Bearer {ADMIN}"}
    token = httpx.post(f"{operated.server.url}/v1/tokens", headers=headers).json()["token"]
    refused = [operated.load(key=key) for key in (KEY, token, None, "tc_wrong")]
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [
        (403, "admin_only"),
        (403, "admin_only"),
        (401, "unauthorized"),
        (401, "unauthorized"),
    ]
    assert operated.loaded() == ["1"]


def test_without_keys(live_server: LiveServer) -> None:
    """A service without keys has no admin, and says so."""
    answer = httpx.post(f"{live_server.url}/v1/models/{NAME}/load")
    assert (answer.status_code, answer.json()["code"]) == (403, "admin_only")
    assert answer.json()["detail"] == "Only a key with admin=true may do this; this service has no keys"


def test_many_at_once(operated: Operated) -> None:
    """Of many who ask at once one swaps, and the others find it done."""
    operated.publish("2")
    with ThreadPoolExecutor(12) as pool:
        answers = [answer.json() for answer in pool.map(lambda _: operated.load(), range(12))]
    assert answers.count(swap("2", "1")) == 1
    assert answers.count(swap("2", "2")) == 11
    assert operated.swaps() == "0.0 1.0"
