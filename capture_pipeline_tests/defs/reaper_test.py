"""The reaper with real processes: only runs whose process was killed are marked as failed."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from capture_pipeline.defs.operations import sensors
from capture_pipeline.defs.shared import resources
from capture_pipeline.lake.locks import is_abandoned
from capture_pipeline_tests.support.dagster.stage import BTC, ETH, JANUARY, Stage, key

ROOT = Path(__file__).resolve().parents[2]
DAGSTER = Path(sys.executable).with_name("dagster")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Create a Dagster home with the project's instance settings."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", folder)
    return folder


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """Open the instance of that home, which other processes use too."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def start(stage: Stage, home: Path, symbol: str) -> subprocess.Popen[bytes]:
    """Materialize one partition in a separate process."""
    environment = {
        **os.environ,
        **stage.sandbox.environment(CAPTURE_HTTP_READ_TIMEOUT_S="120"),
        "DAGSTER_HOME": str(home),
    }
    command = [
        str(DAGSTER),
        "asset",
        "materialize",
        "-m",
        "capture_pipeline.definitions",
        "--select",
        "kline_archives",
    ]
    return subprocess.Popen(
        [*command, "--partition", key(JANUARY, symbol)], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    )


def until(happened: Callable[[], bool]) -> None:
    """Wait for a condition that another process changes."""
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "it did not happen within a minute"
        time.sleep(0.05)


def statuses(instance: dg.DagsterInstance) -> dict[str, dg.DagsterRunStatus]:
    return {run.tags["dagster/partition"]: run.status for run in instance.get_runs()}


@pytest.mark.slow
def test_a_killed_run_is_ended_and_a_live_one_left_alone(stage: Stage, home: Path) -> None:
    """The reaper fails a run after SIGKILL; Ctrl-C ends a run at once, although its download stalls."""
    stalled = {"match": {"path": "*.zip"}, "fault": "timeout", "stall_s": 100, "times": "always"}
    stage.sandbox.faults(stalled)
    killed, live = start(stage, home, BTC), start(stage, home, ETH)
    try:
        until(lambda: stage.sandbox.injected() >= 2)
        killed.kill()
        killed.wait()
        assert set(statuses(stage.instance).values()) == {dg.DagsterRunStatus.STARTED}
        assert (
            stage.tick("dead_run_reaper").reason
            == "2 runs are in progress; 1 of them were dead and marked as failed"
        )
        ended = {
            key(JANUARY, BTC): dg.DagsterRunStatus.FAILURE,
            key(JANUARY, ETH): dg.DagsterRunStatus.STARTED,
        }
        assert statuses(stage.instance) == ended
        assert (
            stage.tick("dead_run_reaper").reason
            == "1 runs are in progress; 0 of them were dead and marked as failed"
        )
        live.send_signal(signal.SIGINT)
        until(lambda: statuses(stage.instance)[key(JANUARY, ETH)] is not dg.DagsterRunStatus.STARTED)
    finally:
        for process in (killed, live):
            process.kill()
            process.wait()
    assert statuses(stage.instance)[key(JANUARY, ETH)] is dg.DagsterRunStatus.FAILURE
    assert list((stage.sandbox.root / "state" / "runs").glob("*.lock")) == []


def test_a_run_without_a_sign_of_life_is_ended_after_a_silent_day(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that died before it locked its file counts as dead after a day, unless the file is locked."""
    job = stage.definitions.resolve_job_def("clean_up")
    run = stage.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    stage.instance.report_engine_event("its last words", run)
    assert (
        stage.tick("dead_run_reaper").reason
        == "1 runs are in progress; 0 of them were dead and marked as failed"
    )
    monkeypatch.setattr(sensors, "SILENCE_S", -1.0)
    with resources.run_lock(resources.run_lock_path(stage.deployment, run.run_id)):
        assert (
            stage.tick("dead_run_reaper").reason
            == "1 runs are in progress; 0 of them were dead and marked as failed"
        )
    assert (
        stage.tick("dead_run_reaper").reason
        == "1 runs are in progress; 1 of them were dead and marked as failed"
    )
    ended = stage.instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is dg.DagsterRunStatus.FAILURE


def test_a_lock_says_who_lives(tmp_path: Path) -> None:
    """A locked file means alive, a released one dead; a missing file means unknown."""
    path = tmp_path / "runs" / "a.lock"
    assert is_abandoned(path) is False
    with resources.run_lock(path):
        assert path.exists()
        assert is_abandoned(path) is False
    assert not path.exists()
    assert is_abandoned(path) is False
    path.write_bytes(b"\0")
    assert is_abandoned(path) is True


def test_a_process_about_to_take_its_lock_is_not_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reaper checks a file that was created but not locked yet."""
    path, flock, seen = tmp_path / "a.lock", fcntl.flock, []

    def look_first(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX | fcntl.LOCK_NB:
            seen.append(is_abandoned(path))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", look_first)
    with resources.run_lock(path):
        assert seen == [False]


def test_a_run_that_ends_while_it_is_looked_at_is_not_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file was opened before the run ended; only a clean end removes it before the lock is released."""
    path = tmp_path / "a.lock"
    holder = resources.run_lock(path)
    holder.__enter__()
    flock = fcntl.flock

    def ends_just_before(descriptor: int, operation: int) -> None:
        holder.__exit__(None, None, None)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", ends_just_before)
    assert is_abandoned(path) is False
