"""Asset that compares the monthly file of a closed month with daily files and REST answers."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from capture_pipeline.defs.klines import result_metadata
from capture_pipeline.defs.shared.partition_runner import run_partitions, sequentially
from capture_pipeline.defs.shared.partitions import BACKFILL_POLICY, PARTITIONS
from capture_pipeline.defs.shared.table_metadata import build_schema
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.reconciliation import reconcile_partition
from capture_pipeline.tables.klines.conflicts import CONFLICTS


@dg.asset(
    group_name="klines",
    kinds={"polars", "json"},
    deps=["bars"],
    partitions_def=PARTITIONS,
    backfill_policy=BACKFILL_POLICY,
    code_version="1",
    description="Values on which the monthly file of a closed month differs from daily files or REST, one "
    "row a field. The job month_close materializes it.",
    metadata={"dagster/column_schema": build_schema(CONFLICTS)},
)
def month_reconciliation(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[dg.MaterializeResult[Any]]:
    """Compare the sources of each partition."""
    results = sequentially(lambda partition: reconcile_partition(deployment, partition))
    yield from run_partitions(context, deployment, results, result_metadata.reconciliation)
