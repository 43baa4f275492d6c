"""Jobs by the name of the workflow; each is a selection of assets with the checks on them, or one op. None takes configuration."""

import dagster as dg

from capture_pipeline.defs.klines import describe
from capture_pipeline.defs.klines.raw import ARCHIVE_POOL
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.defs.shared.partitions import key_of
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import BusyError, CaptureError, TransientError
from capture_pipeline.klines.ingest.republished import recheck_partition
from capture_pipeline.klines.pending import find_due_for_recheck
from capture_pipeline.lake.manifests import ArchiveRecord
from capture_pipeline.lake.paths import Partition

CHAIN = ("kline_archives", "kline_topups", "bars", "bar_conflicts", "bar_exclusions", "bar_gaps")
PARTITIONS_RECHECKED_AT_ONCE = 100
_OUT_OF_REACH = 3
"""After so many partitions that could not be asked the exchange is taken to be out of reach; the rota goes on next time."""
_SOONER = {"dagster/priority": "10"}
"""What follows the present goes before a backfill that waits in the queue."""


initial_backfill = dg.define_asset_job(
    "initial_backfill",
    dg.AssetSelection.assets(*CHAIN),
    description="Fetches the history of the chosen months and symbols. A run has at most 48 months of one symbol.",
)
daily_update = dg.define_asset_job(
    "daily_update",
    dg.AssetSelection.assets(*CHAIN),
    description="Updates the current month of every symbol in one run.",
    tags=_SOONER,
)
gap_fill = dg.define_asset_job(
    "gap_fill",
    dg.AssetSelection.assets(*CHAIN[1:]),
    description="Requests missing candles of a month from REST, where they may exist.",
)
month_close = dg.define_asset_job(
    "month_close",
    dg.AssetSelection.assets(*CHAIN, "month_reconciliation"),
    description="Fetches the monthly file of a closed month in place of daily files and REST answers, and reports the differences.",
    tags=_SOONER,
)
coverage = dg.define_asset_job(
    "coverage",
    dg.AssetSelection.assets("coverage_report"),
    description="Makes the coverage report of the whole lake.",
)


@dg.op(
    pool=ARCHIVE_POOL,
    out=dg.Out(dagster_type=dg.Nothing),
    description="Reads the published checksums again, of the partitions whose checksums were read longest ago.",
)
def recheck_checksums(context: dg.OpExecutionContext, workspace: dg.ResourceParam[Workspace]) -> None:
    """Recheck on a rota; what was published anew is observed on `kline_archives`."""
    with domain_errors_as_dagster(context):
        now_us = workspace.now_us()
        due = find_due_for_recheck(workspace, now_us, PARTITIONS_RECHECKED_AT_ONCE)
    failed: dict[Partition, CaptureError] = {**due.damaged}
    for partition in due.partitions:
        try:
            found = recheck_partition(workspace, partition, now_us)
        except BusyError as error:
            outputs.log_info(context, f"{partition}: left for the next turn: {error}")
            continue
        except CaptureError as error:
            failed[partition] = error
            if sum(isinstance(each, TransientError) for each in failed.values()) >= _OUT_OF_REACH:
                break
            continue
        if found:
            context.log_event(_observed(partition, found))
    outputs.log_info(context, f"{len(due.partitions)} partitions were due, {len(failed)} could not be asked")
    if failed:
        raise outputs.failure("; ".join(f"{partition}: {error}" for partition, error in failed.items()))


@dg.job(description="Finds archive files whose published checksum has changed since they were fetched.")
def revision_watch() -> None:
    """One op."""
    recheck_checksums()


def _observed(partition: Partition, found: list[ArchiveRecord]) -> dg.AssetObservation:
    return outputs.observation("kline_archives", key_of(partition), describe.revisions(found))
