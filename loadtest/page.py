"""A run's report as one HTML page that loads nothing."""

import dataclasses
import json
from html import escape

from loadtest import plots
from loadtest.report import Report
from loadtest.table import COLUMNS, rows, verdict


def as_html(report: Report) -> str:
    """The page."""
    head = "".join(f"<th>{escape(column)}</th>" for column in COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for point in report.points
        for row in rows(point)
    )
    drawn = "".join(
        f'<figure><img alt="{escape(title)}" src="{source}"><figcaption>{escape(title)}</figcaption></figure>'
        for title, source in plots.draw(report.points, report.knee, report.capacity)
    )
    facts = {
        **report.made_by,
        **{f"service {name}": str(value) for name, value in report.service.items()},
        "pictures": report.pictures,
        "load": json.dumps(dataclasses.asdict(report.load)),
        "thresholds": json.dumps(dataclasses.asdict(report.thresholds)),
    }
    told = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in verdict(report))
    return _PAGE.format(verdict=said, head=head, body=body, plots=drawn, facts=told)


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Load on TimeConv</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
td, th {{ padding: .2rem .5rem; text-align: right; border-bottom: 1px solid #ddd }}
figure {{ display: inline-block; margin: 1rem 0; width: 49% }} img {{ width: 100% }} dd {{ overflow-wrap: anywhere }}
</style>
<h1>Load on TimeConv</h1>
{verdict}
<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>
<p>Times are milliseconds from the moment a frame was <em>due</em> to its prediction at the client; share is predictions
per frame due; echo is a server that answers at once, under the same schedule; late is how much later than due frames
were sent; cores and MB (the most) are of the service's process.</p>
{plots}
<dl>{facts}</dl>
</html>
"""
