"""Sensor that ends runs whose process died, for instance in a power cut.

Without it, Dagster would show these runs as running for ever.
"""

import time

import dagster as dg

from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.resources import run_lock_path
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.lake.locks import is_abandoned

SILENCE_S = 24 * 3600
"""A run without a lock file is ended after this time without an event."""


@dg.sensor(
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Every 10 s: marks runs as failed that Dagster shows as running although their process is "
    "dead. Starts no run.",
)
def dead_run_reaper(
    context: dg.SensorEvaluationContext, deployment: dg.ResourceParam[Deployment]
) -> dg.SkipReason:
    """Mark dead runs as failed."""
    started = context.instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    dead = [
        (record.dagster_run, reason)
        for record in started
        if (reason := stale_reason(context.instance, deployment, record))
    ]
    for run, reason in dead:
        now = context.instance.get_run_by_id(run.run_id)
        if now is None or now.is_finished:
            continue  # the code server has reported the end in the meantime
        context.instance.report_run_failed(run, f"Ended by dead_run_reaper: {reason}.")
        run_lock_path(deployment, run.run_id).unlink(missing_ok=True)
    return outputs.skip(
        f"{len(started)} runs are in progress; {len(dead)} of them were dead and marked as failed"
    )


def stale_reason(instance: dg.DagsterInstance, deployment: Deployment, record: dg.RunRecord) -> str | None:
    """Return the reason why a started run counts as dead, or None if it does not."""
    run_id = record.dagster_run.run_id
    lock = run_lock_path(deployment, run_id)
    if is_abandoned(lock):
        return "its process has ended"
    if lock.exists():
        return None
    age_s = time.time() - (record.start_time or record.create_timestamp.timestamp())
    newest = instance.get_records_for_run(run_id, limit=1, ascending=False).records
    silent_s = time.time() - newest[0].timestamp if newest else age_s
    return (
        f"it has no lock file and had no event for {silent_s / 3600:.0f} h" if silent_s > SILENCE_S else None
    )
