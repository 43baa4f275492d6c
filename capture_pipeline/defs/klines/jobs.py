"""Jobs of klines, which are selections of assets with their checks and one op, and their schedules in UTC.

Jobs have no configuration. A schedule selects the partitions of a run; it does not download data.
"""

import dagster as dg

from capture_pipeline.binance.periods import DAY_US, Month
from capture_pipeline.defs.klines import result_metadata
from capture_pipeline.defs.klines.raw import ARCHIVE_POOL
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.defs.shared.partitions import block_tags, key_of, loaded_partitions
from capture_pipeline.defs.shared.resources import with_short_timeouts
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import BusyError, CaptureError, TransientError
from capture_pipeline.klines.ingest.archives import recheck_partition
from capture_pipeline.klines.pending_work import find_due_for_recheck
from capture_pipeline.lake.manifests import ArchiveRecord
from capture_pipeline.lake.paths import Partition

CHAIN = ("kline_archives", "kline_topups", "bars", "bar_conflicts", "bar_exclusions", "bar_gaps")
PARTITIONS_RECHECKED_AT_ONCE = 100
_MAX_TRANSIENT_ERRORS = 3
"""The op stops after this many transient errors, because the exchange is probably not reachable."""
_PRIORITY = {"dagster/priority": "10"}
"""Updates of the present start before queued runs of a backfill."""
_LATE_DAYS = 2
"""The daily files of the last days of a month are published within this time after its end."""
_DAY_TAG = "capture/day"
_FAILED = {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


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


@dg.schedule(
    job=daily_update,
    cron_schedule="30 6-21/3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="At 06:30 UTC, when the files of yesterday are published: updates the current month of "
    "every symbol in one run; in the first two days of a month also the month before. After a failure it is "
    "repeated every three hours until 21:30 UTC.",
)
def daily_update_schedule(
    context: dg.ScheduleEvaluationContext, deployment: dg.ResourceParam[Deployment]
) -> dg.RunRequest | dg.SkipReason:
    """Request one run a day for the current month of all symbols, and another one only after a failure."""
    day = f"{context.scheduled_execution_time:%Y-%m-%d}"
    before = context.instance.get_runs(dg.RunsFilter(job_name=daily_update.name, tags={_DAY_TAG: day}))
    if any(run.status not in _FAILED for run in before):
        return outputs.skip(f"the update of {day} is done or in progress")
    try:
        now_us = with_short_timeouts(deployment).now_us()
    except CaptureError as error:
        return outputs.skip(f"the time of the exchange cannot be requested: {error}")
    wanted = [month for month in deployment.months(now_us) if month >= Month.of(now_us - _LATE_DAYS * DAY_US)]
    symbols, loaded = deployment.settings.symbols, loaded_partitions(context)
    months = [month for month in wanted if loaded.has_partition_key(f"{month}|{symbols[0]}")]
    if not months:
        return outputs.skip("the configured history does not include the current month")
    tags = {**block_tags(symbols, months[0], months[-1]), _DAY_TAG: day}
    return dg.RunRequest(run_key=f"daily-{context.scheduled_execution_time:%Y-%m-%dT%H}", tags=tags)


coverage_schedule = dg.ScheduleDefinition(
    name="coverage_schedule",
    job=coverage,
    cron_schedule="0 8 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="At 08:00 UTC, also without an update, so that the freshness check fails for stale data.",
)
