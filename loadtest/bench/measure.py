"""Servers under closed-loop load: CPU time of their processes, and what the service says of itself."""

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families

from loadtest.bench.cases import Case
from loadtest.bench.clients import Answers, Plan, playing
from loadtest.bench.floor import Mosec, Served
from loadtest.counters import fetch
from loadtest.errors import CannotGenerate
from loadtest.servers import Server, started
from service.settings import usable_cores
from service.vision.crop import CROP_SIDE
from service.vision.window import FRAMES
from timeconv_client import Prediction, parse_message
from timeconv_client.address import stream_url

CLIENTS = 8
SILENT_SESSIONS = 50
_MOSEC_CALLERS = 32
_SETTLE_S = 1.0
_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Saturated:
    """A server under closed-loop load: CPU time of its processes, how long it took, the answers, and its own counts."""

    cpu_s: float
    elapsed_s: float
    answers: Sequence[Answers]
    before: str = ""
    after: str = ""


def saturate(server: Server, plan: Plan, seconds: float, counts: Callable[[], str] = str) -> Saturated:
    """Load a server that the clients have warmed up; its ``counts`` are asked for just before and after.

    All that is sent is answered before the end, so CPU time and answers are of the same messages.

    Raises:
        CannotGenerate: it cannot be reached, or refuses.
    """
    with playing(plan, max(1, usable_cores() // 2)) as clients:
        before = counts()
        cpu_s, start_s = _cpu_s(server), time.monotonic()
        answers = clients.play(seconds)
        cpu_s, elapsed_s = _cpu_s(server) - cpu_s, time.monotonic() - start_s
        return Saturated(cpu_s, elapsed_s, answers, before, counts())


def measure_echo(case: Case, clip: Sequence[bytes], seconds: float) -> float:
    """Microseconds of CPU time that carrying a frame and its answer costs."""
    with started("loadtest.echo") as server:
        load = saturate(server, _frames(server, case, clip, CLIENTS), seconds)
    return load.cpu_s / sum(map(len, load.answers)) * 1e6


def measure_service(
    case: Case, clip: Sequence[bytes], seconds: float, *, detect_every: int | None = None
) -> tuple[Served, float]:
    """The service at saturation, and the largest difference of a probability between one client and several.

    ``detect_every`` is the service's setting; None leaves it.
    """
    settings = _settings(case.model)
    if detect_every is not None:
        settings["TIMECONV_DETECT_EVERY_FRAMES"] = str(detect_every)
    with started("service.cli", "serve", "--host", "127.0.0.1", "--port", "0", settings=settings) as server:
        alone, together = (_once(server, case, clip, clients) for clients in (1, CLIENTS))
        plan = _frames(server, case, clip, CLIENTS)
        load = saturate(server, plan, seconds, lambda: fetch(f"{server.address}/metrics"))
    return served(load, parse_stages(load.before), parse_stages(load.after)), largest_difference(alone, together)


def measure_idle(case: Case, clip: Sequence[bytes], seconds: float) -> float:
    """CPU time of the service in percent of a core, while 50 sessions that have sent some frames are silent."""
    with started(
        "service.cli", "serve", "--host", "127.0.0.1", "--port", "0", settings=_settings(case.model)
    ) as server:
        plan = _frames(server, case, clip[: FRAMES + 1], SILENT_SESSIONS)
        with playing(plan):
            time.sleep(_SETTLE_S)
            cpu_s, start_s = _cpu_s(server), time.monotonic()
            time.sleep(seconds)
            return (_cpu_s(server) - cpu_s) / (time.monotonic() - start_s) * 100


def measure_mosec(model: str, seconds: float) -> Mosec | None:
    """The same network in mosec, given windows that are cropped already; None where mosec is not installed."""
    if importlib.util.find_spec("mosec") is None:
        return None
    windows = np.random.default_rng(0).integers(0, 256, (_MOSEC_CALLERS, FRAMES, CROP_SIDE, CROP_SIDE), np.uint8)
    bodies = [window.tobytes() for window in windows]
    with started("loadtest.bench.mosec_server", settings=_settings(model)) as server:
        load = saturate(server, Plan(f"{server.address}/inference", bodies, _MOSEC_CALLERS, warm_up=20), seconds)
    predictions = sum(map(len, load.answers))
    return Mosec(us=load.cpu_s / predictions * 1e6, predictions_per_s=predictions / load.elapsed_s)


@dataclass(frozen=True, slots=True)
class Stages:
    """What the service counts: frames, runs of the detector, batches, the windows in them, and batches of one."""

    frames: float
    detections: float
    batches: float
    windows: float
    batches_of_one: float


def parse_stages(exposition: str) -> Stages:
    """Those counts, from a text of ``/metrics``."""
    samples = [sample for family in text_string_to_metric_families(exposition) for sample in family.samples]

    def total(name: str, at_most: str | None = None) -> float:
        return sum(sample.value for sample in samples if sample.name == name and sample.labels.get("le") == at_most)

    return Stages(
        frames=total("timeconv_frames_received_total"),
        detections=total("timeconv_detections_total"),
        batches=total("timeconv_batch_size_count"),
        windows=total("timeconv_batch_size_sum"),
        batches_of_one=total("timeconv_batch_size_bucket", "1.0"),
    )


def served(load: Saturated, before: Stages, after: Stages) -> Served:
    """The figures of a load on the service, which counted ``before`` and ``after`` it.

    Raises:
        CannotGenerate: nothing was predicted.
    """
    total_ms = [prediction.timing_ms.total for answers in load.answers for prediction in _predictions(answers)]
    if not total_ms:
        raise CannotGenerate("The service predicted nothing")
    batches = after.batches - before.batches
    return Served(
        us=load.cpu_s / len(total_ms) * 1e6,
        cores=load.cpu_s / load.elapsed_s,
        predictions_per_s=len(total_ms) / load.elapsed_s,
        detector_rate=(after.detections - before.detections) / (after.frames - before.frames),
        total_ms={f"p{share}": float(np.percentile(total_ms, share)) for share in _PERCENTILES},
        batches={
            "mean": (after.windows - before.windows) / batches,
            "over_one": 1 - (after.batches_of_one - before.batches_of_one) / batches,
        },
    )


Probabilities = Mapping[int, Mapping[str, float]]
"""Of one client: by the seq of the frame, then by label."""


def largest_difference(alone: Sequence[Probabilities], together: Sequence[Probabilities]) -> float:
    """Largest difference of a probability between the client alone and each of several.

    Raises:
        CannotGenerate: they are not of the same frames.
    """
    reference = alone[0]
    if not reference or any(client.keys() != reference.keys() for client in together):
        raise CannotGenerate("Clients together did not get the predictions that one alone got")
    return max(
        abs(reference[seq][label] - probability)
        for client in together
        for seq, probabilities in client.items()
        for label, probability in probabilities.items()
    )


def _once(server: Server, case: Case, clip: Sequence[bytes], clients: int) -> list[Probabilities]:
    """What each client is told of the clip, by capture times: then the load decides nothing."""
    with playing(_frames(server, case, clip, clients, stamped=True)) as played:
        return [
            {prediction.seq: prediction.faces[0].probabilities or {} for prediction in _predictions(answers)}
            for answers in played.warm_up
        ]


def _predictions(answers: Answers) -> list[Prediction]:
    return [message for message in map(parse_message, answers) if isinstance(message, Prediction)]


def _frames(server: Server, case: Case, clip: Sequence[bytes], clients: int, *, stamped: bool = False) -> Plan:
    options = {"freshness": "every", "region": case.region, "timestamps": stamped}
    return Plan(stream_url(server.address, options), clip, clients, warm_up=len(clip), stamped=stamped)


def _settings(model: str) -> dict[str, str]:
    """CPU time is what is measured, so the network runs there."""
    return {"TIMECONV_MODEL": model, "TIMECONV_DEVICE": "cpu"}


def _cpu_s(server: Server) -> float:
    """CPU time so far of a server's process and of those that it has started."""
    process = psutil.Process(server.pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))
