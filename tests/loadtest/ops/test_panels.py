import json
from pathlib import Path

import msgspec
import pytest

from loadtest.ops.panels import Panel, filled, panels

AGE = {
    "type": "timeseries",
    "title": "Age",
    "description": "How old is what users see?",
    "targets": [{"expr": "age{job=~'$job'}", "legendFormat": "p99", "refId": "A"}, {"expr": "up"}],
    "fieldConfig": {
        "defaults": {
            "unit": "s",
            "thresholds": {
                "mode": "absolute",
                "steps": [{"value": None, "color": "green"}, {"value": 0.1, "color": "red"}],
            },
        }
    },
}
READ = Panel("Service", "Age", "timeseries", "s", [(0.1, "red")], [("age{job=~'$job'}", "p99"), ("up", "")])


def written(folder: Path, name: str, title: str, *those: object) -> None:
    (folder / name).write_text(json.dumps({"title": title, "panels": those}))


def test_panels(tmp_path: Path) -> None:
    """A panel is read with its unit, its thresholds and its queries."""
    written(tmp_path, "service.json", "Service", AGE)
    assert panels(tmp_path) == [READ]


def test_panels_of_a_folded_row(tmp_path: Path) -> None:
    """A row and a text have no query; the panels of a row that is folded are read all the same."""
    written(tmp_path, "service.json", "Service", {"type": "text"}, {"type": "row", "title": "More", "panels": [AGE]})
    assert panels(tmp_path) == [READ]


def test_panels_of_several_dashboards(tmp_path: Path) -> None:
    """Dashboards come by the names of their files; files of other kinds are none."""
    written(tmp_path, "b.json", "Second", AGE)
    written(tmp_path, "a.json", "First", AGE)
    written(tmp_path, "c.txt", "None", AGE)
    assert [panel.dashboard for panel in panels(tmp_path)] == ["First", "Second"]


def test_no_dashboard(tmp_path: Path) -> None:
    """A file that is no dashboard is refused."""
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(msgspec.ValidationError):
        panels(tmp_path)


def test_filled() -> None:
    """Grafana's variables are filled in, in braces or without; a group of a regular expression is none."""
    expr = 'label_replace(rate(a{job=~"$job",instance=~"${instance:regex}"}[$__rate_interval]), "b", "$1", "c", "(.*)")'
    assert filled(expr, rate_interval="20s", job="timeconv", instance="a:1") == (
        'label_replace(rate(a{job=~"timeconv",instance=~"a:1"}[20s]), "b", "$1", "c", "(.*)")'
    )
    assert filled("max_over_time(a[$__range:$__interval])") == "max_over_time(a[5m:5s])"


def test_filled_knows_no_other_variable() -> None:
    """A variable that nobody fills in is an error, and not left for Prometheus to stumble over."""
    with pytest.raises(KeyError, match="node"):
        filled('a{node="$node"}')
