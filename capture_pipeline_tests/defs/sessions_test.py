"""Sessions in Dagster: launched by the plan, followed again after a failure, finished by Terminate."""

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import dagster as dg
import pytest

from capture_pipeline.checks.recordings import RECORDING_CHECKS
from capture_pipeline.defs.golden_samples import recording
from capture_pipeline.recorder.app import LEAD_S
from capture_pipeline.recorder.lifecycle import (
    create_plan,
    find_session,
    list_sessions,
    prepare,
    sessions_root,
)
from capture_pipeline.recorder.process import launch, read_finished_metadata
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.lock import lock_owner_pid
from capture_pipeline.sessions.status import read_status
from capture_pipeline_tests.support.dagster.automation import evaluate_conditions
from capture_pipeline_tests.support.dagster.stage import Stage
from capture_pipeline_tests.support.deployment import SandboxDeployment
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer

ROOT = Path(__file__).resolve().parents[2]
BUSY = {
    "symbol": "BTCUSDT",
    "base_price": 60000,
    "tick_size": 0.01,
    "lot_size": 0.00001,
    "trades_per_day": 400_000,
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def market() -> Iterator[str]:
    """Start an exchange with a running clock."""
    with SandboxServer(
        SandboxConfig.model_validate({"now": "2025-02-20T10:30:00Z", "speed": 20, "symbols": [BUSY]})
    ) as server:
        yield server.url


@pytest.fixture
def sandbox(market: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SandboxDeployment:
    """Set a deployment in the environment, where recorders find it."""
    quick = {
        "CAPTURE_RECORDING_FREE_DISK_GB": "0.01",
        "CAPTURE_RECORDING_FLUSH_S": "0.2",
        "CAPTURE_SESSION_GATES_LEAST_HOURS": "0",
    }
    fresh = SandboxDeployment(market, tmp_path / "data", **quick, CAPTURE_SESSION_GATES_LEAST_MESSAGES="100")
    for name, value in fresh.environment().items():
        monkeypatch.setenv(name, value)
    return fresh


def planned(stage: Stage, seconds: float, ahead_s: float = 0) -> Stage:
    """Return the stage with a session that is planned to begin in some seconds, by default now."""
    now = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=ahead_s)
    entry = {
        "regime": "high_volume",
        "date": now.date(),
        "time": now.time().replace(microsecond=0),
        "duration_hours": seconds / 3600,
    }
    settings = stage.deployment.settings.model_validate(
        {**stage.deployment.settings.model_dump(), "sessions": [entry]}
    )
    stage.sandbox.deployment = type(stage.deployment)(settings)
    return stage


def session_of(stage: Stage) -> SessionFolder:
    return list_sessions(sessions_root(stage.deployment.settings))[0]


def until(happened: Callable[[], bool]) -> None:
    """Wait for a condition that another process changes."""
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "it did not happen within a minute"
        time.sleep(0.05)


def test_a_planned_session_is_recorded_checked_converted_and_compared(stage: Stage) -> None:
    """The run ends with the finished session, and all derived assets are materialized."""
    tick = planned(stage, 30).tick(
        "session_sensor"
    )  # long enough for a busy machine to start the recorder in it
    folder = session_of(stage)
    assert tick.keys == [folder.session]
    assert [run.run_key for run in tick.runs] == [f"{folder.session}-1"]
    stage.instance.add_dynamic_partitions("sessions", tick.keys)
    seen = evaluate_conditions(stage.definitions, stage.instance)
    result = stage.run("record_session", folder.session)
    assert result.success
    materialization = stage.materializations("golden_samples")[folder.session]
    assert materialization.metadata["state"].value == "complete"
    assert materialization.metadata["gaps"].value == 0
    verdicts = {each.check_name: each.passed for each in result.get_asset_check_evaluations()}
    assert verdicts == dict.fromkeys((spec.name for spec in RECORDING_CHECKS), True) | {"depth_rate": False}
    tables = ("golden_trades", "golden_depth", "golden_snapshots")
    seen = evaluate_conditions(stage.definitions, stage.instance, seen.cursor)
    requested = evaluate_conditions(stage.definitions, stage.instance, seen.cursor)
    assert {name: requested.get_num_requested(dg.AssetKey(name)) for name in tables} == dict.fromkeys(
        tables, 1
    )
    assert stage.materialize(tables, folder.session).success
    assert all(
        stage.materializations(name)[folder.session].metadata["dagster/partition_row_count"].value
        for name in ("golden_samples", *tables)
    )
    assert stage.materialize(["regime_comparison"]).success
    page = Path(str(stage.materializations("regime_comparison")[None].metadata["page"].value))
    assert folder.session in page.read_text()
    assert stage.tick("session_sensor").runs == []


def test_a_planned_session_is_asked_for_ahead_and_begins_in_time(stage: Stage) -> None:
    """The run is requested two minutes before; the file begins before the planned start."""
    assert (
        planned(stage, 5, ahead_s=600)
        .tick("session_sensor")
        .reason.startswith("no planned session is due; next: ")
    )
    tick = planned(stage, 5, ahead_s=LEAD_S + 20).tick("session_sensor")
    folder = session_of(stage)
    assert tick.keys == [folder.session]
    stage.instance.add_dynamic_partitions("sessions", tick.keys)
    result = stage.run("record_session", folder.session)
    assert result.success
    metadata = read_finished_metadata(folder)
    assert metadata.started_ns is not None
    assert metadata.started_ns < metadata.plan.start_us * 1000
    assert metadata.statistics["duration_s"] >= 5
    assert stage.materializations("golden_samples")[folder.session].metadata["late_s"].value == 0
    lines = [event.user_message for event in stage.instance.all_logs(result.run_id)]
    assert any(line.startswith("waiting: 0 messages") for line in lines)


def test_a_check_that_was_skipped_says_so(stage: Stage) -> None:
    """A short session has no snapshot of a synchronised book; the check warns and blocks nothing."""
    folder = prepare(
        sessions_root(stage.deployment.settings),
        create_plan(stage.deployment.settings, ["BTCUSDT"], "custom", 3),
    )
    stage.instance.add_dynamic_partitions("sessions", [folder.session])
    result = stage.run("record_session", folder.session)
    evaluations = {each.check_name: each for each in result.get_asset_check_evaluations()}
    best, ledger = evaluations["book_best"], evaluations["ledger"]
    assert (best.passed, best.severity, best.metadata["verdict"].value) == (
        True,
        dg.AssetCheckSeverity.WARN,
        "SKIPPED",
    )
    # On a busy machine the session may end before its snapshot arrives; the reason is then another one.
    assert best.description == best.metadata["reason"].value
    assert str(best.description).startswith("skipped: ")
    assert (ledger.severity, ledger.metadata["verdict"].value) == (dg.AssetCheckSeverity.ERROR, "PASS")


def test_a_session_of_which_nothing_came_fails_its_run_with_the_reason(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not materialized, and the sensor of arrivals ignores it."""
    monkeypatch.setenv("CAPTURE_SANDBOX_URL", "http://127.0.0.1:9")
    folder = prepare(
        sessions_root(stage.deployment.settings),
        create_plan(stage.deployment.settings, ["BTCUSDT"], "custom", 5),
    )
    stage.instance.add_dynamic_partitions("sessions", [folder.session])
    result = stage.run("record_session", folder.session)
    assert not result.success
    [failed] = [event for event in result.get_step_failure_events() if event.node_name == "golden_samples"]
    assert "ended without a message: cannot connect to ws://127.0.0.1:9" in str(
        failed.step_failure_data.error
    )
    assert any(
        "connecting" in event.user_message and "cannot connect" in event.user_message
        for event in stage.instance.all_logs(result.run_id)
    )
    assert stage.tick("session_arrivals").reason == "all 1 finished sessions are known or empty"


def test_a_run_tells_more_often_at_first() -> None:
    """A user who opens the page of a new run sees progress soon."""
    assert list(islice(recording.report_times(), 7)) == [
        10,
        30,
        60,
        120,
        300,
        600,
        900,
    ]


def test_a_run_that_dies_leaves_the_recorder_and_the_next_one_attaches(stage: Stage, tmp_path: Path) -> None:
    """After kill -9 of the run the recorder continues, the sensor requests a run, and there is one file."""
    planned(stage, 40).tick("session_sensor")
    folder = session_of(stage)
    with at_home(tmp_path) as (home, instance):
        instance.add_dynamic_partitions("sessions", [folder.session])
        run = materialized(home, folder)
        until(
            lambda: (
                lock_owner_pid(folder) is not None
                and (status := read_status(folder.status)) is not None
                and status.messages > 50
            )
        )
        recorder = lock_owner_pid(folder)
        run.kill()
        run.wait()
        before = read_status(folder.status)
        until(
            lambda: (
                (now := read_status(folder.status)) is not None
                and before is not None
                and now.messages > before.messages
            )
        )
        assert lock_owner_pid(folder) == recorder
    tick = stage.tick("session_sensor")
    assert tick.keys == [folder.session]
    stage.instance.add_dynamic_partitions("sessions", tick.keys)
    assert stage.run("record_session", folder.session).success
    starts = folder.events.read_text().count('"recorder_started"')
    assert starts == 1
    assert not folder.gaps.read_text()


def test_a_recorder_that_dies_is_started_again_into_the_same_file(stage: Stage) -> None:
    """The run restarts it within seconds; messages lost in between are in the ledger."""
    planned(stage, 600).tick("session_sensor")
    folder = session_of(stage)
    stage.instance.add_dynamic_partitions("sessions", [folder.session])
    killer = subprocess.Popen([sys.executable, "-c", _KILLER, str(folder.path)])
    assert stage.run("record_session", folder.session).success
    assert killer.wait() == 0
    assert folder.events.read_text().count('"recorder_started"') == 2
    assert "process down" in folder.gaps.read_text()
    metadata = stage.materializations("golden_samples")[folder.session].metadata
    assert metadata["gaps"].value == 2


_KILLER = """
import os, signal, sys, time
from pathlib import Path
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.lock import lock_owner_pid
from capture_pipeline.recorder.lifecycle import stop
from capture_pipeline.sessions.status import read_status
from capture_pipeline.settings.loader import load_settings
folder, killed = SessionFolder(Path(sys.argv[1])), None
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    status, pid = read_status(folder.status), lock_owner_pid(folder)
    if status and pid and status.pid == pid != killed and status.messages > 100 and status.messages_per_s:
        if killed:
            stop(folder, load_settings())
            sys.exit(0)
        os.kill(pid, signal.SIGKILL)
        killed = pid
    time.sleep(0.05)
sys.exit(1)
"""


def test_terminate_finishes_the_session_and_another_interrupt_leaves_it(stage: Stage, tmp_path: Path) -> None:
    """An interrupt finishes the session only if a user terminated the run."""
    planned(stage, 600).tick("session_sensor")
    folder = session_of(stage)
    with at_home(tmp_path) as (home, instance):
        instance.add_dynamic_partitions("sessions", [folder.session])
        interrupted = materialized(home, folder)
        until(lambda: (status := read_status(folder.status)) is not None and status.messages > 50)
        recorder = lock_owner_pid(folder)
        interrupted.send_signal(signal.SIGINT)
        interrupted.wait(timeout=60)
        assert recorder is not None
        assert lock_owner_pid(folder) == recorder
        terminated = materialized(home, folder)
        until(lambda: any(run.status is dg.DagsterRunStatus.STARTED for run in instance.get_runs()))
        run = next(run for run in instance.get_runs() if run.status is dg.DagsterRunStatus.STARTED)
        until(lambda: any("recording:" in event.user_message for event in instance.all_logs(run.run_id)))
        instance.report_run_canceling(run)
        terminated.send_signal(signal.SIGINT)
        terminated.wait(timeout=60)
        assert folder.metadata.exists()
    assert (
        read_finished_metadata(find_session(sessions_root(stage.deployment.settings), folder.session)).state
        == "interrupted"
    )
    until(lambda: lock_owner_pid(folder) is None)


@contextmanager
def at_home(tmp_path: Path) -> Iterator[tuple[Path, dg.DagsterInstance]]:
    """Create a Dagster home with the project's instance settings, for other processes."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_bytes((ROOT / "dagster_home" / "dagster.yaml").read_bytes())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield home, instance


def materialized(home: Path, folder: SessionFolder) -> subprocess.Popen[bytes]:
    """Materialize a session in a separate process."""
    command = [
        str(Path(sys.executable).with_name("dagster")),
        "asset",
        "materialize",
        "-m",
        "capture_pipeline.definitions",
    ]
    return subprocess.Popen(
        [*command, "--select", "golden_samples", "--partition", folder.session],
        cwd=ROOT,
        env={**os.environ, "DAGSTER_HOME": str(home)},
        stderr=subprocess.DEVNULL,
    )


def test_a_session_recorded_elsewhere_is_brought_in_once(stage: Stage) -> None:
    """Its run validates the session without recording, and is requested once."""
    settings = stage.deployment.settings
    folder = prepare(sessions_root(settings), create_plan(settings, ["BTCUSDT"], "custom", 3))
    process = launch(folder)
    assert process.wait(timeout=60) == 0
    result = stage.tick("session_arrivals")
    assert result.keys == [folder.session]
    stage.instance.add_dynamic_partitions("sessions", result.keys)
    assert stage.run("record_session", folder.session).success
    assert stage.tick("session_arrivals").reason == "all 1 finished sessions are known or empty"


def test_a_key_that_is_no_session_is_refused(stage: Stage) -> None:
    """Dynamic keys may contain any text; an invalid one does not become a path."""
    for key in ("../../etc/passwd", "20260803T143000Z_btcusdt/../x", "x\n"):
        stage.instance.add_dynamic_partitions("sessions", [key])
        assert not stage.run("record_session", key).success
    assert not sessions_root(stage.deployment.settings).exists()
