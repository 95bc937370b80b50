"""The files that Grafana reads: what they show, and that there is what they ask for."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML

from loadtest.ops.panels import filled, panels
from service.inference.scheduler import BatchReason
from service.protocol import Outcome
from tests.fakes import LABELS
from tests.monitoring.told import told
from tests.unit.telemetry.test_document import documented

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "monitoring" / "grafana" / "dashboards"
RULES = ROOT / "monitoring" / "rules"
OPERATIONS = ROOT / "docs" / "operations.md"
DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))
}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]
UNITS = {"none", "percentunit", "s", "dtdurations", "bytes", "binBps", "reqps"}
COLOURS = {"#0072B2", "#E69F00", "#D55E00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#999999"}
TITLES = {
    "service": "TimeConv · Service",
    "batching": "TimeConv · Batching and device",
    "model": "TimeConv · Model quality",
    "sessions": "TimeConv · Sessions",
}
LIMITS = {
    "Instances up": [1],
    "Alerts that fire": [1],
    "Age, p99": [0.1],
    "Stale frames": [0.01],
    "Unserved frames": [0.01],
    "Error budget burns": [1, 14.4],
    "Failures": [1],
    "Share of stale frames": [0.01, 0.144],
    "Share of unserved frames": [0.01, 0.144],
    "Refused requests": [1],
    "Age of frames, percentiles": [0.1],
    "Stages, p99": [0.1],
    "Stages, p50": [0.015],
    "Stages, mean": [0.015],
    "Workers busy": [0.8, 0.9],
    "Lag of the event loop": [0.05],
    "Oldest call of a worker": [0.4],
    "File descriptors": [0.8],
    "Instances without the GPU they looked for": [1],
    "GPU memory, share used": [0.9],
    "Wait for a batch, p99": [0.015],
    "Inference of a frame's batch": [0.015],
    "Workers busy, by work": [0.8, 0.9],
    "Oldest call, and workers stuck": [0.4],
    "Emotions moved": [0.2],
    "Uncertain, more than before": [0.2],
    "Without a face, more than before": [0.2],
    "Versions that cannot be used": [1],
    "Turned away for room": [1],
    "Reconnect storm": [1],
    "Refused, by code": [1],
}
"""By panel; all others have none."""
NOT_SHOWN = {"process_virtual_memory_bytes", "python_info", "timeconv_spans_dropped_total"}
"""Of little use to anybody on call; the last is there with traces alone."""
PROMETHEUS_OWN = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate", "severity", "job", "instance"}}
TARGET_LABELS = {"job", "instance"}
_SELECTOR = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)\{(?P<matchers>[^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


@dataclass(frozen=True)
class Selector:
    name: str
    labels: frozenset[str]


def selectors(expr: str) -> list[Selector]:
    """Names of series in a query, with the labels that are matched."""
    return [
        Selector(found["name"], frozenset(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", found["matchers"])))
        for found in _SELECTOR.finditer(expr)
    ]


def grouped_by(expr: str) -> set[str]:
    return {label for labels in _GROUPING.findall(expr) for label in re.findall(r"\w+", labels)}


def recorded() -> dict[str, set[str]]:
    """Labels by the name of each series that rules record: they stand in the rule's own grouping."""
    rules = YAML(typ="safe", pure=True).load(RULES / "recording.yml")
    return {rule["record"]: grouped_by(rule["expr"]) for group in rules["groups"] for rule in group["rules"]}


TOLD = told()
KNOWN = {name: set(labels) for name, labels in TOLD.items()} | PROMETHEUS_OWN | recorded()


def queries(dashboard: dict[str, Any]) -> Iterator[str]:
    """All queries of a dashboard: of panels, and of what is marked in them."""
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    yield from (event["expr"] for event in dashboard["annotations"]["list"])


QUERIES = sorted({query for dashboard in DASHBOARDS.values() for query in queries(dashboard)})


def test_dashboards() -> None:
    """There are four, each with a title and an address of its own."""
    assert {name: dashboard["title"] for name, dashboard in DASHBOARDS.items()} == TITLES
    assert {name: dashboard["uid"] for name, dashboard in DASHBOARDS.items()} == {
        name: f"timeconv-{name}" for name in TITLES
    }


@pytest.mark.parametrize("name", TITLES)
def test_variables(name: str) -> None:
    """The data source, jobs and instances can be chosen; of the latter several, and all are at first."""
    source, *chosen = DASHBOARDS[name]["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert source["current"]["value"] == "prometheus"
    assert [variable["name"] for variable in chosen] == ["job", "instance"]
    for variable in chosen:
        assert (variable["multi"], variable["includeAll"]) == (True, True)
        assert variable["current"]["value"] == ["$__all"]


@pytest.mark.parametrize("name", TITLES)
def test_links(name: str) -> None:
    """Each dashboard leads to all, which have its tag, with what was chosen and the time that is looked at."""
    (link,) = DASHBOARDS[name]["links"]
    assert (link["type"], link["includeVars"], link["keepTime"]) == ("dashboards", True, True)
    assert set(link["tags"]) <= set(DASHBOARDS[name]["tags"])


@pytest.mark.parametrize("name", TITLES)
def test_layout(name: str) -> None:
    """No panel lies on another or outside the 24 columns, each line is filled, and rows have different numbers."""
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert x < 24
                assert taken.setdefault((x, y), panel["title"]) is panel["title"]
    assert len(taken) == 24 * (1 + max(y for _, y in taken))
    numbers = [panel["id"] for panel in DASHBOARDS[name]["panels"]]
    assert sorted(set(numbers)) == numbers


@pytest.mark.parametrize("name", TITLES)
def test_titles_are_unique(name: str) -> None:
    """Within a dashboard a panel is named by its title."""
    titles = [panel["title"] for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"]
    assert sorted(set(titles)) == sorted(titles)


@pytest.mark.parametrize("panel", PANELS)
def test_panel(panel: dict[str, Any]) -> None:
    """A panel says what it answers, has a unit, queries with legends, and words for when there is nothing."""
    defaults = panel["fieldConfig"]["defaults"]
    assert "?" in panel["description"].partition("\n")[0]
    assert defaults["unit"] in UNITS or re.fullmatch(r"suffix:\S+", defaults["unit"])
    assert defaults["noValue"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert target["instant"] is (panel["type"] in ("stat", "table"))
        assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    references = [target["refId"] for target in panel["targets"]]
    assert sorted(set(references)) == references


@pytest.mark.parametrize("panel", PANELS)
def test_limit(panel: dict[str, Any]) -> None:
    """A panel has the limits that the service has, and what to do when they are passed; no other panel has any."""
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    limits = [step["value"] for step in steps[1:]]
    assert limits == LIMITS.get(panel["title"], [])
    if limits:
        assert len(panel["description"].split("\n\n")) > 1
        if panel["type"] == "timeseries":
            assert panel["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"] == {"mode": "dashed"}


def test_limits_are_of_panels() -> None:
    """The list of limits has no panel that there is none of."""
    assert set(LIMITS) - {param.values[0]["title"] for param in PANELS} == set()


@pytest.mark.parametrize("panel", PANELS)
def test_colours(panel: dict[str, Any]) -> None:
    """Colours are those that people tell apart, and no two series of a panel look the same."""
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert {step["color"] for step in steps} <= COLOURS
    looks = [
        json.dumps([setting["value"] for setting in override["properties"]])
        for override in panel["fieldConfig"]["overrides"]
    ]
    assert len(set(looks)) == len(looks)
    assert all(json.loads(look)[0]["fixedColor"] in COLOURS for look in looks)


@pytest.mark.parametrize("panel", PANELS)
def test_runbooks(panel: dict[str, Any]) -> None:
    """Sections of docs/operations.md that a description leads to are there."""
    sections = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", OPERATIONS.read_text("utf-8"), re.MULTILINE)}
    assert set(re.findall(r"docs/operations\.md#(\w+)", panel["description"])) - sections == set()


@pytest.mark.parametrize("query", QUERIES)
def test_names(query: str) -> None:
    """A query asks for series that the service tells, rules record or Prometheus has, of the jobs that are chosen."""
    found = selectors(query)
    assert found
    for selector in found:
        assert selector.labels <= KNOWN[selector.name] | TARGET_LABELS
        if selector.name != "ALERTS":
            assert "job" in selector.labels
            assert ("instance" in selector.labels) is not selector.name.startswith("job:")


def test_values() -> None:
    """Values that queries ask for are such as the service tells: a misspelt one would be an empty chart, or a zero."""
    there = {
        (name, label, value) for name, labels in TOLD.items() for label, values in labels.items() for value in values
    }
    asked = {
        (found["name"], label, value)
        for query in QUERIES
        for found in _SELECTOR.finditer(query)
        if found["name"].startswith("timeconv_")
        for label, values in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"$]*)"', found["matchers"])
        for value in values.split("|")
    }
    assert {label for _, label, _ in asked} >= {"outcome", "code", "reason", "stage"}
    assert asked <= there


@pytest.mark.parametrize("query", QUERIES)
def test_grouping(query: str) -> None:
    """What a query groups by is a label of a series that it asks for."""
    labels = {label for selector in selectors(query) for label in KNOWN[selector.name]}
    assert grouped_by(query) <= labels | TARGET_LABELS


def test_every_metric_is_shown() -> None:
    """Each metric of docs/metrics.md is in a query."""
    asked = {re.sub(r"_(bucket|sum|count)$", "", selector.name) for query in QUERIES for selector in selectors(query)}
    assert set(documented()) - asked == NOT_SHOWN


@pytest.mark.parametrize(
    ("legend", "values"),
    [
        ("{{outcome}}", set(Outcome)),
        ("{{emotion}}", set(LABELS)),
        ("{{reason}}", set(get_args(BatchReason))),
        (
            "{{model}}",
            {path.parent.name for path in (ROOT / "model_store").glob("*/1") if "face" not in path.parent.name},
        ),
    ],
)
def test_every_series_has_a_colour(legend: str, values: set[str]) -> None:
    """Series by a label whose values are known have a colour each."""
    charts = [
        param.values[0]
        for param in PANELS
        if param.values[0]["type"] == "timeseries"
        and [target["legendFormat"] for target in param.values[0]["targets"]] == [legend]
        and not (legend == "{{reason}}" and "ended" in param.values[0]["targets"][0]["expr"])
    ]
    assert charts
    for chart in charts:
        painted = {override["matcher"]["options"] for override in chart["fieldConfig"]["overrides"]}
        assert {re.sub(r"^/\^(.*)@/$", r"\1", name) for name in painted} >= values


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool")
def test_queries_parse(tmp_path: Path) -> None:
    """Prometheus's own parser takes every query, once Grafana's variables are filled in."""
    rules = [
        {"record": f"query:{number}", "expr": filled(query, rate_interval="20s")}
        for number, query in enumerate(QUERIES)
    ]
    file = tmp_path / "queries.json"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    found = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)  # noqa: S603, S607 - ours
    assert found.returncode == 0, found.stdout + found.stderr


def test_panels_can_be_read() -> None:
    """Whoever runs all queries finds all of them."""
    assert len(panels(FOLDER)) == len(PANELS)
    assert sum(len(panel.queries) for panel in panels(FOLDER)) == sum(len(p.values[0]["targets"]) for p in PANELS)
