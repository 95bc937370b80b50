"""A run as JSON and as tables."""

import json

from loadtest.bench import report
from tests.loadtest.bench.examples import DETECT, WHOLE, bench


def test_the_cases_are_a_list_with_the_floors_parts() -> None:
    """What follows a face is beside them, and not in the floor."""
    whole, detect = json.loads(report.cases_json([WHOLE, DETECT]))
    assert {"case", "floor_us", "service_us", "ratio", "ratio_without_following", "parts_us"} <= detect.keys()
    parts = detect["parts_us"]
    assert (parts.pop("follow"), parts.pop("metrics")) == (50.0, 5.0)
    assert sum(parts.values()) == detect["floor_us"]
    assert sum(detect["without_following"]["parts_us"].values()) == detect["without_following"]["floor_us"]
    assert whole["without_following"] is None


def test_what_is_of_no_case_has_a_file_of_its_own() -> None:
    """With the goals, and whether they are met."""
    more = json.loads(report.more_json(bench()))
    assert more["mosec"] == {"us": 280.0, "predictions_per_s": 3500.0}
    assert more["paper"]["mini-xception"]["us"] == 46_000.0
    assert [goal["met"] for goal in more["goals"]] == [True] * 6
    assert more["made_by"]["commit"] == "abc"


def test_every_column_has_a_cell() -> None:
    """The table is rectangular."""
    cells = dict(zip(report.COLUMNS, report.row(WHOLE), strict=True))
    assert (cells["floor us"], cells["service us"], cells["ratio"], cells["max diff"]) == (
        "240",
        "252",
        "1.05",
        "2e-06",
    )
    assert report.line(report.COLUMNS).split()[0] == "case"


def test_without_mosec_it_is_said_that_it_was_not_measured() -> None:
    """It is an extra, and its absence fails nothing."""
    assert any("not installed" in sentence for sentence in report.sentences(bench(mosec=None)))
    assert json.loads(report.more_json(bench(mosec=None)))["mosec"] is None


def test_the_table_for_a_page_says_where_it_comes_from() -> None:
    """A row a case, the sentences, then command, processor, date and commit."""
    lines = report.markdown(bench()).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| mini-xception/whole96", "| mini-xception/640x480"]
    assert "- goal met: idle: 0.20 % of a core, under 1 %" in lines
    assert lines[-1] == "`make bench`, a processor, 2026-11-23, commit abc."
