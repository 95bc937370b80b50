"""Networks that are loaded, each with a lane of its own: when first asked for, and off the event loop."""

import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from service.errors import ModelDamaged
from service.inference.artifact import Artifact, ModelStore, NetworkManifest, Stamp
from service.inference.batch import Runner
from service.inference.device import Device, Tuning
from service.inference.network import OpenNetwork, open_network
from service.inference.runner import worthwhile_batch
from service.vision.crop import CROP_SIDE, CropGeometry
from service.vision.window import FRAMES

log = logging.getLogger(__name__)

NOT_FOR_PEOPLE = "{} learnt from {}: all its answers are called uncertain"
NEVER_SURE = 2.0  # no probability reaches it


@dataclass(frozen=True, slots=True, weakref_slot=True)
class LoadedNetwork:
    """A network that serves; ``lane`` is its ``name@version``, ``geometry`` that for the service's detector.

    Its lane is open for as long as somebody holds this: a session, a frame, a window's ``deliver``. ``warning`` says
    why all its answers are uncertain; None if they are not.
    """

    name: str
    version: str
    lane: str
    labels: tuple[str, ...]
    uncertain_below: float
    geometry: CropGeometry
    max_batch: int
    warning: str | None = None


class NetworkObserver(Protocol):
    """Who wants to know which networks serve; called on the threads that load and unload."""

    def network_loaded(self, network: LoadedNetwork, file: str, sha256: str, seconds: float) -> None:
        """A network serves from ``file``; to read, check and warm it took so long."""
        ...

    def network_unloaded(self, lane: str) -> None:
        """A network serves no more."""
        ...


class Networks:
    """Loads networks, opens their lanes, and closes those that nobody uses any more.

    Thread-safe; `load`, `renew` and `unload` block while a model is read and warmed.
    """

    def __init__(
        self,
        store: ModelStore,
        *,
        device: Device,
        tuning: Tuning = Tuning(),  # noqa: B008 - it is frozen
        detector: str,
        max_batch: int,
        batch_budget_s: float,
        open_lane: Callable[[str, Runner, int], None],
        close_lane: Callable[[str], None],
        default: str,
        observer: NetworkObserver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``open_lane(name, runner, max_batch)`` makes a loaded network known to the workers, ``close_lane`` unknown.

        ``default``: the spec that stays loaded.
        """
        self.store = store
        self.device = device
        self._tuning = tuning
        self._detector = detector
        self._max_batch = max_batch
        self._batch_budget_s = batch_budget_s
        self._open_lane = open_lane
        self._close_lane = close_lane
        self._default = default
        self._observer = observer
        self._clock = clock
        self._loading = threading.Lock()
        self._asked_for: dict[str, LoadedNetwork] = {}
        self._lanes: dict[str, weakref.ref[LoadedNetwork]] = {}

    @property
    def loaded(self) -> list[LoadedNetwork]:
        """Networks that serve."""
        lanes = list(self._lanes.values())  # A copy: another thread may be loading one.
        return [network for lane in lanes if (network := lane()) is not None]

    def ready(self, spec: str) -> LoadedNetwork | None:
        """The network of a spec that was loaded before; never blocks."""
        network = self._asked_for.get(spec)
        if network is None and (lane := self._lanes.get(spec)) is not None:
            network = lane()
        return network

    def load(self, spec: str) -> LoadedNetwork:
        """The network ``name`` or ``name@version``, loaded and warmed if it was not yet.

        Raises:
            UnknownModel: the store has none of that name.
            ModelDamaged: its files are not what they should be, or it knows no geometry for this detector.
            DeviceUnavailable: the device does not run it, or not as the CPU does.
        """
        with self._loading:
            return self._asked_for.get(spec) or self._find(spec)

    @property
    def followed(self) -> list[str]:
        """Names that were asked for without a version."""
        return [spec for spec in list(self._asked_for) if "@" not in spec]

    def stamp(self, name: str) -> Stamp:
        """See `ModelStore.stamp`."""
        return self.store.stamp(name)

    def renew(self, spec: str) -> LoadedNetwork:
        """Have the newest version in the store serve a name, loaded and warmed if it was not yet.

        Versions of it that somebody named stay no longer than they are used. Of a ``name@version`` there is no newer.

        Raises:
            TimeConvError: as `load`; the version that served goes on to.
        """
        with self._loading:
            old, new = self._asked_for.get(spec), self._find(spec)
            if old is not None and new is not old:
                for named in [named for named in self._asked_for if named.startswith(f"{spec}@")]:
                    if named != self._default:
                        del self._asked_for[named]
            return new

    def unload(self) -> None:
        """Close the lanes of networks that nobody holds any more."""
        with self._loading:
            for name in [name for name, lane in self._lanes.items() if lane() is None]:
                del self._lanes[name]
                self._close_lane(name)
                self._observer.network_unloaded(name)
                log.info("Unloaded %s", name)

    def _find(self, spec: str) -> LoadedNetwork:
        artifact = self.store.find(spec, "network")
        network = self._asked_for[spec] = self.ready(artifact.spec) or self._open(artifact)
        return network

    def _open(self, artifact: Artifact) -> LoadedNetwork:
        manifest = artifact.manifest
        assert isinstance(manifest, NetworkManifest)
        geometry = manifest.crop.get(self._detector)
        if geometry is None:
            raise ModelDamaged(f"{artifact.spec} has no crop geometry for the detector {self._detector!r}")
        if manifest.window != FRAMES:
            raise ModelDamaged(f"{artifact.spec} takes windows of {manifest.window} frames, not {FRAMES}")
        start_s = self._clock()
        opened = open_network(artifact, self.device, self._tuning, max_batch=self._max_batch)
        batch = worthwhile_batch(
            opened.runner, (FRAMES, CROP_SIDE, CROP_SIDE), limit=self._max_batch, budget_s=self._batch_budget_s
        )
        took_s = self._clock() - start_s
        self._open_lane(artifact.spec, opened.runner, batch)
        file, sha256 = opened.artifact.manifest.file, opened.artifact.manifest.sha256
        log.info(
            "Loaded %s, %s, on %s%s, batches up to %d", artifact.spec, file, self.device.name, _parity(opened), batch
        )
        if self.device.precision == "int8" and opened.artifact is artifact:
            log.warning("%s has no int8 form and runs in f32", artifact.spec)
        loaded = LoadedNetwork(
            name=manifest.name,
            version=manifest.version,
            lane=artifact.spec,
            labels=manifest.labels,
            uncertain_below=manifest.uncertain_below if manifest.for_people else NEVER_SURE,
            geometry=CropGeometry(geometry.scale, geometry.dx, geometry.dy),
            max_batch=batch,
            warning=None if manifest.for_people else NOT_FOR_PEOPLE.format(artifact.spec, manifest.learnt_from),
        )
        if loaded.warning is not None:
            log.warning("%s", loaded.warning)
        self._lanes[artifact.spec] = weakref.ref(loaded)
        self._observer.network_loaded(loaded, file, sha256, took_s)
        return loaded


def _parity(opened: OpenNetwork) -> str:
    return "" if opened.differs is None else f", at most {opened.differs:.1e} from the CPU's answers in f32"
