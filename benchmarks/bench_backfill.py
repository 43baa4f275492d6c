"""Benchmark of a backfill through the daemon of Dagster, launched over GraphQL with a sandbox exchange.

    .venv/bin/python benchmarks/bench_backfill.py --symbols 10 --months 96

This program is not part of `make bench`: it takes minutes, and its size is an option. The sandbox builds its
files before the backfill starts. Dagster stores its state in sqlite, or in the empty Postgres database of
`DAGSTER_POSTGRES_URL`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import dagster as dg
import requests
from event_log import Size, configure, exchange, run_times
from report import format_table
from ui_server import LOCATION, UiServer, cpu_s, free_port

JOB = "initial_backfill"
TARGETS = {"backfill, s": 360.0, "evaluations' share of the runs, %": 20.0}
_HEALTH = "{instance {daemonHealth {allDaemonStatuses {required healthy}}}}"
_LAUNCH = """mutation ($given: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $given) {
    __typename ... on LaunchBackfillSuccess {backfillId} ... on PythonError {message}
  }
}"""
_STATUS = (
    "query ($id: String!) {partitionBackfillOrError(backfillId: $id) {... on PartitionBackfill {status}}}"
)
_START_S, _END_S = 300, 7200


def main() -> None:
    """Run the backfill and print the figures."""
    arguments = _arguments()
    size = Size(arguments.symbols, arguments.months, arguments.interval)
    home = Path(tempfile.mkdtemp(prefix="backfill_", dir=arguments.folder))
    try:
        with exchange(size.symbols) as url:
            figures = _measure(home, size, url)
    finally:
        shutil.rmtree(home)
    rows = [
        (name, f"{value:,.1f}", f"≤ {TARGETS[name]:g}" if name in TARGETS else "")
        for name, value in figures.items()
    ]
    print(format_table(("what", "measured", "target at 1,000"), rows))
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


def _measure(home: Path, size: Size, url: str) -> dict[str, float]:
    environment = size.environment(home, url)
    symbols = [f"SYN{number:02}USDT" for number in range(size.symbols)]
    environment["CAPTURE_SYMBOLS"] = ",".join(symbols)
    (home / "pipeline.yaml").touch()
    configure(home)
    _warm_sandbox(url, size, symbols)
    with _start_ui(environment, home / "ui.log") as server:
        cpu, started = cpu_s(server.process.pid), time.monotonic()
        keys = [f"{month}|{symbol}" for month, symbol in product(size.month_list, symbols)]
        selector = {"partitionSetName": f"{JOB}_partition_set", "repositorySelector": LOCATION}
        params = {"partitionNames": keys, "selector": selector}
        launched = server.query(_LAUNCH, given=params)["launchPartitionBackfill"]
        if launched["__typename"] != "LaunchBackfillSuccess":
            raise RuntimeError(launched)
        status = _wait_for_end(server, launched["backfillId"])
        wall_s = time.monotonic() - started
        figures = {
            "partitions": float(len(keys)),
            "backfill, s": wall_s,
            "backfill, CPU s": cpu_s(server.process.pid) - cpu,
        }
    with dg.DagsterInstance.from_config(str(home)) as instance:
        runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": launched["backfillId"]}))
        times = [run_times(instance.all_logs(run.run_id)) for run in runs]
        materialized = len(instance.get_materialized_partitions(dg.AssetKey("bar_gaps")))
    if (status, materialized) != ("COMPLETED_SUCCESS", len(keys)):
        raise RuntimeError(f"{status}: {materialized} of {len(keys)} partitions were materialized")
    share = sum(run.evaluations_s for run in times) / sum(run.whole_s for run in times)
    return {**figures, "runs": float(len(runs)), "evaluations' share of the runs, %": 100 * share}


def _warm_sandbox(url: str, size: Size, symbols: list[str]) -> None:
    """Request each file once, so that the sandbox has built all files, as the real exchange has."""
    interval = size.interval
    with requests.Session() as session:
        for symbol, month in product(symbols, size.month_list):
            session.get(
                f"{url}/data/spot/monthly/klines/{symbol}/{interval}/{symbol}-{interval}-{month}.zip",
                timeout=60,
            ).raise_for_status()


@contextlib.contextmanager
def _start_ui(environment: dict[str, str], log: Path) -> Iterator[UiServer]:
    """Start `capture ui` and wait until all its daemons are healthy."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "capture"), "ui", "--port", str(port)]
    settings = {**os.environ, **environment}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, env=settings, stdout=output, stderr=output, start_new_session=True
        ) as process,
    ):
        try:
            server = UiServer(process, port)
            deadline = time.monotonic() + _START_S
            while not _is_healthy(server):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no healthy daemons within {_START_S} s")
                time.sleep(0.5)
            yield server
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _is_healthy(server: UiServer) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        daemons = server.query(_HEALTH)["instance"]["daemonHealth"]["allDaemonStatuses"]
        return all(daemon["healthy"] for daemon in daemons if daemon["required"])
    return False


def _wait_for_end(server: UiServer, backfill: str) -> str:
    deadline = time.monotonic() + _END_S
    while time.monotonic() < deadline:
        status = str(server.query(_STATUS, id=backfill)["partitionBackfillOrError"]["status"])
        if status.startswith("COMPLETED_") or status in {"FAILED", "CANCELED"}:
            return status
        time.sleep(1)
    raise TimeoutError(f"the backfill did not end within {_END_S} s")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--symbols", type=int, default=10)
    parser.add_argument("--months", type=int, default=96, help="Number of months, a multiple of 12.")
    parser.add_argument("--interval", default="1h", help="Interval of the bars.")
    parser.add_argument("--folder", help="Parent of the temporary folder.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
