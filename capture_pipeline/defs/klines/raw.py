"""Raw assets: what the exchange published, exactly as sent. Nothing here parses a price."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import dagster as dg

from capture_pipeline.defs.klines import describe, schemas
from capture_pipeline.defs.klines.freshness import BY_THE_UPDATE
from capture_pipeline.defs.shared.automation import AFTER_INPUT
from capture_pipeline.defs.shared.partition_runner import Results, run_partitions, sequentially
from capture_pipeline.defs.shared.partitions import BACKFILL_POLICY, PARTITIONS
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.klines.ingest.archives import ArchivesResult, fetch_partitions
from capture_pipeline.klines.ingest.rest_fill import fill_from_rest
from capture_pipeline.lake.paths import Partition

ARCHIVE_POOL, REST_POOL = "binance_archive", "binance_rest"


@dg.asset(
    group_name="klines",
    kinds={"binance", "file"},
    partitions_def=PARTITIONS,
    backfill_policy=BACKFILL_POLICY,
    pool=ARCHIVE_POOL,
    code_version="1",
    freshness_policy=BY_THE_UPDATE,
    description="Zips of klines from the public archive, verified by SHA-256: monthly files, and daily files where the monthly one is not "
    "published or lacks candles. A verified file is fetched again only if its published checksum changed or the file was altered on the "
    "disk. A file that fails the verification is moved to the quarantine.",
    metadata={"dagster/column_schema": schemas.SENT},
)
def kline_archives(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> Iterator[dg.MaterializeResult[Any]]:
    """Fetch what is published."""
    yield from run_partitions(
        context, workspace, partial(_fetched, workspace, _is_by_hand(context.run.tags)), describe.archives
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
    description="REST answers for candles that no archive file contains. "
    "An answer without a candle is kept as proof that the exchange has none.",
    metadata={"dagster/column_schema": schemas.SENT},
)
def kline_topups(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> Iterator[dg.MaterializeResult[Any]]:
    """Ask for what is missing, by the exchange's clock."""
    topped_up = sequentially(
        lambda partition: fill_from_rest(workspace, partition, workspace.rest.server_time_us())
    )
    yield from run_partitions(context, workspace, topped_up, describe.topups)


def _is_by_hand(tags: Mapping[str, str]) -> bool:
    """Whether a person launched the run, and neither a schedule nor a sensor; told by its tags."""
    return not {"dagster/schedule_name", "dagster/sensor_name"} & tags.keys()


def _fetched(
    workspace: Workspace,
    check_revisions: bool,  # noqa: FBT001 - bound once
    partitions: Sequence[Partition],
) -> Results[ArchivesResult]:
    """Fetch side by side; when the run is stopped, no further file is begun."""
    for result in fetch_partitions(
        workspace, list(partitions), workspace.now_us(), check_revisions=check_revisions
    ):
        yield (result.partition, result) if isinstance(result, ArchivesResult) else result
