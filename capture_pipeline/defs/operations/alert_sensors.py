"""Sensor of alerts. It stores new alerts, then delivers the waiting ones; it starts no run.

The cursor is advanced after the alerts of the events are stored, so that none is lost. Without a cursor the
sensor starts with the events after the present.
"""

import time

import dagster as dg

from capture_pipeline.defs.operations.alert_events import (
    alerts_from_events,
    fetch_newest_id,
    parse_cursor,
    read_events,
)
from capture_pipeline.defs.shared import outputs
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import CaptureError
from capture_pipeline.operations.alerts.conditions import check_disk, check_sessions
from capture_pipeline.operations.alerts.delivery import Outcome, deliver
from capture_pipeline.operations.alerts.models import Alert
from capture_pipeline.operations.alerts.spool import Spool
from capture_pipeline.recorder.lifecycle import sessions_root


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Every 30 s: sends alerts about failed checks, failed runs, sessions that are down or late, "
    "and a full disk to alerts.channels. Starts no run.",
)
def alert_sensor(
    context: dg.SensorEvaluationContext, deployment: dg.ResourceParam[Deployment]
) -> dg.SensorResult | dg.SkipReason:
    """Store new alerts and deliver waiting ones."""
    settings = deployment.settings
    if not settings.alerts.channels:
        return outputs.skip("alerts.channels lists no channel")
    spool = Spool(deployment.lake, settings.alerts)
    cursor = parse_cursor(context.cursor)
    after = fetch_newest_id(context.instance) if cursor is None else cursor
    try:
        known = spool.read().open
        newest, events = read_events(context.instance, after)
        alerts = alerts_from_events(context.instance, events, settings, known)
        alerts += _check_conditions(context, deployment, list(known))
        posted = spool.post(alerts)
    except CaptureError as error:
        return dg.SensorResult(
            skip_reason=outputs.skip(f"alerts cannot be recorded now: {error}"), cursor=str(after)
        )
    outcomes = deliver(spool, settings.alerts)
    for outcome in outcomes:
        if outcome.error:
            outputs.log_warning(context, f"{outcome.channel}: {outcome.error}")
    return dg.SensorResult(skip_reason=outputs.skip(_summarize(posted, outcomes)), cursor=str(newest))


def _check_conditions(
    context: dg.SensorEvaluationContext, deployment: Deployment, open_keys: list[str]
) -> list[Alert]:
    """Check the disk and the sessions; if the sessions cannot be read, other alerts are still sent."""
    settings = deployment.settings
    disk = check_disk(settings)
    found = [disk] if disk is not None else []
    try:
        found += check_sessions(sessions_root(settings), time.time_ns() // 1000, open_keys)
    except (CaptureError, OSError) as error:
        outputs.log_warning(context, f"sessions cannot be checked: {error}")
    return found


def _summarize(posted: list[Alert], outcomes: list[Outcome]) -> str:
    parts = [f"{len(posted)} new alerts, {sum(outcome.sent for outcome in outcomes)} messages sent"]
    parts += [f"{outcome.channel}: {outcome.error}" for outcome in outcomes if outcome.error]
    return "; ".join(parts)
