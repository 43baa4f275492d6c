"""Further runs of unfinished sessions and restarts of recorders: a table of runs, and the sensor."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from capture_pipeline.defs.golden_samples import attempts
from capture_pipeline.recorder.lifecycle import create_plan, prepare, sessions_root, stop
from capture_pipeline.recorder.process import launch
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.lock import lock_owner_pid
from capture_pipeline.sessions.status import read_status
from capture_pipeline_tests.support.dagster.stage import Stage
from capture_pipeline_tests.support.deployment import SandboxDeployment
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer

ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("capture_pipeline"), "__repository__"),
    "record_session",
)
NOW_S = 1_800_000_000.0
FAILURE, CANCELED, STARTED = (
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
    dg.DagsterRunStatus.STARTED,
)
QUEUED, STARTING, SUCCESS = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.SUCCESS,
)


def run(
    status: dg.DagsterRunStatus, ended_s: float | None = None, length_s: float = 600, **tags: str
) -> dg.RunRecord:
    """Return a run that ended this many seconds ago; a failed run has no retry, unless `tags` say so."""
    end = None if ended_s is None else NOW_S - ended_s
    at = datetime.fromtimestamp(end or NOW_S, UTC)
    named = {f"dagster/{name}": value for name, value in {"will_retry": "false", **tags}.items() if value}
    dagster_run = dg.DagsterRun(
        job_name="record_session", status=status, tags=named, remote_job_origin=ORIGIN
    )
    return dg.RunRecord(1, dagster_run, at, at, (end or NOW_S) - length_s, end)


SHORT = [run(FAILURE, ended, 5) for ended in (30, 60, 90, 100, 110)]


@pytest.mark.parametrize(
    ("runs", "is_due", "has_failed"),
    [
        ([], False, False),
        ([run(FAILURE, 0)], True, True),
        ([run(FAILURE, 10, 5)], True, True),
        ([run(FAILURE, 2, 5), run(FAILURE, 20, 5)], False, False),
        ([run(FAILURE, 6, 5), run(FAILURE, 20, 5)], True, True),
        (SHORT, False, False),
        ([run(FAILURE, 2), *SHORT], True, True),
        ([run(FAILURE, 10, will_retry="true")], False, True),
        ([run(FAILURE, 599, will_retry="true")], False, True),
        ([run(FAILURE, 601, will_retry="true")], True, True),
        ([run(FAILURE, 59, will_retry="")], False, True),
        ([run(FAILURE, 61, will_retry="")], True, True),
        ([run(FAILURE, 10, will_retry="true", auto_retry_run_id="x")], True, True),
        ([run(QUEUED), run(FAILURE, 10)], False, True),
        ([run(STARTING), run(FAILURE, 10)], False, True),
        ([run(STARTED), run(FAILURE, 10)], False, False),
        ([run(FAILURE, 10), run(STARTED)], False, True),
        ([run(CANCELED, 10)], False, False),
        ([run(SUCCESS, 10)], False, False),
        ([run(QUEUED)], False, False),
        ([run(FAILURE, 1000)] * 200, False, True),
    ],
)
def test_a_failed_run_is_followed_by_another(
    runs: list[dg.RunRecord], is_due: bool, has_failed: bool
) -> None:
    """No run is due next to an active, queued, cancelled or retried one; the waits of short runs double."""
    session_runs = attempts.SessionRuns(runs)
    assert (session_runs.is_due(NOW_S, is_ending=False), session_runs.has_failed(NOW_S)) == (
        is_due,
        has_failed,
    )


def test_a_session_whose_end_was_requested_is_finished_by_another_run() -> None:
    """The next run finishes a session whose cancelled run did not finish it."""
    assert attempts.SessionRuns([run(CANCELED, 10)]).is_due(NOW_S, is_ending=True)


@pytest.fixture(scope="module")
def market() -> Iterator[str]:
    """Start an exchange with a running clock."""
    with SandboxServer(SandboxConfig.model_validate({"now": "2025-02-20T10:30:00Z", "speed": 20})) as server:
        yield server.url


@pytest.fixture
def sandbox(market: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SandboxDeployment:
    """Set a deployment in the environment, where recorders find it."""
    fresh = SandboxDeployment(
        market, tmp_path / "data", CAPTURE_RECORDING_FREE_DISK_GB="0.01", CAPTURE_RECORDING_FLUSH_S="0.2"
    )
    for name, value in fresh.environment().items():
        monkeypatch.setenv(name, value)
    return fresh


def add_run(stage: Stage, session: str, **more: Any) -> dg.DagsterRun:
    """Add a run of a session to the instance."""
    job = stage.definitions.resolve_job_def("record_session")
    return stage.instance.create_run_for_job(
        job, tags={"dagster/partition": session}, remote_job_origin=ORIGIN, **more
    )


def until_recorded(folder: SessionFolder) -> int:
    """Wait for messages; return the process id of the recorder."""
    deadline = time.monotonic() + 60
    while (
        (holder := lock_owner_pid(folder)) is None
        or (status := read_status(folder.status)) is None
        or status.pid != holder
        or not status.messages
    ):
        assert time.monotonic() < deadline, "nothing is recorded"
        time.sleep(0.05)
    return holder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_recorder_is_started_before_the_run_that_attaches(stage: Stage) -> None:
    """While the failed run has a retry, no run is requested, but the recorder is started."""
    settings = stage.deployment.settings
    folder = prepare(sessions_root(settings), create_plan(settings, ["BTCUSDT"], "custom", 600))
    process = launch(folder)
    until_recorded(folder)
    first = add_run(stage, folder.session, status=STARTED)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert stage.tick("session_resumption").reason == "no session needs another run"
    assert lock_owner_pid(folder) is None
    stage.instance.report_run_failed(first)
    stage.instance.add_run_tags(first.run_id, {"dagster/will_retry": "true"})
    assert stage.tick("session_resumption").keys == []
    until_recorded(folder)
    stage.instance.add_run_tags(first.run_id, {"dagster/auto_retry_run_id": "another"})
    (request,) = stage.tick("session_resumption").runs
    assert (request.partition_key, request.run_key) == (folder.session, f"{folder.session}-2")
    assert folder.events.read_text().count('"recorder_started"') == 2
    stop(folder, settings)
    deadline = time.monotonic() + 60
    while not folder.metadata.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_queued_run_of_a_session_that_begins_is_reported(stage: Stage) -> None:
    """The sensor and the tags of the run name start and cause; a later session is not reported yet."""
    settings = stage.deployment.settings
    for symbol, ahead_s in (("BTCUSDT", 30), ("ETHUSDT", 3600)):
        plan = create_plan(
            settings, [symbol], "custom", 600, start_us=time.time_ns() // 1000 + ahead_s * 1_000_000
        )
        prepare(sessions_root(settings), plan)
        run = add_run(stage, plan.session, status=QUEUED)
        if ahead_s < 60:
            near, start_us = run, plan.start_us
    result = stage.tick("session_resumption")
    assert result.reason.startswith(f"{near.tags['dagster/partition']}: the session starts at ")
    assert result.reason.count("still in the queue") == 1
    found = stage.instance.get_run_by_id(near.run_id)
    assert found is not None
    assert (
        datetime.fromtimestamp(start_us / 1e6, UTC).isoformat()[:19] in found.tags["capture/queued_at_start"]
    )


def test_a_cancelled_run_of_a_planned_session_is_not_requested_again(stage: Stage) -> None:
    """A user cancelled the run in the queue."""
    settings = stage.deployment.settings
    plan = create_plan(settings, ["BTCUSDT"], "custom", 600).model_copy(update={"planned": True})
    prepare(sessions_root(settings), plan)
    assert plan.session in stage.tick("session_sensor").keys
    add_run(stage, plan.session, status=CANCELED)
    assert plan.session not in stage.tick("session_sensor").keys
    assert stage.tick("session_resumption").keys == []
