"""Coverage report: a heat map of symbols and months as SVG, and a self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl
from markupsafe import Markup

from capture_pipeline.reporting.pages import picture, render_page, svg_text
from capture_pipeline.settings.models import Gates

_CELL, _LEFT, _TOP, _GAP = 26, 96, 64, 2
_COLOURS = {
    "whole": "#1a7f4b",
    "good": "#7bc47f",
    "warning": "#f0c05a",
    "critical": "#d1495b",
    "unknown": "#8d7bb8",
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
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    font = 'font-family="system-ui, sans-serif" font-size="11"'
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font} role="img" '
            'aria-label="Coverage by symbol and month">'
        )
    ]
    column = {month: _LEFT + index * _CELL for index, month in enumerate(months)}
    line = {symbol: _TOP + index * _CELL for index, symbol in enumerate(symbols)}
    parts += [
        f'<text x="{x + _CELL / 2}" y="{_TOP - 8}" transform="rotate(-50 {x + _CELL / 2} {_TOP - 8})" '
        'fill="#57606a">'
        f"{svg_text(month)}</text>"
        for month, x in column.items()
    ]
    parts += [
        f'<text x="{_LEFT - 8}" y="{y + 17}" text-anchor="end" fill="#57606a">{svg_text(symbol)}</text>'
        for symbol, y in line.items()
    ]
    parts += [
        _draw_cell(row, column[row["month"]], line[row["symbol"]], gates)
        for row in frame.iter_rows(named=True)
    ]
    parts += _draw_legend(_TOP + len(symbols) * _CELL + 18, width)
    return picture([*parts, "</svg>"])


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


def _draw_cell(row: dict[str, Any], x: int, y: int, gates: Gates) -> str:
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
    mark = (
        f'<circle cx="{x + size / 2}" cy="{y + size / 2}" r="3" fill="#fff"/>'
        if row["missing"] and name in {"whole", "good"}
        else ""
    )
    return (
        f'<g><title>{svg_text(title)}</title><rect x="{x}" y="{y}" width="{size}" height="{size}" rx="3" '
        f'fill="{_COLOURS[name]}"/>{mark}</g>'
    )


def _draw_legend(y: int, width: int) -> Iterable[str]:
    """Yield one entry for each colour, in several lines if the picture is narrow."""
    x = _LEFT - 86
    for name, colour in _COLOURS.items():
        needed = 26 + 7 * len(_TITLES[name])
        if x + needed > width:
            x, y = _LEFT - 86, y + 18
        yield f'<rect x="{x}" y="{y}" width="10" height="10" rx="2" fill="{colour}"/>'
        yield f'<text x="{x + 14}" y="{y + 9}" fill="#57606a">{_TITLES[name]}</text>'
        x += needed
    text = "A white dot: bars missing in a listed outage, or too few to matter."
    yield f'<text x="{_LEFT - 86}" y="{y + 27}" fill="#57606a">{text}</text>'
