"""Sensors that request runs of sessions: planned, with a failed run, or recorded outside Dagster.

A planned run is requested `AHEAD_S` before the session, because its launch takes time. Its recorder waits for
the start of the session.
"""

import time
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import dagster as dg

from capture_pipeline.binance.periods import iso
from capture_pipeline.defs.golden_samples.attempts import JOB, SessionRuns, read_session_runs
from capture_pipeline.defs.golden_samples.proof import report_proofs
from capture_pipeline.defs.golden_samples.recording import POOL
from capture_pipeline.defs.golden_samples.sessions import SESSIONS, sessions_folder
from capture_pipeline.defs.shared import outputs
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import CaptureError
from capture_pipeline.lake.files import create_folder, publish_model, read_model
from capture_pipeline.recorder.lifecycle import create_plan, is_ending, list_sessions, read_plan_if_valid
from capture_pipeline.recorder.process import launch
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.lock import lock_owner_pid
from capture_pipeline.sessions.models import SessionMetadata, SessionPlan, SessionState
from capture_pipeline.sessions.schedule import Window, list_windows

AHEAD_S = 120.0
"""Time before the start of a session at which its run is requested."""
QUEUED_S = 60.0
"""A run that is still in the queue at this time before its session may miss the start."""
QUEUED_TAG = "capture/queued_at_start"
"""Tag of such a run; its value is the cause."""
_MAX_ARRIVALS = 20

record_session = dg.define_asset_job(
    JOB,
    dg.AssetSelection.assets("golden_samples"),
    description="Records one session. If a recorder of the session is already running, the run follows that "
    "recorder.",
    tags={"dagster/priority": "20"},
)


@dg.sensor(
    job=record_session,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Starts the run of each planned session two minutes before the session begins. "
    "Stopped by default, because a session uses disk and network for a day: turn it on to record by plan.",
)
def session_sensor(
    context: dg.SensorEvaluationContext, deployment: dg.ResourceParam[Deployment]
) -> dg.SensorResult | dg.SkipReason:
    """Request one run for each planned session without a run; a cancelled run is not requested again."""
    now_us = time.time_ns() // 1000
    try:
        for window in list_windows(deployment.settings.sessions, now_us, now_us + round(AHEAD_S * 1e6)):
            _write_plan(deployment, window)
        wanted = [each.folder for each in _find_unfinished(deployment) if each.plan.planned]
    except CaptureError as error:
        return outputs.skip(f"skipped until the next tick: {error}")
    new = [
        folder.session for folder in wanted if not read_session_runs(context.instance, folder.session).records
    ]
    if new:
        return _request_runs({session: f"{session}-1" for session in new})
    state = (
        f"{len(wanted)} sessions are being recorded or begin soon" if wanted else "no planned session is due"
    )
    upcoming = list_windows(deployment.settings.sessions, now_us, now_us + 8 * 86_400_000_000)
    following = next((f"; next: {window.session}" for window in upcoming if window.start_us > now_us), "")
    return outputs.skip(state + following)


@dg.sensor(
    job=record_session,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Every 10 s: if the last run of an unfinished session failed, starts a new run, and the "
    "recorder if it is not running. Reports runs that are still queued 60 s before their session begins, or "
    "later.",
)
def session_resumption(
    context: dg.SensorEvaluationContext, deployment: dg.ResourceParam[Deployment]
) -> dg.SensorResult | dg.SkipReason:
    """Request one run for each unfinished session whose last run ended; start missing recorders."""
    now_s, queued, due = time.time(), [], {}
    for folder, plan in _find_unfinished(deployment):
        runs = read_session_runs(context.instance, folder.session)
        if (
            runs.has_failed(now_s)
            and folder.growing.exists()
            and not is_ending(folder, plan)
            and lock_owner_pid(folder) is None
        ):
            launch(folder)  # at once: a run needs half a minute to start; it attaches to the recorder
        if runs.is_due(now_s, is_ending=folder.ending.exists()):
            due[folder.session] = f"{folder.session}-{len(runs.records) + 1}"
        elif now_s > plan.start_us / 1e6 - QUEUED_S:
            queued += _report_queued(context.instance, runs, plan)
    return _request_runs(due) if due else outputs.skip("; ".join(queued) or "no session needs another run")


@dg.sensor(
    job=record_session,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Every 30 s: starts a run for each finished session that Dagster does not know, for "
    "instance of `capture session start` or `capture session import`. The run validates the "
    "session. Reports the "
    "proofs that `capture session prove` wrote.",
)
def session_arrivals(
    context: dg.SensorEvaluationContext, deployment: dg.ResourceParam[Deployment]
) -> dg.SensorResult | dg.SkipReason:
    """Request one run for each finished session that was never materialized; report proofs of the others."""
    known = context.instance.get_materialized_partitions(dg.AssetKey("golden_samples"))
    finished = [folder for folder in list_sessions(sessions_folder(deployment)) if folder.metadata.exists()]
    new = (folder for folder in reversed(finished) if folder.session not in known and not _is_empty(folder))
    arrived = [folder.session for folder in islice(new, _MAX_ARRIVALS)]
    proofs = report_proofs(context, deployment, {folder.session for folder in finished} & known)
    if not arrived:
        reported = f"; {proofs} proofs reported" if proofs else ""
        return outputs.skip(f"all {len(finished)} finished sessions are known or empty{reported}")
    return _request_runs({session: f"{session}-arrived" for session in arrived})


def _request_runs(keys: dict[str, str]) -> dg.SensorResult:
    """Request a run of each session.

    Args:
        keys: Run key by session; Dagster starts one run for each key.
    """
    runs = [dg.RunRequest(run_key=key, partition_key=session) for session, key in keys.items()]
    return dg.SensorResult(
        run_requests=runs, dynamic_partitions_requests=[SESSIONS.build_add_request(list(keys))]
    )


class _UnfinishedSession(NamedTuple):
    folder: SessionFolder
    plan: SessionPlan


def _find_unfinished(deployment: Deployment) -> Iterator[_UnfinishedSession]:
    for folder in list_sessions(sessions_folder(deployment)):
        if not folder.metadata.exists() and (plan := read_plan_if_valid(folder)):
            yield _UnfinishedSession(folder, plan)


def _report_queued(instance: dg.DagsterInstance, runs: SessionRuns, plan: SessionPlan) -> list[str]:
    """Tag the queued runs of a session with the cause; return the text, empty without queued runs."""
    waiting = [
        record.dagster_run
        for record in runs.records
        if record.dagster_run.status is dg.DagsterRunStatus.QUEUED
    ]
    if not waiting:
        return []
    pool = instance.event_log_storage.get_concurrency_info(POOL)
    is_full = pool.limit is not None and len(pool.claimed_slots) >= pool.limit
    cause = (
        f"all {pool.limit} slots of the pool {POOL} were in use"
        if is_full
        else "too many runs, or a code server that did not answer"
    )
    text = f"the session starts at {iso(plan.start_us)}, but this run was still in the queue: {cause}"
    for run in waiting:
        if QUEUED_TAG not in run.tags:
            instance.add_run_tags(run.run_id, {QUEUED_TAG: text})
    return [f"{plan.session}: {text}"]


def _is_empty(folder: SessionFolder) -> bool:
    """Return True if a session has no messages; False if its metadata are damaged: its run reports that."""
    try:
        metadata = read_model(folder.metadata, SessionMetadata)
    except CaptureError:
        return False
    return metadata is not None and metadata.state is SessionState.EMPTY


def _write_plan(deployment: Deployment, window: Window) -> None:
    """Write the plan of a session unless it exists."""
    planned = window.planned
    folder = SessionFolder.under(sessions_folder(deployment), planned.regime, window.session)
    if folder.plan.exists():
        return
    plan = create_plan(
        deployment.settings,
        list(planned.symbols),
        planned.regime,
        planned.duration_hours * 3600,
        description=planned.description,
        start_us=window.start_us,
    )
    create_folder(folder.path)
    publish_model(folder.plan, plan.model_copy(update={"planned": True}))
