"""Assets of bars: the merged bars, the values on which sources differ, and excluded rows."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from capture_pipeline.defs.klines import result_metadata, schemas
from capture_pipeline.defs.klines.freshness import BY_THE_UPDATE
from capture_pipeline.defs.klines.raw import kline_archives, kline_topups
from capture_pipeline.defs.shared.automation import AFTER_INPUT
from capture_pipeline.defs.shared.partition_runner import run_partitions, sequentially
from capture_pipeline.defs.shared.partitions import BACKFILL_POLICY, PARTITIONS
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.bars import BarsResult, build_bars
from capture_pipeline.klines.ingest.archives import with_partition_lock
from capture_pipeline.lake.paths import Partition


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

    def build(partition: Partition) -> BarsResult:
        return with_partition_lock(deployment, partition, partial(build_bars, deployment, partition))[0]

    yield from run_partitions(
        context, deployment, sequentially(build), lambda result: result_metadata.bars(deployment, result)
    )
