"""Recordings launched in the UI: the limit of sessions, and killed recorders, runs and deployments."""

import os
import signal
from collections.abc import Iterator

import pytest

from capture_pipeline.sessions.lock import lock_owner_pid
from capture_pipeline.sessions.models import Cause
from capture_pipeline_tests.support.dagster.recordings import BUSY, LIMIT, POOL, Desk, recorded, site, starts
from capture_pipeline_tests.support.dagster.ui import (
    make_project,
    process_tree,
)
from capture_pipeline_tests.support.waits import wait_for
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def market() -> Iterator[str]:
    """Start an exchange with a running clock."""
    with SandboxServer(
        SandboxConfig.model_validate({"now": "2025-02-20T10:30:00Z", "speed": 20, "symbols": BUSY})
    ) as server:
        yield server.url


@pytest.fixture(scope="module")
def desk(market: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Start a deployment for all tests; the last one kills it."""
    with site(make_project(tmp_path_factory.mktemp("project")), market) as desk:
        yield desk


def test_a_session_beyond_the_limit_waits_visibly_and_is_then_recorded(desk: Desk) -> None:
    """*Materialize* sets no tag; the page and the sensor show why the second run is queued."""
    desk.ui.query(LIMIT, limit=1)
    first, second = desk.session("BTCUSDT"), desk.session("ETHUSDT")
    one = desk.materialize(first)
    recorder = recorded(first)
    two = desk.materialize(second)
    wait_for(lambda: "capture/queued_at_start" in desk.run(two)["tags"], 240)
    waiting = desk.run(two)
    assert (waiting["status"], waiting["rootConcurrencyKeys"]) == ("QUEUED", ["recordings"])
    assert waiting["tags"]["capture/queued_at_start"].endswith(
        "was still in the queue: all 1 slots of the pool recordings were in use"
    )
    assert desk.ui.query(POOL)["instance"]["concurrencyLimit"] == {
        "limit": 1,
        "claimedSlots": [{"runId": one}],
    }
    assert lock_owner_pid(second) is None
    assert lock_owner_pid(first) == recorder

    desk.end(first)
    recorded(second)
    assert desk.ui.query(POOL)["instance"]["concurrencyLimit"]["claimedSlots"] == [{"runId": two}]
    desk.end(second)
    desk.ui.query(LIMIT, limit=3)


def test_a_killed_recorder_is_started_again_under_its_run(desk: Desk) -> None:
    """The run follows the next recorder of the session; missed messages are in the ledger."""
    folder = desk.session("BTCUSDT")
    run = desk.materialize(folder)
    killed = recorded(folder)
    os.kill(killed, signal.SIGKILL)
    recorded(folder, but=killed)
    assert [(each["runId"], each["status"]) for each in desk.runs(folder)] == [(run, "STARTED")]
    assert starts(folder) == 2
    assert Cause.PROCESS in folder.gaps.read_text()
    desk.end(folder)


def test_a_run_killed_together_with_its_recorder_is_retried_and_resumes_the_session(desk: Desk) -> None:
    """Dagster retries the first time, as set in dagster.yaml; the sensor requests a run the second time."""
    folder = desk.session("BTCUSDT")
    first = desk.materialize(folder)
    recorder = recorded(folder)
    os.kill(desk.process(first), signal.SIGKILL)
    os.kill(recorder, signal.SIGKILL)
    recorder = recorded(folder, but=recorder)
    wait_for(lambda: len(desk.runs(folder)) > 1, 240)
    retried, failed = desk.runs(folder)
    assert (failed["runId"], failed["status"]) == (first, "FAILURE")
    assert retried["tags"]["dagster/retry_number"] == "1"

    wait_for(lambda: desk.runs(folder)[0]["status"] == "STARTED", 240)
    os.kill(desk.process(retried["runId"]), signal.SIGKILL)
    os.kill(recorder, signal.SIGKILL)
    recorded(folder, but=recorder)
    wait_for(lambda: len(desk.runs(folder)) > 2, 240)
    newest, *earlier = desk.runs(folder)
    assert newest["tags"]["dagster/sensor_name"] == "session_resumption"
    assert [each["status"] for each in earlier] == ["FAILURE", "FAILURE"]
    assert starts(folder) == 3
    desk.end(folder)


def test_a_run_killed_alone_leaves_its_recorder_to_the_retry(desk: Desk) -> None:
    """The retry attaches to the running recorder; no message is missed."""
    folder = desk.session("ETHUSDT")
    first = desk.materialize(folder)
    recorder = recorded(folder)
    os.kill(desk.process(first), signal.SIGKILL)
    wait_for(lambda: [run["status"] for run in desk.runs(folder)] == ["STARTED", "FAILURE"], 240)
    desk.end(folder)
    assert recorder > 0
    assert starts(folder) == 1
    assert folder.gaps.read_text() == ""


def test_after_a_power_cut_the_session_goes_on(desk: Desk, market: str) -> None:
    """All processes are killed; after a restart the retry of the dead run resumes the session.

    No test of the module can follow, because the deployment of the fixture is gone.
    """
    folder = desk.session("BTCUSDT")
    run = desk.materialize(folder)
    killed = recorded(folder)
    for process in [*process_tree(desk.ui.pid), killed]:
        os.kill(process, signal.SIGKILL)
    with site(desk.ui.home.parent, market) as restarted:
        assert restarted.runs(folder)[-1]["runId"] == run
        recorded(folder, but=killed)
        assert any(
            line.startswith("Ended by dead_run_reaper: its process has ended")
            for line in restarted.messages(run)
        )
        assert Cause.PROCESS in folder.gaps.read_text()
        restarted.end(folder)
