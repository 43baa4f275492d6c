"""Bar chart as a self-contained SVG that is readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

_WIDTH, _BAR, _GAP, _LEFT, _TOP = 820, 22, 10, 210, 44
_OURS, _THEIRS, _TEXT = "#2f6fb7", "#8b949e", "#57606a"


def write_bar_chart(path: Path, title: str, values: Mapping[str, float], *, ours: str) -> None:
    """Write a bar chart in descending order of the values.

    Args:
        path: File to write.
        title: Title of the chart.
        values: Values by name.
        ours: Prefix of the names whose bars are highlighted.
    """
    ranked = sorted(values.items(), key=lambda item: -item[1])
    scale = (_WIDTH - _LEFT - 90) / ranked[0][1]
    height = _TOP + len(ranked) * (_BAR + _GAP) + 6
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            f'font-family="sans-serif" font-size="13" fill="{_TEXT}">'
        ),
        f"<title>{escape(title)}</title>",
        f'<text x="8" y="22" font-size="15">{escape(title)}</text>',
    ]
    for number, (name, value) in enumerate(ranked):
        top, length = _TOP + number * (_BAR + _GAP), max(1.0, value * scale)
        colour = _OURS if name.startswith(ours) else _THEIRS
        parts += [
            f'<text x="{_LEFT - 8}" y="{top + 16}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{top}" width="{length:.1f}" height="{_BAR}" fill="{colour}" rx="2"/>',
            f'<text x="{_LEFT + length + 6:.1f}" y="{top + 16}">{value:.1f}</text>',
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")
