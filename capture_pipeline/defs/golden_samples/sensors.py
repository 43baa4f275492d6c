"""When a planned window opens its session is prepared and a run asked for; a session whose run is gone gets another, which attaches."""

import time

import dagster as dg

from capture_pipeline.defs.golden_samples.recording import SESSION_TAG
from capture_pipeline.defs.golden_samples.sessions import SESSIONS, root
from capture_pipeline.errors import CaptureError
from capture_pipeline.klines.workspace import Workspace
from capture_pipeline.lake.files import make_folder, publish_model
from capture_pipeline.recording.layout import SessionFolder
from capture_pipeline.recording.planning import Window, windows
from capture_pipeline.recording.session import all_sessions, known_plan, new_plan

ATTEMPTS = 200
"""Runs asked for one session; each attaches to what the last one left."""
_MOST_ARRIVALS = 20
_UNDER_WAY = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]

record_session = dg.define_asset_job(
    "record_session",
    dg.AssetSelection.assets("golden_samples"),
    description="Records one session, or attaches to the recorder that is at work on it.",
    tags={SESSION_TAG: "recording", "dagster/max_retries": "0", "dagster/priority": "20"},
)


@dg.sensor(
    job=record_session,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Starts each session of the plan when its window opens, and attaches again to one whose run is gone. "
    "Stopped at first: a session takes disk and bandwidth for a day, so turning it on is a decision.",
)
def session_sensor(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]) -> dg.SensorResult | dg.SkipReason:
    """One run a session that should be recorded and has none."""
    now_us = time.time_ns() // 1000
    try:
        for window in windows(workspace.settings.sessions, now_us, now_us + 1):
            _prepare(workspace, window)
        wanted = [
            folder
            for folder in all_sessions(root(workspace))
            if not folder.metadata.exists() and (plan := known_plan(folder)) and plan.planned
        ]
    except CaptureError as error:
        return dg.SkipReason(f"cannot be decided now: {error}")
    runs = [request for folder in wanted if (request := _request(context.instance, folder)) is not None]
    if not runs:
        open_ones = f"{len(wanted)} sessions are recorded" if wanted else "no window is open"
        upcoming = windows(workspace.settings.sessions, now_us, now_us + 8 * 86_400_000_000)
        following = next((f"; next: {window.session}" for window in upcoming if window.start_us > now_us), "")
        return dg.SkipReason(open_ones + following)
    return dg.SensorResult(
        run_requests=runs, dynamic_partitions_requests=[SESSIONS.build_add_request([str(run.partition_key) for run in runs])]
    )


@dg.sensor(
    job=record_session,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Brings in sessions finished elsewhere, by `capture session start` or `capture import`: their run validates them.",
)
def session_arrivals(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]) -> dg.SensorResult | dg.SkipReason:
    """One run a finished session that was never materialized."""
    known = context.instance.get_materialized_partitions(dg.AssetKey("golden_samples"))
    finished = [folder.session for folder in all_sessions(root(workspace)) if folder.metadata.exists()]
    arrived = [session for session in reversed(finished) if session not in known][:_MOST_ARRIVALS]
    if not arrived:
        return dg.SkipReason(f"all {len(finished)} finished sessions are known")
    runs = [dg.RunRequest(run_key=f"{session}-arrived", partition_key=session) for session in arrived]
    return dg.SensorResult(run_requests=runs, dynamic_partitions_requests=[SESSIONS.build_add_request(arrived)])


def _prepare(workspace: Workspace, window: Window) -> None:
    """Write the plan of a window's session, once."""
    planned = window.planned
    folder = SessionFolder.under(root(workspace), planned.regime, window.session)
    if folder.plan.exists():
        return
    plan = new_plan(
        workspace.settings,
        list(planned.symbols),
        planned.regime,
        planned.duration_hours * 3600,
        description=planned.description,
        start_us=window.start_us,
    )
    make_folder(folder.path)
    publish_model(folder.plan, plan.model_copy(update={"planned": True}))


def _request(instance: dg.DagsterInstance, folder: SessionFolder) -> dg.RunRequest | None:
    """A run for a session that has none; the attempt stands in its key, for a key is asked for once and never again."""
    tags = {"dagster/partition": folder.session}
    if instance.get_run_records(dg.RunsFilter(job_name=record_session.name, tags=tags, statuses=_UNDER_WAY), limit=1):
        return None
    attempts = len(instance.get_run_records(dg.RunsFilter(job_name=record_session.name, tags=tags), limit=ATTEMPTS))
    if attempts >= ATTEMPTS:
        return None
    return dg.RunRequest(run_key=f"{folder.session}-{attempts + 1}", partition_key=folder.session)
