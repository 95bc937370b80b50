"""What a report says: JSON for programs, a table and a page for people."""

import dataclasses
import json
import re
from typing import Any

import pytest

from loadtest.figures import Point, Usage
from loadtest.page import as_html
from loadtest.report import SCHEMA, Report, as_json
from loadtest.table import COLUMNS, lines, rows, verdict
from loadtest.thresholds import Thresholds
from tests.loadtest.examples import LOAD, figures, point

USAGE = Usage(
    cores=1.5,
    rss_before_bytes=100_000_000,
    rss_growth_bytes=1_000_000,
    rss_peak_bytes=120_000_000,
    samples=((0.0, 1.0, 100_000_000), (1.0, 2.5, 120_000_000)),
)
SWEEP = (
    point(figures(10, offered_per_s=20), 1.0, usage=USAGE, echo=(figures(1),)),
    point(figures(12, offered_per_s=40), 2.0),
    point(figures(400, offered_per_s=60, answered=0.5), 3.0),
)


def report(points: tuple[Point, ...] = SWEEP, **changes: Any) -> Report:
    """A report of a sweep, with changes."""
    facts: dict[str, Any] = {
        "made_by": {"command": "loadtest <of> ours", "commit": None, "date": "2026-11-23", "processor": "a machine"},
        "service": {"model": "m@1"},
        "pictures": "a face",
        "load": LOAD,
        "thresholds": Thresholds(),
        "points": points,
        "is_ramp": False,
        "best": None,
    }
    return Report(**facts | changes)


def test_json() -> None:
    """The JSON holds the description, every point with its histogram, and the verdict."""
    content = json.loads(as_json(report()))
    assert content["schema"] == SCHEMA
    assert content["load"]["groups"][0]["frames_per_s"] == 10.0
    assert [one["scale"] for one in content["points"]] == [1.0, 2.0, 3.0]
    assert content["points"][0]["groups"][0]["latency_ms"]["p99"] == pytest.approx(10, rel=1e-2)
    assert content["points"][0]["usage"]["cores"] == 1.5
    assert (content["capacity"], content["knee"], content["passed"]) == (None, 40.0, True)


def test_sessions_that_broke_are_told() -> None:
    """How many sessions of a group broke, and why, is in the JSON and beside the verdict."""
    broken = report((point(dataclasses.replace(figures(10), broken={"slow_reader": 2})),))
    assert json.loads(as_json(broken))["points"][0]["groups"][0]["broken"] == {"slow_reader": 2}
    assert "Scale 1: 2 sessions of latest broke: slow_reader" in verdict(broken)


def test_a_sweep_passes_if_every_load_does() -> None:
    """One load over its bound fails the run, and is named."""
    failed = report(thresholds=Thresholds(max_p99_ms=100))
    assert not failed.passed
    assert verdict(failed)[0].startswith("Scale 3: The 99th percentile is 40")
    assert verdict(failed)[-1] == "FAILED"
    assert report(SWEEP[:2], thresholds=Thresholds(max_p99_ms=100)).passed


def test_a_ramp_passes_if_one_load_does() -> None:
    """A ramp goes beyond the bound to find it; it fails only if no load is within, or sums do not add up."""
    found = report(is_ramp=True, best=2.0, thresholds=Thresholds(max_p99_ms=100))
    assert found.passed
    assert found.capacity is SWEEP[1]
    assert "Capacity: 40.0 frames/s (2 times the load given)" in verdict(found)
    assert json.loads(as_json(found))["capacity"]["at_least"] is False
    unbounded = report(SWEEP[:2], is_ramp=True, best=2.0)
    assert "Capacity: at least 40.0 frames/s (2 times the load given)" in verdict(unbounded)
    assert json.loads(as_json(unbounded))["capacity"]["at_least"] is True
    assert not report(is_ramp=True, best=None).passed
    lost = (point(figures(10)), point(figures(10), 2.0, discrepancies=("a frame is missing",)))
    assert not report(lost, is_ramp=True, best=1.0).passed


def test_the_table() -> None:
    """A row for each group, with a cell for each column; what is not known is a dash."""
    assert [len(row) for row in rows(SWEEP[0])] == [len(COLUMNS)]
    cells = dict(zip(COLUMNS, rows(SWEEP[0])[0], strict=True))
    assert (cells["group"], cells["p99"], cells["echo p99"], cells["cores"], cells["MB"]) == (
        "latest", "10.0", "1.0", "1.50", "120",
    )  # fmt: skip
    cells = dict(zip(COLUMNS, rows(SWEEP[1])[0], strict=True))
    assert (cells["echo p50"], cells["cores"]) == ("-", "-")
    assert len({len(line) for line in lines([COLUMNS, *rows(SWEEP[0]), *rows(SWEEP[1])])}) == 1


def test_what_casts_doubt_on_figures_is_said() -> None:
    """A generator at the end of its strength, and sessions that broke, are told beside the verdict."""
    busy = point(figures(10), generator_cores=(0.2, 0.95))
    assert any("0.95 cores" in sentence for sentence in verdict(report((busy,))))


def test_the_page_needs_nothing_else() -> None:
    """The page has every picture in itself, and what it was told is text and not markup."""
    page = as_html(report(is_ramp=True, best=2.0))
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 4
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert "loadtest &lt;of&gt; ours" in page


def test_a_page_of_a_load_that_was_never_answered() -> None:
    """Where nothing was answered there is a page all the same."""
    assert "FAILED" in as_html(report((point(figures(None, answered=0.0)),), thresholds=Thresholds(max_p99_ms=1)))
