"""Asset of the gap ledger."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from capture_pipeline.defs.klines import result_metadata
from capture_pipeline.defs.klines.freshness import BY_THE_UPDATE
from capture_pipeline.defs.shared.automation import AFTER_INPUT
from capture_pipeline.defs.shared.partition_runner import run_partitions, sequentially
from capture_pipeline.defs.shared.partitions import BACKFILL_POLICY, PARTITIONS
from capture_pipeline.defs.shared.table_metadata import describe_table
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.gaps import find_gaps
from capture_pipeline.klines.ingest.archives import with_partition_lock
from capture_pipeline.tables.klines.gaps import GAPS


@dg.asset(
    group_name="klines",
    kinds={"polars", "parquet"},
    deps=["bars"],
    partitions_def=PARTITIONS,
    backfill_policy=BACKFILL_POLICY,
    automation_condition=AFTER_INPUT,
    code_version="1",
    freshness_policy=BY_THE_UPDATE,
    description=GAPS.description,
    metadata=describe_table(GAPS),
)
def bar_gaps(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[dg.MaterializeResult[Any]]:
    """Compute the ledger of each partition from its files, without requests to the exchange."""
    results = sequentially(
        lambda partition: with_partition_lock(
            deployment, partition, partial(find_gaps, deployment, partition, deployment.now_us())
        )
    )
    yield from run_partitions(
        context, deployment, results, lambda result: result_metadata.gaps(deployment, result)
    )
