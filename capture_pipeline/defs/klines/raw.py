"""Raw assets: files and REST answers of the exchange, stored unchanged."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from capture_pipeline.defs.klines import result_metadata
from capture_pipeline.defs.shared.automation import AFTER_INPUT, BY_THE_UPDATE
from capture_pipeline.defs.shared.partition_runner import run_partitions, sequentially
from capture_pipeline.defs.shared.partitions import BACKFILL_POLICY, PARTITIONS
from capture_pipeline.defs.shared.table_metadata import build_schema
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.ingest.archives import fetch_partitions
from capture_pipeline.klines.ingest.rest_fill import fill_from_rest
from capture_pipeline.tables.klines.raw import RAW_KLINES

ARCHIVE_POOL, REST_POOL = "binance_archive", "binance_rest"


@dg.asset(
    group_name="klines",
    kinds={"binance", "file"},
    partitions_def=PARTITIONS,
    backfill_policy=BACKFILL_POLICY,
    pool=ARCHIVE_POOL,
    code_version="1",
    freshness_policy=BY_THE_UPDATE,
    description="Zip files of klines from the public archive, verified by SHA-256: monthly files, and daily "
    "files if the monthly file is not published or lacks klines. A verified file is downloaded again only "
    "if its published checksum changed or the file was altered on the disk. A file that fails the "
    "verification is moved to the quarantine.",
    metadata={"dagster/column_schema": build_schema(RAW_KLINES)},
)
def kline_archives(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[dg.MaterializeResult[Any]]:
    """Download the published files of each partition."""
    check_revisions = _is_launched_by_user(context.run.tags)
    yield from run_partitions(
        context,
        deployment,
        lambda partitions: fetch_partitions(
            deployment, partitions, deployment.now_us(), check_revisions=check_revisions
        ),
        result_metadata.archives,
    )


@dg.asset(
    group_name="klines",
    kinds={"binance", "json"},
    deps=[kline_archives],
    partitions_def=PARTITIONS,
    backfill_policy=BACKFILL_POLICY,
    automation_condition=AFTER_INPUT,
    pool=REST_POOL,
    code_version="1",
    freshness_policy=BY_THE_UPDATE,
    description="REST answers for klines that no archive file contains. "
    "An answer without a kline is kept as proof that the exchange has none.",
    metadata={"dagster/column_schema": build_schema(RAW_KLINES)},
)
def kline_topups(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[dg.MaterializeResult[Any]]:
    """Request missing klines up to the present, by the exchange's clock."""
    results = sequentially(
        lambda partition: fill_from_rest(deployment, partition, deployment.rest.server_time_us())
    )
    yield from run_partitions(context, deployment, results, result_metadata.topups)


def _is_launched_by_user(tags: Mapping[str, str]) -> bool:
    """Return True if neither a schedule nor a sensor launched the run."""
    return not {"dagster/schedule_name", "dagster/sensor_name"} & tags.keys()
