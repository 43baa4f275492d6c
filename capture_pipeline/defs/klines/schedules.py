"""Schedules of klines, in UTC. A schedule selects the partitions of a run; it does not download data."""

import dagster as dg

from capture_pipeline.binance.periods import DAY_US, Month
from capture_pipeline.defs.klines.jobs import coverage, daily_update
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.partitions import block_tags, loaded_partitions
from capture_pipeline.defs.shared.resources import with_short_timeouts
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import CaptureError

_LATE_DAYS = 2
"""The daily files of the last days of a month are published within this time after its end."""
_DAY_TAG = "capture/day"
_FAILED = {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


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
    context: dg.ScheduleEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.RunRequest | dg.SkipReason:
    """Request one run a day for the current month of all symbols, and another one only after a failure."""
    day = f"{context.scheduled_execution_time:%Y-%m-%d}"
    before = context.instance.get_runs(dg.RunsFilter(job_name=daily_update.name, tags={_DAY_TAG: day}))
    if any(run.status not in _FAILED for run in before):
        return outputs.skip(f"the update of {day} is done or in progress")
    try:
        now_us = with_short_timeouts(workspace).now_us()
    except CaptureError as error:
        return outputs.skip(f"the time of the exchange cannot be requested: {error}")
    wanted = [month for month in workspace.months(now_us) if month >= Month.of(now_us - _LATE_DAYS * DAY_US)]
    symbols, loaded = workspace.settings.symbols, loaded_partitions(context)
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
