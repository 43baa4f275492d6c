"""Ours, over a lake: the gates of the bars, the coverage query, and merely reading the same files.

The gates are those of `capture check` that look at bars: every row gate, and the digest of every raw file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
from inputs import workspace_of
from offline import NOW_US
from stopwatch import serve

from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.klines.quality.measure import measure_coverage
from capture_pipeline.klines.quality.row_gates import check_bars
from capture_pipeline.lake.paths import Partition


def read(workspace: Workspace, partitions: list[Partition]) -> int:
    """All columns of every file, one file after the other."""
    return sum(
        pl.read_parquet(workspace.lake.bars(part), hive_partitioning=False).height for part in partitions
    )


def gates(workspace: Workspace, partitions: list[Partition]) -> int:
    """All gates of the bars.

    Raises:
        ValueError: One fails.
    """
    results = check_bars(workspace, partitions, NOW_US)
    failed = [f"{result.symbol} {result.month} {result.spec.name}" for result in results if not result.passed]
    if failed:
        raise ValueError(f"{len(failed)} gates fail: {failed[0]}")
    return sum(result.values["rows"] for result in results if result.spec.name == "schema")


def coverage(workspace: Workspace, partitions: list[Partition]) -> int:
    """The coverage query."""
    frame = measure_coverage(
        workspace,
        sorted({part.symbol for part in partitions}),
        sorted({part.month for part in partitions}),
        NOW_US,
    )
    return int(frame["present"].sum())


_WORK: dict[str, Callable[[Workspace, list[Partition]], int]] = {
    "read": read,
    "gates": gates,
    "coverage": coverage,
}


def main() -> None:
    """Serve one of them."""
    workspace = workspace_of(Path(sys.argv[2]), lambda _: None)
    partitions = workspace.partitions(workspace.settings.symbols, workspace.months(NOW_US))
    chosen = _WORK[sys.argv[1]]
    serve(lambda number: chosen(workspace, partitions[:number]))


if __name__ == "__main__":
    main()
