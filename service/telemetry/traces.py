"""Traces: a span for a frame, or a REST prediction, that chance picks. docs/traces.md says what is in it.

This is the only module that imports OpenTelemetry, and is imported only where traces are asked for. A span is made
after the fact, from the times that the service takes anyway: what is not picked costs one number of chance. Spans are
handed to a thread of OpenTelemetry's, which sends them to a collector, over a queue with an end.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from service import __version__
from service.answers import Answer
from service.errors import BadConfiguration, TimeConvError
from service.inference.device import Device
from service.predict import PredictCall
from service.protocol import FrameOutcome, Outcome, Prediction
from service.session import Frame
from service.vision.look import StageTimes

log = logging.getLogger(__name__)

MOST_WAITING = 2048
"""Spans that wait for the collector; no more are made then."""
_QUIET_S = 60.0
"""Of spans that the collector does not take there is one line of the log in so long."""
_ERRORS = frozenset({Outcome.FAILED, Outcome.OVERLOADED})
"""Outcomes that are the service's own fault; over REST they are 5xx."""
_TRACEPARENT = "traceparent"


class Stage(NamedTuple):
    """What became an event: ``name``, when it began (the service's clock), and how long it took."""

    name: str
    start_s: float
    seconds: float
    frame: int | None = None
    """Which one, in a REST call with several."""


class Outlet(SpanExporter):
    """Hands spans to a collector's exporter, counts those it did not take, and says so now and then.

    OpenTelemetry has two lines for each batch, with the collector's whole address in them.
    """

    def __init__(self, exporter: SpanExporter, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds, monotonic."""
        self._exporter = exporter
        self._clock = clock
        self._quiet_until_s = -_QUIET_S
        self._unsaid = 0
        self._closed = threading.Event()
        self.taken_over = 0
        """Spans that no longer wait. Moved, as the next, by the thread that exports alone."""
        self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand a batch over; it is gone if the collector does not take it."""
        self.taken_over += len(spans)
        result = SpanExportResult.FAILURE if self._closed.is_set() else self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._lose(len(spans))
        return result

    def shutdown(self) -> None:
        """Take no more, and give up what is under way. Again it is nothing."""
        if not self._closed.is_set():
            self._closed.set()
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the base class's
        """Nothing waits here."""
        return True

    def _lose(self, spans: int) -> None:
        self.lost += spans
        self._unsaid += spans
        if (now_s := self._clock()) >= self._quiet_until_s:
            log.warning(
                "The collector of traces did not take spans; TIMECONV_LOG_LEVEL=debug says why",
                extra={"spans": self._unsaid},
            )
            self._unsaid, self._quiet_until_s = 0, now_s + _QUIET_S


class Traces:
    """Makes the spans. Everything but `close` is called on the event loop."""

    def __init__(
        self,
        outlet: Outlet,
        processor: SpanProcessor,
        *,
        share: float,
        resource: Resource,
        clock: Callable[[], float],
        wall_clock_ns: Callable[[], int] = time.time_ns,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """``processor`` hands spans to ``outlet``. ``clock``: the service's, seconds, monotonic. ``chance``: 0 to 1."""
        self._outlet = outlet
        self._processor = processor
        self._share = share
        self._clock = clock
        self._wall_clock_ns = wall_clock_ns
        self._chance = chance
        self._made = 0
        self._left_out = 0
        # What chance has picked is made, whatever else the environment asks of OpenTelemetry's samplers.
        provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(processor)
        self._tracer = provider.get_tracer("timeconv", __version__)

    def stream(self, session: str, request: str, traceparents: Sequence[str]) -> "StreamTracer":
        """Who makes the spans of a session's frames; ``traceparents``: those headers of its upgrade."""
        return StreamTracer(self, session, request, traceparents)

    def prediction(self, request: str, traceparents: Sequence[str]) -> "AbstractContextManager[PredictionTrace | None]":
        """Around a REST prediction: what makes its span at the end of the block; None if chance did not pick it."""
        return PredictionTrace(self, request, traceparents) if self.picks() else nullcontext()

    def picks(self) -> bool:
        """Whether chance picks this one, and there is room for its span."""
        if self._chance() >= self._share:
            return False
        if self._made - self._outlet.taken_over >= MOST_WAITING:
            self._left_out += 1
            return False
        return True

    def dropped(self) -> Mapping[str, float]:
        """Spans that were picked and have not come to the collector, by why."""
        return {"queue_full": self._left_out, "not_taken": self._outlet.lost}

    @property
    def now_s(self) -> float:
        """The service's clock."""
        return self._clock()

    def make(
        self,
        name: str,
        start_s: float,
        end_s: float,
        stages: Iterable[Stage],
        attributes: Mapping[str, AttributeValue],
        *,
        error: str | None,
        context: Context | None = None,
        links: Sequence[Link] = (),
    ) -> None:
        """Make a span, and an event at the begin of each stage. ``error``: what failed, if something did."""
        zero_ns = self._wall_clock_ns() - round(self._clock() * 1e9)

        def wall_ns(time_s: float) -> int:
            return zero_ns + round(time_s * 1e9)

        self._made += 1
        span = self._tracer.start_span(
            name,
            # Without one the thread's own would be taken.
            context=Context() if context is None else context,
            kind=SpanKind.SERVER,
            attributes=attributes,
            links=links,
            start_time=wall_ns(start_s),
        )
        for stage in stages:
            about: dict[str, AttributeValue] = {"duration_ms": round(stage.seconds * 1e3, 3)}
            if stage.frame is not None:
                about["frame"] = stage.frame
            span.add_event(stage.name, about, wall_ns(stage.start_s))
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(wall_ns(end_s))

    def close(self, timeout_s: float) -> None:
        """Send what waits, for so long at most; a thread that is at it then is left behind."""
        flushing = threading.Thread(target=self._processor.shutdown, name="traces", daemon=True)
        flushing.start()
        flushing.join(timeout_s)
        self._outlet.shutdown()


class StreamTracer:
    """Makes spans of one session's frames, as traces of their own, linked to what the upgrade was part of.

    A session lasts for hours: as children its frames would be one trace of a hundred thousand spans.
    """

    def __init__(self, traces: Traces, session: str, request: str, traceparents: Sequence[str]) -> None:
        """See `Traces.stream`."""
        self._traces = traces
        self._about = {"session.id": session, "timeconv.request": request}
        asked_by = get_current_span(_asked_by(traceparents)).get_span_context()
        self._links = [Link(asked_by)] if asked_by.is_valid else []

    def frame_done(
        self,
        frame: Frame,
        answer: Answer,
        *,
        done_s: float,
        age_s: float,
        encoding_s: float | None,
        encoded_s: float | None,
    ) -> None:
        """Make a span of the frame if chance picks it; see `service.session.FrameTracer`."""
        if not self._traces.picks():
            return
        stages = [*_until_look(frame.received_s, frame.times), *_in_batch(frame.times)]
        if encoding_s is not None and encoded_s is not None:
            stages.append(Stage("encode", encoding_s, encoded_s - encoding_s))
            stages.append(Stage("send", encoded_s, done_s - encoded_s))
        about: dict[str, AttributeValue] = {
            **self._about,
            "timeconv.seq": frame.seq,
            "timeconv.bytes": frame.size_bytes,
            "timeconv.model": frame.network.lane,
            "timeconv.outcome": answer.outcome.value,
            "timeconv.age_ms": round(age_s * 1e3, 3),
            "timeconv.detected": frame.times.detected,
        }
        if frame.times.followed is not None:
            about["timeconv.followed"] = frame.times.followed
        if answer.batch_size:
            about["timeconv.batch_size"] = answer.batch_size
        if (reason := answer.detail.get("reason")) is not None:
            about["timeconv.reason"] = reason
        error = answer.outcome.value if answer.outcome in _ERRORS else None
        self._traces.make("frame", frame.received_s, done_s, stages, about, error=error, links=self._links)


class PredictionTrace:
    """Around one REST prediction: at the end of the block its span is made, a child of what the caller's is.

    It is told the ``call``, and the ``message`` that came of it, as they become known.
    """

    def __init__(self, traces: Traces, request: str, traceparents: Sequence[str]) -> None:
        """See `Traces.prediction`."""
        self._traces = traces
        self._request = request
        self._context = _asked_by(traceparents)
        self._start_s = traces.now_s
        self.call: PredictCall | None = None
        self.message: Prediction | FrameOutcome | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end_s = self._traces.now_s
        status = _status(error)
        about: dict[str, AttributeValue] = {
            "http.request.method": "POST",
            "http.route": "/v1/predict",
            "timeconv.request": self._request,
            "timeconv.outcome": _outcome(self.message, error),
        }
        if status is not None:
            about["http.response.status_code"] = status
        if isinstance(self.message, Prediction):
            about["timeconv.batch_size"] = self.message.batch_size
        stages: list[Stage] = []
        if (call := self.call) is not None:
            about |= {"timeconv.model": call.network.lane, "timeconv.bytes": call.size_bytes}
            stages = [Stage("upload", self._start_s, call.started_s - self._start_s), *_stages_of(call)]
        failed = str(about["timeconv.outcome"]) if status is not None and status >= 500 else None
        self._traces.make("POST /v1/predict", self._start_s, end_s, stages, about, error=failed, context=self._context)


def open_traces(
    share: float, device: Device, clock: Callable[[], float], environment: Mapping[str, str] = os.environ
) -> Traces | None:
    """Traces that go to the collector of the ``OTEL_EXPORTER_OTLP_*`` variables; None if ``OTEL_SDK_DISABLED``.

    Raises:
        BadConfiguration: these ask for what cannot be had.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    _check(environment)
    outlet = Outlet(OTLPSpanExporter())
    about = {
        SERVICE_NAME: "timeconv",
        SERVICE_VERSION: __version__,
        "timeconv.device": device.name,
        "timeconv.precision": device.precision,
    }
    traces = Traces(
        outlet,
        BatchSpanProcessor(outlet, max_queue_size=MOST_WAITING),
        share=share,
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are stronger.
        resource=Resource.create(about).merge(OTELResourceDetector().detect()),
        clock=clock,
    )
    if not log.isEnabledFor(logging.DEBUG):
        # Only now: what it has to say of the settings above was to be heard. Of the rest, see `Outlet`.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return traces


def _check(environment: Mapping[str, str]) -> None:
    """Refuse what OpenTelemetry would pass over, or fail on with every batch. An address may hold a secret."""
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if value := environment.get(name):
            if value != "http/protobuf":
                raise BadConfiguration(f"Traces are sent over http/protobuf only, and {name} is {value}")
            break
    for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        if value := environment.get(name):
            if not _is_address(value):
                raise BadConfiguration(f"{name} is no address such as http://collector:4318")
            break


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _asked_by(traceparents: Sequence[str]) -> Context:
    """The span that a caller names (W3C Trace Context); an empty context if it names none, or several.

    Whether the caller's is sampled is not followed, or strangers would say what the service spends. Nor is its
    ``tracestate`` taken over: it would be stored for them.
    """
    carrier = {_TRACEPARENT: traceparents[0]} if len(traceparents) == 1 else {}
    return TraceContextTextMapPropagator().extract(carrier, Context())


def _until_look(start_s: float, times: StageTimes) -> Iterator[Stage]:
    """Waiting for a worker, and its look at a frame: one after the other."""
    for name in ("wait", "decode", "detect", "crop"):
        if seconds := getattr(times, name):
            yield Stage(name, start_s, seconds)
            start_s += seconds


def _in_batch(times: StageTimes) -> Iterator[Stage]:
    """Waiting for a batch, and its run; none if there was none."""
    if times.ran_s is not None:
        yield Stage("queue", times.ran_s - times.queue, times.queue)
        yield Stage("infer", times.ran_s, times.infer)


def _stages_of(call: PredictCall) -> Iterator[Stage]:
    if call.times.wait:
        yield Stage("wait", call.started_s, call.times.wait)
    for index, (start_s, times) in enumerate(call.looks):
        for stage in _until_look(start_s, times):
            yield stage._replace(frame=index)
    yield from _in_batch(call.times)


def _outcome(message: Prediction | FrameOutcome | None, error: BaseException | None) -> str:
    if isinstance(error, TimeConvError):
        return error.code
    if error is not None:
        return (Outcome.FAILED if isinstance(error, Exception) else Outcome.ABANDONED).value
    return message.outcome.value if isinstance(message, FrameOutcome) else Outcome.PREDICTION.value


def _status(error: BaseException | None) -> int | None:
    """Of the answer; None where nobody is there to get one."""
    if error is None:
        return 200
    if isinstance(error, TimeConvError):
        return error.status
    return 500 if isinstance(error, Exception) else None
