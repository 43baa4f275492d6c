"""Sensors of klines: closed and new months, fillable gaps, checksums that are due, and changed checksums.

A sensor decides within seconds which runs to start; jobs do the work. If the exchange is not reachable, the
sensor skips the tick. A partition with damaged files is named in the log of the sensor and left out; the
others are processed.
"""

import time
from collections.abc import Callable

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin

from capture_pipeline.binance.periods import iso
from capture_pipeline.defs.klines.jobs import gap_fill, month_close, revision_watch
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.partitions import key_of, loaded_partitions
from capture_pipeline.defs.shared.resources import with_short_timeouts
from capture_pipeline.defs.shared.sensor_backoff import Attempts
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import CaptureError
from capture_pipeline.klines import pending_work

_RUNNING = dg.DefaultSensorStatus.RUNNING
_MAX_RUNS = 50
_IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


@dg.sensor(
    job=month_close,
    minimum_interval_seconds=1800,
    default_status=_RUNNING,
    description="Every 30 min: searches the listing of the archive for monthly files of the last three "
    "closed months, and starts month_close for new ones.",
)
def month_close_sensor(
    context: dg.SensorEvaluationContext, deployment: dg.ResourceParam[Deployment]
) -> dg.SensorResult | dg.SkipReason:
    """Request one run for each partition whose monthly file was published and is not ingested."""
    return _request_runs(
        context,
        deployment,
        pending_work.find_closable,
        "close",
        "no monthly file was published that is not ingested",
    )


@dg.sensor(
    job=gap_fill,
    minimum_interval_seconds=900,
    default_status=_RUNNING,
    description="Every 15 min: starts gap_fill for partitions with missing klines that may exist. The waits "
    "between two attempts grow from an hour to a day.",
)
def gap_fill_sensor(
    context: dg.SensorEvaluationContext, deployment: dg.ResourceParam[Deployment]
) -> dg.SensorResult | dg.SkipReason:
    """Request one run for each partition with missing klines that may exist."""
    return _request_runs(context, deployment, pending_work.find_fillable, "fill", "no gap can be filled now")


@dg.sensor(
    job=revision_watch,
    minimum_interval_seconds=3600,
    default_status=_RUNNING,
    description="Every hour: starts revision_watch for published checksums that were not read for "
    "archive.recheck_days.",
)
def revision_sensor(
    context: dg.SensorEvaluationContext, deployment: dg.ResourceParam[Deployment]
) -> dg.RunRequest | dg.SkipReason:
    """Request one run if checksums are due; the run reads the oldest ones first."""
    if context.instance.get_run_records(
        dg.RunsFilter(job_name=revision_watch.name, statuses=_IN_PROGRESS), limit=1
    ):
        return outputs.skip("a run of revision_watch is in progress")
    try:
        now_us = with_short_timeouts(deployment).now_us()
        due = pending_work.find_due_for_recheck(deployment, now_us, 1)
    except CaptureError as error:
        return outputs.skip(f"skipped until the next tick: {error}")
    left_out = _report_damaged(context, due)
    if due.partitions:
        return dg.RunRequest(run_key=f"recheck-{iso(now_us)}")
    return outputs.skip(f"no published checksum is due to be read again{left_out}")


@dg.sensor(
    job=month_close,
    minimum_interval_seconds=300,
    default_status=_RUNNING,
    description="Every 5 min: starts month_close for archive files whose published checksum has changed.",
)
def republished_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Request one run for each partition with a new observation of a changed checksum."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey("kline_archives"), after_storage_id=int(context.cursor or 0))
    records = context.instance.fetch_observations(wanted, limit=_MAX_RUNS, ascending=True).records
    if not records:
        return outputs.skip("no changed checksum was observed since the last tick")
    newest = {record.partition_key: record.storage_id for record in records}
    partitions = loaded_partitions(context)
    runs = [
        dg.RunRequest(run_key=f"republished-{storage_id}", partition_key=key)
        for key, storage_id in newest.items()
        if key and partitions.has_partition_key(key)
    ]
    return dg.SensorResult(run_requests=runs, cursor=str(records[-1].storage_id))


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reloads the definitions when a month has begun, so that the new month is a partition. "
    "Starts no run.",
)
def new_month(context: dg.SensorEvaluationContext, deployment: dg.ResourceParam[Deployment]) -> dg.SkipReason:
    """Reload the code server if the present month is missing in the definitions."""
    loaded, symbol = loaded_partitions(context), deployment.settings.symbols[0]
    missing = [
        month
        for month in deployment.months(time.time_ns() // 1000)
        if not loaded.has_partition_key(f"{month}|{symbol}")
    ]
    if not missing:
        return outputs.skip("every month up to the present is a partition")
    origin = context.code_location_origin
    if not isinstance(origin, GrpcServerCodeLocationOrigin):
        remedy = "the daemon reloads the definitions itself; reload the code location in the UI"
        return outputs.skip(f"{missing[-1]} has begun: {remedy}")
    try:
        # The call returns after the new definitions are loaded. Running runs continue in their own processes.
        origin.create_client().reload_code(timeout=context.instance.code_server_reload_timeout)
    except DagsterUserCodeUnreachableError as error:
        problem = f"the code server did not reload the definitions: {error}"
        return outputs.skip(f"{missing[-1]} has begun, but {problem}; the next tick retries")
    return outputs.skip(f"{missing[-1]} has begun: the code server has reloaded the definitions")


def _request_runs(
    context: dg.SensorEvaluationContext,
    deployment: Deployment,
    find: Callable[[Deployment, int], pending_work.WorkList],
    name: str,
    nothing: str,
) -> dg.SensorResult | dg.SkipReason:
    """Request a run for each found partition whose wait since the last attempt is over.

    Args:
        context: Context of the sensor; its cursor contains the attempts.
        find: Finds the partitions that need a run.
        name: Start of the run keys.
        nothing: Reason to skip if no partition is found.
    """
    try:
        fast = with_short_timeouts(deployment)
        now_us = fast.now_us()
        found = find(fast, now_us)
    except CaptureError as error:
        return outputs.skip(f"skipped until the next tick: {error}")
    left_out = _report_damaged(context, found)
    keys = [str(key_of(partition)) for partition in found.partitions]
    partitions = loaded_partitions(context)
    wanted = [key for key in keys if partitions.has_partition_key(key)]
    due, attempts = Attempts.load(context.cursor).select_due(wanted, now_us, _MAX_RUNS)
    if not due:
        reason = f"{len(wanted)} partitions wait for their next attempt" if wanted else nothing
        return dg.SensorResult(skip_reason=outputs.skip(f"{reason}{left_out}"), cursor=attempts.dump())
    runs = [
        dg.RunRequest(run_key=f"{name}-{key}-{number}-{iso(now_us)}", partition_key=key)
        for key, number in due.items()
    ]
    return dg.SensorResult(run_requests=runs, cursor=attempts.dump())


def _report_damaged(context: dg.SensorEvaluationContext, found: pending_work.WorkList) -> str:
    """Log the damaged partitions; return their number and the first of them for the reason to skip."""
    for partition, error in found.damaged.items():
        outputs.log_warning(context, f"{partition} is left out: {error}")
    first = next(iter(found.damaged.items()), None)
    return f"; {len(found.damaged)} left out, {first[0]}: {first[1]}" if first else ""
