"""Decisions of the sensors: closed months, gaps, checksums that are due, and changed checksums."""

from pathlib import Path

import dagster as dg
import pytest

from capture_pipeline.binance.periods import Month
from capture_pipeline.defs.shared import resources
from capture_pipeline_tests.support.dagster.definitions import NOW, SETTINGS
from capture_pipeline_tests.support.dagster.stage import (
    BTC,
    ETH,
    FEBRUARY,
    JANUARY,
    MARCH,
    Stage,
    block,
    key,
)
from capture_pipeline_tests.support.deployment import SandboxDeployment, run_sandbox_deployment

BOTH = [key(FEBRUARY, BTC), key(FEBRUARY, ETH)]
JANUARY_ZIP = "data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip"
HOUR = 3600


def test_a_month_is_closed_once_when_its_monthly_file_comes_out(stage: Stage) -> None:
    """Each symbol is requested once after the publication, and not after the ingestion."""
    stage.sandbox.clock(now="2024-03-02T11:00:00Z")
    assert stage.run("daily_update", tags=block(FEBRUARY, MARCH)).success
    assert stage.tick("month_close_sensor").reason == "no monthly file was published that is not ingested"
    stage.sandbox.clock(now="2024-03-02T13:00:00Z")
    assert stage.tick("month_close_sensor").keys == BOTH
    assert stage.tick("month_close_sensor").reason == "2 partitions wait for their next attempt"
    assert stage.run("month_close", tags=block(FEBRUARY, FEBRUARY)).success
    assert stage.materializations("bars")[key(FEBRUARY, BTC)].metadata["by_source"].value == {
        "monthly": 29 * 24
    }
    stage.sandbox.clock(advance_s=5 * HOUR)
    result = stage.tick("month_close_sensor")
    assert (result.runs, result.reason) == ([], "no monthly file was published that is not ingested")


def test_a_month_whose_run_failed_is_asked_for_again_ever_more_rarely(stage: Stage) -> None:
    """After one hour, then two; each attempt has a new run key, because Dagster runs a key once."""
    stage.sandbox.clock(now="2024-03-02T11:00:00Z")
    assert stage.run("daily_update", tags=block(FEBRUARY, FEBRUARY)).success
    stage.sandbox.clock(now="2024-03-02T13:00:00Z")
    requested = []
    for _ in range(8):
        requested.append([run.run_key for run in stage.tick("month_close_sensor").runs])
        stage.sandbox.clock(advance_s=HOUR // 2)
    assert [len(keys) for keys in requested] == [2, 0, 2, 0, 0, 0, 2, 0]
    keys = [run_key for some in requested for run_key in some]
    assert len(set(keys)) == len(keys)


def test_closing_a_month_tells_what_the_monthly_file_changed(stage: Stage, tmp_path: Path) -> None:
    """The reconciliation names bar, field and both values of a difference."""
    difference = {"symbol": BTC, "open_time": "2024-02-10T07:00:00Z", "field": "count", "delta": "5"}
    config = {"archive_differences": [difference], "now": "2024-03-02T11:00:00Z", "frozen": True}
    with run_sandbox_deployment(tmp_path / "other", config, **SETTINGS) as stage.sandbox:
        assert stage.run("daily_update", tags=block(FEBRUARY, FEBRUARY)).success
        stage.sandbox.clock(now="2024-03-02T13:00:00Z")
        assert stage.tick("month_close_sensor").keys == BOTH
        assert stage.run("month_close", tags=block(FEBRUARY, FEBRUARY)).success
    metadata = stage.materializations("month_reconciliation")[key(FEBRUARY, BTC)].metadata
    assert (metadata["compared"].value, metadata["differing_bars"].value) == (29 * 24, 1)
    assert metadata["dagster/partition_row_count"].value == 1
    table = metadata["differences"]
    assert isinstance(table, dg.TableMetadataValue)
    (row,) = [record.data for record in table.records]
    assert (row["field"], row["kept_source"], row["other_source"]) == ("trades", "monthly", "daily")
    assert float(str(row["kept_value"])) - float(str(row["other_value"])) == 5
    assert (
        stage.materializations("month_reconciliation")[key(FEBRUARY, ETH)].metadata["differing_bars"].value
        == 0
    )


def test_a_hole_that_nobody_can_fill_is_asked_for_once_more_and_then_never(
    stage: Stage, tmp_path: Path
) -> None:
    """Two answers without the klines, with enough time between them, prove that they do not exist."""
    outage = {
        "outages": [{"start": "2024-01-10T00:00:00Z", "end": "2024-01-10T06:00:00Z"}],
        "now": NOW,
        "frozen": True,
    }
    with run_sandbox_deployment(tmp_path / "other", outage, **SETTINGS) as stage.sandbox:
        assert stage.run("initial_backfill", key(JANUARY, BTC)).success
        assert stage.tick("gap_fill_sensor").reason == "no gap can be filled now"
        stage.sandbox.clock(advance_s=31 * 60)
        assert stage.tick("gap_fill_sensor").keys == [key(JANUARY, BTC)]
        assert stage.run("gap_fill", key(JANUARY, BTC)).success
        for _ in range(3):
            stage.sandbox.clock(advance_s=26 * HOUR)
            result = stage.tick("gap_fill_sensor")
            assert (result.runs, result.reason) == ([], "no gap can be filled now")
    gaps = stage.materializations("bar_gaps")[key(JANUARY, BTC)].metadata
    assert (gaps["missing"].value, gaps["fillable"].value) == (6, 0)


def test_a_hole_that_can_be_filled_is_asked_for_until_it_is(stage: Stage, tmp_path: Path) -> None:
    """The archive lacks a kline and REST hides it: the sensor waits between its attempts."""
    hole = {"start": "2024-01-10T00:00:00Z", "end": "2024-01-10T06:00:00Z"}
    omission = {"archive_omissions": [{"symbol": BTC, **hole}], "now": NOW, "frozen": True}
    with run_sandbox_deployment(tmp_path / "other", omission, **SETTINGS) as stage.sandbox:
        stage.sandbox.faults({"match": {"path": "/api/v3/klines"}, "fault": "rest_hole", **hole})
        assert stage.run("initial_backfill", key(JANUARY, BTC)).success
        assert stage.sandbox.injected()
        assert stage.materializations("bar_gaps")[key(JANUARY, BTC)].metadata["missing"].value == 6
        stage.sandbox.faults()
        stage.sandbox.clock(advance_s=31 * 60)
        assert stage.tick("gap_fill_sensor").keys == [key(JANUARY, BTC)]
        assert "1 partitions wait for their next attempt" in stage.tick("gap_fill_sensor").reason
        assert stage.run("gap_fill", key(JANUARY, BTC)).success
        stage.sandbox.clock(advance_s=2 * HOUR)
        assert stage.tick("gap_fill_sensor").runs == []
    gaps = stage.materializations("bar_gaps")[key(JANUARY, BTC)].metadata
    assert (gaps["missing"].value, gaps["dagster/partition_row_count"].value) == (0, 1)
    assert stage.materializations("bars")[key(JANUARY, BTC)].metadata["by_source"].value == {
        "monthly": 738,
        "rest": 6,
    }


def test_checksums_are_read_again_when_due_and_a_new_version_is_fetched_beside_the_old(stage: Stage) -> None:
    """A republished file is observed after a week; its partition is requested once."""
    assert stage.run("initial_backfill", key(JANUARY, BTC)).success
    assert stage.tick("revision_sensor").reason == "no published checksum is due to be read again"
    stage.sandbox.republish(JANUARY_ZIP)
    stage.sandbox.clock(advance_s=8 * 24 * HOUR)
    assert len(stage.tick("revision_sensor").runs) == 1
    assert stage.tick("republished_sensor").reason == "no changed checksum was observed since the last tick"
    assert stage.run("revision_watch").success
    assert stage.tick("revision_sensor").runs == []
    assert stage.tick("republished_sensor").keys == [key(JANUARY, BTC)]
    assert stage.tick("republished_sensor").runs == []
    assert stage.run("month_close", key(JANUARY, BTC)).success
    metadata = stage.materializations("kline_archives")[key(JANUARY, BTC)].metadata
    assert (metadata["fetched_now"].value, metadata["superseded"].value, metadata["trust"].value) == (
        1,
        1,
        {"ok": 1},
    )
    assert len(list((stage.sandbox.root / "raw/spot/klines/1h/BTCUSDT/2024-01/archives").glob("*.zip"))) == 2


def test_a_run_by_hand_fetches_what_was_published_anew(stage: Stage) -> None:
    """A run of a user reads the checksums again; a run of a schedule does not."""
    january = key(JANUARY, BTC)
    assert stage.run("initial_backfill", january).success
    stage.sandbox.republish(JANUARY_ZIP)
    assert stage.run(
        "initial_backfill", january, tags={"dagster/schedule_name": "daily_update_schedule"}
    ).success
    assert stage.materializations("kline_archives")[january].metadata["fetched_now"].value == 0
    assert stage.run("initial_backfill", january).success
    assert stage.materializations("kline_archives")[january].metadata["fetched_now"].value == 1
    assert (
        "superseded"
        in stage.deployment.lake.archives_manifest(
            stage.deployment.partition(BTC, Month(2024, 1))
        ).read_text()
    )


def test_the_rota_waits_for_the_turn_under_way(stage: Stage) -> None:
    """Two runs at the same time would read the same checksums."""
    assert stage.run("initial_backfill", key(JANUARY, BTC)).success
    stage.sandbox.clock(advance_s=8 * 24 * HOUR)
    job = stage.definitions.resolve_job_def("revision_watch")
    stage.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert stage.tick("revision_sensor").reason == "a run of revision_watch is in progress"


DAMAGE = {
    "month_close_sensor": (FEBRUARY, "archives.json", "2024-03-02T13:00:00Z"),
    "gap_fill_sensor": (JANUARY, "topups.json", "2024-03-10T13:00:00Z"),
    "revision_sensor": (JANUARY, "archives.json", "2024-03-19T12:00:00Z"),
}


@pytest.mark.parametrize("sensor", DAMAGE)
def test_a_damaged_manifest_keeps_a_sensor_from_no_other_partition(
    sensor: str, stage: Stage, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The other symbol is requested; the log, or the reason to skip, names the damaged one."""
    month, name, then = DAMAGE[sensor]
    outage = {
        "outages": [{"start": "2024-01-10T00:00:00Z", "end": "2024-01-10T06:00:00Z"}],
        "now": NOW,
        "frozen": True,
    }
    with run_sandbox_deployment(tmp_path / "other", outage, **SETTINGS) as stage.sandbox:
        stage.sandbox.clock(now="2024-03-02T11:00:00Z" if month == FEBRUARY else NOW)
        assert stage.run("daily_update", tags=block(month, month)).success
        stage.sandbox.clock(now=then)
        damaged, other = (
            stage.sandbox.root / "raw/spot/klines/1h" / symbol / month[:7] / name for symbol in (BTC, ETH)
        )
        damaged.write_text("{")
        result = stage.tick(sensor)
        assert (len(result.runs), result.reason) == (1, "")
        assert sensor == "revision_sensor" or result.keys == [key(month, ETH)]
        assert f"{BTC} {month[:7]} is left out: {damaged}: is damaged" in capfd.readouterr().err
        other.write_text("{")
        stage.cursors.clear()
        result = stage.tick(sensor)
    assert result.runs == []
    assert f"; 2 left out, {BTC} {month[:7]}: {damaged}: is damaged" in result.reason


@pytest.mark.parametrize("sensor", ["month_close_sensor", "gap_fill_sensor", "revision_sensor"])
def test_an_exchange_out_of_reach_is_told_and_asked_again_next_time(
    sensor: str, stage: Stage, tmp_path: Path
) -> None:
    """The sensor tries once and keeps its cursor."""
    stage.sandbox = SandboxDeployment("http://127.0.0.1:9", tmp_path / "data", **SETTINGS)
    stage.cursors[sensor] = '{"2024-01|BTCUSDT": [3, 5]}'
    result = stage.tick(sensor)
    assert result.runs == []
    assert result.reason.startswith("skipped until the next tick: ")
    assert "127.0.0.1:9" in result.reason
    assert stage.cursors[sensor] == '{"2024-01|BTCUSDT": [3, 5]}'


def test_a_sensor_asks_with_one_try_and_short_time_outs(stage: Stage) -> None:
    """A tick has a minute, whatever the settings allow for runs."""
    short = resources.with_short_timeouts(stage.deployment).settings
    assert (short.http.attempts, short.rate_limits.max_wait_s) == (1, 0)
    assert short.http.total_timeout_s + short.http.connect_timeout_s < 60
    assert stage.deployment.settings.http.attempts == 4
