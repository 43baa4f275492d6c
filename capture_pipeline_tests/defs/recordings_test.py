"""Recordings launched in the UI: the limit of sessions, and killed recorders, runs and deployments."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from capture_pipeline.recorder.lifecycle import create_plan, prepare, sessions_root, stop
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.lock import lock_owner_pid
from capture_pipeline.sessions.models import Cause
from capture_pipeline.sessions.status import read_status
from capture_pipeline_tests.support.dagster.ui import (
    LOCATION,
    RUN_JOB,
    Ui,
    free_port,
    make_project,
    process_tree,
    run_ui,
    wait_for_daemons,
)
from capture_pipeline_tests.support.deployment import SandboxDeployment
from capture_pipeline_tests.support.waits import wait_for
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BUSY = [
    {"symbol": symbol, "base_price": 60000, "tick_size": 0.01, "lot_size": 0.00001, "trades_per_day": 400_000}
    for symbol in ("BTCUSDT", "ETHUSDT")
]
SETTINGS = {
    "CAPTURE_SYMBOLS": "BTCUSDT,ETHUSDT",
    "CAPTURE_RECORDING_FREE_DISK_GB": "0.01",
    "CAPTURE_RECORDING_FLUSH_S": "0.2",
}
ADD = """mutation ($key: String!, $where: RepositorySelector!) {
  addDynamicPartition(partitionsDefName: "sessions", partitionKey: $key, repositorySelector: $where) {
    __typename}
}"""
LIMIT = 'mutation ($limit: Int!) {setConcurrencyLimit(concurrencyKey: "recordings", limit: $limit)}'
POOL = '{instance {concurrencyLimit(concurrencyKey: "recordings") {limit claimedSlots {runId}}}}'
RUN = """query ($id: ID!) {
  runOrError(runId: $id) {... on Run {status rootConcurrencyKeys tags {key value}}}
}"""
RUNS = """query ($filter: RunsFilter!) {
  runsOrError(filter: $filter) {... on Runs {results {runId status tags {key value}}}}}"""


@dataclass(frozen=True)
class Desk:
    """A running deployment and its UI.

    Attributes:
        ui: Webserver, and folder of the Dagster instance.
        deployment: Settings of the deployment.
    """

    ui: Ui
    sandbox: SandboxDeployment

    def session(self, symbol: str, duration_s: float = 600) -> SessionFolder:
        """Prepare a session that begins now, and add its partition."""
        settings = self.sandbox.deployment.settings
        folder = prepare(
            sessions_root(settings), create_plan(settings, [symbol], "custom", duration_s), resume_open=False
        )
        self.ui.query(ADD, key=folder.session, where=LOCATION)
        return folder

    def materialize(self, folder: SessionFolder) -> str:
        """Click *Materialize* for a session; return the id of the run."""
        selector = {
            **LOCATION,
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": ["golden_samples"]}],
        }
        tags = [{"key": "dagster/partition", "value": folder.session}]
        given = {
            "mode": "default",
            "selector": selector,
            "runConfigData": "{}",
            "executionMetadata": {"tags": tags},
        }
        launched = self.ui.query(RUN_JOB, given=given)["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ui.query(RUN, id=run_id)["runOrError"]
        return {**found, "tags": {tag["key"]: tag["value"] for tag in found["tags"]}}

    def runs(self, folder: SessionFolder) -> list[dict[str, Any]]:
        """Return the runs of a session, newest first."""
        query_filter = {"tags": [{"key": "dagster/partition", "value": folder.session}]}
        found: list[dict[str, Any]] = self.ui.query(RUNS, filter=query_filter)["runsOrError"]["results"]
        return [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in found]

    def messages(self, run_id: str) -> list[str]:
        """Return the lines of a run's log."""
        with dg.DagsterInstance.from_config(str(self.ui.home)) as instance:
            return [event.user_message or event.message for event in instance.all_logs(run_id)]

    def process(self, run_id: str) -> int:
        found = re.search(r"\(pid: (\d+)\)", "\n".join(self.messages(run_id)))
        assert found is not None
        return int(found[1])

    def end(self, folder: SessionFolder) -> None:
        """Finish a session, and wait for the success of its run."""
        wait_for(lambda: self.runs(folder)[0]["status"] == "STARTED", 240)
        stop(folder, self.sandbox.deployment.settings)
        wait_for(folder.metadata.exists, 240)
        wait_for(lambda: self.runs(folder)[0]["status"] == "SUCCESS", 240)


def recorded(folder: SessionFolder, but: int | None = None) -> int:
    """Wait until a recorder other than `but` accepted messages; return its process id."""

    def records() -> bool:
        status = read_status(folder.status)
        return (
            status is not None
            and status.pid == lock_owner_pid(folder) != but
            and status.state == "recording"
            and status.messages_per_s > 0
        )

    wait_for(records, 240)
    holder = lock_owner_pid(folder)
    assert holder is not None
    return holder


def starts(folder: SessionFolder) -> int:
    return folder.events.read_text().count('"recorder_started"')


@contextmanager
def site(project: Path, url: str) -> Iterator[Desk]:
    """Start `capture ui` on a project folder."""
    port = free_port()
    with run_ui(project, port, CAPTURE_SANDBOX_URL=url, **SETTINGS) as process:
        wait_for_daemons(port)
        yield Desk(
            Ui(port, project / "dagster_home", process.pid),
            SandboxDeployment(url, project / "data", **SETTINGS),
        )


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
            line.startswith("Ended by dead_run_reaper: its process is gone")
            for line in restarted.messages(run)
        )
        assert Cause.PROCESS in folder.gaps.read_text()
        restarted.end(folder)
