"""docs/metrics.md is what the service tells, and the service tells what docs/metrics.md says."""

import re
from pathlib import Path
from typing import NamedTuple

from prometheus_client import Metric

from tests.unit.telemetry.every import every_metric

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"
UNITS = {"seconds": "s", "bytes": "bytes"}


class Row(NamedTuple):
    kind: str
    labels: frozenset[str]
    unit: str
    text: str


def tables() -> list[list[list[str]]]:
    """The cells of each table's rows, without its head."""
    blocks = re.findall(r"(?:^\|.*\n)+", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return [
        [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()[2:]]
        for block in blocks
    ]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def documented() -> dict[str, Row]:
    """The metrics of the page, from every table that has a metric in its first column."""
    return {
        names(name)[0]: Row(kind, frozenset(names(labels)), unit, text)
        for table in tables()
        if len(table[0]) == 6
        for name, kind, labels, unit, text, _ in table
    }


def told_as(family: Metric) -> str:
    """The name that queries use."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def row_of(family: Metric) -> Row:
    labels = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
    words = told_as(family).removesuffix("_total").rpartition("_")
    return Row(family.type, labels, UNITS.get(words[2], "-"), family.documentation)


def test_the_page_and_the_registry_have_the_same_metrics() -> None:
    """Name, type, labels, unit and help of each, in both directions."""
    told = {told_as(family): row_of(family) for family in every_metric().registry.collect()}
    assert documented() == told


def test_each_metric_answers_a_question() -> None:
    """The last column says what for, and no two metrics answer the same."""
    questions = [row[-1] for table in tables() if len(table[0]) == 6 for row in table]
    assert all(question.endswith("?") for question in questions)
    assert len(set(questions)) == len(questions)


def test_each_label_has_its_bound() -> None:
    """A table says of every label which values there are; no label names a person, a session or an address."""
    (bounds,) = (table for table in tables() if len(table[0]) == 2)
    used = {label for row in documented().values() for label in row.labels}
    assert {name for label, _ in bounds for name in names(label)} == used
    assert used & {"session", "key", "address", "client", "user", "request", "ip"} == set()
