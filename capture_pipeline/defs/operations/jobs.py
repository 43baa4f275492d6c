"""Job that removes old runs and quarantined files, and its schedule."""

import dagster as dg

from capture_pipeline.defs.operations.retention import delete_old_quarantine, delete_run, find_old_runs
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.deployment.deployment import Deployment

_NOTHING = dg.Out(dagster_type=dg.Nothing)


@dg.op(
    out=_NOTHING,
    description="Removes finished runs older than retention.run_history_days, with their events.",
)
def forget_runs(context: dg.OpExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Delete the runs that `find_old_runs` returns."""
    old = find_old_runs(context.instance, deployment.settings.retention.run_history_days)
    for run_id in old:
        delete_run(context.instance, run_id)
    outputs.log_info(context, f"{len(old)} runs removed")


@dg.op(out=_NOTHING, description="Removes quarantined files older than retention.quarantine_days.")
def forget_quarantine(context: dg.OpExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Delete old files in quarantine."""
    with domain_errors_as_dagster(context):
        removed = delete_old_quarantine(
            deployment.lake.root / "quarantine", deployment.settings.retention.quarantine_days
        )
    outputs.log_info(context, f"{removed} quarantined files removed")


@dg.job(description="Removes old runs and old quarantined files. Nothing else removes events of Dagster.")
def clean_up() -> None:
    """Run both ops, which do not depend on each other."""
    forget_runs()
    forget_quarantine()


clean_up_schedule = dg.ScheduleDefinition(
    name="clean_up_schedule",
    job=clean_up,
    cron_schedule="15 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="At 03:15 UTC, before the daily update.",
)
