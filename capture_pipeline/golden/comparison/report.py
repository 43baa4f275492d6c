"""Report of a comparison: an HTML page with SVG plots and without other files, and a Markdown table."""

from __future__ import annotations

from markupsafe import Markup

from capture_pipeline.golden.comparison.figures import Comparison, Series, SessionFigures
from capture_pipeline.reporting import markdown as md
from capture_pipeline.reporting.pages import picture, render_page, svg_text

_COLOURS = ("#2f6fb7", "#d1495b", "#1a7f4b", "#8d7bb8", "#c98a1b", "#57606a")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 900, 240, 64, 28, 12
ROWS = {
    "Regime": "regime",
    "Symbol": "symbol",
    "Duration, s": "duration_s",
    "Trades a second": "trades_per_s",
    "Diffs a second": "diffs_per_s",
    "Spread, bp": "spread_bp",
    "Spread, 99th percentile, bp": "spread_p99_bp",
    "Depth of ten bids": "bid_depth",
    "Depth of ten asks": "ask_depth",
    "Seconds with a valid book": "book_valid_s",
    "Volatility, bp a minute": "volatility_bp",
    "Gaps": "gaps",
    "Reconnects": "reconnects",
}
_COUNTS = ("native", "negative", "receipt_filled", "missing")
_LATENCY = (*_COUNTS, "p50", "p90", "p99", "least", "most")


def build_rows(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Build the rows of the table: label, and one text per session."""
    rows = [
        (label, [_format_value(getattr(session, name)) for session in comparison.sessions])
        for label, name in ROWS.items()
    ]
    for what, name in (("Trades", "trade_latency"), ("Diffs", "depth_latency")):
        rows += [
            (
                f"{what}, latency {figure.replace('_', ' ')}{'' if figure in _COUNTS else ', ms'}",
                [_format_value(getattr(getattr(s, name), figure)) for s in comparison.sessions],
            )
            for figure in _LATENCY
        ]
    return rows


def markdown(comparison: Comparison) -> md.Markdown:
    """Write the table in Markdown, for a user interface."""
    heads = [session.session for session in comparison.sessions]
    return md.table(["", *heads], [(label, *texts) for label, texts in build_rows(comparison)])


def page(comparison: Comparison) -> str:
    """Render the whole page."""
    names = list(dict.fromkeys(series.name for session in comparison.sessions for series in session.series))
    return render_page(
        "capture_pipeline.golden.comparison",
        "comparison.html.j2",
        sessions=comparison.sessions,
        rows=build_rows(comparison),
        colours=[_COLOURS[index % len(_COLOURS)] for index in range(len(comparison.sessions))],
        plots=[(name, plot(name, comparison.sessions)) for name in names],
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
    font = 'font-family="system-ui, sans-serif" font-size="11"'
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font} role="img" aria-label="{svg_text(name)}">'
    ]
    for share in (0.0, 0.5, 1.0):
        y = _y(share * highest, highest)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y}" y2="{y}" stroke="#d0d7de"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end" fill="#57606a">{share * highest:,.6g}</text>'
        )
        x = _LEFT + share * (_WIDTH - _LEFT - 44)
        parts.append(
            f'<text x="{x:.0f}" y="{_HEIGHT - 8}" fill="#57606a">{share * longest / 60:,.1f} min</text>'
        )
    parts += [_line(series, _COLOURS[index % len(_COLOURS)], longest, highest) for index, series in lines]
    return picture([*parts, "</svg>"])


def _line(series: Series, colour: str, longest: float, highest: float) -> str:
    points = " ".join(
        f"{_LEFT + second / longest * (_WIDTH - _LEFT):.1f},{_y(value, highest)}"
        for second, value in zip(series.seconds, series.values, strict=True)
    )
    return f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{points}"/>'


def _y(value: float, highest: float) -> float:
    return round(_HEIGHT - _BOTTOM - value / highest * (_HEIGHT - _BOTTOM - _TOP), 1)


def _format_value(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
