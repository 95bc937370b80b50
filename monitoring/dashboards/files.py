"""The files that dashboards are kept in: JSON for Grafana, and tables for docs/dashboards.md."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Panel

from monitoring.dashboards import batching, model, service, sessions
from monitoring.dashboards.page import Page

FOLDER = Path("monitoring/grafana/dashboards")
DOCUMENT = Path("docs/dashboards.md")
_TABLES = re.compile(r"(?<=<!-- panels -->\n).*(?=<!-- end of panels -->)", re.DOTALL)

_UNITS = {
    "none": "-",
    "percentunit": "%",
    "dtdurations": "s",
    "bytes": "bytes",
    "binBps": "bytes/s",
    "reqps": "requests/s",
    "suffix:x": "times",
}
"""What Grafana's names mean, where they are not plain."""


def pages() -> list[Page]:
    """All dashboards, the first one first."""
    return [module.page() for module in (service, batching, model, sessions)]


def texts(root: Path) -> Mapping[Path, str]:
    """What is to stand in each file of the repository at ``root``; of the document only the tables are replaced."""
    written = {root / FOLDER / f"{page.name}.json": dashboard(page) for page in pages()}
    tables = "\n".join(table(page) for page in pages())
    document = root / DOCUMENT
    return written | {document: _TABLES.sub(lambda _: f"\n{tables}\n", document.read_text(encoding="utf-8"))}


def dashboard(page: Page) -> str:
    """A dashboard as Grafana reads it."""
    return json.dumps(page.build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def table(page: Page) -> str:
    """Panels with what they answer, below their questions."""
    lines = [f"### {page.title}", "", "| panel | answers | unit |", "|---|---|---|"]
    for drawn in page.build().panels or []:
        if not isinstance(drawn, Panel):
            lines.append(f"| **{drawn.title}** | | |")
            continue
        answers = (drawn.description or "").partition("\n")[0]
        assert drawn.field_config is not None
        unit = drawn.field_config.defaults.unit or ""
        lines.append(f"| {drawn.title} | {answers} | {_UNITS.get(unit) or unit.removeprefix('suffix:')} |")
    return "\n".join([*lines, ""])
