"""Begin of a month while Dagster runs: the month becomes a partition without a restart."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
import requests

from capture_pipeline.binance.periods import parse_time
from capture_pipeline.definitions import build_definitions
from capture_pipeline_tests.support.dagster.stage import BTC, Stage, key
from capture_pipeline_tests.support.dagster.ui import (
    INTERVALS,
    PROGRAMS,
    Ui,
    environment,
    free_port,
    make_project,
    wait_for_daemons,
)
from capture_pipeline_tests.support.waits import wait_for

CLOCK = """import os, time

real = time.time_ns

def shifted():
    with open(os.environ["CLOCK_FILE"]) as file:
        return real() + int(file.read())

time.time_ns = shifted
"""
"""Shifts the clock that this project reads in every process that is started with it; Dagster reads another
one."""
KEYS = '{assetNodeOrError(assetKey: {path: ["bars"]}) {... on AssetNode {partitionKeys}}}'


@contextlib.contextmanager
def started(project: Path, commands: list[list[str]], settings: dict[str, str]) -> Iterator[None]:
    """Start programs, and stop them with all their child processes at the end."""
    running = []
    try:
        for number, command in enumerate(commands):
            with (project / f"{number}.log").open("w") as log:
                running.append(
                    subprocess.Popen(
                        command, cwd=project, env=settings, stdout=log, stderr=log, start_new_session=True
                    )
                )
        yield
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def set_clock(file: Path, text: str) -> None:
    """Set the clock of the programs in one step."""
    new = file.with_suffix(".new")
    new.write_text(str(parse_time(text) * 1000 - time.time_ns()))
    new.replace(file)


def months_shown(ui: Ui) -> list[str]:
    with contextlib.suppress(requests.RequestException, AssertionError):
        return sorted(
            {name.partition("|")[0] for name in ui.query(KEYS)["assetNodeOrError"].get("partitionKeys", [])}
        )
    return []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_month_that_begins_is_a_partition_without_a_restart(tmp_path: Path) -> None:
    """After the reload, webserver and daemon know the month, and a backfill of it starts a run."""
    project, port, code = make_project(tmp_path), free_port(), free_port()
    (project / "workspace.yaml").write_text(
        f"load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {code}, location_name: capture_pipeline}}\n"
    )
    (project / "sitecustomize.py").write_text(CLOCK + INTERVALS)
    clock = project / "clock"
    set_clock(clock, "2025-03-31T23:30:00Z")
    history = {
        "CAPTURE_HISTORY_START": "2025-02-01",
        "CAPTURE_SANDBOX_URL": "http://127.0.0.1:9",
        "CAPTURE_SYMBOLS": BTC,
    }
    settings = environment(project, CLOCK_FILE=str(clock), **history)
    deployment = ["-w", "workspace.yaml"]
    location = ["-m", "capture_pipeline.definitions", "--location-name", "capture_pipeline"]
    commands = [
        [str(PROGRAMS / "dagster"), "code-server", "start", "-h", "127.0.0.1", "-p", str(code), *location],
        [sys.executable, "-m", "capture_pipeline.webserver", "-h", "127.0.0.1", "-p", str(port), *deployment],
        [str(PROGRAMS / "dagster-daemon"), "run", *deployment],
    ]
    subprocess.run(
        [str(PROGRAMS / "dagster"), "instance", "info"],
        cwd=project,
        env=settings,
        check=True,
        capture_output=True,
    )
    with started(project, commands, settings):
        ui = Ui(port, project / "dagster_home")
        wait_for_daemons(port)
        wait_for(
            lambda: months_shown(ui) == ["2025-02", "2025-03"],
            300,
            "the months before are not shown",
            every_s=1,
        )
        set_clock(clock, "2025-04-01T00:00:10Z")
        wait_for(
            lambda: months_shown(ui) == ["2025-02", "2025-03", "2025-04"],
            300,
            "the month that began is no partition",
            every_s=1,
        )
        backfill = ui.launch([key("2025-04", BTC)], assetSelection=[{"path": ["kline_archives"]}])
        with dg.DagsterInstance.from_config(str(ui.home)) as instance:
            wanted = dg.RunsFilter(
                tags={
                    "dagster/backfill": backfill,
                    "dagster/asset_partition_range_start": key("2025-04", BTC),
                }
            )
            wait_for(
                lambda: instance.get_runs_count(wanted) == 1,
                300,
                "the daemon started no run of the month that began",
            )


def test_where_nothing_began_nothing_is_reloaded(stage: Stage) -> None:
    """The history of these definitions ended before the present."""
    result = stage.tick("new_month")
    assert (result.runs, result.reason) == ([], "every month up to the present is a partition")


def test_without_a_code_server_it_names_the_remedy(stage: Stage) -> None:
    """Dagster cannot reload a code location that it imports without a code server."""
    history = stage.deployment.settings.history.model_copy(update={"end": date(2024, 2, 29)})
    stage.definitions = build_definitions(stage.deployment.settings.model_copy(update={"history": history}))
    assert stage.tick("new_month").reason == (
        "2024-03 has begun: the daemon reloads the definitions itself; reload the code location in the UI"
    )
