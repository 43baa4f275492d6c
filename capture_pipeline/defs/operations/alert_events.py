"""Events of Dagster's instance as alerts: evaluations of checks, and runs that fail or succeed."""

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
"""Events of one type that are read at once."""
_LEVEL_OF_SEVERITY = {dg.AssetCheckSeverity.ERROR: Level.CRITICAL, dg.AssetCheckSeverity.WARN: Level.WARNING}
"""Of a failed check that states no level."""
CHECK_PREFIX, RUN_PREFIX = "check:", "run:"
_ASSET_JOB = "__ASSET_JOB"
_PARTITION_TAGS = (
    "dagster/partition",
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
)


def newest_id(instance: dg.DagsterInstance) -> int:
    """Return the id of the newest event of the instance, 0 without one."""
    return instance.event_log_storage.get_maximum_record_id() or 0


def read_events(instance: dg.DagsterInstance, after: int) -> tuple[int, list[dg.EventLogEntry]]:
    """Read the next events that alerts are made of, in their order.

    Dagster's public readers of the event log leave evaluations of checks out. This one is what its own daemon
    follows runs by; it reads by an index, and its cost depends on the number of new events only.

    Args:
        instance: Of Dagster.
        after: Id of the last event that was read.

    Returns:
        The id of the last event that is read now, and the events. The id is lower than `after` where the
        newest runs were deleted: the storage may give their ids again.
    """
    found: dict[int, dg.EventLogEntry] = {}
    complete = newest_id(instance)
    for kind in _TYPES:
        some = instance.event_log_storage.get_logs_for_all_runs_by_log_id(after, kind, MAX_EVENTS)
        found |= some
        if len(some) == MAX_EVENTS:
            complete = min(complete, max(some))
    return complete, [found[number] for number in sorted(found) if number <= complete]


def alerts_from_events(
    instance: dg.DagsterInstance,
    events: list[dg.EventLogEntry],
    settings: Settings,
    known: dict[str, OpenAlert],
) -> list[Alert]:
    """Turn events into alerts.

    Args:
        instance: Knows the tags of runs.
        events: In their order.
        settings: Of the deployment.
        known: Open alerts by key. Runs that succeed are looked up only while a failed one is open, or is
            among the events.
    """
    may_resolve = any(key.startswith(RUN_PREFIX) for key in known) or any(
        _is_failure(event) for event in events
    )
    made: list[Alert] = []
    for event in events:
        if event.dagster_event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            made += _of_check(event)
        elif _is_failure(event) or may_resolve:
            made += _of_run(instance, event, settings)
    return made


def _is_failure(event: dg.EventLogEntry) -> bool:
    return event.dagster_event_type is dg.DagsterEventType.RUN_FAILURE


def _of_check(event: dg.EventLogEntry) -> list[Alert]:
    if event.dagster_event is None:
        return []
    found = event.dagster_event.asset_check_evaluation_data
    asset = found.asset_key.to_user_string()
    name = f"{asset}: {found.check_name}" + (f" of {found.partition}" if found.partition else "")
    fields = {"run": event.run_id} if event.run_id else {}
    made = Alert(
        key=f"{CHECK_PREFIX}{asset}:{found.check_name}:{found.partition or ''}",
        level=_level(found),
        state=State.RESOLVED if found.passed else State.OPEN,
        title=f"{name} {'passes again' if found.passed else 'failed'}",
        text=plain(found.description or ""),
        fields={"severity": found.severity.value, **fields},
        at_us=round(event.timestamp * 1e6),
    )
    return [made]


def _level(found: dg.AssetCheckEvaluation) -> Level:
    """Return the level that the evaluation states, or that of its severity."""
    stated = found.metadata.get("level")
    value = stated.value if stated is not None else None
    return Level(value) if value in set(Level) else _LEVEL_OF_SEVERITY[found.severity]


def _of_run(instance: dg.DagsterInstance, event: dg.EventLogEntry, settings: Settings) -> list[Alert]:
    run = instance.get_run_by_id(event.run_id)
    if run is None:  # removed meanwhile
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
    # A run that was started again from a failure may make less than the one that failed.
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
    """Return the message of the first step that failed, one line."""
    failed = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1).records
    event = failed[0].event_log_entry.dagster_event if failed else None
    error = event.step_failure_data.error if event is not None else None
    if error is None:
        return ""
    told = event.step_failure_data.user_failure_data if event is not None else None
    what = told.description if told is not None and told.description else error.message
    return f"{event.step_key if event is not None else ''}: {what.strip()}"


def _key(run: dg.DagsterRun) -> str:
    """Name what a run makes: its job, or the assets of a run without a job of its own, and its partitions."""
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
    """Return the id in a cursor; None where there is none that can be read."""
    return parse_count(text or "")
