"""What was found, against its target: on the terminal, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from processes import Series

MISSED, OK = "missed", "ok"


@dataclass(frozen=True)
class Finding:
    """One figure.

    Attributes:
        benchmark: Of which benchmark.
        what: What the figure says.
        value: The figure.
        unit: x, s, ms or MB.
        least: It has to be at least this; None if it need not.
        most: It has to be at most this; None if it need not.
        median: The same from medians instead of the least disturbed runs; None where there is only one.
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
        """`ok`, `missed`, or nothing where there is no target."""
        if self.least is None and self.most is None:
            return ""
        is_met = (self.least is None or self.value >= self.least) and (
            self.most is None or self.value <= self.most
        )
        return OK if is_met else MISSED

    @property
    def target(self) -> str:
        """The target in words."""
        if self.least is not None:
            return f"≥ {self.least:g} {self.unit}"
        return f"≤ {self.most:g} {self.unit}" if self.most is not None else ""

    def row(self) -> tuple[str, ...]:
        """Cells of a table."""
        median = "" if self.median is None else _figure(self.median, self.unit)
        return self.benchmark, self.what, _figure(self.value, self.unit), median, self.target, self.verdict


def ratio(
    benchmark: str,
    what: str,
    above: Series,
    below: Series,
    *,
    of: str = "wall_s",
    least: float | None = None,
    most: float | None = None,
) -> Finding:
    """How many times a figure of one series is that of another, by the least disturbed run of each."""
    value, middle = above.least(of) / below.least(of), above.middle(of) / below.middle(of)
    return Finding(benchmark, what, value, "x", least, most, middle)


HEADINGS = ("benchmark", "what", "measured", "by medians", "target", "")
SERIES_HEADINGS = (
    "benchmark",
    "process",
    "runs",
    "least s",
    "median s",
    "least CPU s",
    "median CPU s",
    "peak MB",
)


def series_rows(timed: Sequence[tuple[str, Series]]) -> list[tuple[str, ...]]:
    """Cells of the table of everything that was timed."""
    return [
        (
            benchmark,
            series.name,
            str(len(series.runs)),
            *(
                f"{figure:.3f}"
                for name in ("wall_s", "cpu_s")
                for figure in (series.least(name), series.middle(name))
            ),
            f"{series.most('peak_mb'):.0f}" if series.most("peak_mb") else "",
        )
        for benchmark, series in timed
    ]


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for the terminal."""
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
        _markdown(HEADINGS, [finding.row() for finding in findings]),
        "## Everything that was timed",
        _markdown(SERIES_HEADINGS, series_rows(timed)),
    ]
    (folder / "results.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _figure(value: float, unit: str) -> str:
    return (
        f"{value:,.0f} {unit}"
        if unit == "MB"
        else f"{value:.1f} {unit}"
        if unit == "ms"
        else f"{value:.2f} {unit}"
    )


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
