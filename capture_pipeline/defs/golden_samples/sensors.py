"""Before a planned window opens its session is prepared and a run asked for; a session whose run is gone gets another, which attaches.

The run is asked for `AHEAD_S` before the window, for looking, queueing and starting take time: its recorder waits for the start.
"""

import time
from itertools import islice

import dagster as dg

from capture_pipeline.defs import outputs
from capture_pipeline.defs.golden_samples.recording import SESSION_TAG
from capture_pipeline.defs.golden_samples.sessions import SESSIONS, root
from capture_pipeline.errors import CaptureError
from capture_pipeline.klines.workspace import Workspace
from capture_pipeline.lake.files import make_folder, publish_model, read_model
from capture_pipeline.recording.layout import SessionFolder
from capture_pipeline.recording.models import EMPTY, SessionMetadata
from capture_pipeline.recording.planning import Window, windows
from capture_pipeline.recording.session import all_sessions, known_plan, new_plan

AHEAD_S = 120.0
"""How long before its window a session's run is asked for."""
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
    description="Starts the run of each session of the plan two minutes before its window, and attaches again to one whose run is gone. "
    "Stopped at first: a session takes disk and bandwidth for a day, so turning it on is a decision.",
)
def session_sensor(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]) -> dg.SensorResult | dg.SkipReason:
    """One run a session that should be recorded and has none."""
    now_us = time.time_ns() // 1000
    try:
        for window in windows(workspace.settings.sessions, now_us, now_us + round(AHEAD_S * 1e6)):
            _prepare(workspace, window)
        wanted = [
            folder
            for folder in all_sessions(root(workspace))
            if not folder.metadata.exists() and (plan := known_plan(folder)) and plan.planned
        ]
    except CaptureError as error:
        return outputs.skip(f"cannot be decided now: {error}")
    runs = [request for folder in wanted if (request := _request(context.instance, folder)) is not None]
    if not runs:
        open_ones = f"{len(wanted)} sessions are recorded or begin in a moment" if wanted else "no window is open"
        upcoming = windows(workspace.settings.sessions, now_us, now_us + 8 * 86_400_000_000)
        following = next((f"; next: {window.session}" for window in upcoming if window.start_us > now_us), "")
        return outputs.skip(open_ones + following)
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
    finished = [folder for folder in all_sessions(root(workspace)) if folder.metadata.exists()]
    new = (folder for folder in reversed(finished) if folder.session not in known and not _is_empty(folder))
    arrived = [folder.session for folder in islice(new, _MOST_ARRIVALS)]
    if not arrived:
        return outputs.skip(f"all {len(finished)} finished sessions are known or empty")
    runs = [dg.RunRequest(run_key=f"{session}-arrived", partition_key=session) for session in arrived]
    return dg.SensorResult(run_requests=runs, dynamic_partitions_requests=[SESSIONS.build_add_request(arrived)])


def _is_empty(folder: SessionFolder) -> bool:
    """Whether nothing was recorded, so that there is nothing to bring in; damaged metadata are for the run to name."""
    try:
        metadata = read_model(folder.metadata, SessionMetadata)
    except CaptureError:
        return False
    return metadata is not None and metadata.state == EMPTY


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
