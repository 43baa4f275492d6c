"""The verdict for people: a page that needs no other file, with the margins as a picture, and the same in Markdown."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from markupsafe import Markup

from capture_pipeline.feasibility.criteria import Verdict
from capture_pipeline.feasibility.verdict import CriterionResult, GoNoGo, number
from capture_pipeline.reporting import markdown as md
from capture_pipeline.reporting.pages import picture, render_page, svg_text

_COLOURS = {Verdict.PASS: "#1a7f4b", Verdict.FAIL: "#d1495b", Verdict.UNKNOWN: "#8d7bb8"}
_WIDTH, _ROW, _LEFT, _RIGHT, _TOP = 900, 28, 330, 90, 12
_LEAST_DECADES = 1.0
_HEAD = ("criterion", "threshold", "measured", "verdict", "margin", "measured at", "note")


def page(verdict: GoNoGo) -> str:
    """Render the whole page."""
    return render_page(
        "capture_pipeline.feasibility",
        "go_no_go.html.j2",
        verdict=verdict,
        judged=moment(verdict.judged_us),
        head=_HEAD,
        rows=[(one, _COLOURS[one.verdict], cells(one)) for one in verdict.criteria],
        picture=margins(verdict.criteria),
    )


def markdown(verdict: GoNoGo) -> md.Markdown:
    """Write the verdict in Markdown, for a user interface."""
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
        md.text(f"Judged {moment(verdict.judged_us)}."),
        md.bullets(verdict.reasons),
        md.table(_HEAD, [cells(one) for one in verdict.criteria]),
        md.table(["asset", "evidence", "SHA-256"], pieces),
    )


def cells(one: CriterionResult) -> list[str]:
    """A row of the table."""
    margin = "–" if one.margin is None else f"{number(one.margin, 3)}×"
    measured = "–" if one.measured is None else f"{number(one.measured)} {one.unit}"
    note = (
        f"{one.note}; mitigation: {one.mitigation}"
        if one.verdict is Verdict.FAIL and one.mitigation
        else one.note
    )
    return [one.title, one.threshold, measured, str(one.verdict), margin, moment(one.measured_us), note]


def moment(time_us: int | None) -> str:
    """A time in UTC, to the second."""
    return (
        "–"
        if time_us is None
        else f"{datetime.fromtimestamp(time_us // 1_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    )


def margins(criteria: list[CriterionResult]) -> Markup:
    """By which factor each criterion holds or fails, as an SVG that stands alone, in decades; no bar where there is no factor."""
    decades = [math.log10(one.margin) for one in criteria if one.margin]
    low, high = (
        min(-_LEAST_DECADES, math.floor(min(decades, default=0))),
        max(_LEAST_DECADES, math.ceil(max(decades, default=0))),
    )
    height = _TOP + _ROW * len(criteria) + 30
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    font = 'font-family="system-ui, sans-serif" font-size="11"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font} role="img" aria-label="Margins of the criteria">'
    ]
    for decade in range(int(low), int(high) + 1):
        x = _x(decade, low, high)
        parts.append(
            f'<line x1="{x}" x2="{x}" y1="{_TOP}" y2="{height - 26}" stroke="{"#57606a" if decade == 0 else "#d0d7de"}"/>'
        )
        parts.append(
            f'<text x="{x}" y="{height - 8}" text-anchor="middle" fill="#57606a">{number(10.0**decade)}×</text>'
        )
    parts += [
        part for index, one in enumerate(criteria) for part in _bar(one, _TOP + index * _ROW, low, high)
    ]
    return picture([*parts, "</svg>"])


def _bar(one: CriterionResult, y: int, low: float, high: float) -> list[str]:
    title = one.title if len(one.title) <= 52 else f"{one.title[:51]}…"  # noqa: PLR2004 - what the left margin holds
    text = f'<text x="{_LEFT - 8}" y="{y + 18}" text-anchor="end" fill="#24292f">{svg_text(title)}</text>'
    zero = _x(0, low, high)
    if not one.margin:
        return [
            text,
            f'<text x="{zero + 6}" y="{y + 18}" fill="{_COLOURS[one.verdict]}">{one.verdict}</text>',
        ]
    end = _x(math.log10(one.margin), low, high)
    left, right = sorted((zero, end))
    bar = f'<rect x="{left}" y="{y + 5}" width="{max(1.0, right - left):.1f}" height="{_ROW - 10}" fill="{_COLOURS[one.verdict]}"/>'
    return [text, bar, f'<text x="{right + 6}" y="{y + 18}" fill="#24292f">{number(one.margin, 3)}×</text>']


def _x(decade: float, low: float, high: float) -> float:
    return round(_LEFT + (decade - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)
