"""Prometheus' rules: right by its own tools, and true to the service, its errors and docs/operations.md."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from monitoring.dashboards.known import LONG_CALL_S
from service import errors
from service.protocol import Outcome
from service.settings import PREFIX, Settings
from tests.monitoring.told import told

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
RULE_FILES = sorted((MONITORING / "rules").iterdir())
TEST_FILES = sorted((MONITORING / "tests").iterdir())
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
PROMTOOL = shutil.which("promtool")
PROMETHEUS_OWN = frozenset({"up", "prometheus_rule_evaluation_failures_total"})
FOR_DASHBOARDS = frozenset(
    {
        "job:timeconv_frames_answered:rate5m",
        "job:timeconv_frame_age_seconds:p99_rate5m",
        "job:timeconv_stage_seconds:p99_rate5m",
        "job:timeconv_emotions:ratio_rate1h",
        "job:timeconv_workers_busy:ratio_rate1m",
    }
)
"""Recorded series that no alert uses."""
WINDOW = re.compile(r"\d+[mhdw]")
LABELS_OF_THE_SCRAPE = {"job", "instance"}

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool: apt-get install prometheus")


def load(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path)


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """Rules by name; ``kind`` is ``alert`` or ``record``."""
    groups = chain.from_iterable(load(path)["groups"] for path in RULE_FILES)
    found = [rule for group in groups for rule in group["rules"] if kind in rule]
    assert len({rule[kind] for rule in found}) == len(found)
    return {rule[kind]: rule for rule in found}


ALERTS, RECORDED = rules("alert"), rules("record")
EXPRESSIONS = {name: rule["expr"] for name, rule in (ALERTS | RECORDED).items()}


def series_in(expression: str) -> set[str]:
    """Names of the series that a query asks for."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|on|ignoring|group_left)\s*\([^)]*\)|\boffset\s+\w+", " ", expression)
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", bare)) - {"and", "or", "unless", "bool"}


def matchers_in(expression: str) -> Iterator[tuple[str, str, str]]:
    """Each series with a label that is asked for, and a value of it."""
    for name, inside in re.findall(r"([\w:]+)\{([^}]*)\}", expression):
        for label, values in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"([^\"]*)\"", inside):
            for value in values.split("|"):
                yield name, label, value


def run_promtool(*words: str | Path) -> None:
    assert PROMTOOL is not None
    found = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert found.returncode == 0, found.stdout + found.stderr


@needs_promtool
def test_the_configuration() -> None:
    """Prometheus takes its configuration, and with it the rules."""
    run_promtool("check", "config", MONITORING / "prometheus.yml")


@needs_promtool
def test_the_rules() -> None:
    """Prometheus takes the rules without a complaint."""
    run_promtool("check", "rules", *RULE_FILES)


@needs_promtool
@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_when_alerts_fire(path: Path) -> None:
    """Alerts fire when they should and not below, and what is recorded has its value."""
    run_promtool("test", "rules", path)


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_what_to_do(name: str) -> None:
    """It says how urgent it is, what there is, where it is seen, and where its section is, which exists."""
    alert = ALERTS[name]
    assert set(alert["labels"]) == {"severity"}
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url", "dashboard"}
    assert alert["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
    assert re.fullmatch(r"/d/timeconv-(service|batching|model|sessions)", alert["annotations"]["dashboard"])


def sections() -> dict[str, str]:
    """What docs/operations.md says of each alert."""
    parts = re.split(r"^## ", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {heading: text for heading, _, text in (part.partition("\n") for part in parts[1:])}


def test_the_runbook_has_the_alerts_there_are() -> None:
    """Every alert has its section, every section its alert, in the alerts' order."""
    assert [heading for heading in sections() if heading.startswith("TimeConv")] == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_each_section_helps(name: str) -> None:
    """It says what the alert means, how to check and what to do, and how urgent it is, as the rule does."""
    text = sections()[name]
    assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Meaning", "Check", "Remedy"]
    assert ("Page" if ALERTS[name]["labels"]["severity"] == "page" else "Ticket") in re.split(r"[.,;:] ?|\n", text)


@pytest.mark.parametrize("heading", sections())
def test_links_within_the_runbook(heading: str) -> None:
    """They lead to a heading of it."""
    anchors = {re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in sections()}
    assert set(re.findall(r"\]\(#([^)]+)\)", sections()[heading])) <= anchors


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_rule_asks_for_what_there_is(name: str) -> None:
    """Every series is told by the service, recorded, or Prometheus' own; so are its labels and their values."""
    known = told()
    assert series_in(EXPRESSIONS[name]) <= known.keys() | RECORDED.keys() | PROMETHEUS_OWN
    open_values = {"code": set(errors.codes()), "reason": set(errors.codes()) | {"closed", "disconnected", "shutdown"}}
    for series, label, value in matchers_in(EXPRESSIONS[name]):
        if label not in LABELS_OF_THE_SCRAPE:
            assert value in open_values.get(label, known[series].get(label, set())), (series, label, value)


def test_the_runbook_names_what_there_is() -> None:
    """Its metrics, recorded series and settings exist."""
    text = "".join(sections().values())
    known = told().keys() | {name.removesuffix("_count") for name in told()} | RECORDED.keys()
    assert set(re.findall(r"(?:job:)?\btimeconv_[a-z_]+\w*(?::\w+)?", text)) <= known
    assert set(re.findall(r"\bTIMECONV_\w+", text)) <= {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}


def test_every_outcome_is_judged_or_left_out() -> None:
    """The runbook's table of what counts has all outcomes, and the rules judge as it says."""
    rows = re.findall(r"^\| (`.+?) \| (useful|unserved|not at all) \|", sections()["Objectives"], re.MULTILINE)
    counts = {outcome: verdict for cell, verdict in rows for outcome in re.findall(r"`(\w+)`", cell)}
    assert set(counts) == {outcome.value for outcome in Outcome}
    judged, unserved = (
        {value for _, label, value in matchers_in(EXPRESSIONS[record]) if label == "outcome"}
        for record in ("job:timeconv_frames_judged:rate1h", "job:timeconv_frames_unserved:ratio_rate1h")
    )
    assert judged == {outcome for outcome, verdict in counts.items() if verdict != "not at all"}
    top = EXPRESSIONS["job:timeconv_frames_unserved:ratio_rate1h"].partition("/")[0]
    assert {value for _, _, value in matchers_in(top)} == {name for name in counts if counts[name] == "unserved"}
    assert unserved == judged


def test_the_table_of_burn_rates() -> None:
    """The runbook says what each alert of the objectives looks at, and that it is over when its short window is."""
    rows = re.findall(
        r"^\| (once|[\d.]+ times): .*? \| (\d+ \w+), and .*?(\d+ \w+) \| .* \| (\w+) \| (\d+ \w+) \|$",
        sections()["Objectives"],
        re.MULTILINE,
    )
    written = [
        (1.0 if times == "once" else float(times.split()[0]), window(long), window(short), severity)
        for times, long, short, severity, _ in rows
    ]
    assert [window(end) for *_, end in rows] == [short for _, _, short, _ in written]
    for kind in ("Stale", "Unserved"):
        assert written == [
            (float(times), long, short, ALERTS[name]["labels"]["severity"])
            for name in (f"TimeConv{kind}FramesFast", f"TimeConv{kind}FramesSlow")
            for long, times, short in re.findall(
                r"ratio_rate(\w+) > ([\d.]+) \* 0\.01\s+and \S+?ratio_rate(\w+) > \2 \*", ALERTS[name]["expr"]
            )
        ]


def window(text: str) -> str:
    """As Prometheus writes it, of ``5 minutes`` or ``5 min``."""
    number, unit = text.split()
    return number + unit[0]


def test_a_hanging_worker_is_scraped_in_time() -> None:
    """As shipped it is over the alert's limit for longer than a scrape takes to come, before its process ends."""
    limit_s = float(ALERTS["TimeConvEngineStuck"]["expr"].split("> ")[1].split()[0])
    scrape_s = int(load(MONITORING / "prometheus.yml")["global"]["scrape_interval"].removesuffix("s"))
    assert limit_s + scrape_s < Settings.model_fields["stuck_ms"].default / 1000 + 0.5
    assert limit_s == LONG_CALL_S


def test_when_those_who_find_no_room_come_again() -> None:
    """The runbook says after how long they are told to."""
    text = sections()["TimeConvRefusedForRoom"]
    told_s = {error.code: (error.retry_after_ms or 0) // 1000 for error in (errors.AtCapacity, errors.Overloaded)}
    assert {code: int(after_s) for after_s, code in re.findall(r"(\d+) s \(`(\w+)`\)", text)} == told_s


def test_what_the_example_of_alertmanager_holds_back() -> None:
    """Where an instance is down, what it has itself, and what all have together."""
    block = re.search(r"```yaml\n( +route:.*?)```", sections()["How an alert reaches a person"], re.DOTALL)
    assert block is not None
    example = YAML(typ="safe", pure=True).load(block[1])

    def fits(labels: dict[str, str], matchers: list[str]) -> bool:
        parts = [re.fullmatch(r'(\w+)(!?)="(.*)"', matcher) for matcher in matchers]
        return all(part and (labels.get(part[1], "") == part[3]) is not bool(part[2]) for part in parts)

    def held_back(labels: dict[str, str]) -> bool:
        down = {"alertname": "TimeConvDown", "job": "timeconv", "instance": "a:8000"}
        return any(
            fits(down, rule["source_matchers"])
            and fits(labels, rule["target_matchers"])
            and all(labels.get(name, "") == down.get(name, "") for name in rule["equal"])
            for rule in example["inhibit_rules"]
        )

    slow = {"alertname": "TimeConvStaleFramesFast", "job": "timeconv"}
    stuck = {"alertname": "TimeConvEngineStuck", "job": "timeconv", "instance": "a:8000"}
    assert [held_back(labels) for labels in (slow, stuck)] == [True, True]
    others = (stuck | {"instance": "b:8000"}, stuck | {"alertname": "TimeConvDown"}, slow | {"job": "another"})
    assert [held_back(labels) for labels in others] == [False, False, False]


@pytest.mark.parametrize("name", [name for name in ALERTS if name.endswith("Drift")])
def test_what_a_drift_compares_is_on_its_dashboard(name: str) -> None:
    """As the same query, with the same limit."""
    compared, _, limit = ALERTS[name]["expr"].splitlines()[0].rpartition(" > ")
    drawn = (MONITORING / "grafana" / "dashboards" / "model.json").read_text(encoding="utf-8")
    limits = {
        query.replace('{job=~"$job"}', ""): panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"]
        for panel in json.loads(drawn)["panels"]
        for query in (target["expr"] for target in panel.get("targets", []))
    }
    assert limits[f"max({compared})"] == float(limit)


def test_windows_differ_in_nothing_else() -> None:
    """A series that is recorded over several windows is the same query over each."""
    texts: dict[str, set[str]] = {}
    for name, rule in RECORDED.items():
        (window,) = WINDOW.findall(name.rpartition("rate")[2])
        assert set(re.findall(r"\[(\w+)\]", rule["expr"])) == {window}
        texts.setdefault(name.removesuffix(window), set()).add(rule["expr"].replace(f"[{window}]", "[]"))
    assert {name: len(same) for name, same in texts.items() if len(same) > 1} == {}


def test_every_recorded_series_is_used() -> None:
    """By an alert, or, where it is said so, by a dashboard."""
    by_alerts = set().union(*(series_in(alert["expr"]) for alert in ALERTS.values()))
    assert RECORDED.keys() - by_alerts == FOR_DASHBOARDS
    drawn = "".join(path.read_text(encoding="utf-8") for path in DASHBOARDS)
    assert [name for name in FOR_DASHBOARDS if DASHBOARDS and name not in drawn] == []


def test_every_rule_is_tested() -> None:
    """The tests of promtool have each alert firing and not firing, and each recorded series."""
    tests = [test for path in TEST_FILES for test in load(path)["tests"]]
    asked = [case for test in tests for case in test.get("alert_rule_test", [])]
    assert {case["alertname"] for case in asked if case.get("exp_alerts")} == ALERTS.keys()
    assert {case["alertname"] for case in asked if not case.get("exp_alerts")} == ALERTS.keys()
    queries = [case["expr"] for test in tests for case in test.get("promql_expr_test", []) if case.get("exp_samples")]
    assert set().union(*map(series_in, queries)) >= RECORDED.keys()


def test_tests_evaluate_what_is_recorded_first() -> None:
    """Where an order is given it has all groups, for promtool puts one that it is not told of before the others."""
    groups = {group["name"] for path in RULE_FILES for group in load(path)["groups"]}
    orders = [load(path).get("group_eval_order") for path in TEST_FILES if path.stem != "recording"]
    assert [order for order in orders if order is None or set(order) != groups] == []


def test_the_job_is_the_one_that_is_scraped() -> None:
    """Rules that name a job name one of prometheus.yml."""
    jobs = {job["job_name"] for job in load(MONITORING / "prometheus.yml")["scrape_configs"]}
    named = {value for text in EXPRESSIONS.values() for _, label, value in matchers_in(text) if label == "job"}
    assert named == {"timeconv"} <= jobs
