"""Helpers for tests with `capture ui`: a project folder, processes, and queries of the browser."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import requests
import yaml
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from capture_pipeline_tests.support.deployment import NO_SETTINGS, QUICK
from capture_pipeline_tests.support.waits import wait_for

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(sys.executable).parent
HEALTH = """{instance {daemonHealth {allDaemonStatuses {
  daemonType required healthy lastHeartbeatErrors {message}}}}}"""
LAUNCH = """mutation ($given: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $given) {
    __typename ... on LaunchBackfillSuccess {backfillId} ... on PythonError {message}}
}"""
RUN_JOB = """mutation ($given: ExecutionParams!) {
  launchPipelineExecution(executionParams: $given) {
    __typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}
}"""
SENSOR = """query ($selector: SensorSelector!) {
  sensorOrError(sensorSelector: $selector) {__typename ... on Sensor {sensorState {id}}}
}"""
STOP_SENSOR = """mutation ($id: String!) {
  stopSensor(id: $id) {__typename ... on StopSensorMutationResult {instigationState {status}}}
}"""
STATUS = (
    "query ($id: String!) {partitionBackfillOrError(backfillId: $id) {... on PartitionBackfill {status}}}"
)
DIMENSIONS = ("dagster/partition/month", "dagster/partition/symbol")
LOCATION = {"repositoryLocationName": "capture_pipeline", "repositoryName": "__repository__"}


INTERVALS = """import sys

if any("dagster-daemon" in word for word in sys.orig_argv):
    from dagster._daemon import controller

    assert controller.DEFAULT_DAEMON_INTERVAL_SECONDS == 30
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 2
"""
"""Shortens the interval at which the daemon looks after backfills; Dagster has no setting for it."""


def make_project(folder: Path) -> Path:
    """Copy the files of a deployment, except the package, into a folder; shorten the daemon's intervals."""
    shutil.copy(ROOT / "workspace.yaml", folder)
    (folder / "dagster_home").mkdir()
    instance = yaml.safe_load((ROOT / "dagster_home" / "dagster.yaml").read_text())
    instance["run_coordinator"]["config"]["dequeue_interval_seconds"] = 1
    instance["run_monitoring"]["poll_interval_seconds"] = 3
    instance["run_monitoring"]["free_slots_after_run_end_seconds"] = 1
    (folder / "dagster_home" / "dagster.yaml").write_text(yaml.safe_dump(instance))
    (folder / "sitecustomize.py").write_text(INTERVALS)
    return folder


def environment(project: Path, **more: str) -> dict[str, str]:
    """Return the variables of the processes of a deployment."""
    settings = {**QUICK, "CAPTURE_CONFIG": str(NO_SETTINGS), "CAPTURE_STORAGE_ROOT": str(project / "data")}
    path = os.pathsep.join([str(project), *filter(None, [os.environ.get("PYTHONPATH")])])
    dagster = {
        "DAGSTER_HOME": str(project / "dagster_home"),
        "DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS": "1",
        "DAGSTER_MAX_BACKFILL_RETRIES": "75",  # five at the usual interval last as long
    }
    return {**os.environ, **settings, **dagster, "PYTHONPATH": path, **more}


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def run_ui(project: Path, port: int, *options: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """Run `capture ui`, and kill it with all its child processes at the end.

    With `--demo` the settings are those of the demo.
    """
    home = {**os.environ, "DAGSTER_HOME": str(project / "dagster_home")}
    command = [str(PROGRAMS / "capture"), "ui", "--port", str(port), *options]
    with (project / "ui.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=project,
            env=home if "--demo" in options else environment(project, **more),
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def process_tree(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants whose parents are alive."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            yield from process_tree(int(child))


@contextlib.contextmanager
def suspend(pid: int) -> Iterator[None]:
    """Stop a process inside the `with` block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def query_graphql(port: int, query: str, **variables: object) -> Any:
    """Send a query in the same way as the UI; return the data of the answer."""
    document = {"query": query, "variables": variables}
    answer = requests.post(f"http://127.0.0.1:{port}/graphql", json=document, timeout=60).json()
    assert "errors" not in answer, answer["errors"]
    return answer["data"]


def wait_for_daemons(port: int) -> list[dict[str, Any]]:
    """Wait until all required daemons are healthy; return all daemons."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            found: list[dict[str, Any]] = query_graphql(port, HEALTH)["instance"]["daemonHealth"][
                "allDaemonStatuses"
            ]
            if all(daemon["healthy"] for daemon in found if daemon["required"]):
                return found
        time.sleep(0.2)
    raise AssertionError("no healthy daemons within three minutes")


@dataclass(frozen=True)
class Ui:
    """A running UI.

    Attributes:
        port: Port of the webserver.
        home: Folder of the Dagster instance.
        pid: Process id of `capture ui`; 0 if a test does not need it.
    """

    port: int
    home: Path
    pid: int = 0

    def query(self, query: str, **variables: object) -> Any:
        """Send a query in the same way as the UI."""
        return query_graphql(self.port, query, **variables)

    def daemon(self) -> int:
        """Return the process id of the daemon."""
        (found,) = (
            pid
            for pid in process_tree(self.pid)
            if b"dagster-daemon" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        return found

    def launch(self, partitions: list[str], **target: object) -> str:
        """Launch a backfill; return its id."""
        launched = self.query(LAUNCH, given={"partitionNames": partitions, **target})[
            "launchPartitionBackfill"
        ]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def run(self, job: str, partition: str = "") -> str:
        """Launch a run of a job, for a partition if given; return its final status."""
        tags = (
            {"dagster/partition": partition, **dict(zip(DIMENSIONS, partition.split("|"), strict=True))}
            if partition
            else {}
        )
        given = {
            "selector": {"pipelineName": job, **LOCATION},
            "runConfigData": {},
            "mode": "default",
            "executionMetadata": {"tags": [{"key": name, "value": value} for name, value in tags.items()]},
        }
        launched = self.query(RUN_JOB, given=given)["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        with dg.DagsterInstance.from_config(str(self.home)) as instance:

            def status() -> dg.DagsterRunStatus:
                run = instance.get_run_by_id(launched["run"]["runId"])
                assert run is not None
                return run.status

            wait_for(
                lambda: status() in FINISHED_STATUSES, 300, f"the run of {job} does not end", every_s=0.5
            )
            return status().value

    def stop_sensor(self, name: str) -> None:
        """Turn a sensor off."""
        found = self.query(SENSOR, selector={**LOCATION, "sensorName": name})["sensorOrError"]
        assert found["__typename"] == "Sensor", found
        stopped = self.query(STOP_SENSOR, id=found["sensorState"]["id"])["stopSensor"]
        assert stopped["instigationState"]["status"] == "STOPPED", stopped

    def status(self, backfill: str) -> str:
        return str(self.query(STATUS, id=backfill)["partitionBackfillOrError"]["status"])

    def wait_for_backfill(self, backfill: str) -> str:
        """Wait for the end of a backfill; return its status."""
        wait_for(lambda: self.status(backfill).startswith("COMPLETED_"), 600, every_s=1)
        return self.status(backfill)

    def newest_ids(self, asset: str) -> dict[str, int]:
        """Return the id of the newest materialization by partition. Ids grow with time."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            records = instance.fetch_materializations(dg.AssetKey(asset), limit=1000, ascending=True).records
        return {str(record.partition_key): record.storage_id for record in records}

    def count_materializations(self, backfill: str) -> dict[str, Counter[str]]:
        """Return the number of materializations by asset and partition in the runs of a backfill."""
        counts: dict[str, Counter[str]] = {}
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            for run in instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill})):
                for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
                    found = entry.asset_materialization
                    assert found is not None
                    counts.setdefault(found.asset_key.to_user_string(), Counter())[str(found.partition)] += 1
        return counts
