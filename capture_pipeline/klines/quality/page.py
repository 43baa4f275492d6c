"""Coverage report: a heat map of symbols and months as SVG, and a self-contained HTML page."""

from __future__ import annotations

from typing import Any

import polars as pl
from markupsafe import Markup

from capture_pipeline.reporting.charts import GREEN, RED, VIOLET, Drawing
from capture_pipeline.reporting.pages import render_page
from capture_pipeline.settings.models import Gates

_CELL, _LEFT, _TOP, _GAP = 26, 96, 64, 2
_COLOURS = {
    "whole": GREEN,
    "good": "#7bc47f",
    "warning": "#f0c05a",
    "critical": RED,
    "unknown": VIOLET,
    "nothing": "#e6e8eb",
}
_TITLES = {
    "whole": "only explained gaps",
    "good": "within the gates",
    "warning": "an alert",
    "critical": "critical",
    "unknown": "never backfilled",
    "nothing": "nothing expected",
}
_MAX_ROWS = 5000


def grade_coverage(row: dict[str, Any], gates: Gates) -> str:
    """Return the grade of a symbol-month, a key of the colours."""
    if not row["expected"]:
        return "unknown" if row["expected"] is None else "nothing"
    coverage = row["explained_coverage_percent"]
    if not row["unexplained"] and coverage >= gates.coverage_error_below_percent:
        return "whole"
    if coverage < gates.coverage_critical_below_percent:
        return "critical"
    unexplained = 100 * row["unexplained"] / row["expected"]
    if coverage < gates.coverage_error_below_percent or unexplained >= gates.unexplained_error_percent:
        return "warning"
    return "good"


def draw_heat_map(frame: pl.DataFrame, gates: Gates) -> Markup:
    """Draw the heat map as a self-contained SVG.

    Args:
        frame: Result of `measure_coverage`.
        gates: Thresholds at which the colours change.
    """
    symbols, months = sorted(frame["symbol"].unique()), sorted(frame["month"].unique())
    width, height = max(560, _LEFT + len(months) * _CELL + 12), _TOP + len(symbols) * _CELL + 74
    drawing = Drawing("Coverage by symbol and month", width, height)
    column = {month: _LEFT + index * _CELL for index, month in enumerate(months)}
    line = {symbol: _TOP + index * _CELL for index, symbol in enumerate(symbols)}
    for month, x in column.items():
        drawing.text(x + _CELL / 2, _TOP - 8, month, tilt=-50)
    for symbol, y in line.items():
        drawing.text(_LEFT - 8, y + 17, symbol, anchor="end")
    for row in frame.iter_rows(named=True):
        _draw_cell(drawing, row, column[row["month"]], line[row["symbol"]], gates)
    _draw_legend(drawing, _TOP + len(symbols) * _CELL + 18, width)
    return drawing.render()


def render_coverage_page(
    frame: pl.DataFrame, summary: dict[str, Any], svg: Markup, title: str, gates: Gates
) -> str:
    """Render the page: totals, heat map, and each symbol-month with a peculiarity."""
    rows = [{**row, "grade": grade_coverage(row, gates)} for row in frame.iter_rows(named=True)]
    notable = [
        row
        for row in rows
        if row["expected"] is not None
        and any(row[name] for name in ("missing", "filled", "conflicts", "duplicates", "suspended"))
    ]
    return render_page(
        "capture_pipeline.klines.quality",
        "coverage.html.j2",
        title=title,
        summary=summary,
        svg=svg,
        rows=notable[:_MAX_ROWS],
        colours=_COLOURS,
        left_out=max(0, len(notable) - _MAX_ROWS),
    )


def _draw_cell(drawing: Drawing, row: dict[str, Any], x: int, y: int, gates: Gates) -> None:
    name = grade_coverage(row, gates)
    coverage = (
        _TITLES[name]
        if row["coverage_percent"] is None
        else f"{row['coverage_percent']:.4f} % of {row['expected']:,}"
    )
    title = (
        f"{row['symbol']} {row['month']}: {coverage}, {row['missing']:,} missing, "
        f"{row['explained']:,} of them in listed outages"
    )
    title += f", {row['suspended']:,} not expected while suspended" if row["suspended"] else ""
    size = _CELL - _GAP
    with drawing.group(title):
        drawing.rectangle(x, y, size, size, colour=_COLOURS[name], radius=3)
        if row["missing"] and name in {"whole", "good"}:
            drawing.dot(x + size / 2, y + size / 2, "#fff")


def _draw_legend(drawing: Drawing, y: int, width: int) -> None:
    """Draw one entry for each colour, in several lines if the picture is narrow."""
    x = _LEFT - 86
    for name, colour in _COLOURS.items():
        needed = 26 + 7 * len(_TITLES[name])
        if x + needed > width:
            x, y = _LEFT - 86, y + 18
        drawing.rectangle(x, y, 10, 10, colour=colour, radius=2)
        drawing.text(x + 14, y + 9, _TITLES[name])
        x += needed
    drawing.text(
        _LEFT - 86, y + 27, "A white dot marks missing bars: in a listed outage, or too few to fail a gate."
    )
