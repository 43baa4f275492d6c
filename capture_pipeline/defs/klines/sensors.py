"""What happens when there is a reason: a month closes, a hole may be filled, checksums are due, a file was published anew.

A sensor only decides, and within seconds; the work is a job's. Where the exchange cannot be asked it says so and asks again next time.
A partition whose record is damaged is named in the sensor's log and does not keep it from the others.
"""

from collections.abc import Callable

import dagster as dg

from capture_pipeline.binance.periods import iso
from capture_pipeline.defs.klines.jobs import gap_fill, month_close, revision_watch
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.partitions import PARTITIONS, key_of
from capture_pipeline.defs.shared.resources import with_short_timeouts
from capture_pipeline.defs.shared.sensor_backoff import Attempts
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import CaptureError
from capture_pipeline.klines import pending

_RUNNING = dg.DefaultSensorStatus.RUNNING
_MOST_RUNS = 50
_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


@dg.sensor(
    job=month_close,
    minimum_interval_seconds=1800,
    default_status=_RUNNING,
    description="Every 30 min: looks for monthly files of the last three closed months in the listing of the archive, and "
    "starts month_close for new ones.",
)
def month_close_sensor(
    context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.SensorResult | dg.SkipReason:
    """One run a partition whose monthly file is out."""
    return _run_requests(
        context,
        workspace,
        pending.find_closable,
        "close",
        "no closed month waits for a monthly file that is out",
    )


@dg.sensor(
    job=gap_fill,
    minimum_interval_seconds=900,
    default_status=_RUNNING,
    description="Every 15 min: starts gap_fill for partitions with missing candles that may exist. The waits between two "
    "attempts grow from an hour to a day.",
)
def gap_fill_sensor(
    context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.SensorResult | dg.SkipReason:
    """One run a partition with such a hole."""
    return _run_requests(context, workspace, pending.find_fillable, "fill", "no hole is worth asking for now")


@dg.sensor(
    job=revision_watch,
    minimum_interval_seconds=3600,
    default_status=_RUNNING,
    description="Every hour: starts revision_watch for published checksums that were not read for archive.recheck_days.",
)
def revision_sensor(
    context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.RunRequest | dg.SkipReason:
    """One run for all that are due; it takes the oldest first."""
    if context.instance.get_run_records(
        dg.RunsFilter(job_name=revision_watch.name, statuses=_UNDER_WAY), limit=1
    ):
        return outputs.skip("a turn of the rota is under way")
    try:
        now_us = with_short_timeouts(workspace).now_us()
        due = pending.find_due_for_recheck(workspace, now_us, 1)
    except CaptureError as error:
        return outputs.skip(f"cannot be decided now: {error}")
    left_out = _left_out(context, due)
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
    """One run a partition observed to be published anew since the last look."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey("kline_archives"), after_storage_id=int(context.cursor or 0))
    records = context.instance.fetch_observations(wanted, limit=_MOST_RUNS, ascending=True).records
    if not records:
        return outputs.skip("no file was published anew since the last look")
    newest = {record.partition_key: record.storage_id for record in records}
    runs = [
        dg.RunRequest(run_key=f"republished-{storage_id}", partition_key=key)
        for key, storage_id in newest.items()
        if key and PARTITIONS.has_partition_key(key)
    ]
    return dg.SensorResult(run_requests=runs, cursor=str(records[-1].storage_id))


def _run_requests(
    context: dg.SensorEvaluationContext,
    workspace: Workspace,
    find: Callable[[Workspace, int], pending.WorkList],
    name: str,
    nothing: str,
) -> dg.SensorResult | dg.SkipReason:
    """One run request for each partition that is found and was not asked for a short while ago.

    Args:
        context: Of the sensor; its cursor remembers the attempts.
        workspace: The deployment.
        find: Finds the partitions.
        name: Start of the run keys.
        nothing: Why there is nothing to do, where nothing is found.
    """
    try:
        hasty = with_short_timeouts(workspace)
        now_us = hasty.now_us()
        found = find(hasty, now_us)
    except CaptureError as error:
        return outputs.skip(f"cannot be decided now: {error}")
    left_out = _left_out(context, found)
    keys = [str(key_of(partition)) for partition in found.partitions]
    wanted = [key for key in keys if PARTITIONS.has_partition_key(key)]
    due, remembered = Attempts.load(context.cursor).next(wanted, now_us, _MOST_RUNS)
    if not due:
        reason = (
            f"{len(wanted)} partitions were asked for a while ago; the next attempt waits"
            if wanted
            else nothing
        )
        return dg.SensorResult(skip_reason=outputs.skip(f"{reason}{left_out}"), cursor=remembered.dump())
    runs = [
        dg.RunRequest(run_key=f"{name}-{key}-{number}-{iso(now_us)}", partition_key=key)
        for key, number in due.items()
    ]
    return dg.SensorResult(run_requests=runs, cursor=remembered.dump())


def _left_out(context: dg.SensorEvaluationContext, found: pending.WorkList) -> str:
    """Log the partitions that could not be judged; for a reason to skip, how many they are and the first of them."""
    for partition, error in found.damaged.items():
        outputs.log_warning(context, f"{partition} is left out: {error}")
    first = next(iter(found.damaged.items()), None)
    return f"; {len(found.damaged)} left out, {first[0]}: {first[1]}" if first else ""
