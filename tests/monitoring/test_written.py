"""The code that writes dashboards, and what it has written."""

import re
import tomllib
from pathlib import Path

from monitoring.dashboards import colours, promql
from monitoring.dashboards.drawing import About, Query, at_least, lines, up_to
from monitoring.dashboards.files import pages, table, texts

ROOT = Path(__file__).parents[2]


def test_written() -> None:
    """What stands in the files is what the code writes; `make dashboards` writes it anew."""
    for path, text in texts(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is not what the code writes: make dashboards"


def test_nothing_else_is_written() -> None:
    """Grafana finds no dashboard that no code writes."""
    folder = ROOT / "monitoring" / "grafana" / "dashboards"
    assert sorted(folder.iterdir()) == sorted(path for path in texts(ROOT) if path.parent == folder)


def test_no_part_of_the_service() -> None:
    """Neither the wheel nor an image has this code, whose SDK the service does not install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert "monitoring" not in {Path(package).parts[0] for package in packages}
    assert "!monitoring" not in (ROOT / ".dockerignore").read_text(encoding="utf-8")
    assert "grafana" not in (ROOT / "requirements" / "serve.txt").read_text(encoding="utf-8")


def test_document_has_all_panels() -> None:
    """The tables of docs/dashboards.md have each panel once, under its question."""
    document = (ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
    for page in pages():
        assert table(page) in document
        assert len(re.findall(r"^\| ", table(page), re.MULTILINE)) == 1 + len(page.build().panels or [])


def test_no_share_of_nothing() -> None:
    """A share, a mean and a percentile of nothing are no series, and not NaN."""
    assert promql.ratio("a", "b") == "a / (b > 0)"
    assert promql.mean("m").endswith('_count{job=~"$job",instance=~"$instance"}[$__rate_interval])) > 0)')
    assert promql.quantile(0.5, "m").endswith(") >= 0")


def test_series_that_go_by_one_name_have_one_colour() -> None:
    """Colours are given in order, and come again with dashes."""
    names = tuple(f"n{number}" for number in range(len(colours.SERIES) + 1))
    drawn = lines("t", About("What?"), "s", Query("x", "{{n}}", names)).build()
    assert drawn.field_config is not None
    first, *_, last = drawn.field_config.overrides
    assert (first.matcher.options, last.matcher.options) == ("n0", names[-1])
    assert first.properties[0].value == last.properties[0].value
    assert first.properties[1].value != last.properties[1].value


def test_limits() -> None:
    """What may not be passed is good below and bad above; what must be reached the other way round."""
    assert up_to(2, warn_at=1) == ((None, colours.GOOD), (1, colours.WARN), (2, colours.BAD))
    assert up_to(2) == ((None, colours.GOOD), (2, colours.BAD))
    assert at_least(1) == ((None, colours.BAD), (1, colours.GOOD))


def test_about() -> None:
    """A description is a question, what to do, and where the runbook is."""
    assert str(About("Why?", "Look.", ["TimeConvDown"])) == "Why?\n\nLook.\n\nRunbook: docs/operations.md#timeconvdown"
    assert str(About("Why?")) == "Why?"
