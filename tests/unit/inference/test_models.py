import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import ModelDamaged, UnknownModel
from service.inference.artifact import ModelStore
from service.inference.batch import Runner
from service.inference.device import choose_device
from service.inference.models import LoadedNetwork, Networks
from service.settings import shipped_model_store
from tests.fakes import ManualClock

NAME = "timeconv-mini-xception"
SPEC = f"{NAME}@1"


class Lanes:
    """Remembers the lanes that were opened, those that were closed, and what was said of their networks."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.opened: list[tuple[str, Runner, int]] = []
        self.closed: list[str] = []
        self.said: list[tuple[str, str, str, float]] = []

    def open(self, name: str, runner: Runner, max_batch: int) -> None:
        self.opened.append((name, runner, max_batch))

    def network_loaded(self, network: LoadedNetwork, file: str, sha256: str, seconds: float) -> None:
        self.said.append((network.lane, file, sha256, seconds))

    def network_unloaded(self, lane: str) -> None:
        assert lane in self.closed
        self.said.append((lane, "", "", 0.0))

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.opened]


@pytest.fixture
def lanes() -> Lanes:
    return Lanes()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A copy of a shipped network, called version 1, to change."""
    shutil.copytree(ModelStore(shipped_model_store()).find(NAME, "network").folder, tmp_path / NAME / "1")
    changed(tmp_path, lambda _: None)
    return tmp_path


def networks(
    lanes: Lanes, store: Path, detector: str = "blazeface", max_batch: int = 4, default: str = NAME
) -> Networks:
    return Networks(
        ModelStore(store),
        device=choose_device("cpu"),
        detector=detector,
        max_batch=max_batch,
        batch_budget_s=10.0,
        open_lane=lanes.open,
        close_lane=lanes.closed.append,
        default=default,
        observer=lanes,
        clock=lanes.clock,
    )


def changed(store: Path, change: Callable[[dict[str, Any]], object], version: str = "1") -> None:
    """Change the manifest of the copy, or of another copy of it."""
    folder = store / NAME / version
    if not folder.exists():
        shutil.copytree(store / NAME / "1", folder)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps({**manifest, "version": version}))


def test_a_network_that_saw_no_person_is_never_sure(lanes: Lanes, store: Path) -> None:
    """A network of drawn faces warns of itself, and no probability is enough for it to be certain."""
    assert networks(lanes, store).load(NAME).warning is None
    changed(store, lambda manifest: manifest.update(for_people=False, learnt_from="drawings"))
    network = networks(lanes, store).load(NAME)
    assert network.warning == f"{SPEC} learnt from drawings: all its answers are called uncertain"
    assert network.uncertain_below > 1


def test_load(lanes: Lanes, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network is loaded with what its manifest says, and its lane is open before it is known to be ready."""
    # Which batch is worthwhile is measured, so it is another one on another day.
    monkeypatch.setattr("service.inference.models.worthwhile_batch", lambda *_, limit, budget_s: limit)  # noqa: ARG005
    known = networks(lanes, store)
    assert known.ready(NAME) is None
    network = known.load(NAME)
    assert (network.name, network.version, network.lane, network.max_batch) == (NAME, "1", SPEC, 4)
    assert len(network.labels) == 7
    manifest = json.loads((store / NAME / "1" / "manifest.json").read_bytes())
    assert network.uncertain_below == manifest["uncertain_below"]
    assert network.geometry.scale == manifest["crop"]["blazeface"]["scale"]
    ((name, runner, max_batch),) = lanes.opened
    assert (name, max_batch) == (SPEC, 4)
    assert runner(np.zeros((4, 5, 48, 48), np.uint8)).shape == (4, 7)


def test_once(lanes: Lanes, store: Path) -> None:
    """A network is loaded once, by whichever of its names, and is the same by all of them."""
    known = networks(lanes, store)
    first = known.load(NAME)
    assert known.load(NAME) is known.load(SPEC) is known.ready(NAME) is known.ready(SPEC) is first
    assert (lanes.names, known.loaded) == ([SPEC], [first])


def test_by_version_first(lanes: Lanes, store: Path) -> None:
    """A network that was asked for by its version is not loaded again by its name."""
    known = networks(lanes, store)
    first = known.load(SPEC)
    assert known.ready(NAME) is None
    assert known.load(NAME) is first
    assert lanes.names == [SPEC]


def test_at_once_from_many_threads(lanes: Lanes, store: Path) -> None:
    """Threads that ask for one network at the same time get the same one, loaded once."""
    known = networks(lanes, store, max_batch=1)
    together = threading.Barrier(4)
    found: list[object] = []

    def ask() -> None:
        together.wait(30)
        found.append(known.load(NAME))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    assert {id(network) for network in found} == {id(known.ready(NAME))}
    assert lanes.names == [SPEC]


def test_versions(lanes: Lanes, store: Path) -> None:
    """Versions are networks of their own, each with its lane."""
    changed(store, lambda manifest: manifest.update(uncertain_below=0.9), version="2")
    known = networks(lanes, store, max_batch=1)
    newest, first = known.load(NAME), known.load(SPEC)
    assert (newest.lane, first.lane) == (f"{NAME}@2", SPEC)
    assert newest.uncertain_below == 0.9 != first.uncertain_below
    assert known.loaded == [newest, first]
    assert sorted(lanes.names) == [SPEC, f"{NAME}@2"]


@pytest.mark.parametrize("spec", ["", "nothing", f"{NAME}@99", "blazeface-short", f"../{NAME}"])
def test_unknown(lanes: Lanes, store: Path, spec: str) -> None:
    """A network that is not there, a detector and a path are unknown, and stay so without being remembered."""
    known = networks(lanes, store)
    for _ in range(2):
        with pytest.raises(UnknownModel):
            known.load(spec)
    assert known.ready(spec) is None
    assert (lanes.opened, known.loaded) == ([], [])


@pytest.mark.parametrize("detector", ["haar", "yunet", "blazeface"])
def test_every_detector(lanes: Lanes, store: Path, detector: str) -> None:
    """The default network has a geometry for each detector of the service."""
    assert networks(lanes, store, detector=detector, max_batch=1).load(NAME).geometry.scale > 0


def test_no_geometry(lanes: Lanes, store: Path) -> None:
    """A network that was made for other detectors is refused: its crops would not be those it was trained on."""
    changed(store, lambda manifest: manifest["crop"].pop("haar"))
    with pytest.raises(ModelDamaged, match=r"no crop geometry for the detector 'haar'$"):
        networks(lanes, store, detector="haar").load(NAME)
    assert lanes.opened == []


def test_other_window(lanes: Lanes, store: Path) -> None:
    """A network of windows of another length is refused."""
    changed(store, lambda manifest: manifest.update(window=8))
    with pytest.raises(ModelDamaged, match="windows of 8 frames, not 5"):
        networks(lanes, store).load(NAME)
    assert lanes.opened == []


def test_damaged_and_mended(lanes: Lanes, store: Path) -> None:
    """A damaged network opens no lane and harms no other; once it is mended it loads."""
    model = store / NAME / "2" / "model.onnx"
    changed(store, lambda _: None, version="2")
    whole = model.read_bytes()
    model.write_bytes(whole[:-1])
    known = networks(lanes, store, max_batch=1)
    with pytest.raises(ModelDamaged, match="sha256"):
        known.load(NAME)
    assert known.load(SPEC).lane == SPEC
    model.write_bytes(whole)
    assert known.load(NAME).lane == f"{NAME}@2"
    assert lanes.names == [SPEC, f"{NAME}@2"]


def test_loaded_while_loading(lanes: Lanes, store: Path) -> None:
    """What serves can be listed while another network is being loaded."""
    known = networks(lanes, store, max_batch=1)
    loader = threading.Thread(target=known.load, args=(NAME,))
    loader.start()
    while loader.is_alive():
        assert len(known.loaded) <= 1
    loader.join()
    assert [network.lane for network in known.loaded] == [SPEC]


def test_renewed(lanes: Lanes, store: Path) -> None:
    """The newest version serves a name once it is asked to; the older one is as ready as before while it is used."""
    known = networks(lanes, store, max_batch=1)
    first = known.load(NAME)
    changed(store, lambda _: None, version="2")
    assert known.load(NAME) is known.ready(NAME) is first
    second = known.renew(NAME)
    assert known.load(NAME) is known.ready(NAME) is second
    assert (second.lane, known.ready(SPEC), known.followed) == (f"{NAME}@2", first, [NAME])


def test_unloaded(lanes: Lanes, store: Path) -> None:
    """After a swap the older version stays for as long as somebody holds it, and not for longer."""
    known = networks(lanes, store, max_batch=1)
    session = known.load(NAME)
    changed(store, lambda _: None, version="2")
    known.renew(NAME)
    known.unload()
    assert (lanes.closed, session in known.loaded) == ([], True)
    del session
    known.unload()
    known.unload()
    assert lanes.closed == [SPEC]
    assert (known.ready(SPEC), [network.lane for network in known.loaded]) == (None, [f"{NAME}@2"])


def test_loaded_again(lanes: Lanes, store: Path) -> None:
    """A version that nobody holds any more is loaded anew when it is asked for, and its lane is open."""
    known = networks(lanes, store, max_batch=1)
    known.load(NAME)
    changed(store, lambda _: None, version="2")
    known.renew(NAME)
    assert known.ready(SPEC) is None
    again = known.load(SPEC)
    known.unload()
    assert (again.lane, lanes.names, lanes.closed) == (SPEC, [SPEC, f"{NAME}@2", SPEC], [])


def test_what_was_named_stays_until_the_next_swap(lanes: Lanes, store: Path) -> None:
    """A version that was asked for as such stays while unused, so that calls of it are quick; a swap ends that."""
    known = networks(lanes, store, max_batch=1)
    known.load(SPEC)
    changed(store, lambda _: None, version="2")
    known.load(NAME)
    known.unload()
    assert lanes.closed == []
    changed(store, lambda _: None, version="3")
    known.renew(NAME)
    known.unload()
    assert sorted(lanes.closed) == [SPEC, f"{NAME}@2"]


def test_the_default_stays(lanes: Lanes, store: Path) -> None:
    """A default that names its version stays loaded, whatever becomes of the name."""
    known = networks(lanes, store, max_batch=1, default=SPEC)
    default = known.load(SPEC).lane
    known.load(NAME)
    changed(store, lambda _: None, version="2")
    known.renew(NAME)
    known.unload()
    serving = known.ready(default)
    assert serving is not None
    assert (serving.lane, lanes.closed) == (SPEC, [])


def test_renewed_to_what_is_damaged(lanes: Lanes, store: Path) -> None:
    """A new version that is damaged serves nobody; the one that served goes on."""
    known = networks(lanes, store, max_batch=1)
    first = known.load(NAME)
    changed(store, lambda manifest: manifest.update(sha256="0" * 64), version="2")
    with pytest.raises(ModelDamaged, match="sha256"):
        known.renew(NAME)
    assert (known.ready(NAME), lanes.names) == (first, [SPEC])


def test_back_to_the_version_before(lanes: Lanes, store: Path) -> None:
    """When the newest version is taken away the one before serves again, and is not loaded anew."""
    changed(store, lambda _: None, version="2")
    known = networks(lanes, store, max_batch=1)
    first, _ = known.load(SPEC), known.load(NAME)
    shutil.rmtree(store / NAME / "2")
    assert known.renew(NAME) is known.ready(NAME) is first
    assert lanes.names == [SPEC, f"{NAME}@2"]


def test_stamp(store: Path) -> None:
    """The stamp of a name changes when one of its files does, and only then."""
    known = ModelStore(store)
    before = known.stamp(NAME)
    assert before == known.stamp(NAME) != ()
    assert known.stamp("nothing") == ()
    changed(store, lambda _: None, version="2")
    assert known.stamp(NAME) != before


def test_what_is_loaded_is_said(lanes: Lanes, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that runs, and how long it took; and that it serves no more, once its lane is closed."""

    def slow(*_: object, limit: int, budget_s: float) -> int:  # noqa: ARG001 - as it is called
        lanes.clock.advance(1.5)
        return limit

    monkeypatch.setattr("service.inference.models.worthwhile_batch", slow)
    manifest = json.loads((store / NAME / "1" / "manifest.json").read_bytes())
    known = networks(lanes, store, max_batch=1)
    known.load(NAME)
    known.load(NAME)
    loaded = (SPEC, manifest["file"], manifest["sha256"], 1.5)
    assert lanes.said == [loaded]
    changed(store, lambda _: None, version="2")
    known.renew(NAME)
    known.unload()
    assert [lane for lane, *_ in lanes.said] == [SPEC, f"{NAME}@2", SPEC]
