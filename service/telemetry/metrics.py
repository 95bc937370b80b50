"""Every metric, defined once: name, help, unit and buckets. `Metrics` is the observer that the rest is handed.

One registry an application, so that two in one process (tests) do not share numbers. docs/metrics.md describes each.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import UNSET
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client import PlatformCollector as PlatformInfo
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text

from service import __version__
from service.errors import (
    GoingAway,
    IdleTimeout,
    RateLimited,
    ResumedElsewhere,
    SessionTooLong,
    SlowReader,
    TimeConvError,
    Unauthorized,
    codes,
)
from service.inference.device import Device
from service.inference.models import LoadedNetwork
from service.inference.scheduler import Batch
from service.protocol import FaceResult, Outcome
from service.telemetry.series import Counters, Histograms, Readings
from service.vision.look import StageTimes

STAGES = ("wait", "decode", "detect", "crop", "queue", "infer", "total", "encode", "send")
# Stages last from 0.05 ms (a crop) to the 5 s at which a call counts as stuck; the targets lie at 15 and 100 ms.
STAGE_BUCKETS_S = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
AGE_BUCKETS_S = (0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5)
LAG_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
LOAD_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)  # TensorRT builds engines for minutes.
BATCH_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256)
CONFIDENCE_BUCKETS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1)
_EXPELLED = (GoingAway, IdleTimeout, RateLimited, ResumedElsewhere, SessionTooLong, SlowReader, Unauthorized)
_ENDS = ("closed", "disconnected", "shutdown", TimeConvError.code, *(error.code for error in _EXPELLED))


class Metrics:
    """All metrics of one application, and the hooks that move them.

    Series of our own are moved by one thread at a time: those of frames, sessions and requests by the event loop, those
    of models by the thread that loads them, those of batches by workers under a lock, taken once a batch.
    """

    def __init__(self) -> None:
        """Every label value that is known beforehand exists from the start, at 0.

        What comes into being at 1 has no rate, so the first of a kind would be seen by nobody.
        """
        self.registry = CollectorRegistry()
        self._frames_received = self._counters("timeconv_frames_received", "Binary messages received.").labels()
        self._frame_bytes = self._counters("timeconv_frame_bytes", "Bytes of the binary messages received.").labels()
        self._answer_bytes = self._counters("timeconv_answer_bytes", "Bytes of the text messages sent.").labels()
        frames = self._counters(
            "timeconv_frames", "Frames by outcome, counted when the answer is handed over.", ["outcome"]
        )
        self._frames = {outcome: frames.labels(outcome.value) for outcome in Outcome}
        stages = self._histograms(
            "timeconv_stage_seconds", "Time of answered frames in each stage.", STAGE_BUCKETS_S, ["stage"]
        )
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._age = self._histograms(
            "timeconv_frame_age_seconds", "Age of a frame when its prediction is handed over.", AGE_BUCKETS_S
        ).labels()
        self._detections = self._counters(
            "timeconv_detections", "Streamed frames that the face detector looked at."
        ).labels()
        follows = self._counters(
            "timeconv_follows",
            "Streamed frames whose face was followed without the detector (hit), or could not be any more (lost).",
            ["result"],
        )
        self._follows = {followed: follows.labels("hit" if followed else "lost") for followed in (True, False)}
        self._emotions = self._counters(
            "timeconv_emotions", "Faces by the emotion of most probability, over stream and REST.", ["emotion"]
        )
        self._confidence = self._histograms(
            "timeconv_confidence", "Probability of the winner, of faces over stream and REST.", CONFIDENCE_BUCKETS
        ).labels()
        self._uncertain = self._counters(
            "timeconv_uncertain", "Faces whose winner was too improbable to be called certain."
        ).labels()
        self._batch_lock = threading.Lock()
        self._batch_size = self._histograms("timeconv_batch_size", "Windows in a batch.", BATCH_BUCKETS, ["model"])
        self._batches = self._counters(
            "timeconv_batches", "Batches by why they left: idle, full or held too long.", ["model", "reason"]
        )
        self._batch_wait = self._histograms(
            "timeconv_batch_wait_seconds", "Time a window waited for its batch.", STAGE_BUCKETS_S, ["model"]
        )
        sessions = self._gauge("timeconv_sessions", "Connected sessions, active or blocked by their client.", ["state"])
        self._sessions = {state: sessions.labels(state) for state in ("active", "blocked")}
        self._sessions_started = self._counters(
            "timeconv_sessions_started", "Sessions begun, those that were resumed included."
        ).labels()
        self._sessions_ended = self._counters("timeconv_sessions_ended", "Sessions by how they ended.", ["reason"])
        for reason in _ENDS:
            self._sessions_ended.labels(reason)
        resumes = self._counters(
            "timeconv_resumes", "Resume tokens shown: the session went on, or was not to be had.", ["result"]
        )
        self._resumes = {resumed: resumes.labels("resumed" if resumed else "not_found") for resumed in (True, False)}
        self._refused = self._counters("timeconv_refused", "Requests and upgrades refused, by error code.", ["code"])
        for code in codes():
            self._refused.labels(code)
        self._predictions = self._counters("timeconv_predict_requests", "REST predictions by outcome.", ["outcome"])
        for outcome in (Outcome.PREDICTION, Outcome.NO_FACE):
            self._predictions.labels(outcome.value)
        self._model = self._gauge(
            "timeconv_model_info",
            "A loaded network: its version, and the file that runs; always 1.",
            ["model", "version", "file", "sha256"],
        )
        self._files: dict[str, tuple[str, ...]] = {}
        self._model_load = self._histograms(
            "timeconv_model_load_seconds", "Time to read, check and warm a network.", LOAD_BUCKETS_S
        ).labels()
        swaps = self._counters(
            "timeconv_model_swaps", "New versions of networks: swapped in, or failed and not used.", ["result"]
        )
        self._swaps = {swapped: swaps.labels("swapped" if swapped else "failed") for swapped in (True, False)}
        self._lag = self._histograms(
            "timeconv_event_loop_lag_seconds", "How late a timer of the event loop fires.", LAG_BUCKETS_S
        ).labels()
        self._stuck = self._counters("timeconv_stuck", "Workers found stuck or dead; the process then ends.").labels()
        self._fallback = self._gauge("timeconv_device_fallback", "1 if device=auto found no usable GPU.")
        self._device = self._gauge(
            "timeconv_device_info", "The device that networks run on; always 1.", ["device", "precision"]
        )
        self._gauge("timeconv_build_info", "Version of the service; always 1.", ["version"]).labels(__version__).set(1)
        ProcessCollector(registry=self.registry)
        PlatformInfo(registry=self.registry)

    def exposition(self, *, openmetrics: bool = False) -> bytes:
        """The text of ``/metrics``, in Prometheus's own format or as OpenMetrics."""
        text: bytes = (openmetrics_text if openmetrics else generate_latest)(self.registry)
        return text

    # Hooks

    def frame_received(self, size_bytes: int) -> None:
        """A binary message came."""
        self._frames_received.inc()
        self._frame_bytes.inc(size_bytes)

    def frame_done(
        self, outcome: Outcome, times: StageTimes, total_s: float, age_s: float, faces: Sequence[FaceResult] = ()
    ) -> None:
        """The outcome of a frame is decided; only predictions went through every stage and have faces."""
        self._frames[outcome].inc()
        if times.detected:
            self._detections.inc()
        if times.followed is not None:
            self._follows[times.followed].inc()
        if outcome is not Outcome.PREDICTION:
            return
        self._faces(faces)
        self._age.observe(age_s)
        stages = self._stages
        stages["wait"].observe(times.wait)
        stages["decode"].observe(times.decode)
        stages["detect"].observe(times.detect)
        stages["crop"].observe(times.crop)
        stages["queue"].observe(times.queue)
        stages["infer"].observe(times.infer)
        stages["total"].observe(total_s)

    def text_sent(self, size_bytes: int) -> None:
        """A text message was handed to the transport."""
        self._answer_bytes.inc(size_bytes)

    def message_sent(self, encode_s: float, send_s: float) -> None:
        """A prediction was encoded and handed to the transport."""
        self._stages["encode"].observe(encode_s)
        self._stages["send"].observe(send_s)

    def batch_ran(self, batch: Batch, queue_s: Sequence[float], infer_s: float) -> None:  # noqa: ARG002 - the protocol's
        """A batch ran."""
        with self._batch_lock:
            self._batch_size.labels(batch.lane).observe(len(batch.items))
            self._batches.labels(batch.lane, batch.reason).inc()
            wait = self._batch_wait.labels(batch.lane)
            for waited_s in queue_s:
                wait.observe(waited_s)

    def session_started(self) -> None:
        """A session began, or went on."""
        self._sessions_started.inc()

    def session_ended(self, reason: str) -> None:
        """A session ended: ``closed``, ``disconnected``, or the code of the error that ended it."""
        self._sessions_ended.labels(reason).inc()

    def network_loaded(self, network: LoadedNetwork, file: str, sha256: str, seconds: float) -> None:
        """A network serves from ``file``; to read, check and warm it took so long."""
        self._model_load.observe(seconds)
        self._forget_file(network.lane)  # Of other content, and not unloaded yet.
        self._files[network.lane] = named = (network.lane, network.version, file, sha256)
        self._model.labels(*named).set(1)
        for emotion in network.labels:
            self._emotions.labels(emotion)

    def network_unloaded(self, lane: str) -> None:
        """A network serves no more: its series go, so that versions that come and go leave nothing behind."""
        self._forget_file(lane)
        with self._batch_lock:
            for series in (self._batch_size, self._batches, self._batch_wait):
                series.forget(lane)

    def model_swapped(self, *, swapped: bool) -> None:
        """A new version of a network took over, or could not."""
        self._swaps[swapped].inc()

    def resume_asked(self, *, resumed: bool) -> None:
        """A client showed a resume token."""
        self._resumes[resumed].inc()

    def refused(self, code: str) -> None:
        """A request or an upgrade was refused."""
        self._refused.labels(code).inc()

    def predicted(self, outcome: str, faces: Sequence[FaceResult] = ()) -> None:
        """A REST prediction was answered."""
        self._predictions.labels(outcome).inc()
        self._faces(faces)

    def timer_fired(self, late_s: float) -> None:
        """A timer of the event loop fired so late."""
        self._lag.observe(late_s)

    def workers_stuck(self, number: int) -> None:
        """So many workers were found stuck or dead."""
        self._stuck.inc(number)

    def device_chosen(self, device: Device) -> None:
        """The networks run on ``device``."""
        self._device.labels(device.name, device.precision).set(1)
        self._fallback.set(device.fallback is not None)

    # Gauges that are read when they are scraped

    def watch_sessions(self, active: Callable[[], int], blocked: Callable[[], int]) -> None:
        """Where to read the numbers of sessions."""
        self._sessions["active"].set_function(active)
        self._sessions["blocked"].set_function(blocked)

    def watch_connections(self, connections: Callable[[], int]) -> None:
        """Where to read the number of connections."""
        self._gauge("timeconv_connections", "Open connections of all kinds.").set_function(connections)

    def watch_kept(self, kept: Callable[[], int]) -> None:
        """Where to read how many sessions wait for their client to come back."""
        self._gauge("timeconv_sessions_kept", "Sessions whose connection broke that can be resumed.").set_function(kept)

    def watch_queues(self, turns: Callable[[], int], windows: Callable[[], int], in_flight: Callable[[], int]) -> None:
        """Where to read how much waits."""
        self._gauge("timeconv_waiting_sources", "Sessions and calls that wait for a worker.").set_function(turns)
        self._gauge("timeconv_waiting_windows", "Windows that wait for a batch.").set_function(windows)
        self._gauge("timeconv_frames_in_flight", "Frames received whose outcome is not sent.").set_function(in_flight)

    def watch_workers(
        self, number: int, busy_s: Callable[[], Mapping[str, float]], call_age_s: Callable[[], float]
    ) -> None:
        """How many workers there are, and where to read what they were busy with, and the age of their oldest call."""
        self._gauge("timeconv_workers", "Threads that do the work.").set(number)
        self._gauge(
            "timeconv_engine_call_age_seconds", "Age of the oldest piece of work that a worker is at; 0 if none."
        ).set_function(call_age_s)
        text = "Time that workers were busy with frames, and with batches."
        self.registry.register(Readings("counter", "timeconv_worker_busy_seconds", text, "work", busy_s))

    def watch_models(self, unusable: Callable[[], int]) -> None:
        """Where to read how many networks have a newest version that cannot be used."""
        text = "Loaded networks whose newest version in the store cannot be used; the one before serves."
        self._gauge("timeconv_models_unusable", text).set_function(unusable)

    def watch_device_memory(self, memory: Callable[[], Mapping[str, float]]) -> None:
        """Where to read the bytes of GPU memory, ``used`` and ``total``."""
        text = "Memory of the GPU that networks run on, used by whomever, and in all."
        self.registry.register(Readings("gauge", "timeconv_device_memory_bytes", text, "kind", memory))

    def watch_spans(self, dropped: Callable[[], Mapping[str, float]]) -> None:
        """Where to read how many spans of traces did not come to their collector, by why."""
        text = "Spans of traces that were to be sent and were not."
        self.registry.register(Readings("counter", "timeconv_spans_dropped", text, "reason", dropped))

    def _forget_file(self, lane: str) -> None:
        if (named := self._files.pop(lane, None)) is not None:
            self._model.remove(*named)

    def _faces(self, faces: Iterable[FaceResult]) -> None:
        for face in faces:
            if face.probabilities is UNSET or face.raw_emotion is UNSET:
                continue  # Its window is not full yet.
            self._emotions.labels(face.raw_emotion).inc()
            self._confidence.observe(face.probabilities[face.raw_emotion])
            if face.uncertain:
                self._uncertain.inc()

    def _counters(self, name: str, text: str, labels: Sequence[str] = ()) -> Counters:
        counters = Counters(name, text, labels)
        self.registry.register(counters)
        return counters

    def _histograms(self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histograms:
        histograms = Histograms(name, text, buckets, labels)
        self.registry.register(histograms)
        return histograms

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)
