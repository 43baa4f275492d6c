"""Charts of the reports on times and feeds: SVG bars and lines, and a page that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from capture_pipeline.reporting import markdown as md
from capture_pipeline.reporting.pages import picture, render_page, svg_text

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 900, 240, 72, 28, 12
_BLUE, _RED, _GREY = "#2f6fb7", "#d1495b", "#57606a"
_FONT = 'font-family="system-ui, sans-serif" font-size="11"'


@dataclass(frozen=True)
class Section:
    """Section of a page.

    Attributes:
        title: Heading.
        lines: Sentences.
        head: Headings of the table; empty without one.
        rows: Rows of the table.
        plots: Heading and SVG of each chart.
    """

    title: str
    lines: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    plots: Sequence[tuple[str, Markup]] = ()


def page(title: str, sections: Sequence[Section]) -> str:
    """Render a page as HTML."""
    return render_page("capture_pipeline.reporting", "times.html.j2", title=title, sections=sections)


def markdown(section: Section) -> md.Markdown:
    """Format a section as Markdown, without its charts."""
    tables = [md.table(section.head, section.rows)] if section.head else []
    return md.document(md.bold(section.title), md.bullets(section.lines), *tables)


def draw_bars(name: str, counts: Sequence[float], ends: tuple[str, str, str], unit: str = "") -> Markup:
    """Draw bars of equal width.

    Args:
        name: Description for screen readers.
        counts: Heights.
        ends: Labels below the start, the middle and the end.
        unit: Unit of the heights; `lost` draws red bars.
    """
    highest = max(counts, default=0) or 1
    width = (_WIDTH - _LEFT) / max(1, len(counts))
    drawn = [
        f'<rect x="{_LEFT + at * width:.1f}" y="{_y(count / highest)}" width="{max(0.5, width - 0.5):.1f}" '
        f'height="{_HEIGHT - _BOTTOM - _y(count / highest):.1f}" fill="{_RED if unit == "lost" else _BLUE}"/>'
        for at, count in enumerate(counts)
        if count
    ]
    return _draw_frame(name, drawn, (0.0, highest), ends)


def draw_line(name: str, values: Sequence[float | None], ends: tuple[str, str, str]) -> Markup:
    """Draw a line through values at equal distances; None interrupts the line."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    span = (high - low) or 1.0
    step = (_WIDTH - _LEFT) / max(1, len(values) - 1)
    drawn, points = [], []
    for at, value in enumerate([*values, None]):
        if value is not None:
            points.append(f"{_LEFT + at * step:.1f},{_y((value - low) / span)}")
        elif points:
            drawn.append(
                f'<polyline fill="none" stroke="{_BLUE}" stroke-width="1.5" points="{" ".join(points)}"/>'
            )
            points = []
    return _draw_frame(name, drawn, (low, low + span), ends)


def format_value(value: float | str | None, digits: int = 3) -> str:
    """Format a value for a cell; a dash if it is unknown."""
    if value is None:
        return "–"
    return (
        value
        if isinstance(value, str)
        else f"{value:,}"
        if isinstance(value, int)
        else f"{value:,.{digits}f}"
    )


def _draw_frame(
    name: str, drawn: list[str], heights: tuple[float, float], ends: tuple[str, str, str]
) -> Markup:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" {_FONT} role="img" aria-label="{svg_text(name)}">'
    )
    parts = [head]
    for share, text, anchor in zip((0.0, 0.5, 1.0), ends, ("start", "middle", "end"), strict=True):
        y, value = _y(share), heights[0] + share * (heights[1] - heights[0])
        x = _LEFT + share * (_WIDTH - _LEFT)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y}" y2="{y}" stroke="#d0d7de"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end" fill="{_GREY}">{value:,.6g}</text>'
        )
        parts.append(
            f'<text x="{x:.0f}" y="{_HEIGHT - 8}" text-anchor="{anchor}" fill="{_GREY}">'
            f"{svg_text(text)}</text>"
        )
    return picture([*parts, *drawn, "</svg>"])


def _y(share: float) -> float:
    return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP), 1)
