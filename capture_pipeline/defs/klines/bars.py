"""Assets of bars: merged bars, differences between sources, excluded rows, gap ledger, and reconciliation."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from capture_pipeline.defs.klines import result_metadata
from capture_pipeline.defs.klines.raw import kline_archives, kline_topups
from capture_pipeline.defs.shared.automation import AFTER_INPUT, BY_THE_UPDATE
from capture_pipeline.defs.shared.partition_runner import run_partitions, sequentially
from capture_pipeline.defs.shared.partitions import BACKFILL_POLICY, PARTITIONS
from capture_pipeline.defs.shared.table_metadata import build_schema, describe_table
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.bars import update_bars
from capture_pipeline.klines.gaps import update_gaps
from capture_pipeline.klines.reconciliation import reconcile_partition
from capture_pipeline.tables.klines.bars import BARS
from capture_pipeline.tables.klines.conflicts import CONFLICTS
from capture_pipeline.tables.klines.exclusions import EXCLUSIONS
from capture_pipeline.tables.klines.gaps import GAPS

_RAW_NAMES = {
    "open_time_us": "open_time",
    "close_time_us": "close_time",
    "trades": "count",
    "time_unit": "open_time",
}
"""Name in the exchange's files by column of `bars`, if it differs."""
_LINEAGE = dg.TableColumnLineage(
    {
        name: [
            dg.TableColumnDep(asset, _RAW_NAMES.get(name, name))
            for asset in ("kline_archives", "kline_topups")
        ]
        for name in BARS.schema
        if name != "source"
    }
)
"""Columns of the raw files from which each column of `bars` is computed."""


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
            description=BARS.description,
            metadata={**describe_table(BARS), "dagster/column_lineage": _LINEAGE},
        ),
        dg.AssetSpec(
            "bar_conflicts",
            deps=[kline_archives, kline_topups],
            group_name="klines",
            kinds={"polars", "parquet"},
            code_version="1",
            automation_condition=AFTER_INPUT,
            description=CONFLICTS.description,
            metadata=describe_table(CONFLICTS),
        ),
        dg.AssetSpec(
            "bar_exclusions",
            deps=[kline_archives, kline_topups],
            group_name="klines",
            kinds={"polars", "parquet"},
            code_version="1",
            automation_condition=AFTER_INPUT,
            description=EXCLUSIONS.description,
            metadata=describe_table(EXCLUSIONS),
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
    description=GAPS.description,
    metadata=describe_table(GAPS),
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
    "row per field. The job month_close materializes it.",
    metadata={"dagster/column_schema": build_schema(CONFLICTS)},
)
def month_reconciliation(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[dg.MaterializeResult[Any]]:
    """Compare the sources of each partition."""
    results = sequentially(lambda partition: reconcile_partition(deployment, partition))
    yield from run_partitions(context, deployment, results, result_metadata.reconciliation)
