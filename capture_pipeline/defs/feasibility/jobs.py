"""Job of all benchmarks that need no session."""

import dagster as dg

from capture_pipeline.checks.feasibility import DISK, EXACT, THROUGHPUT

feasibility = dg.define_asset_job(
    "feasibility",
    dg.AssetSelection.assets(EXACT.asset, DISK.asset, THROUGHPUT.asset),
    description="Runs all benchmarks that the verdict needs, one after the other, in a few minutes. Reports "
    "on sessions are built after their tables.",
)
