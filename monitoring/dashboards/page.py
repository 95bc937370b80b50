"""A dashboard: rows of panels under the choice of data source, job and instance, and what happened, over all charts."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from monitoring.dashboards import colours
from monitoring.dashboards.drawing import SOURCE, Panel
from monitoring.dashboards.promql import raw

TAG = "timeconv"
COLUMNS = 24
Line = Sequence[Panel]
"""Panels beside each other, of one width."""


@dataclass(frozen=True, slots=True)
class Section:
    """A row of a dashboard: a question, and lines of panels that answer it."""

    title: str
    lines: Sequence[Line]
    height: int = 8
    """Of each line, in Grafana's units of 30 pixels."""


class Event(models.AnnotationQuery):
    """Marks, in every chart, where a query has series."""

    def __init__(self, name: str, expr: str, text: str, colour: str) -> None:
        """``text`` is a legend."""
        super().__init__(name=name, datasource=SOURCE, icon_color=colour, expr=expr)
        self._text = text

    def to_json(self) -> dict[str, object]:
        """What the SDK knows of annotations, and what it does not of those by Prometheus."""
        return super().to_json() | {"step": "10s", "titleFormat": self.name, "textFormat": self._text}


EVENTS = (
    Event(
        "Starts",
        f"{raw('timeconv_build_info')} and on (job, instance) time() - {raw('process_start_time_seconds')} < 30",
        "{{instance}} started, version {{version}}",
        colours.BAD,
    ),
    Event(
        "Networks",
        f"{raw('timeconv_model_info')} unless {raw('timeconv_model_info')} offset 30s",
        "{{instance}} loaded {{model}}, {{file}} {{sha256}}",
        colours.WARN,
    ),
)


@dataclass(frozen=True, slots=True)
class Page:
    """A dashboard; ``name`` is that of its file."""

    name: str
    title: str
    purpose: str
    sections: Sequence[Section]
    shown: str = "1h"
    refresh: str = "10s"

    def build(self) -> models.Dashboard:
        """What Grafana reads."""
        page = (
            Dashboard(f"TimeConv · {self.title}")
            .uid(f"timeconv-{self.name}")
            .description(self.purpose)
            .tags([TAG])
            .readonly()
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .time(f"now-{self.shown}", "now")
            .refresh(self.refresh)
            .variables(_variables())
            .link(_others())
        )
        for section in self.sections:
            page.with_row(Row(section.title))
            for line in section.lines:
                for panel in line:
                    page.with_panel(panel.span(COLUMNS // len(line)).height(section.height))
        built = page.build()
        built.annotations = models.AnnotationContainer(list_val=list(EVENTS))
        for number, drawn in enumerate(built.panels or [], start=1):
            drawn.id_val = number
        return built


def _variables() -> list[Builder[models.VariableModel]]:
    source = DatasourceVariable("datasource").label("Data source").type("prometheus")
    return [
        source.current(models.VariableOption(text="Prometheus", value="prometheus")),
        _chosen("job", "Job", "label_values(timeconv_build_info, job)"),
        _chosen("instance", "Instance", 'label_values(up{job=~"$job"}, instance)'),
    ]


def _chosen(name: str, label: str, query: str) -> QueryVariable:
    return (
        QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .current(models.VariableOption(text=["All"], value=["$__all"]))
    )


def _others() -> DashboardLink:
    return (
        DashboardLink("Dashboards")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)
        .keep_time(True)
    )
