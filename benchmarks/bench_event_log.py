"""Benchmark of the pages, automation and sensors of Dagster, with a number of partitions.

    .venv/bin/python benchmarks/bench_event_log.py --symbols 75 --months 96

Dagster stores its state in sqlite, or in the empty Postgres database of `DAGSTER_POSTGRES_URL`. This program
is not part of `make bench`: it needs no peers, and its size is an option. It prints the figures as a table
and as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._daemon.asset_daemon import AssetDaemon
from event_log import POSTGRES, Size, configure, copy_lake, exchange, fill_instance
from report import format_table
from ui_server import LOCATION, UiServer, cpu_s, read_queries, ui_server

_SENSOR = """mutation ($selector: SensorSelector!) {
  sensorDryRun(selectorData: $selector, cursor: null) {
    __typename
    ... on DryRunInstigationTick {evaluationResult {runRequests {runKey} skipReason error {message}}}
    ... on PythonError {message}
  }
}"""
_DUE_S = 120
TARGETS = {
    "asset graph poll, CPU s": 2.0,
    "Checks tab of bars, CPU s": 2.0,
    "automation tick after one update, CPU s": 3.0,
    "storage a partition, KB": 60.0,
    "gap_fill_sensor, s": 10.0,
}


def main() -> None:
    """Create the instance, measure and print the figures."""
    arguments = _arguments()
    size = Size(arguments.symbols, arguments.months, arguments.interval)
    home = Path(tempfile.mkdtemp(prefix="event_log_", dir=arguments.folder))
    try:
        with exchange() as url:
            figures = _measure(home, size, url, with_lake=not arguments.no_lake)
    finally:
        if arguments.keep:
            print(f"the instance is in {home}")
        else:
            shutil.rmtree(home)
    rows = [
        (name, f"{value:,.2f}", f"≤ {TARGETS[name]:g}" if name in TARGETS else "")
        for name, value in figures.items()
    ]
    print(format_table(("what", "measured", "target"), rows))
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


def _measure(home: Path, size: Size, url: str, *, with_lake: bool) -> dict[str, float]:
    environment = size.environment(home, url)
    os.environ.update(environment)
    (home / "pipeline.yaml").touch()
    configure(home)
    workspace = home / "workspace.yaml"
    workspace.write_text(
        "load_from:\n  - python_module: "
        "{module_name: capture_pipeline.definitions, location_name: capture_pipeline}\n",
        encoding="utf-8",
    )
    figures: dict[str, float] = {"partitions": size.partitions}
    with dg.DagsterInstance.from_config(str(home)) as instance:
        started = time.process_time()
        fill_instance(instance, size)
        figures["making the event log, CPU s"] = time.process_time() - started
        figures["storage a partition, KB"] = _stored_bytes(home, instance) / size.partitions / 1000
        with ui_server(workspace, environment, home / "webserver.log") as server:
            figures |= _measure_pages(server)
            if with_lake:
                copy_lake(home, size)
                figures |= _measure_sensor(server)
        figures |= _measure_automation(instance, workspace, size)
    return figures


def _stored_bytes(home: Path, instance: dg.DagsterInstance) -> int:
    """Return the bytes of the database, or of the files of the instance without the lake."""
    if isinstance(instance.event_log_storage, SqliteEventLogStorage):
        return sum(
            path.stat().st_size
            for path in home.rglob("*")
            if path.is_file() and (home / "data") not in path.parents
        )
    with sa.create_engine(os.environ[POSTGRES]).connect() as connection:
        return int(connection.exec_driver_sql("select pg_database_size(current_database())").scalar_one())


def _measure_pages(server: UiServer) -> dict[str, float]:
    graph, checks, health = read_queries(
        "AssetGraphLiveQuery", "AssetChecksQuery", "AssetCheckPartitionHealthQuery"
    )
    nodes = server.query("{assetNodes {assetKey {path}}}")["assetNodes"]
    keys = [{"path": node["assetKey"]["path"]} for node in nodes]
    bars = {"path": ["bars"]}
    figures: dict[str, float] = {}
    # The first request finds no cache. The page polls every few seconds, so that the second request is
    # typical.
    cold, warm = server.measure_query(graph, assetKeys=keys), server.measure_query(graph, assetKeys=keys)
    figures |= {
        "asset graph, first poll, CPU s": cold.cpu_s,
        "asset graph poll, CPU s": warm.cpu_s,
        "asset graph poll, s": warm.wall_s,
    }
    server.measure_query(checks, assetKey=bars)
    tab = server.measure_query(checks, assetKey=bars)
    first = tab.answer["assetNodeOrError"]["assetChecksOrError"]["checks"][0]["name"]
    health_cost = server.measure_query(health, assetKey=bars, checkName=first)
    statuses = health_cost.answer["assetNodeOrError"]["assetCheckOrError"]["partitionStatuses"]
    if not statuses:
        raise RuntimeError("the Checks tab shows no partition")
    both = {
        "Checks tab of bars, CPU s": tab.cpu_s + health_cost.cpu_s,
        "Checks tab of bars, s": tab.wall_s + health_cost.wall_s,
    }
    return {**figures, **both}


def _measure_sensor(server: UiServer) -> dict[str, float]:
    cost = server.measure_query(_SENSOR, selector={**LOCATION, "sensorName": "gap_fill_sensor"})
    result = cost.answer["sensorDryRun"]
    if result["__typename"] != "DryRunInstigationTick" or result["evaluationResult"]["error"]:
        raise RuntimeError(result)
    print(f"gap_fill_sensor: {result['evaluationResult']['skipReason']}")
    return {"gap_fill_sensor, s": cost.wall_s, "gap_fill_sensor, CPU s": cost.cpu_s}


def _measure_automation(instance: dg.DagsterInstance, workspace: Path, size: Size) -> dict[str, float]:
    """Measure two ticks of the daemon: all partitions are new in the first one, one in the second."""
    logging.getLogger("dagster").setLevel(logging.ERROR)
    with WorkspaceProcessContext(instance, WorkspaceFileTarget([str(workspace)])) as context:
        first, _ = _measure_tick(context)
        from capture_pipeline.binance.periods import Month  # noqa: PLC0415
        from capture_pipeline.defs.shared.partitions import block_tags  # noqa: PLC0415

        last: Month = size.month_list[-1]
        key = next(iter(block_tags(size.symbol_names, last, last).values()))
        instance.report_runless_asset_event(dg.AssetMaterialization("kline_archives", partition=key))
        updated, evaluation = _measure_tick(context)
    requested = instance.get_runs_count()
    print(f"{requested} runs after the ticks")
    return {
        "automation, first tick, CPU s": first,
        "automation tick after one update, CPU s": updated,
        "evaluation of that tick, KB": evaluation,
    }


def _measure_tick(context: WorkspaceProcessContext) -> tuple[float, float]:
    """Run one tick when it is due; return its CPU seconds and the KB of the decisions that it stores."""
    instance = context.instance
    storage: Any = instance.schedule_storage
    daemon = AssetDaemon({}, 0)
    before = _newest_evaluation(storage)
    deadline = time.monotonic() + _DUE_S
    while time.monotonic() < deadline:
        started = cpu_s(os.getpid())
        daemon._run_iteration_impl(context, None, {}, {})  # noqa: SLF001 - one iteration of the daemon loop
        cost_s = cpu_s(os.getpid()) - started
        newest = _newest_evaluation(storage)
        if newest[0] > before[0]:
            return cost_s, newest[1] / 1000
        time.sleep(1)
    raise TimeoutError(f"no automation tick within {_DUE_S} s")


def _newest_evaluation(storage: Any) -> tuple[int, int]:  # noqa: ANN401 - the class is private
    """Return the id of the newest tick with decisions, and the bytes of its decisions."""
    query = (
        "select evaluation_id, sum(length(asset_evaluation_body)) from asset_daemon_asset_evaluations "
        "group by 1 order by 1 desc limit 1"
    )
    with storage.connect() as connection:
        row = connection.exec_driver_sql(query).first()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--symbols", type=int, default=10)
    parser.add_argument("--months", type=int, default=48, help="Number of months, a multiple of 48.")
    parser.add_argument("--interval", default="1h", help="Interval of the bars in the copied run.")
    parser.add_argument("--folder", help="Parent of the temporary folder.")
    parser.add_argument("--no-lake", action="store_true", help="Do not measure gap_fill_sensor.")
    parser.add_argument("--keep", action="store_true", help="Keep the instance.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
