"""service.telemetry.traces: which spans are made, and what is in them; nothing is sent anywhere."""

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service import engine
from service.answers import Answer
from service.errors import BadBody, BadConfiguration, Overloaded, TimedOut
from service.inference.device import Device
from service.protocol import Options, Outcome
from service.session import Frame
from service.settings import Settings
from service.telemetry.traces import MOST_WAITING, Outlet, Traces, open_traces
from service.vision.look import StageTimes
from tests.fakes import NETWORK, ManualClock
from tests.unit.telemetry.every import face

WALL_NS = 1_800_000_000_000_000_000
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID, SPAN_ID = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331


class Scene:
    """Traces whose spans stay here; the wall's clock and the service's stand still together."""

    def __init__(self, share: float = 1.0, chance: Callable[[], float] = lambda: 0.0) -> None:
        self.clock = ManualClock()
        self.exporter = InMemorySpanExporter()
        outlet = Outlet(self.exporter)
        self.traces = Traces(
            outlet,
            SimpleSpanProcessor(outlet),
            share=share,
            resource=Resource({}),
            clock=self.clock,
            wall_clock_ns=lambda: WALL_NS,
            chance=chance,
        )

    def frame(
        self, outcome: Outcome = Outcome.PREDICTION, *, traceparents: Sequence[str] = (), **detail: Any
    ) -> ReadableSpan:
        """The span of a frame that came 100 ms ago and went through every stage."""
        self.tell(outcome, traceparents=traceparents, **detail)
        return self.span

    def tell(
        self,
        outcome: Outcome = Outcome.PREDICTION,
        *,
        times: StageTimes | None = None,
        sent: bool = True,
        traceparents: Sequence[str] = (),
        **detail: Any,
    ) -> None:
        now_s = self.clock()
        frame = Frame(7, b"", 20_000, Options(), NETWORK, now_s - 0.1, now_s - 0.12)
        frame.times = times or StageTimes(0.01, 0.02, 0.03, 0.005, 0.004, 0.006, detected=True, ran_s=now_s - 0.02)
        is_prediction = outcome is Outcome.PREDICTION
        answer = Answer(outcome, detail, (face(),) if is_prediction else (), 3 if is_prediction else 0)
        self.traces.stream("session-1", "request-1", traceparents).frame_done(
            frame,
            answer,
            done_s=now_s,
            age_s=0.12,
            encoding_s=now_s - 0.003 if sent else None,
            encoded_s=now_s - 0.001 if sent else None,
        )

    @property
    def span(self) -> ReadableSpan:
        """The only one."""
        (span,) = self.exporter.get_finished_spans()
        return span

    @property
    def count(self) -> int:
        return len(self.exporter.get_finished_spans())


def events(span: ReadableSpan) -> list[tuple[str, float, object]]:
    """Name, when it began (milliseconds after `WALL_NS`) and how long it took (milliseconds)."""
    return [
        (event.name, (event.timestamp - WALL_NS) / 1e6, dict(event.attributes or {})["duration_ms"])
        for event in span.events
    ]


class TestFrame:
    """The span of a frame."""

    def test_times(self) -> None:
        """It lasts from the frame's arrival to its end, and each stage is an event where it began."""
        span = Scene().frame()
        assert (span.name, span.kind) == ("frame", SpanKind.SERVER)
        assert span.start_time == WALL_NS - 100_000_000
        assert span.end_time == WALL_NS
        assert events(span) == [
            ("wait", -100, 10),
            ("decode", -90, 20),
            ("detect", -70, 30),
            ("crop", -40, 5),
            ("queue", -24, 4),
            ("infer", -20, 6),
            ("encode", -3, 2),
            ("send", -1, 1),
        ]

    def test_attributes(self) -> None:
        """What became of it, and nothing of what was seen."""
        assert Scene().frame().attributes == {
            "session.id": "session-1",
            "timeconv.request": "request-1",
            "timeconv.seq": 7,
            "timeconv.bytes": 20_000,
            "timeconv.model": "fake@1",
            "timeconv.outcome": "prediction",
            "timeconv.batch_size": 3,
            "timeconv.age_ms": 120,
            "timeconv.detected": True,
        }

    def test_not_looked_at(self) -> None:
        """A frame that no worker took has no stages but those of its answer, and no batch."""
        scene = Scene()
        scene.tell(Outcome.SUPERSEDED, times=StageTimes())
        assert [name for name, *_ in events(scene.span)] == ["encode", "send"]
        assert "timeconv.batch_size" not in (scene.span.attributes or {})

    def test_not_sent(self) -> None:
        """A frame whose client is gone was neither encoded nor sent."""
        scene = Scene()
        scene.tell(Outcome.ABANDONED, times=StageTimes(wait=0.01), sent=False)
        assert [name for name, *_ in events(scene.span)] == ["wait"]

    def test_followed(self) -> None:
        """Whether the face was followed is told where there was one to follow."""
        scene = Scene()
        scene.tell(times=StageTimes(followed=False))
        assert (scene.span.attributes or {})["timeconv.followed"] is False

    @pytest.mark.parametrize("outcome", list(Outcome))
    def test_status(self, outcome: Outcome) -> None:
        """It is an error where the service is at fault, and only there."""
        span = Scene().frame(outcome, reason="because")
        at_fault = outcome in {Outcome.FAILED, Outcome.OVERLOADED}
        assert span.status.status_code is (StatusCode.ERROR if at_fault else StatusCode.UNSET)
        attributes = span.attributes or {}
        assert attributes.get("error.type") == (outcome.value if at_fault else None)
        assert (attributes["timeconv.outcome"], attributes["timeconv.reason"]) == (outcome.value, "because")

    def test_each_is_a_trace(self) -> None:
        """Frames of a session are traces of their own."""
        scene = Scene()
        scene.tell()
        scene.tell()
        first, second = scene.exporter.get_finished_spans()
        assert first.context.trace_id != second.context.trace_id
        assert first.links == second.links == ()

    def test_link(self) -> None:
        """They are linked to what the client's upgrade was part of, and no children of it."""
        span = Scene().frame(traceparents=[TRACEPARENT])
        assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [(TRACE_ID, SPAN_ID)]
        assert span.parent is None
        assert span.context.trace_id != TRACE_ID

    @pytest.mark.parametrize("headers", [[], ["nonsense"], ["x" * 10_000], [TRACEPARENT, TRACEPARENT]])
    def test_no_link(self, headers: list[str]) -> None:
        """A header that is none, or is there twice, is passed over."""
        assert Scene().frame(traceparents=headers).links == ()


class TestShare:
    """Which frames become spans."""

    def test_all(self) -> None:
        """With a share of 1 chance leaves none out."""
        scene = Scene(1.0, chance=lambda: 1 - 2**-53)
        scene.tell()
        assert scene.count == 1

    def test_half(self) -> None:
        """With 0.5, those for which chance comes to less."""
        numbers = [random.Random(seed).random() for seed in range(200)]  # noqa: S311 - no secret
        scene = Scene(0.5, chance=iter(numbers).__next__)
        for _ in numbers:
            scene.tell()
        assert scene.count == sum(number < 0.5 for number in numbers)
        assert 60 < scene.count < 140

    def test_none(self) -> None:
        """With 0, none."""
        scene = Scene(0.0)
        scene.tell()
        assert scene.count == 0

    def test_prediction_that_is_not_picked(self) -> None:
        """Over REST there is nothing to tell then."""
        with Scene(0.0).traces.prediction("r", []) as trace:
            assert trace is None


class TestPrediction:
    """The span of a REST prediction; what is in it of a real call is tested with a service."""

    def test_child(self) -> None:
        """It is a child of the caller's span, if the caller names one, whether or not that is sampled."""
        scene = Scene()
        with scene.traces.prediction("r", [TRACEPARENT.removesuffix("01") + "00"]):
            pass
        assert scene.span.context.trace_id == TRACE_ID
        assert scene.span.parent is not None
        assert scene.span.parent.span_id == SPAN_ID

    @pytest.mark.parametrize(
        ("error", "outcome", "status"),
        [
            (Overloaded("full"), "overloaded", 503),
            (TimedOut("late"), "timeout", 504),
            (ValueError("a bug"), "failed", 500),
            (BadBody("what a caller sent"), "bad_body", 422),
        ],
    )
    def test_error(self, error: Exception, outcome: str, status: int) -> None:
        """An error goes on its way and is told by its code, not its text, which may quote; 5xx are the service's."""
        scene = Scene()
        with pytest.raises(type(error)):
            fail_after(scene, 0.25, error)
        span, at_fault = scene.span, status >= 500
        assert (span.status.status_code, span.status.description) == (
            StatusCode.ERROR if at_fault else StatusCode.UNSET,
            None,
        )
        assert span.attributes == {
            "http.request.method": "POST",
            "http.route": "/v1/predict",
            "http.response.status_code": status,
            "timeconv.request": "r",
            "timeconv.outcome": outcome,
            **({"error.type": outcome} if at_fault else {}),
        }
        assert span.events == ()
        assert span.end_time is not None
        assert span.start_time is not None
        assert span.end_time - span.start_time == 250_000_000

    def test_caller_gone(self) -> None:
        """A call that is cancelled is abandoned, and has no status."""
        scene = Scene()
        with pytest.raises(asyncio.CancelledError):
            fail_after(scene, 0, asyncio.CancelledError())
        attributes = scene.span.attributes or {}
        assert attributes["timeconv.outcome"] == "abandoned"
        assert "http.response.status_code" not in attributes
        assert scene.span.status.status_code is StatusCode.UNSET


def fail_after(scene: Scene, seconds: float, error: BaseException) -> None:
    with scene.traces.prediction("r", []):
        scene.clock.advance(seconds)
        raise error


class GatedExporter(SpanExporter):
    """A collector that stands still until it is let go, or given up."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.shutdowns = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        assert self.gate.wait(30)
        self.batches.append(len(spans))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.shutdowns += 1
        self.gate.set()


class Refusing(SpanExporter):
    """A collector that takes nothing."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 - the base class's
        return SpanExportResult.FAILURE


def spans(number: int) -> list[ReadableSpan]:
    return [ReadableSpan("frame")] * number


class TestOutlet:
    """What becomes of spans that cannot be sent."""

    def test_one_line_a_minute(self, caplog: pytest.LogCaptureFixture) -> None:
        """However many batches are lost, the log says so once a minute, with the number of spans."""
        clock = ManualClock()
        outlet = Outlet(Refusing(), clock)
        for _ in range(120):
            outlet.export(spans(10))
            clock.advance(1)
        outlet.export(spans(10))
        assert [getattr(record, "spans", None) for record in caplog.records] == [10, 600, 600]
        assert outlet.lost == 1210

    def test_closed(self) -> None:
        """Once closed it takes nothing, and closing again is nothing."""
        exporter = GatedExporter()
        outlet = Outlet(exporter)
        outlet.shutdown()
        outlet.shutdown()
        assert outlet.export(spans(1)) is SpanExportResult.FAILURE
        assert (exporter.batches, exporter.shutdowns) == ([], 1)

    def test_full(self, caplog: pytest.LogCaptureFixture) -> None:
        """While the collector stands still no more spans are made than may wait; those left out are counted, unsaid."""
        scene, exporter = Scene(), GatedExporter()
        outlet = Outlet(exporter)
        processor = BatchSpanProcessor(outlet, max_queue_size=MOST_WAITING, schedule_delay_millis=60_000)
        scene.traces = Traces(
            outlet, processor, share=1.0, resource=Resource({}), clock=scene.clock, chance=lambda: 0.0
        )
        for _ in range(MOST_WAITING + 100):
            scene.tell()
        assert exporter.entered.wait(30)
        taken_over = outlet.taken_over
        for _ in range(1000):
            scene.tell()
        left_out = scene.traces.dropped()["queue_full"]
        assert left_out == 1100 - taken_over
        exporter.gate.set()
        scene.traces.close(30)
        assert sum(exporter.batches) == MOST_WAITING + taken_over
        assert scene.traces.dropped() == {"queue_full": left_out, "not_taken": 0}
        assert caplog.records == []

    def test_closing_flushes(self) -> None:
        """What waits is sent when the service stops."""
        scene, exporter = Scene(), GatedExporter()
        outlet = Outlet(exporter)
        processor = BatchSpanProcessor(outlet, schedule_delay_millis=60_000)
        scene.traces = Traces(outlet, processor, share=1.0, resource=Resource({}), clock=scene.clock)
        exporter.gate.set()
        scene.tell()
        scene.traces.close(30)
        assert (exporter.batches, exporter.shutdowns) == ([1], 1)

    def test_closing_gives_up(self) -> None:
        """A collector that stands still is given up once the time is over."""
        scene, exporter = Scene(), GatedExporter()
        outlet = Outlet(exporter)
        processor = BatchSpanProcessor(outlet, schedule_delay_millis=60_000)
        scene.traces = Traces(outlet, processor, share=1.0, resource=Resource({}), clock=scene.clock)
        scene.tell()
        scene.traces.close(0)
        assert exporter.shutdowns == 1


class TestOpening:
    """What OpenTelemetry's own variables may say."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "grpc://key@collector"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:port"),
        ],
    )
    def test_what_cannot_be_had_stops_the_start(self, name: str, value: str) -> None:
        """The error names the variable; of an address, which may hold a secret, it says no more."""
        with pytest.raises(BadConfiguration, match=name) as refused:
            open_traces(1.0, Device("cpu", ()), ManualClock(), {name: value})
        assert "key@" not in str(refused.value)

    @pytest.mark.parametrize(
        ("name", "value"), [("OTEL_BSP_SCHEDULE_DELAY", "0"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096")]
    )
    def test_numbers_that_cannot_be(self, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
        """What OpenTelemetry itself refuses is an error of the configuration too, no traceback."""
        monkeypatch.setenv(name, value)
        settings = Settings(trace_share=1.0)
        with pytest.raises(BadConfiguration, match="OTEL_"):
            engine.open_traces(settings, Device("cpu", ()), ManualClock())

    def test_switched_off(self) -> None:
        """OpenTelemetry's own switch for all of it is stronger than the share."""
        assert open_traces(1.0, Device("cpu", ()), ManualClock(), {"OTEL_SDK_DISABLED": "True"}) is None

    def test_traces_go_before(self) -> None:
        """The variable of traces is stronger than the common one, as with OpenTelemetry."""
        environment = {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        }
        logger = logging.getLogger("opentelemetry")
        before = logger.level
        try:
            opened = open_traces(1.0, Device("cpu", ()), ManualClock(), environment)
            assert opened is not None
            opened.close(5)
        finally:
            logger.setLevel(before)
