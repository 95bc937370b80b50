"""Panels: each says what it answers and what to do, has a unit, and a limit where the service has one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TypeVar

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.dashboard import FieldColor, ThresholdsConfig
from grafana_foundation_sdk.models.common import (
    AxisPlacement,
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    HeatmapCellLayout,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from monitoring.dashboards import colours

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNBOOKS = "docs/operations.md"
FRAMES_PER_S = "suffix:frames/s"
IDLE = "no traffic"

Panel = timeseries.Panel | stat.Panel | heatmap.Panel | table.Panel | statetimeline.Panel
_P = TypeVar("_P", timeseries.Panel, stat.Panel, heatmap.Panel, table.Panel, statetimeline.Panel)
_DASHES: Sequence[Mapping[str, object]] = (
    {"fill": "solid"},
    {"fill": "dash", "dash": [10, 10]},
    {"fill": "dot", "dash": [0, 10]},
)


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, the legend of its series, and, where that is a template, the names that may come of it.

    Each name has its own colour, one between slashes is a regular expression; others are shades of one colour.
    """

    expr: str
    legend: str
    names: Sequence[str] = ()

    @property
    def series(self) -> Sequence[str]:
        """Names of series, as far as they are known beforehand."""
        return self.names or (() if "{{" in self.legend else (self.legend,))


@dataclass(frozen=True, slots=True)
class About:
    """What a panel answers, what to do when its limit is passed, and the alerts whose runbook goes on from there."""

    answers: str
    then: str = ""
    alerts: Sequence[str] = ()

    def __str__(self) -> str:
        """The description of a panel."""
        runbooks = ", ".join(f"{RUNBOOKS}#{alert.lower()}" for alert in self.alerts)
        return "\n\n".join(part for part in (self.answers, self.then, runbooks and f"Runbook: {runbooks}") if part)


Steps = Sequence[tuple[float | None, str]]
NO_LIMIT: Steps = ((None, colours.GOOD),)


def up_to(limit: float, warn_at: float | None = None) -> Steps:
    """Good below ``warn_at``, bad from ``limit`` on."""
    warn = () if warn_at is None else ((warn_at, colours.WARN),)
    return ((None, colours.GOOD), *warn, (limit, colours.BAD))


def at_least(limit: float) -> Steps:
    """Bad below ``limit``."""
    return ((None, colours.BAD), (limit, colours.GOOD))


def number(
    title: str, about: About, unit: str, *queries: Query, limits: Steps = NO_LIMIT, empty: str = IDLE
) -> stat.Panel:
    """How it is now, and nothing from before: an idle service says ``empty``, not the last value it had."""
    return (
        _described(stat.Panel(), title, about, unit, limits, empty)
        .targets([_target(query, place).instant() for place, query in enumerate(queries)])
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(BigValueColorMode.NONE if limits is NO_LIMIT else BigValueColorMode.BACKGROUND_SOLID)
        .graph_mode(BigValueGraphMode.NONE)
    )


def lines(
    title: str,
    about: About,
    unit: str,
    *queries: Query,
    limits: Steps = NO_LIMIT,
    stacked: bool = False,
    highest: float | None = None,
    empty: str = IDLE,
) -> Panel:
    """How it went; ``limits`` are dashed lines."""
    panel = (
        _described(timeseries.Panel(), title, about, unit, limits, empty)
        .targets([_target(query, place).range() for place, query in enumerate(queries)])
        .min(0)
        .line_width(1.5)
        .fill_opacity(70 if stacked else 5)
        .show_points(VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(_tooltip())
        .color_scheme(FieldColor().mode(FieldColorModeId.SHADES).fixed_color(colours.SERIES[0]))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if limits is not NO_LIMIT:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    if highest is not None:
        panel.max(highest)
    for place, name in enumerate(name for query in queries for name in query.series):
        (panel.override_by_regexp if name.startswith("/") else panel.override_by_name)(name, _look(place))
    return panel


def heat(title: str, about: About, unit: str, expr: str) -> Panel:
    """How a histogram went: the darker, the fewer."""
    return (
        _described(heatmap.Panel(), title, about, unit, NO_LIMIT, IDLE)
        .with_target(_target(Query(expr, "{{le}}"), 0).range().format(PromQueryFormat.HEATMAP))
        .calculate(False)
        .rows_frame(heatmap.RowsHeatmapOptions().layout(HeatmapCellLayout.AUTO))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme("Cividis")
            .scale(HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(AxisPlacement.LEFT))
        .cell_values(heatmap.CellValues().unit("short"))
        .show_legend()
    )


def listing(title: str, about: About, query: Query, columns: Mapping[str, str], unit: str = "none") -> Panel:
    """What is there now: ``columns`` are headings by label, that of the number by ``Value``."""
    kept = {"include": {"names": list(columns)}}
    named = {"renameByName": dict(columns), "indexByName": {name: place for place, name in enumerate(columns)}}
    return (
        _described(table.Panel(), title, about, unit, NO_LIMIT, "nothing")
        .with_target(_target(query, 0).instant().format(PromQueryFormat.TABLE))
        .with_transformation(DataTransformerConfig(id_val="filterFieldsByName", options=kept))
        .with_transformation(DataTransformerConfig(id_val="organize", options=named))
    )


def states(title: str, about: About, query: Query, words: Mapping[str, tuple[str, str]], empty: str) -> Panel:
    """When it was so: ``words`` are text and colour by value."""
    shown = {value: ValueMappingResult(text=text, color=colour) for value, (text, colour) in words.items()}
    return (
        _described(statetimeline.Panel(), title, about, "none", NO_LIMIT, empty)
        .with_target(_target(query, 0).range())
        .mappings([ValueMap(options=shown)])
        .color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .show_value(VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(_tooltip())
    )


def _described(panel: _P, title: str, about: About, unit: str, limits: Steps, empty: str) -> _P:
    steps = [Threshold(value=value, color=colour) for value, colour in limits]
    return (
        panel.title(title)
        .description(str(about))
        .datasource(SOURCE)
        .unit(unit)
        .no_value(empty)
        .thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    )


def _target(query: Query, place: int) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .datasource(SOURCE)
        .expr(query.expr)
        .legend_format(query.legend)
        .ref_id(ascii_uppercase[place])
    )


def _look(place: int) -> list[DynamicConfigValue]:
    cycle, place = divmod(place, len(colours.SERIES))
    return [
        DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colours.SERIES[place]}),
        DynamicConfigValue("custom.lineStyle", _DASHES[cycle]),
    ]


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    return legend.show_legend(True)


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
