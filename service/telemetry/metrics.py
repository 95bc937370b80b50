"""Every metric, defined once: name, help, unit and buckets. `Metrics` is the observer that the rest is handed.

One registry an application, so that two in one process (tests) do not share numbers.
"""

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client import PlatformCollector as PlatformInfo

from service import __version__
from service.inference.device import Device
from service.inference.scheduler import Batch
from service.protocol import Outcome
from service.telemetry.histogram import Histograms
from service.vision.look import StageTimes

STAGES = ("wait", "decode", "detect", "crop", "queue", "infer", "total", "encode", "send")
# Stages last from 0.05 ms (a crop) to the 5 s at which a call counts as stuck; the targets lie at 15 and 100 ms.
STAGE_BUCKETS_S = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
AGE_BUCKETS_S = (0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5)
BATCH_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256)


class Metrics:
    """All metrics of one application, and the hooks that move them."""

    def __init__(self) -> None:
        """Every label value that is known beforehand exists from the start, at 0."""
        self.registry = CollectorRegistry()
        self._frames_received = self._counter("timeconv_frames_received", "Binary messages received.")
        self._frame_bytes = self._counter("timeconv_frame_bytes", "Bytes of the binary messages received.")
        frames = self._counter(
            "timeconv_frames", "Frames by outcome, counted when the answer is handed over.", ["outcome"]
        )
        self._frames = {outcome: frames.labels(outcome) for outcome in Outcome}
        stages = Histograms(
            "timeconv_stage_seconds",
            "Time of answered frames in each stage.",
            STAGE_BUCKETS_S,
            label="stage",
            values=STAGES,
        )
        self.registry.register(stages)
        self._stages = stages.series
        self._detections = self._counter("timeconv_detections", "Streamed frames that the face detector looked at.")
        ages = Histograms(
            "timeconv_frame_age_seconds", "Age of a frame when its prediction is handed over.", AGE_BUCKETS_S
        )
        self.registry.register(ages)
        (self._age,) = ages.series.values()
        self._batch_size = self._histogram("timeconv_batch_size", "Windows in a batch.", BATCH_BUCKETS, ["model"])
        self._batches = self._counter(
            "timeconv_batches", "Batches by why they left: idle, full or held too long.", ["model", "reason"]
        )
        self._queue = self._histogram(
            "timeconv_batch_wait_seconds", "Time a window waited for its batch.", STAGE_BUCKETS_S, ["model"]
        )
        sessions = self._gauge("timeconv_sessions", "Connected sessions, active or blocked by their client.", ["state"])
        self._sessions = {state: sessions.labels(state) for state in ("active", "blocked")}
        self._sessions_ended = self._counter("timeconv_sessions_ended", "Sessions by how they ended.", ["reason"])
        swaps = self._counter(
            "timeconv_model_swaps", "New versions of networks: swapped in, or failed and not used.", ["result"]
        )
        self._swaps = {swapped: swaps.labels("swapped" if swapped else "failed") for swapped in (True, False)}
        resumes = self._counter(
            "timeconv_resumes", "Resume tokens shown: the session went on, or was not to be had.", ["result"]
        )
        self._resumes = {resumed: resumes.labels("resumed" if resumed else "not_found") for resumed in (True, False)}
        self._refused = self._counter("timeconv_refused", "Requests and upgrades refused, by error code.", ["code"])
        self._predictions = self._counter("timeconv_predict_requests", "REST predictions by outcome.", ["outcome"])
        self._fallback = self._gauge("timeconv_device_fallback", "1 if device=auto found no usable GPU.")
        self._device = self._gauge(
            "timeconv_device_info", "The device that networks run on; always 1.", ["device", "precision"]
        )
        self._gauge("timeconv_build_info", "Version of the service; always 1.", ["version"]).labels(__version__).set(1)
        ProcessCollector(registry=self.registry)
        PlatformInfo(registry=self.registry)

    def exposition(self) -> bytes:
        """The text of ``/metrics``."""
        return generate_latest(self.registry)

    # Hooks

    def frame_received(self, size_bytes: int) -> None:
        """A binary message came."""
        self._frames_received.inc()
        self._frame_bytes.inc(size_bytes)

    def frame_done(self, outcome: Outcome, times: StageTimes, total_s: float, age_s: float) -> None:
        """The outcome of a frame is decided; only predictions went through every stage."""
        self._frames[outcome].inc()
        if times.detected:
            self._detections.inc()
        if outcome is not Outcome.PREDICTION:
            return
        self._age.observe(age_s)
        stages = self._stages
        stages["wait"].observe(times.wait)
        stages["decode"].observe(times.decode)
        stages["detect"].observe(times.detect)
        stages["crop"].observe(times.crop)
        stages["queue"].observe(times.queue)
        stages["infer"].observe(times.infer)
        stages["total"].observe(total_s)

    def message_sent(self, encode_s: float, send_s: float) -> None:
        """A prediction was encoded and handed to the transport."""
        self._stages["encode"].observe(encode_s)
        self._stages["send"].observe(send_s)

    def batch_ran(self, batch: Batch, queue_s: Sequence[float], infer_s: float) -> None:  # noqa: ARG002 - the protocol's
        """A batch ran."""
        self._batch_size.labels(batch.lane).observe(len(batch.items))
        self._batches.labels(batch.lane, batch.reason).inc()
        queue = self._queue.labels(batch.lane)
        for waited_s in queue_s:
            queue.observe(waited_s)

    def session_ended(self, reason: str) -> None:
        """A session ended: ``closed``, ``disconnected``, or the code of the error that ended it."""
        self._sessions_ended.labels(reason).inc()

    def model_swapped(self, *, swapped: bool) -> None:
        """A new version of a network took over, or could not."""
        self._swaps[swapped].inc()

    def resume_asked(self, *, resumed: bool) -> None:
        """A client showed a resume token."""
        self._resumes[resumed].inc()

    def refused(self, code: str) -> None:
        """A request or an upgrade was refused."""
        self._refused.labels(code).inc()

    def predicted(self, outcome: str) -> None:
        """A REST prediction was answered."""
        self._predictions.labels(outcome).inc()

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

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)
