"""The benchmarks of the job `feasibility` at sizes that take seconds. Evidence of an earlier run is kept."""

from __future__ import annotations

from collections.abc import Callable

from capture_pipeline.checks.feasibility import DISK, EXACT, THROUGHPUT
from capture_pipeline.cli.console import progress
from capture_pipeline.feasibility.benchmarks import measure_decimals, measure_disk, measure_synthetic_replay
from capture_pipeline.feasibility.evidence import Evidence, EvidenceStore
from capture_pipeline.lake.paths import Lake

_MIB = 1 << 20


def measured_benchmarks(lake: Lake) -> list[Evidence]:
    """Measure each benchmark of which the lake has no evidence; return the evidence of all.

    Raises:
        CaptureError: A benchmark could not run.
    """
    benchmarks: dict[str, Callable[[], Evidence]] = {
        EXACT.asset: lambda: measure_decimals(lake, rows=200_000, block_rows=100_000, seed=7, repeats=1),
        DISK.asset: lambda: measure_disk(lake, rows=[200_000], medium_bytes=64 * _MIB, seed=7, repeats=1),
        THROUGHPUT.asset: lambda: measure_synthetic_replay(lake, events=400_000, repeats=1, cap_mb=2048),
    }
    store, found = EvidenceStore(lake.reports()), []
    with progress("benchmarks", len(benchmarks)) as tell:
        for asset, measure in benchmarks.items():
            earlier = store.latest(asset)
            found.append(earlier.evidence if earlier else measure())
            tell(asset)
    return found
