"""Assets of bars: merged bars, differences between sources, excluded rows, gap ledger, and reconciliation."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from capture_pipeline.defs.klines import result_metadata, schemas
from capture_pipeline.defs.klines.raw import kline_archives, kline_topups
from capture_pipeline.defs.shared.automation import AFTER_INPUT, BY_THE_UPDATE
from capture_pipeline.defs.shared.partition_runner import run_partitions, sequentially
from capture_pipeline.defs.shared.partitions import BACKFILL_POLICY, PARTITIONS
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.bars import update_bars
from capture_pipeline.klines.gaps import update_gaps
from capture_pipeline.klines.reconciliation import reconcile_partition


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            "bars",
            deps=[kline_archives, kline_topups],
            group_name="klines",
            kinds={"polars", "parquet"},
            code_version="1",
            freshness_policy=BY_THE_UPDATE,
            automation_condition=AFTER_INPUT,
            description="Verified bars: one row a kline, one Parquet file for each symbol and month. If a "
            "bar is in several sources, the monthly file is preferred, then the daily file, then REST.",
            metadata={
                "dagster/column_schema": schemas.BARS,
                "dagster/column_lineage": schemas.LINEAGE,
                "dagster/table_name": "bars",
            },
        ),
        dg.AssetSpec(
            "bar_conflicts",
            deps=[kline_archives, kline_topups],
            group_name="klines",
            kinds={"polars", "parquet"},
            code_version="1",
            automation_condition=AFTER_INPUT,
            description="Values on which two sources of the same bar differ: one row a field, with both "
            "values and their files.",
            metadata={"dagster/column_schema": schemas.CONFLICTS, "dagster/table_name": "bar_conflicts"},
        ),
        dg.AssetSpec(
            "bar_exclusions",
            deps=[kline_archives, kline_topups],
            group_name="klines",
            kinds={"polars", "parquet"},
            code_version="1",
            automation_condition=AFTER_INPUT,
            description="Unchanged rows of raw files that are not used as bars, because their open time is "
            "not a multiple of the interval or is outside the period of the file.",
            metadata={"dagster/column_schema": schemas.EXCLUSIONS, "dagster/table_name": "bar_exclusions"},
        ),
    ],
    partitions_def=PARTITIONS,
    backfill_policy=BACKFILL_POLICY,
)
def bars(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[dg.MaterializeResult[Any]]:
    """Merge the raw files of each partition."""
    yield from run_partitions(
        context,
        deployment,
        sequentially(partial(update_bars, deployment)),
        lambda result: result_metadata.bars(deployment, result),
    )


@dg.asset(
    group_name="klines",
    kinds={"polars", "parquet"},
    deps=["bars"],
    partitions_def=PARTITIONS,
    backfill_policy=BACKFILL_POLICY,
    automation_condition=AFTER_INPUT,
    code_version="1",
    freshness_policy=BY_THE_UPDATE,
    description="Ledger of missing bars of a symbol and month: one row for each range of consecutive "
    "missing bars, with cause and status.",
    metadata={"dagster/column_schema": schemas.GAPS, "dagster/table_name": "bar_gaps"},
)
def bar_gaps(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[dg.MaterializeResult[Any]]:
    """Compute the ledger of each partition from its files, without requests to the exchange."""
    results = sequentially(lambda partition: update_gaps(deployment, partition, deployment.now_us()))
    yield from run_partitions(
        context, deployment, results, lambda result: result_metadata.gaps(deployment, result)
    )


@dg.asset(
    group_name="klines",
    kinds={"polars", "json"},
    deps=["bars"],
    partitions_def=PARTITIONS,
    backfill_policy=BACKFILL_POLICY,
    code_version="1",
    description="Values on which the monthly file of a closed month differs from daily files or REST, one "
    "row a field. The job month_close materializes it.",
    metadata={"dagster/column_schema": schemas.CONFLICTS},
)
def month_reconciliation(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[dg.MaterializeResult[Any]]:
    """Compare the sources of each partition."""
    results = sequentially(lambda partition: reconcile_partition(deployment, partition))
    yield from run_partitions(context, deployment, results, result_metadata.reconciliation)
