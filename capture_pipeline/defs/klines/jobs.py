"""Jobs of klines: selections of assets with their checks, and one op. They have no configuration."""

import dagster as dg

from capture_pipeline.defs.klines import result_metadata
from capture_pipeline.defs.klines.raw import ARCHIVE_POOL
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.defs.shared.partitions import key_of
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import BusyError, CaptureError, TransientError
from capture_pipeline.klines.ingest.republished import recheck_partition
from capture_pipeline.klines.pending_work import find_due_for_recheck
from capture_pipeline.lake.manifests import ArchiveRecord
from capture_pipeline.lake.paths import Partition

CHAIN = ("kline_archives", "kline_topups", "bars", "bar_conflicts", "bar_exclusions", "bar_gaps")
PARTITIONS_RECHECKED_AT_ONCE = 100
_MAX_TRANSIENT_ERRORS = 3
"""The op stops after this many transient errors, because the exchange is probably not reachable."""
_PRIORITY = {"dagster/priority": "10"}
"""Updates of the present start before queued runs of a backfill."""


initial_backfill = dg.define_asset_job(
    "initial_backfill",
    dg.AssetSelection.assets(*CHAIN),
    description="Downloads the history of the selected months and symbols. A run has at most 48 months of "
    "one symbol.",
)
daily_update = dg.define_asset_job(
    "daily_update",
    dg.AssetSelection.assets(*CHAIN),
    description="Updates the current month of every symbol in one run.",
    tags=_PRIORITY,
)
gap_fill = dg.define_asset_job(
    "gap_fill",
    dg.AssetSelection.assets(*CHAIN[1:]),
    description="Requests missing klines of a month from REST if they may exist.",
)
month_close = dg.define_asset_job(
    "month_close",
    dg.AssetSelection.assets(*CHAIN, "month_reconciliation"),
    description="Downloads the monthly file of a closed month, which replaces daily files and REST answers, "
    "and reports the differences.",
    tags=_PRIORITY,
)
coverage = dg.define_asset_job(
    "coverage",
    dg.AssetSelection.assets("coverage_report"),
    description="Builds the coverage report of the whole lake.",
)


@dg.op(
    pool=ARCHIVE_POOL,
    out=dg.Out(dagster_type=dg.Nothing),
    description="Reads published checksums again, first those that were not read for the longest time.",
)
def recheck_checksums(context: dg.OpExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Read the checksums that are due; report changed ones as observations of `kline_archives`."""
    with domain_errors_as_dagster(context):
        now_us = deployment.now_us()
        due = find_due_for_recheck(deployment, now_us, PARTITIONS_RECHECKED_AT_ONCE)
    failed: dict[Partition, CaptureError] = {**due.damaged}
    for partition in due.partitions:
        try:
            found = recheck_partition(deployment, partition, now_us)
        except BusyError as error:
            outputs.log_info(context, f"{partition}: checked in the next run: {error}")
            continue
        except CaptureError as error:
            failed[partition] = error
            if sum(isinstance(each, TransientError) for each in failed.values()) >= _MAX_TRANSIENT_ERRORS:
                break
            continue
        if found:
            context.log_event(_build_observation(partition, found))
    outputs.log_info(
        context, f"{len(due.partitions)} partitions were due, {len(failed)} could not be checked"
    )
    if failed:
        raise outputs.failure("; ".join(f"{partition}: {error}" for partition, error in failed.items()))


@dg.job(description="Finds archive files whose published checksum changed after the download.")
def revision_watch() -> None:
    """Run the op `recheck_checksums`."""
    recheck_checksums()


def _build_observation(partition: Partition, found: list[ArchiveRecord]) -> dg.AssetObservation:
    return outputs.observation("kline_archives", key_of(partition), result_metadata.revisions(found))
