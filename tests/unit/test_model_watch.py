"""ModelWatch: what is new in the store is taken into use once, when it is whole, and never at the cost of the old."""

import asyncio
from contextlib import ExitStack
from dataclasses import replace

import pytest

from service.aside import Aside
from service.errors import ModelDamaged
from service.inference.artifact import Stamp
from service.inference.models import LoadedNetwork
from service.model_watch import ModelWatch
from service.session import Session
from service.sessions import Sessions
from tests.fakes import NETWORK, ManualClock

NEWER = replace(NETWORK, version="2", lane="fake@2")


class FakeNetworks:
    """One name, ``fake``, whose files and newest version the test sets."""

    def __init__(self) -> None:
        self.followed = ["fake"]
        self.files: Stamp = (("model.onnx", 1, 1),)
        self.newest: LoadedNetwork | Exception = NETWORK
        self.serving = NETWORK
        self.renewed = 0
        self.unloads = 0

    def stamp(self, name: str) -> Stamp:
        assert name == "fake"
        return self.files

    def ready(self, spec: str) -> LoadedNetwork | None:
        assert spec == "fake"
        return self.serving

    def unload(self) -> None:
        self.unloads += 1

    def renew(self, spec: str) -> LoadedNetwork:
        assert spec == "fake"
        self.renewed += 1
        if isinstance(self.newest, Exception):
            raise self.newest
        self.serving = self.newest
        return self.newest

    def publish(self, newest: LoadedNetwork | Exception) -> None:
        """Put another version into the store."""
        self.newest = newest
        self.files = (*self.files, ("model.onnx", len(self.files), 2))


class Tally:
    def __init__(self) -> None:
        self.swaps: list[bool] = []

    def model_swapped(self, *, swapped: bool) -> None:
        self.swaps.append(swapped)


class Guest:
    """A connection that counts how often it is asked to go over."""

    session: Session

    def __init__(self) -> None:
        self.renewals = 0

    def renew(self) -> None:
        self.renewals += 1


@pytest.fixture
def sessions() -> Sessions:
    return Sessions(blocked_timeout_s=10.0, idle_timeout_s=60.0, clock=ManualClock())


def check(watch: ModelWatch, times: int) -> None:
    for _ in range(times):
        asyncio.run(watch.check())


def test_a_newer_version(sessions: Sessions) -> None:
    """A new version is loaded once, and every session is asked to go over."""
    networks, tally, guest = FakeNetworks(), Tally(), Guest()
    watch = ModelWatch(networks, sessions, tally, Aside("loading"))
    with ExitStack() as place:
        place.enter_context(sessions.connected(guest))  # type: ignore[arg-type] # nothing else of it is called
        networks.publish(NEWER)
        check(watch, 4)
    assert (networks.serving, networks.renewed, tally.swaps, guest.renewals) == (NEWER, 1, [True], 4)


def test_what_is_still_being_written(sessions: Sessions) -> None:
    """While the files change nothing is read; once they were the same for two looks it is."""
    networks, tally = FakeNetworks(), Tally()
    watch = ModelWatch(networks, sessions, tally, Aside("loading"))
    for _ in range(3):
        networks.publish(NEWER)
        check(watch, 1)
    assert networks.renewed == 0
    check(watch, 1)
    assert (networks.renewed, tally.swaps) == (1, [True])


@pytest.mark.parametrize("error", [ModelDamaged("the sha256 is not the manifest's"), RuntimeError("no such operator")])
def test_what_cannot_be_used(sessions: Sessions, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The old version stays, which is said and counted once; when the files change it is tried again."""
    networks, tally = FakeNetworks(), Tally()
    watch = ModelWatch(networks, sessions, tally, Aside("loading"))
    networks.publish(error)
    check(watch, 4)
    assert (networks.serving, networks.renewed, tally.swaps) == (NETWORK, 1, [False])
    (line,) = caplog.records
    assert line.getMessage() == f"fake@1 stays, for its newest version cannot be used: {error}"
    networks.publish(NEWER)
    check(watch, 2)
    assert (networks.serving, tally.swaps) == (NEWER, [False, True])


def test_nothing_new(sessions: Sessions) -> None:
    """The version that serves is not counted as a new one."""
    networks, tally = FakeNetworks(), Tally()
    check(ModelWatch(networks, sessions, tally, Aside("loading")), 4)
    assert (networks.renewed, tally.swaps) == (1, [])


def test_loaded_by_an_operator(sessions: Sessions) -> None:
    """What an operator has loaded serves at once, without two looks, and sessions are asked to go over."""
    networks, tally, guest = FakeNetworks(), Tally(), Guest()
    watch = ModelWatch(networks, sessions, tally, Aside("loading"))
    networks.publish(NEWER)
    with ExitStack() as place:
        place.enter_context(sessions.connected(guest))  # type: ignore[arg-type] # nothing else of it is called
        assert asyncio.run(watch.load("fake")) == (NETWORK, NEWER)
    assert (networks.serving, tally.swaps, guest.renewals) == (NEWER, [True], 1)


def test_an_operator_is_told_what_is_wrong(sessions: Sessions) -> None:
    """A version that cannot be used is the operator's error as well as the log's, and the one before goes on."""
    networks, tally = FakeNetworks(), Tally()
    networks.publish(ModelDamaged("the sha256 is not the manifest's"))
    with pytest.raises(ModelDamaged, match="sha256"):
        asyncio.run(ModelWatch(networks, sessions, tally, Aside("loading")).load("fake"))
    assert (networks.serving, tally.swaps) == (NETWORK, [False])


def test_each_look_unloads(sessions: Sessions) -> None:
    """Networks that nobody uses any more are let go at each look, once sessions were asked to go over."""
    networks = FakeNetworks()
    check(ModelWatch(networks, sessions, Tally(), Aside("loading")), 3)
    assert networks.unloads == 3


def test_what_cannot_be_used_is_told_until_it_is_mended(sessions: Sessions) -> None:
    """A name counts as unusable from the failure on, and no more once the store is mended."""
    networks = FakeNetworks()
    watch = ModelWatch(networks, sessions, Tally(), Aside("loading"))
    check(watch, 2)
    assert watch.unusable == 0
    networks.publish(ModelDamaged("no"))
    check(watch, 4)
    assert watch.unusable == 1
    networks.publish(NETWORK)  # The damaged one was taken away.
    check(watch, 2)
    assert watch.unusable == 0
