"""The verdict as a self-contained HTML page, with a picture of the margins, and as Markdown."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from markupsafe import Markup

from capture_pipeline.checks.model import Verdict
from capture_pipeline.feasibility.verdict import CriterionResult, GoNoGo, format_number
from capture_pipeline.reporting import markdown as md
from capture_pipeline.reporting.pages import picture, render_page, svg_text

_COLOURS = {Verdict.PASS: "#1a7f4b", Verdict.FAIL: "#d1495b", Verdict.UNKNOWN: "#8d7bb8"}
_WIDTH, _ROW, _LEFT, _RIGHT, _TOP = 900, 28, 330, 90, 12
_MIN_DECADES = 1.0
_MAX_TITLE = 52
"""Characters of a title that fit into the left margin."""
_HEAD = ("criterion", "threshold", "measured", "verdict", "margin", "measured at", "note")


def render_verdict(verdict: GoNoGo) -> str:
    """Render the verdict as an HTML page."""
    return render_page(
        "capture_pipeline.feasibility",
        "go_no_go.html.j2",
        verdict=verdict,
        judged=format_time(verdict.judged_us),
        head=_HEAD,
        rows=[(one, _COLOURS[one.verdict], format_cells(one)) for one in verdict.criteria],
        picture=draw_margins(verdict.criteria),
    )


def render_markdown(verdict: GoNoGo) -> md.Markdown:
    """Render the verdict as Markdown."""
    pieces = [
        [piece.asset, name, digest]
        for piece in verdict.evidence
        for name, digest in [
            (piece.file, piece.sha256),
            *((f"measured on: {name}", digest) for name, digest in piece.inputs.items()),
        ]
    ]
    return md.document(
        md.heading(verdict.overall),
        md.text(f"Judged {format_time(verdict.judged_us)}."),
        md.bullets(verdict.reasons),
        md.table(_HEAD, [format_cells(one) for one in verdict.criteria]),
        md.table(["asset", "evidence", "SHA-256"], pieces),
    )


def format_cells(one: CriterionResult) -> list[str]:
    """Format a row of the table of criteria."""
    margin = "–" if one.margin is None else f"{format_number(one.margin, 3)}×"
    measured = "–" if one.measured is None else f"{format_number(one.measured)} {one.unit}"
    note = (
        f"{one.note}; mitigation: {one.mitigation}"
        if one.verdict is Verdict.FAIL and one.mitigation
        else one.note
    )
    return [one.title, one.threshold, measured, str(one.verdict), margin, format_time(one.measured_us), note]


def format_time(time_us: int | None) -> str:
    """Format a time in UTC, with a resolution of one second; a dash for None."""
    return (
        "–"
        if time_us is None
        else f"{datetime.fromtimestamp(time_us // 1_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    )


def draw_margins(criteria: list[CriterionResult]) -> Markup:
    """Draw the margins of the criteria as a self-contained SVG with a logarithmic scale."""
    decades = [math.log10(one.margin) for one in criteria if one.margin]
    low, high = (
        min(-_MIN_DECADES, math.floor(min(decades, default=0))),
        max(_MIN_DECADES, math.ceil(max(decades, default=0))),
    )
    height = _TOP + _ROW * len(criteria) + 30
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    font = 'font-family="system-ui, sans-serif" font-size="11"'
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font} role="img" '
            'aria-label="Margins of the criteria">'
        )
    ]
    for decade in range(int(low), int(high) + 1):
        x = _scale_x(decade, low, high)
        colour = "#57606a" if decade == 0 else "#d0d7de"
        label = format_number(10.0**decade)
        parts.append(f'<line x1="{x}" x2="{x}" y1="{_TOP}" y2="{height - 26}" stroke="{colour}"/>')
        parts.append(f'<text x="{x}" y="{height - 8}" text-anchor="middle" fill="#57606a">{label}×</text>')
    parts += [
        part for index, one in enumerate(criteria) for part in _draw_bar(one, _TOP + index * _ROW, low, high)
    ]
    return picture([*parts, "</svg>"])


def _draw_bar(one: CriterionResult, y: int, low: float, high: float) -> list[str]:
    title = one.title if len(one.title) <= _MAX_TITLE else f"{one.title[: _MAX_TITLE - 1]}…"
    text = f'<text x="{_LEFT - 8}" y="{y + 18}" text-anchor="end" fill="#24292f">{svg_text(title)}</text>'
    zero = _scale_x(0, low, high)
    if not one.margin:
        return [
            text,
            f'<text x="{zero + 6}" y="{y + 18}" fill="{_COLOURS[one.verdict]}">{one.verdict}</text>',
        ]
    end = _scale_x(math.log10(one.margin), low, high)
    left, right = sorted((zero, end))
    bar = (
        f'<rect x="{left}" y="{y + 5}" width="{max(1.0, right - left):.1f}" height="{_ROW - 10}" '
        f'fill="{_COLOURS[one.verdict]}"/>'
    )
    return [
        text,
        bar,
        f'<text x="{right + 6}" y="{y + 18}" fill="#24292f">{format_number(one.margin, 3)}×</text>',
    ]


def _scale_x(decade: float, low: float, high: float) -> float:
    return round(_LEFT + (decade - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)
