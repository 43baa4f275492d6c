"""Asset of a live recording.

Its run starts a recorder, or attaches to a running one, and logs the recorder's status.

The recorder does not use Dagster, so failures of the run, the daemon or the database do not stop it. Only
*Terminate* ends the recorder, gracefully. If the run dies, the recorder continues and the next run attaches
to it. Each run takes a slot of the pool.
"""

import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from capture_pipeline.defs.golden_samples.sessions import SESSIONS, find_session_folder
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.defs.shared.table_metadata import ROWS
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import CaptureError, MalformedDataError, StorageError
from capture_pipeline.recorder.lifecycle import stop
from capture_pipeline.recorder.process import follow, read_finished_metadata
from capture_pipeline.recorder.state import empty_session_reason
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionMetadata, SessionState
from capture_pipeline.sessions.status import Status, free_bytes

POOL = "recordings"
"""Pool whose limit is the number of sessions that Dagster records at the same time; further runs wait in the
queue."""
_FIRST_REPORTS_S = (10.0, 30.0, 60.0, 120.0)
_REPORT_INTERVAL_S = 300.0
_LATE_S = 5.0
_FINISH_S = 60.0
_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn(
            "capture_ns", "int", "Time at which the recorder accepted the message, nanoseconds UTC"
        ),
        dg.TableColumn(
            "stream",
            "string",
            "Name of the stream at the exchange, or <symbol>@depthSnapshot for a snapshot requested by REST",
        ),
        dg.TableColumn("data", "string", "Message of the exchange, unchanged"),
    ]
)


@dg.asset(
    group_name="golden_samples",
    kinds={"binance", "file"},
    partitions_def=SESSIONS,
    code_version="1",
    pool=POOL,
    description="Recording of one session: trades and order-book diffs as the exchange sent them, merged "
    "from two connections; one JSON line per message, gzip. A ledger lists every missing id. The recorder is "
    "a separate process, which continues if this run dies.",
    metadata={"dagster/column_schema": _SCHEMA},
)
def golden_samples(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> dg.MaterializeResult[Any]:
    """Record a session, or follow its recorder, until the session is finished."""
    with domain_errors_as_dagster(context.op_execution_context):
        folder = find_session_folder(deployment, context.partition_key)
        _check_disk(deployment, folder)
        try:
            _log_progress(context, folder)
        except (DagsterExecutionInterruptedError, KeyboardInterrupt):
            if _is_terminated(context):
                _finish(context, deployment, folder)
            raise
        metadata = read_finished_metadata(folder)
        if metadata.state is SessionState.EMPTY:
            raise MalformedDataError(
                empty_session_reason(folder),
                where=str(folder.path),
                remedy="there is nothing to validate or convert",
            )
        return outputs.materialization(_describe(folder, metadata))


def _check_disk(deployment: Deployment, folder: SessionFolder) -> None:
    free_gb, reserve_gb = free_bytes(folder.path) / 1e9, deployment.settings.recording.free_disk_gb
    if not folder.growing.exists() and not folder.metadata.exists() and free_gb < reserve_gb:
        remedy = "free disk space, or lower recording.free_disk_gb"
        raise StorageError(
            f"{free_gb:.1f} GB are free, but a session needs {reserve_gb:g} GB to start",
            where=str(folder.path),
            remedy=remedy,
        )


def _log_progress(context: dg.AssetExecutionContext, folder: SessionFolder) -> None:
    """Log the status of the recorder until it ends.

    Changes of state and error are logged at once, other lines at `report_times`: each line is a row of the
    event log.
    """
    start_s, due, known = time.monotonic(), report_times(), ("", "")
    following_s = next(due)
    for status in follow(folder):
        if status is None:
            continue
        after_s, is_due = time.monotonic() - start_s, False
        while after_s >= following_s:
            following_s, is_due = next(due), True
        if is_due or known != (status.state, status.last_error):
            known = (status.state, status.last_error)
            outputs.log_info(context, format_progress(status))


def report_times() -> Iterator[float]:
    """Yield the times of progress lines, in seconds after the start of the run: more often at first."""
    yield from _FIRST_REPORTS_S
    after_s = _REPORT_INTERVAL_S
    while True:
        yield after_s
        after_s += _REPORT_INTERVAL_S


def format_progress(status: Status) -> str:
    """Format a status as one line."""
    connections = ", ".join(f"{one.number} for {one.age_s:.0f} s" for one in status.connections) or "none"
    problems = [
        status.last_error,
        status.trouble,
        f"began {status.late_s:.0f} s late" if status.late_s >= _LATE_S else "",
    ]
    return (
        f"{status.state}: {status.messages:,} messages, {status.messages_per_s:.1f}/s, {status.gaps} gaps, "
        f"{status.ids_lost} ids lost, {status.file_bytes / 1e6:.1f} MB, "
        f"{status.disk_free_bytes / 1e9:.0f} GB free, connections {connections}, recorder {status.pid}"
        + "".join(f", {problem}" for problem in problems if problem)
    )


def _is_terminated(context: dg.AssetExecutionContext) -> bool:
    """Return True if a user terminated the run. Otherwise only its process stops; the recorder continues."""
    run = context.instance.get_run_by_id(context.run_id)
    return run is not None and run.status is dg.DagsterRunStatus.CANCELING


def _finish(context: dg.AssetExecutionContext, deployment: Deployment, folder: SessionFolder) -> None:
    try:
        deadline = time.monotonic() + _FINISH_S
        while stop(folder, deployment.settings) is None and time.monotonic() < deadline:
            time.sleep(0.2)
    except CaptureError as error:
        outputs.log_warning(context, f"the session could not be finished: {error}")
        return
    outputs.log_info(
        context,
        f"the session is finished: {folder.metadata}"
        if folder.metadata.exists()
        else "the session is still being finished",
    )


def _describe(folder: SessionFolder, metadata: SessionMetadata) -> dict[str, Any]:
    figures = metadata.statistics
    names = (
        "messages",
        "gaps",
        "ids_lost",
        "duplicates",
        "reconnects",
        "duration_s",
        "uptime_percent",
        "late_s",
    )
    # Sessions of earlier versions lack some of these figures.
    numbers = {name: figures[name] for name in names if figures.get(name) is not None}
    ratios = {
        name: figures[name] for name in ("gap_ratio_ids", "gap_ratio_events", "gap_ratio_discontinuities")
    }
    recording = next((file for file in metadata.files if file.name == folder.recording.name), None)
    return {
        ROWS: figures["messages"],
        "state": str(metadata.state),
        "regime": metadata.plan.regime,
        "symbols": ", ".join(metadata.plan.symbols),
        "path": folder.recording,
        "bytes": recording.bytes if recording else 0,
        "sha256": recording.sha256 if recording else "there is no recording",
        **numbers,
        **ratios,
        **{
            name: figures.get(name, {})
            for name in ("reconnects_by_cause", "gaps_by_cause", "messages_by_stream")
        },
        "files": outputs.table(
            [{"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in metadata.files],
            dg.TableSchema(
                [dg.TableColumn("name"), dg.TableColumn("bytes", "int"), dg.TableColumn("sha256")]
            ),
        ),
    }
