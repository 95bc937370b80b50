"""The engine of one process: detector, networks, workers and sessions, opened in order and closed in reverse."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2

from service.access import Access, KeyRing, Tokens
from service.aside import Aside
from service.drain import Drain
from service.errors import (
    AtCapacity,
    BadConfiguration,
    DeviceUnavailable,
    Overloaded,
    RateLimited,
    TooManySessions,
    UnknownModel,
)
from service.inference.artifact import ModelStore
from service.inference.device import Device, Tuning, choose_device
from service.inference.gpu import device_memory
from service.inference.models import LoadedNetwork, Networks
from service.inference.runner import OnnxDetector
from service.inference.scheduler import Scheduler
from service.inference.workers import WorkerPool
from service.inlet import Inlet
from service.limits import NamedPlaces, NamedRates
from service.model_watch import ModelWatch
from service.outbox import Outbox
from service.places import Places
from service.resume import Resumption
from service.sessions import Sessions
from service.settings import Settings
from service.telemetry.lag import watch_lag
from service.telemetry.metrics import Metrics
from service.vision.detect import BlazeFace, Detector, Haar, YuNet
from service.vision.look import Look
from service.watchdog import Watchdog

if TYPE_CHECKING:
    from service.telemetry.traces import Traces

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 1.0
"""How long stopping waits for what workers are at, which nobody waits for any more."""
_KEYS_KEPT = 4096
"""Keys whose rate over REST is remembered."""


@dataclass(frozen=True)
class Engine:
    """What the endpoints work with."""

    settings: Settings
    metrics: Metrics
    traces: "Traces | None"
    networks: Networks
    look: Look
    pool: WorkerPool
    inlet: Inlet
    sessions: Sessions
    access: Access
    resumption: Resumption
    session_places: Places
    address_places: NamedPlaces
    key_places: NamedPlaces
    predict_places: Places
    address_predictions: NamedPlaces
    key_predictions: NamedPlaces
    key_frames: NamedRates
    watchdog: Watchdog
    drain: Drain
    model_watch: ModelWatch
    loading: Aside
    reading: Aside
    clock: Callable[[], float]

    @property
    def default(self) -> LoadedNetwork:
        """The network of who names none."""
        network = self.networks.ready(self.settings.model)
        assert network is not None  # It was loaded before there was an engine.
        return network

    async def network(self, spec: str) -> LoadedNetwork:
        """The network of a ``model`` option; one that is not loaded is loaded beside the event loop.

        Raises:
            UnknownModel, ModelDamaged: see `Networks.load`.
        """
        if not spec:
            return self.default
        loaded = self.networks.ready(spec)
        return loaded if loaded is not None else await self.loading.run(self.networks.load, spec)


def open_detector(settings: Settings, store: ModelStore) -> Detector:
    """The detector of the settings.

    Raises:
        DeviceUnavailable: YuNet without its file, or with another.
        BadConfiguration, ModelDamaged: BlazeFace is not in the model store as it should be.
    """
    if settings.detector == "haar":
        return Haar()
    if settings.detector == "yunet":
        if settings.yunet_file is None or not settings.yunet_file.is_file():
            where = (
                "TIMECONV_YUNET_FILE is not set" if settings.yunet_file is None else f"none at {settings.yunet_file}"
            )
            raise DeviceUnavailable(f"detector=yunet needs its ONNX file: {where}")
        try:
            return YuNet(settings.yunet_file)
        except ValueError as error:
            raise DeviceUnavailable(f"detector=yunet cannot be had: {error}") from error
    try:
        return BlazeFace(OnnxDetector(store.find("blazeface-short", "detector")))
    except UnknownModel as error:
        raise BadConfiguration(f"{error} in the model store {settings.model_store}") from error


def tuning_of(settings: Settings) -> Tuning:
    """What the settings tell a device beside its name."""
    return Tuning(
        workers=settings.workers,
        gpu_mem_limit_bytes=settings.gpu_mem_limit_mb * 2**20,
        engine_cache=settings.engine_cache,
    )


def open_traces(settings: Settings, device: Device, clock: Callable[[], float]) -> "Traces | None":
    """Traces, where the settings ask for them: without, nothing of OpenTelemetry is imported.

    Raises:
        BadConfiguration: the extra is not installed, or OpenTelemetry's own variables ask for what cannot be had.
    """
    if not settings.trace_share:
        return None
    try:
        from service.telemetry import traces  # noqa: PLC0415 - an extra

        return traces.open_traces(settings.trace_share, device, clock)
    except ModuleNotFoundError as error:
        raise BadConfiguration(
            f"TIMECONV_TRACE_SHARE wants the extra otel (pip install 'timeconv[otel]'): {error}"
        ) from error
    except ValueError as error:  # Of some of its variables as early as it is imported.
        raise BadConfiguration(f"OpenTelemetry cannot be set up by its OTEL_ variables: {error}") from error


def open_access(settings: Settings, clock: Callable[[], float]) -> Access:
    """Keys and tokens of the settings.

    Raises:
        BadConfiguration: the keys cannot be read, or the secret is too short.
    """
    tokens = Tokens(
        settings.token_secret.get_secret_value(),
        lifetime_s=settings.token_lifetime_ms / 1000,
        wall_clock=time.time,
    )
    return Access(KeyRing(settings.keys.get_secret_value(), settings.keys_file, clock), tokens)


@asynccontextmanager
async def open_engine(
    settings: Settings, *, exit_process: Callable[[int], None], clock: Callable[[], float]
) -> AsyncIterator[Engine]:
    """Open all parts, with the default network loaded and warmed; on the way out close them in reverse.

    Raises:
        TimeConvError: a part cannot be had; the message says which and why.
    """
    cv2.setNumThreads(1)
    access = open_access(settings, clock)
    metrics = Metrics()
    store = ModelStore(settings.model_store)
    device = choose_device(settings.device, settings.precision)
    metrics.device_chosen(device)
    if device.fallback is not None:
        log.warning("No GPU can be used, so networks run on the CPU (device=cpu says so): %s", device.fallback)
    detector = open_detector(settings, store)
    scheduler = Scheduler(max_waiting=settings.max_waiting_windows, hold_s=settings.batch_hold_ms / 1000)
    pool = WorkerPool(
        scheduler,
        workers=settings.workers,
        post=Outbox(asyncio.get_running_loop()).post,
        observer=metrics,
        clock=clock,
    )
    networks = Networks(
        store,
        device=device,
        tuning=tuning_of(settings),
        detector=settings.detector,
        max_batch=settings.max_batch,
        batch_budget_s=settings.batch_budget_ms / 1000,
        open_lane=functools.partial(pool.add_lane, parallel=device.parallel),
        close_lane=pool.close_lane,
        default=settings.model,
        observer=metrics,
        clock=clock,
    )
    # However many ask at once, networks are loaded on one thread, and the store is listed on another one.
    loading, reading = Aside("loading"), Aside("reading")
    await loading.run(networks.load, settings.model)
    sessions = Sessions(
        blocked_timeout_s=settings.blocked_timeout_ms / 1000,
        idle_timeout_s=settings.idle_timeout_ms / 1000,
        longest_s=settings.max_session_ms / 1000,
        knows=access.keys.knows,
        clock=clock,
    )
    resumption = Resumption(
        grace_s=settings.resume_grace_ms / 1000,
        most_kept=settings.max_sessions,
        call_later=asyncio.get_running_loop().call_later,
    )
    metrics.watch_sessions(lambda: sessions.active, lambda: sessions.blocked)
    metrics.watch_kept(lambda: resumption.kept)
    metrics.watch_queues(lambda: pool.waiting_turns, lambda: pool.waiting_windows, lambda: sessions.in_flight)
    metrics.watch_workers(settings.workers, pool.busy_s, lambda: pool.call_age_s)
    if device.providers and device.name != "cpu":
        metrics.watch_device_memory(device_memory)
    look = Look(
        detector,
        detect_every=settings.detect_every_frames,
        max_bytes=settings.max_frame_bytes,
        max_pixels=settings.max_frame_pixels,
        clock=clock,
    )
    watchdog = Watchdog(
        pool, sessions, stuck_s=settings.stuck_ms / 1000, exit_process=exit_process, on_stuck=metrics.workers_stuck
    )
    model_watch = ModelWatch(networks, sessions, metrics, loading)
    metrics.watch_models(lambda: model_watch.unusable)
    # It has a thread, so nothing that may fail comes after it.
    if (traces := open_traces(settings, device, clock)) is not None:
        metrics.watch_spans(traces.dropped)
    pool.start()
    watching = [
        asyncio.create_task(watchdog.run()),
        asyncio.create_task(watch_lag(metrics.timer_fired)),
        asyncio.create_task(model_watch.run(settings.model_poll_ms / 1000)),
    ]
    try:
        yield Engine(
            settings=settings,
            metrics=metrics,
            traces=traces,
            networks=networks,
            look=look,
            pool=pool,
            inlet=Inlet(asyncio.get_running_loop(), pool),
            sessions=sessions,
            access=access,
            address_places=NamedPlaces(functools.partial(_too_many_sessions, "address")),
            key_places=NamedPlaces(functools.partial(_too_many_sessions, "key")),
            resumption=resumption,
            session_places=Places(settings.max_sessions, _at_capacity),
            predict_places=Places(settings.max_waiting_predictions, _too_many_predictions),
            address_predictions=NamedPlaces(functools.partial(_too_many_predictions_of, "address")),
            key_predictions=NamedPlaces(functools.partial(_too_many_predictions_of, "key")),
            key_frames=NamedRates(settings.max_frames_per_s, burst_s=1.0, kept=_KEYS_KEPT),
            watchdog=watchdog,
            drain=Drain(sessions, time_s=settings.drain_ms / 1000),
            model_watch=model_watch,
            loading=loading,
            reading=reading,
            clock=clock,
        )
    finally:
        for task in watching:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        async with asyncio.TaskGroup() as ends:  # Beside each other, or stopping would take longer with traces.
            if traces is not None:
                ends.create_task(Aside("sending traces").run(traces.close, CLOSE_TIMEOUT_S))
            closing = ends.create_task(Aside("closing").run(pool.close, CLOSE_TIMEOUT_S))
        if not closing.result():
            log.error("A worker did not end within %g s", CLOSE_TIMEOUT_S)


def _at_capacity(limit: int) -> AtCapacity:
    return AtCapacity(f"{limit} sessions are connected, which is as many as this service takes")


def _too_many_predictions(limit: int) -> Overloaded:
    return Overloaded(f"{limit} predictions are in work, which is as many as this service takes")


def _too_many_sessions(whose: str, limit: int) -> TooManySessions:
    return TooManySessions(f"{limit} sessions of this {whose} are connected, which is as many as it may have")


def _too_many_predictions_of(whose: str, limit: int) -> RateLimited:
    return RateLimited(f"{limit} predictions of this {whose} are in work, which is as many as it may have")
