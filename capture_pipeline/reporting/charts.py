"""Charts as SVG, the only module that writes SVG; and the page of the reports on times and feeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from capture_pipeline.reporting import markdown as md
from capture_pipeline.reporting.pages import picture, render_page, svg_text

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 900, 240, 72, 28, 12
BLUE, GREEN, RED, VIOLET = "#2f6fb7", "#1a7f4b", "#d1495b", "#8d7bb8"
GREY, PALE_GREY, DARK_GREY = "#57606a", "#d0d7de", "#24292f"


@dataclass(frozen=True)
class Ends:
    """Labels below the horizontal axis.

    Attributes:
        start: Label of the first value.
        middle: Label of the middle.
        end: Label of the last value.
    """

    start: str
    middle: str
    end: str


class Point(NamedTuple):
    """Position in pixels from the upper left corner."""

    x: float
    y: float


class Drawing:
    """SVG picture that is drawn part by part; lengths are pixels, and texts are escaped."""

    def __init__(self, name: str, width: int, height: int, font_size: int = 11) -> None:
        """Start an empty picture.

        Args:
            name: Description for screen readers.
            width: Width.
            height: Height.
            font_size: Size of the texts.
        """
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="system-ui, sans-serif" font-size="{font_size}" role="img" '
            f'aria-label="{svg_text(name)}">'
        )
        self._parts = [head]

    def horizontal(self, left: float, right: float, y: float, colour: str) -> None:
        self._parts.append(f'<line x1="{left}" x2="{right}" y1="{y}" y2="{y}" stroke="{colour}"/>')

    def vertical(self, x: float, top: float, bottom: float, colour: str) -> None:
        self._parts.append(f'<line x1="{x}" x2="{x}" y1="{top}" y2="{bottom}" stroke="{colour}"/>')

    def text(
        self, x: float, y: float, value: object, *, anchor: str = "", tilt: int = 0, colour: str = GREY
    ) -> None:
        """Draw one line of text.

        Args:
            x: Position of the anchor.
            y: Base line.
            value: Text.
            anchor: Part of the text at `x`: `start`, `middle` or `end`; empty for the start.
            tilt: Angle in degrees.
            colour: Colour.
        """
        anchored = f' text-anchor="{anchor}"' if anchor else ""
        tilted = f' transform="rotate({tilt} {x} {y})"' if tilt else ""
        self._parts.append(
            f'<text x="{x}" y="{y}"{anchored}{tilted} fill="{colour}">{svg_text(value)}</text>'
        )

    def rectangle(
        self, x: float, y: float, width: float, height: float, *, colour: str, radius: int = 0
    ) -> None:
        rounded = f' rx="{radius}"' if radius else ""
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}"{rounded} fill="{colour}"/>'
        )

    def dot(self, x: float, y: float, colour: str) -> None:
        self._parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')

    def line(self, points: Sequence[Point], colour: str) -> None:
        """Draw a line through points."""
        joined = " ".join(f"{x},{y}" for x, y in points)
        self._parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{joined}"/>')

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        """Give a title to the parts that are drawn inside the `with` block."""
        self._parts.append(f"<g><title>{svg_text(title)}</title>")
        yield
        self._parts.append("</g>")

    def render(self) -> Markup:
        return picture([*self._parts, "</svg>"])


class Chart(NamedTuple):
    """Heading and SVG of a chart."""

    heading: str
    svg: Markup


@dataclass(frozen=True)
class Section:
    """Section of a page.

    Attributes:
        title: Heading.
        lines: Sentences.
        head: Headings of the table; empty without one.
        rows: Rows of the table.
        plots: The charts.
    """

    title: str
    lines: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    plots: Sequence[Chart] = ()


def page(title: str, sections: Sequence[Section]) -> str:
    """Render a page as HTML."""
    return render_page("capture_pipeline.reporting", "times.html.j2", title=title, sections=sections)


def markdown(section: Section) -> md.Markdown:
    """Format a section as Markdown, without its charts."""
    tables = [md.table(section.head, section.rows)] if section.head else []
    return md.document(md.bold(section.title), md.bullets(section.lines), *tables)


def draw_bars(name: str, counts: Sequence[float], ends: Ends, colour: str = BLUE) -> Markup:
    """Draw bars of equal width.

    Args:
        name: Description for screen readers.
        counts: Heights.
        ends: Labels below the bars.
        colour: Colour of the bars.
    """
    highest = max(counts, default=0) or 1
    width = (_WIDTH - _LEFT) / max(1, len(counts))
    drawing = _draw_frame(name, 0.0, highest, ends)
    for at, count in enumerate(counts):
        if count:
            y = _y(count / highest)
            drawing.rectangle(
                round(_LEFT + at * width, 1),
                y,
                round(max(0.5, width - 0.5), 1),
                round(_HEIGHT - _BOTTOM - y, 1),
                colour=colour,
            )
    return drawing.render()


def draw_line(name: str, values: Sequence[float | None], ends: Ends) -> Markup:
    """Draw a line through values at equal distances; None interrupts the line."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    span = (high - low) or 1.0
    step = (_WIDTH - _LEFT) / max(1, len(values) - 1)
    drawing = _draw_frame(name, low, low + span, ends)
    points: list[Point] = []
    for at, value in enumerate([*values, None]):
        if value is not None:
            points.append(Point(round(_LEFT + at * step, 1), _y((value - low) / span)))
        elif points:
            drawing.line(points, BLUE)
            points = []
    return drawing.render()


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


def _draw_frame(name: str, low: float, high: float, ends: Ends) -> Drawing:
    """Draw three horizontal lines with their values, from `low` to `high`, and the labels below."""
    drawing = Drawing(name, _WIDTH, _HEIGHT)
    labels = ((0.0, ends.start, "start"), (0.5, ends.middle, "middle"), (1.0, ends.end, "end"))
    for share, label, anchor in labels:
        y, value = _y(share), low + share * (high - low)
        drawing.horizontal(_LEFT, _WIDTH, y, PALE_GREY)
        drawing.text(_LEFT - 6, y + 4, f"{value:,.6g}", anchor="end")
        drawing.text(round(_LEFT + share * (_WIDTH - _LEFT)), _HEIGHT - 8, label, anchor=anchor)
    return drawing


def _y(share: float) -> float:
    return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP), 1)
