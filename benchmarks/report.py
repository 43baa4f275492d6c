"""Report of the figures and their targets: on the terminal, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from processes import Series

MISSED, OK = "missed", "ok"


@dataclass(frozen=True)
class Finding:
    """Figure of a benchmark.

    Attributes:
        benchmark: Name of the benchmark.
        what: Description of the figure.
        value: Value from the fastest runs.
        unit: x, s, ms, MB, k/s or M/s.
        least: Minimum that the target requires; None without a minimum.
        most: Maximum that the target allows; None without a maximum.
        median: Value from the medians of the runs; None if there is no such value.
    """

    benchmark: str
    what: str
    value: float
    unit: str
    least: float | None = None
    most: float | None = None
    median: float | None = None

    @property
    def verdict(self) -> str:
        """`ok`, `missed`, or empty without a target."""
        if self.least is None and self.most is None:
            return ""
        is_met = (self.least is None or self.value >= self.least) and (
            self.most is None or self.value <= self.most
        )
        return OK if is_met else MISSED

    @property
    def target(self) -> str:
        """Target as text; empty without a target."""
        if self.least is not None:
            return f"≥ {self.least:g} {self.unit}"
        return f"≤ {self.most:g} {self.unit}" if self.most is not None else ""

    def row(self) -> tuple[str, ...]:
        """Return the cells of a table row."""
        median = "" if self.median is None else _format_figure(self.median, self.unit)
        return (
            self.benchmark,
            self.what,
            _format_figure(self.value, self.unit),
            median,
            self.target,
            self.verdict,
        )


def ratio(
    benchmark: str,
    what: str,
    above: Series,
    below: Series,
    *,
    figure: str = "wall_s",
    least: float | None = None,
    most: float | None = None,
) -> Finding:
    """Divide a figure of one series by that of another, from the fastest runs and from the medians."""
    value, median = above.minimum(figure) / below.minimum(figure), above.median(figure) / below.median(figure)
    return Finding(benchmark, what, value, "x", least, most, median)


HEADINGS = ("benchmark", "what", "measured", "by medians", "target", "")
SERIES_HEADINGS = (
    "benchmark",
    "process",
    "runs",
    "minimum s",
    "median s",
    "minimum CPU s",
    "median CPU s",
    "peak MB",
)


def series_rows(timed: Sequence[tuple[str, Series]]) -> list[tuple[str, ...]]:
    """Return the rows of the table of all measured series."""
    return [
        (
            benchmark,
            series.name,
            str(len(series.runs)),
            *(
                f"{value:.3f}"
                for name in ("wall_s", "cpu_s")
                for value in (series.minimum(name), series.median(name))
            ),
            f"{series.maximum('peak_mb'):.0f}" if series.maximum("peak_mb") else "",
        )
        for benchmark, series in timed
    ]


def format_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table for the terminal."""
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings))]
    lines = [headings, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def publish(
    folder: Path, facts: dict[str, str], findings: Sequence[Finding], timed: Sequence[tuple[str, Series]]
) -> None:
    """Write `results.json` and `results.md`."""
    document = {
        "machine": facts,
        "findings": [
            {**asdict(finding), "target": finding.target, "verdict": finding.verdict} for finding in findings
        ],
        "runs": [{"benchmark": benchmark, **asdict(series)} for benchmark, series in timed],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(
        json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    parts = [
        "# Benchmark results",
        "\n".join(f"- {name}: {fact}" for name, fact in facts.items()),
        _format_markdown(HEADINGS, [finding.row() for finding in findings]),
        "## All measured processes",
        _format_markdown(SERIES_HEADINGS, series_rows(timed)),
    ]
    (folder / "results.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _format_figure(value: float, unit: str) -> str:
    return (
        f"{value:,.0f} {unit}"
        if unit == "MB"
        else f"{value:.1f} {unit}"
        if unit == "ms"
        else f"{value:.2f} {unit}"
    )


def _format_markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
