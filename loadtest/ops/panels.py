"""The panels of the Grafana dashboards, read from their files, with queries that Prometheus can run."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[A-Za-z_]\w*)(?::\w+)?\}|(?P<bare>[A-Za-z_]\w*))")


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel as a person sees it: ``kind`` is Grafana's name of the drawing (``timeseries``, ``stat``, ...)."""

    dashboard: str
    title: str
    kind: str
    unit: str
    thresholds: list[tuple[float, str]]
    """From each value on its colour; the colour below the first is not among them."""
    queries: list[tuple[str, str]]
    """Expression, with Grafana's variables as they stand, and legend."""


def panels(folder: Path) -> list[Panel]:
    """All panels with queries of the dashboards in ``folder``, by file name and then as they are laid out.

    Raises:
        msgspec.DecodeError: a file is not JSON.
        msgspec.ValidationError: a file is not a dashboard.
    """
    dashboards = (msgspec.json.decode(path.read_bytes(), type=_Dashboard) for path in sorted(folder.glob("*.json")))
    return [
        Panel(
            dashboard=dashboard.title,
            title=panel.title,
            kind=panel.type,
            unit=panel.fieldConfig.defaults.unit,
            thresholds=[
                (step.value, step.color)
                for step in panel.fieldConfig.defaults.thresholds.steps
                if step.value is not None
            ],
            queries=[(target.expr, target.legendFormat) for target in panel.targets],
        )
        for dashboard in dashboards
        for panel in _unfolded(dashboard.panels)
        if panel.targets
    ]


def filled(
    expr: str,
    rate_interval: str = "15s",
    job: str = ".*",
    instance: str = ".*",
    *,
    interval: str = "5s",
    time_range: str = "5m",
) -> str:
    """A query with Grafana's variables filled in, as Prometheus takes it.

    Raises:
        KeyError: it has a variable that dashboards here do not have.
    """
    values = {
        "__rate_interval": rate_interval,
        "__interval": interval,
        "__range": time_range,
        "job": job,
        "instance": instance,
    }
    return _VARIABLE.sub(lambda found: values[found["braced"] or found["bare"]], expr)


def _unfolded(those: Iterable["_Panel"]) -> Iterator["_Panel"]:
    for panel in those:
        yield panel
        yield from _unfolded(panel.panels)  # of a row that is folded


# Of Grafana's JSON what is read here, under its names.


class _Target(msgspec.Struct):
    expr: str
    legendFormat: str = ""  # noqa: N815 - Grafana's


class _Step(msgspec.Struct):
    color: str
    value: float | None = None


class _Thresholds(msgspec.Struct):
    steps: list[_Step] = []


class _Defaults(msgspec.Struct):
    unit: str = ""
    thresholds: _Thresholds = msgspec.field(default_factory=_Thresholds)


class _FieldConfig(msgspec.Struct):
    defaults: _Defaults = msgspec.field(default_factory=_Defaults)


class _Panel(msgspec.Struct):
    type: str
    title: str = ""
    targets: list[_Target] = []
    fieldConfig: _FieldConfig = msgspec.field(default_factory=_FieldConfig)  # noqa: N815 - Grafana's
    panels: list["_Panel"] = []


class _Dashboard(msgspec.Struct):
    title: str
    panels: list[_Panel] = []
