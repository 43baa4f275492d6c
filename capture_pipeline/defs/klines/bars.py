"""Assets of bars: the merged bars, the values on which sources differ, and excluded rows."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from capture_pipeline.defs.klines import result_metadata
from capture_pipeline.defs.klines.freshness import BY_THE_UPDATE
from capture_pipeline.defs.klines.raw import kline_archives, kline_topups
from capture_pipeline.defs.shared.automation import AFTER_INPUT
from capture_pipeline.defs.shared.partition_runner import run_partitions, sequentially
from capture_pipeline.defs.shared.partitions import BACKFILL_POLICY, PARTITIONS
from capture_pipeline.defs.shared.table_metadata import describe_table
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.bars import BarsResult, build_bars
from capture_pipeline.klines.ingest.archives import with_partition_lock
from capture_pipeline.lake.paths import Partition
from capture_pipeline.tables.klines.bars import BARS
from capture_pipeline.tables.klines.conflicts import CONFLICTS
from capture_pipeline.tables.klines.exclusions import EXCLUSIONS

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

    def build(partition: Partition) -> BarsResult:
        return with_partition_lock(deployment, partition, partial(build_bars, deployment, partition))[0]

    yield from run_partitions(
        context, deployment, sequentially(build), lambda result: result_metadata.bars(deployment, result)
    )
