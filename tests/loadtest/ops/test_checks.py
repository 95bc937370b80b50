"""What a run with a real Prometheus is held to; the run itself is `make ops-test`."""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from ruamel.yaml import YAML

from loadtest.errors import CannotGenerate
from loadtest.ops import checks, prometheus
from loadtest.ops.checks import Phase, Run, judged, runnable, selectors, without_zero
from loadtest.ops.panels import Panel
from loadtest.ops.prometheus import BadQuery, Prometheus, Rule, Series, scraping

PHASES = [Phase("normal", 0, 10), Phase("overload", 10, 20), Phase("fault", 20, 30)]
FAULTS = checks.MUST_FIRE["fault"]


class FakePrometheus(Prometheus):
    """One that has data of some queries from some time on."""

    def __init__(self) -> None:
        super().__init__("http://nowhere")
        self.since: dict[str, float] = {"timeconv_a": 0, "job:timeconv_b": 0}
        self.value = 1.0
        self.alerts: dict[str, set[str]] = {"normal": set(), "overload": set(), "fault": set(FAULTS)}
        self.pending: dict[str, set[str]] = {name: set(checks.MUST_PEND[name]) for name in self.alerts}
        self.health = "ok"

    def over(self, query: str, start_s: float, end_s: float, step_s: float) -> list[Series]:  # noqa: ARG002 - as its base
        if query == "nonsense(":
            raise BadQuery("parse error")
        if query.startswith("ALERTS"):
            states = self.alerts if "firing" in query else self.pending
            names = next(states[phase.name] for phase in PHASES if phase.start_s == start_s)
            return [Series({"alertname": name}, [(start_s, 1)]) for name in names]
        return [Series({}, [(start_s, self.value)])] if start_s >= self.since.get(query, math.inf) else []

    def rules(self) -> list[Rule]:
        return [
            Rule("job:timeconv_b", "sum(timeconv_a)", is_alert=False, health=self.health, error=""),
            Rule("TimeConvAlert", "timeconv_a > 1", is_alert=True, health=self.health, error=""),
        ]


def run(fake: FakePrometheus, query: str = "timeconv_a", exit_status: int = 70) -> Run:
    return Run(
        made_by={},
        prometheus=fake,
        panels=[Panel("Service", "Frames", "timeseries", "s", [], [(query, "")])],
        phases=PHASES,
        exit_status=exit_status,
    )


def test_a_run_as_it_must_be() -> None:
    """Nothing is found wrong with one in which each query has data, and the alerts of the faults fired."""
    assert judged(run(FakePrometheus())) == []


def change(**values: object) -> Callable[[FakePrometheus], None]:
    def to(fake: FakePrometheus) -> None:
        for name, value in values.items():
            setattr(fake, name, value)

    return to


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (change(since={"job:timeconv_b": 0}), "Service / Frames: no data in normal, overload, fault: timeconv_a"),
        (change(since={"timeconv_a": 0}), "job:timeconv_b: no data in normal, overload, fault"),
        (change(since={"timeconv_a": 15, "job:timeconv_b": 0}), "Service / Frames: no data in normal, overload: "),
        (change(value=math.nan), "Service / Frames: no data"),
        (change(health="err"), "TimeConvAlert: err"),
        (change(alerts={"normal": set(), "overload": set(), "fault": set()}), "TimeConvEngineStuck did not fire"),
        (change(alerts={"normal": {"X"}, "overload": set(), "fault": set(FAULTS)}), "fired though all was well: X"),
        (change(pending={"normal": set(), "overload": set(), "fault": set()}), "is not pending in 'overload'"),
    ],
)
def test_what_is_wrong_is_found(broken: Callable[[FakePrometheus], None], found: str) -> None:
    """A query without data, a rule that fails, an alert that fires or does not: each is told."""
    fake = FakePrometheus()
    broken(fake)
    assert any(found in line for line in judged(run(fake))), judged(run(fake))


def test_a_process_that_ends_otherwise_is_found() -> None:
    """The watchdog's exit status is asked for."""
    assert judged(run(FakePrometheus(), exit_status=0)) == ["the process whose network hung exited with 0, not 70"]


def test_a_query_that_cannot_be_read_is_found() -> None:
    """A panel whose query Prometheus refuses is told with its words."""
    assert judged(run(FakePrometheus(), query="nonsense(")) == ["Service / Frames: parse error: nonsense("]


def test_panels_that_need_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those may be empty while all is well, must not be all the time, and must not be listed without need."""
    monkeypatch.setattr(checks, "NEED_A_FAULT", frozenset({"Service / Frames"}))
    fake = FakePrometheus()
    assert judged(run(fake))[0].startswith("Service / Frames: data while all is well")
    fake.since["timeconv_a"] = 40
    assert judged(run(fake))[0] == "Service / Frames: no data: timeconv_a"
    fake.since["timeconv_a"] = 20
    assert not [line for line in judged(run(fake)) if line.startswith("Service")]


def test_panels_that_need_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those may be empty."""
    monkeypatch.setattr(checks, "NEED_A_GPU", frozenset({"timeconv_a"}))
    fake = FakePrometheus()
    del fake.since["timeconv_a"]
    assert judged(run(fake)) == []


def test_before_is_a_moment_ago() -> None:
    """What is compared with an hour, a day or a week ago is compared with 15 s ago: a run lasts minutes."""
    assert runnable('x{job=~"$job"} offset 1d - x offset 1w + x offset 1h') == (
        'x{job=~"timeconv"} offset 15s - x offset 15s + x offset 15s'
    )


def test_nothing_is_no_zero() -> None:
    """A zero that a panel shows in place of nothing is no data of its query."""
    assert without_zero("(sum(up) or vector(0)) + sum(up) or vector(0)") == "(sum(up)) + sum(up)"
    fake = FakePrometheus()
    fake.since["timeconv_b or vector(0)"] = 0
    assert judged(run(fake, query="timeconv_b or vector(0)"))[0].startswith("Service / Frames: no data in normal")


def test_selectors() -> None:
    """What a query looks at are the selectors in it, without functions, labels of `by` and times."""
    query = 'sum by (job) (rate(timeconv_x{y=~"a|b"}[5m] offset 1h)) / up{job="timeconv"} > job:x:y + prometheus_x'
    assert selectors(query) == [
        "job:x:y",
        "prometheus_x",
        'timeconv_x{y=~"a|b"}',
        'up{job="timeconv"}',
    ]


def test_without_prometheus_nothing_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there is no prometheus the run says how to get one, rather than pass."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(CannotGenerate, match="apt-get install prometheus"), scraping("127.0.0.1:1", tmp_path):
        pass


def test_the_configuration_is_the_projects() -> None:
    """Jobs and rules are those of compose; only addresses and intervals differ."""
    theirs = YAML(typ="safe").load(prometheus.MONITORING / "prometheus.yml")
    ours = json.loads(prometheus.configuration("127.0.0.1:1", "127.0.0.1:2"))
    assert ours["scrape_configs"][0]["static_configs"] == [{"targets": ["127.0.0.1:1"]}]
    for content in (theirs, ours):
        for key in ("scrape_interval", "evaluation_interval"):
            del content["global"][key]
        for job in content["scrape_configs"]:
            del job["static_configs"]
    assert ours == theirs


def test_rules_are_evaluated_every_second() -> None:
    """Groups of rules are the project's, without the intervals that would make a run of minutes miss them."""
    theirs = YAML(typ="safe").load(prometheus.MONITORING / "rules" / "recording.yml")["groups"]
    ours = json.loads(prometheus.every_second(prometheus.MONITORING / "rules" / "recording.yml"))["groups"]
    assert any("interval" in group for group in theirs)
    assert ours == [{key: value for key, value in group.items() if key != "interval"} for group in theirs]


@pytest.fixture
def answering() -> Iterator[Callable[[int, Mapping[str, object]], Prometheus]]:
    """Starts a stand-in that answers one request."""
    servers: list[HTTPServer] = []

    def start(status: int, content: Mapping[str, object]) -> Prometheus:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

            def log_message(self, *_: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        Thread(target=servers[-1].handle_request, daemon=True).start()
        return Prometheus(f"http://127.0.0.1:{servers[-1].server_port}")

    yield start
    for server in servers:
        server.server_close()


def points(series: Sequence[Series]) -> list[list[tuple[float, float]]]:
    return [list(one.points) for one in series]


def test_answers_of_prometheus(answering: Callable[..., Prometheus]) -> None:
    """Values come as text, and a refusal as an error with its reason."""
    found = [{"metric": {"a": "b"}, "values": [[1, "2.5"], [2, "NaN"]]}]
    asked = answering(200, {"data": {"resultType": "matrix", "result": found}}).over("x", 0, 1, 1)
    assert asked[0].labels == {"a": "b"}
    assert points(asked)[0][0] == (1.0, 2.5)
    assert math.isnan(points(asked)[0][1][1])
    with pytest.raises(BadQuery, match="bad things"):
        answering(400, {"error": "bad things"}).over("x", 0, 1, 1)
