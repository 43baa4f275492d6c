"""Report of a comparison: an HTML page with SVG plots and without other files, and a Markdown table."""

from __future__ import annotations

from typing import NamedTuple

from markupsafe import Markup

from capture_pipeline.golden.comparison.figures import Comparison, SessionFigures
from capture_pipeline.reporting import markdown as md
from capture_pipeline.reporting.charts import BLUE, GREEN, GREY, PALE_GREY, RED, VIOLET, Chart, Drawing, Point
from capture_pipeline.reporting.pages import render_page

_COLOURS = (BLUE, RED, GREEN, VIOLET, "#c98a1b", GREY)
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 900, 240, 64, 28, 12
ROWS = {
    "Regime": "regime",
    "Symbol": "symbol",
    "Duration, s": "duration_s",
    "Trades per second": "trades_per_s",
    "Diffs per second": "diffs_per_s",
    "Spread, bp": "spread_bp",
    "Spread, 99th percentile, bp": "spread_p99_bp",
    "Depth of ten bids": "bid_depth",
    "Depth of ten asks": "ask_depth",
    "Seconds with a valid book": "book_valid_s",
    "Volatility, bp per minute": "volatility_bp",
    "Gaps": "gaps",
    "Reconnects": "reconnects",
}
_COUNTS = ("native", "negative", "receipt_filled", "missing")
_LATENCY = (*_COUNTS, "p50", "p90", "p99", "least", "most")


class ReportRow(NamedTuple):
    """Label of a row, and one text per session."""

    label: str
    texts: list[str]


def build_rows(comparison: Comparison) -> list[ReportRow]:
    """Build the rows of the table."""
    rows = [
        ReportRow(label, [_format_value(getattr(session, name)) for session in comparison.sessions])
        for label, name in ROWS.items()
    ]
    for what, name in (("Trades", "trade_latency"), ("Diffs", "depth_latency")):
        rows += [
            ReportRow(
                f"{what}, latency {figure.replace('_', ' ')}{'' if figure in _COUNTS else ', ms'}",
                [_format_value(getattr(getattr(s, name), figure)) for s in comparison.sessions],
            )
            for figure in _LATENCY
        ]
    return rows


def markdown(comparison: Comparison) -> md.Markdown:
    """Write the table in Markdown, for a user interface."""
    heads = [session.session for session in comparison.sessions]
    return md.table(["", *heads], [(row.label, *row.texts) for row in build_rows(comparison)])


def page(comparison: Comparison) -> str:
    """Render the whole page."""
    names = list(dict.fromkeys(series.name for session in comparison.sessions for series in session.series))
    return render_page(
        "capture_pipeline.golden.comparison",
        "comparison.html.j2",
        sessions=comparison.sessions,
        rows=build_rows(comparison),
        colours=[_COLOURS[index % len(_COLOURS)] for index in range(len(comparison.sessions))],
        plots=[Chart(name, plot(name, comparison.sessions)) for name in names],
    )


def plot(name: str, sessions: list[SessionFigures]) -> Markup:
    """Plot one figure of all sessions over the time since their start, as a self-contained SVG."""
    lines = [
        (index, series)
        for index, session in enumerate(sessions)
        for series in session.series
        if series.name == name and series.values
    ]
    longest = max((series.seconds[-1] for _, series in lines), default=0.0) or 1.0
    highest = max((max(series.values) for _, series in lines), default=0.0) or 1.0
    drawing = Drawing(name, _WIDTH, _HEIGHT)
    for share in (0.0, 0.5, 1.0):
        y = _y(share * highest, highest)
        drawing.horizontal(_LEFT, _WIDTH, y, PALE_GREY)
        drawing.text(_LEFT - 6, y + 4, f"{share * highest:,.6g}", anchor="end")
        x = round(_LEFT + share * (_WIDTH - _LEFT - 44))
        drawing.text(x, _HEIGHT - 8, f"{share * longest / 60:,.1f} min")
    for index, series in lines:
        points = [
            Point(round(_LEFT + second / longest * (_WIDTH - _LEFT), 1), _y(value, highest))
            for second, value in zip(series.seconds, series.values, strict=True)
        ]
        drawing.line(points, _COLOURS[index % len(_COLOURS)])
    return drawing.render()


def _y(value: float, highest: float) -> float:
    return round(_HEIGHT - _BOTTOM - value / highest * (_HEIGHT - _BOTTOM - _TOP), 1)


def _format_value(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
