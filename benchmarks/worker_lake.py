"""Ours, with a lake: the gates of the bars, the coverage query, or reading the same files only.

The gates are those of `capture check` for bars: all row gates, and the digest of each raw file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
from inputs import create_deployment
from offline import NOW_US
from stopwatch import serve

from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.quality.coverage_report import measure_coverage
from capture_pipeline.klines.quality.row_gates import check_bars
from capture_pipeline.lake.paths import Partition


def read_files(deployment: Deployment, partitions: list[Partition]) -> int:
    """Read all columns of all files one after the other."""
    return sum(
        pl.read_parquet(deployment.lake.bars(part), hive_partitioning=False).height for part in partitions
    )


def check_gates(deployment: Deployment, partitions: list[Partition]) -> int:
    """Check all gates of the bars.

    Raises:
        ValueError: A gate fails.
    """
    results = check_bars(deployment, partitions, NOW_US)
    failed = [f"{result.symbol} {result.month} {result.spec.name}" for result in results if not result.passed]
    if failed:
        raise ValueError(f"{len(failed)} gates fail: {failed[0]}")
    return sum(result.figures["rows"] for result in results if result.spec.name == "schema")


def query_coverage(deployment: Deployment, partitions: list[Partition]) -> int:
    """Run the coverage query."""
    frame = measure_coverage(
        deployment,
        sorted({part.symbol for part in partitions}),
        sorted({part.month for part in partitions}),
        NOW_US,
    )
    return int(frame["present"].sum())


_WORK: dict[str, Callable[[Deployment, list[Partition]], int]] = {
    "read": read_files,
    "gates": check_gates,
    "coverage": query_coverage,
}


def main() -> None:
    """Run the stopwatch; the number is the number of symbol-months."""
    deployment = create_deployment(Path(sys.argv[2]), lambda _: None)
    partitions = deployment.partitions(deployment.settings.symbols, deployment.months(NOW_US))
    work = _WORK[sys.argv[1]]
    serve(lambda number: work(deployment, partitions[:number]))


if __name__ == "__main__":
    main()
