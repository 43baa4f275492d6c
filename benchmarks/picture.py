"""Bar chart as a self-contained SVG that is readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from capture_pipeline.reporting.charts import BLUE, Drawing

_WIDTH, _BAR, _GAP, _LEFT, _TOP = 820, 22, 10, 210, 44
_THEIRS = "#8b949e"


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
    drawing = Drawing(title, _WIDTH, height, font_size=13)
    drawing.text(8, 22, title)
    for number, (name, value) in enumerate(ranked):
        top, length = _TOP + number * (_BAR + _GAP), round(max(1.0, value * scale), 1)
        colour = BLUE if name.startswith(ours) else _THEIRS
        drawing.text(_LEFT - 8, top + 16, name, anchor="end")
        drawing.rectangle(_LEFT, top, length, _BAR, colour=colour, radius=2)
        drawing.text(_LEFT + length + 6, top + 16, f"{value:.1f}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{drawing.render()}\n", encoding="utf-8")
