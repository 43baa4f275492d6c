"""Data that the clean-up removes, and data that it keeps."""

import os
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from capture_pipeline_tests.support.dagster.automation import evaluate_conditions
from capture_pipeline_tests.support.dagster.stage import BTC, ETH, JANUARY, Stage, key


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Create an instance with sqlite files, like that of the project."""
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        yield instance


def age(stage: Stage, run_id: str, days: int) -> None:
    """Set the age of a run in days."""
    created = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days)
    with sqlite3.connect(Path(stage.instance.root_directory) / "history" / "runs.db") as connection:
        changed = connection.execute(
            "UPDATE runs SET create_timestamp = ? WHERE run_id = ?", (created.isoformat(" "), run_id)
        )
        assert changed.rowcount == 1
    connection.close()


def files_of(stage: Stage, run_id: str) -> list[Path]:
    return [path for path in Path(stage.instance.root_directory).rglob("*") if run_id in str(path)]


def test_old_runs_go_with_their_files_unless_they_hold_a_newest_materialization(stage: Stage) -> None:
    """A superseded old run is removed; young runs, and the newest of each partition, are kept."""
    superseded = stage.run("initial_backfill", key(JANUARY, BTC)).run_id
    other = stage.run("initial_backfill", key(JANUARY, ETH)).run_id
    newest = stage.run("initial_backfill", key(JANUARY, BTC)).run_id
    report = stage.run("coverage").run_id
    young = stage.run("coverage").run_id
    for run_id in (superseded, other, newest):
        age(stage, run_id, 91)
    age(stage, report, 89)
    before = stage.materializations("bars")
    assert files_of(stage, superseded)
    cleaning = stage.run("clean_up")
    assert cleaning.success
    assert {run.run_id for run in stage.instance.get_runs()} == {
        other,
        newest,
        report,
        young,
        cleaning.run_id,
    }
    assert files_of(stage, superseded) == []
    assert stage.materializations("bars") == before
    assert stage.instance.get_materialized_partitions(dg.AssetKey("bars")) == {
        key(JANUARY, BTC),
        key(JANUARY, ETH),
    }


def test_verdicts_outlive_the_run_that_gave_them(stage: Stage) -> None:
    """A run of checks only is removed; the automation still knows that the bars passed."""
    seen = evaluate_conditions(stage.definitions, stage.instance)
    stage.materialize(
        ["kline_archives", "kline_topups", "bars", "bar_conflicts", "bar_exclusions"],
        key(JANUARY, BTC),
        with_checks=False,
    )
    judged = stage.materialize([], checks="bars")
    age(stage, judged.run_id, 200)
    assert stage.run("clean_up").success
    assert not stage.instance.has_run(judged.run_id)
    seen = evaluate_conditions(stage.definitions, stage.instance, seen.cursor)
    requested = evaluate_conditions(stage.definitions, stage.instance, seen.cursor)
    assert requested.get_num_requested(dg.AssetKey("bar_gaps")) == 1


def test_runs_under_way_are_never_removed(stage: Stage) -> None:
    run = stage.instance.create_run_for_job(
        stage.definitions.resolve_job_def("coverage"), status=dg.DagsterRunStatus.STARTED
    )
    age(stage, run.run_id, 1000)
    assert stage.run("clean_up").success
    assert stage.instance.has_run(run.run_id)


def test_old_quarantined_files_go_and_their_reasons_stay(stage: Stage) -> None:
    """Raw files are never removed."""
    url = "/data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip"
    stage.sandbox.faults({"match": {"path": url}, "fault": "csv_nan"})
    assert stage.run("initial_backfill", key(JANUARY, BTC)).success
    (aside,) = (stage.sandbox.root / "quarantine").rglob("*.zip")
    raw = sorted((stage.sandbox.root / "raw").rglob("*.zip"))
    assert len(raw) == 31
    for days, stays in ((364, True), (366, False)):
        for path in (aside, aside.with_suffix(".reason.txt"), *raw):
            os.utime(path, (time.time() - days * 86_400,) * 2)
        assert stage.run("clean_up").success
        assert aside.exists() is stays
    assert aside.with_suffix(".reason.txt").read_text().strip()
    assert sorted((stage.sandbox.root / "raw").rglob("*.zip")) == raw
