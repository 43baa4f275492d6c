"""Sessions that are launched in the UI of a running deployment."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from capture_pipeline.recorder.lifecycle import create_plan, prepare, sessions_root, stop
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.lock import lock_owner_pid
from capture_pipeline.sessions.status import read_status
from capture_pipeline_tests.support.dagster.ui import (
    LOCATION,
    RUN_JOB,
    Ui,
    free_port,
    run_ui,
    wait_for_daemons,
)
from capture_pipeline_tests.support.deployment import SandboxDeployment
from capture_pipeline_tests.support.waits import wait_for

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
    """Start `capture ui` on a project folder, without the runs that the automation would start."""
    port = free_port()
    with run_ui(project, port, CAPTURE_SANDBOX_URL=url, **SETTINGS) as process:
        wait_for_daemons(port)
        ui = Ui(port, project / "dagster_home", process.pid)
        ui.stop_sensor("automation")
        yield Desk(ui, SandboxDeployment(url, project / "data", **SETTINGS))
