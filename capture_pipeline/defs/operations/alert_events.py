"""Conversion of Dagster events to alerts: evaluations of checks, failed runs and successful runs."""

from typing import NamedTuple

import dagster as dg

from capture_pipeline.operations.alerts.models import Alert, State
from capture_pipeline.operations.alerts.spool import OpenAlert
from capture_pipeline.parsing import parse_count
from capture_pipeline.reporting.markdown import plain
from capture_pipeline.settings.levels import Level
from capture_pipeline.settings.models import Settings

_TYPES = (
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_SUCCESS,
)
MAX_EVENTS = 1000
"""Maximum number of events of one type that are read at once."""
_LEVEL_OF_SEVERITY = {dg.AssetCheckSeverity.ERROR: Level.CRITICAL, dg.AssetCheckSeverity.WARN: Level.WARNING}
"""Level of a failed check whose metadata have no level."""
CHECK_PREFIX, RUN_PREFIX = "check:", "run:"
_ASSET_JOB = "__ASSET_JOB"
_PARTITION_TAGS = (
    "dagster/partition",
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
)


def fetch_newest_id(instance: dg.DagsterInstance) -> int:
    """Return the id of the newest event of the instance; 0 if there is none."""
    return instance.event_log_storage.get_maximum_record_id() or 0


class NewEvents(NamedTuple):
    """Events that were read.

    Attributes:
        newest: Id of the last event that was read. It is lower than before if the newest runs were deleted,
            because the storage may assign their ids again.
        events: The events, in order.
    """

    newest: int
    events: list[dg.EventLogEntry]


def read_events(instance: dg.DagsterInstance, after: int) -> NewEvents:
    """Read the next events that are relevant for alerts, in order.

    Dagster's public functions do not return evaluations of checks. The function used here serves Dagster's
    daemon; it uses an index, so its cost depends only on the number of new events.

    Args:
        instance: Dagster instance.
        after: Id of the last event that was read before.
    """
    found: dict[int, dg.EventLogEntry] = {}
    complete = fetch_newest_id(instance)
    for kind in _TYPES:
        some = instance.event_log_storage.get_logs_for_all_runs_by_log_id(after, kind, MAX_EVENTS)
        found |= some
        if len(some) == MAX_EVENTS:
            complete = min(complete, max(some))
    return NewEvents(complete, [found[number] for number in sorted(found) if number <= complete])


def alerts_from_events(
    instance: dg.DagsterInstance,
    events: list[dg.EventLogEntry],
    settings: Settings,
    known: dict[str, OpenAlert],
) -> list[Alert]:
    """Convert events to alerts.

    Args:
        instance: Dagster instance, for the tags of runs.
        events: Events in order.
        settings: Settings of the deployment.
        known: Open alerts by key. Successful runs are read only if a failed run is open or among the events.
    """
    may_resolve = any(key.startswith(RUN_PREFIX) for key in known) or any(
        _is_failure(event) for event in events
    )
    alerts: list[Alert] = []
    for event in events:
        if event.dagster_event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            alerts += _alerts_from_evaluation(event)
        elif _is_failure(event) or may_resolve:
            alerts += _alerts_from_run(instance, event, settings)
    return alerts


def _is_failure(event: dg.EventLogEntry) -> bool:
    return event.dagster_event_type is dg.DagsterEventType.RUN_FAILURE


def _alerts_from_evaluation(event: dg.EventLogEntry) -> list[Alert]:
    if event.dagster_event is None:
        return []
    evaluation = event.dagster_event.asset_check_evaluation_data
    asset, partition = evaluation.asset_key.to_user_string(), evaluation.partition
    name = f"{asset}: {evaluation.check_name}" + (f" of {partition}" if partition else "")
    fields = {"run": event.run_id} if event.run_id else {}
    alert = Alert(
        key=f"{CHECK_PREFIX}{asset}:{evaluation.check_name}:{partition or ''}",
        level=_level(evaluation),
        state=State.RESOLVED if evaluation.passed else State.OPEN,
        title=f"{name} {'passes again' if evaluation.passed else 'failed'}",
        text=plain(evaluation.description or ""),
        fields={"severity": evaluation.severity.value, **fields},
        at_us=round(event.timestamp * 1e6),
    )
    return [alert]


def _level(evaluation: dg.AssetCheckEvaluation) -> Level:
    """Return the level in the metadata of an evaluation, or else the level of its severity."""
    metadata = evaluation.metadata.get("level")
    value = metadata.value if metadata is not None else None
    return Level(value) if value in set(Level) else _LEVEL_OF_SEVERITY[evaluation.severity]


def _alerts_from_run(
    instance: dg.DagsterInstance, event: dg.EventLogEntry, settings: Settings
) -> list[Alert]:
    run = instance.get_run_by_id(event.run_id)
    if run is None:  # deleted in the meantime
        return []
    at_us = round(event.timestamp * 1e6)
    name = f"Run of {_job(run)}" + (f" for {_partition(run)}" if _partition(run) else "")
    if _is_failure(event):
        text = (event.dagster_event.message or "") if event.dagster_event is not None else ""
        fields = {"run": run.run_id} | (
            {"page": f"{settings.alerts.ui_url.rstrip('/')}/runs/{run.run_id}"}
            if settings.alerts.ui_url
            else {}
        )
        text = "\n".join(filter(None, [text, _step_error(instance, run.run_id)]))
        return [
            Alert(
                key=_key(run),
                level=Level.WARNING,
                title=f"{name} failed",
                text=text,
                fields=fields,
                at_us=at_us,
            )
        ]
    # A re-execution from the failure may have fewer assets, and so another key, than the failed run.
    root = instance.get_run_by_id(run.root_run_id) if run.root_run_id else None
    keys = dict.fromkeys([_key(run), *([_key(root)] if root is not None else [])])
    title = f"{name} succeeded"
    return [
        Alert(
            key=key,
            level=Level.WARNING,
            state=State.RESOLVED,
            title=title,
            fields={"run": run.run_id},
            at_us=at_us,
        )
        for key in keys
    ]


def _step_error(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return the message of the first failed step in one line."""
    failed = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1).records
    event = failed[0].event_log_entry.dagster_event if failed else None
    error = event.step_failure_data.error if event is not None else None
    if error is None:
        return ""
    failure = event.step_failure_data.user_failure_data if event is not None else None
    message = failure.description if failure is not None and failure.description else error.message
    return f"{event.step_key if event is not None else ''}: {message.strip()}"


def _key(run: dg.DagsterRun) -> str:
    """Return the key of the alerts of a run: its job (or its assets and checks), and its partitions."""
    return f"{RUN_PREFIX}{_job(run)}:{_partition(run)}"


def _job(run: dg.DagsterRun) -> str:
    if run.job_name != _ASSET_JOB:
        return run.job_name
    names = {key.to_user_string() for key in run.asset_selection or ()}
    names |= {f"{key.asset_key.to_user_string()}: {key.name}" for key in run.asset_check_selection or ()}
    return ", ".join(sorted(names)) or "all assets"


def _partition(run: dg.DagsterRun) -> str:
    single, start, end = (run.tags.get(tag, "") for tag in _PARTITION_TAGS)
    if start and end:
        return start if start == end else f"{start} to {end}"
    return single


def parse_cursor(text: str | None) -> int | None:
    """Return the id in a cursor, or None if the cursor has no number."""
    return parse_count(text or "")
