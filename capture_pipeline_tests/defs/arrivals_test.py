"""Reports of files that programs outside Dagster wrote, as materializations without a run."""

import os
from collections.abc import Iterable
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status

from capture_pipeline.defs.klines import arrivals, arrivals_cursor, checks, result_metadata
from capture_pipeline.defs.shared import check_evaluations, partitions
from capture_pipeline.defs.shared.runless_events import report_materialization
from capture_pipeline.klines.backfill import backfill
from capture_pipeline.klines.ingest.archives import fetch_archives, recheck_partition
from capture_pipeline.klines.quality.coverage_report import report_coverage
from capture_pipeline.klines.reconciliation import reconcile_partition
from capture_pipeline.lake.paths import Partition
from capture_pipeline_tests.support.dagster.automation import NOTHING, Automation
from capture_pipeline_tests.support.dagster.stage import (
    BTC,
    CHAIN,
    ETH,
    FEBRUARY,
    JANUARY,
    MARCH,
    Stage,
    block,
    key,
)

SENSOR = "lake_arrivals"
MONTHLY = "data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip"
JANUARY_BTC = key(JANUARY, BTC)
SIX = [key(month, symbol) for month in (MARCH, FEBRUARY, JANUARY) for symbol in (BTC, ETH)]
FOUR = SIX[2:]


def partition(stage: Stage, name: str) -> Partition:
    partition: Partition = partitions.partitions_of(stage.deployment, [name])[0]
    return partition


def backfill_in_a_shell(stage: Stage, names: Iterable[str]) -> None:
    """Run the function of `capture klines backfill`, as another process would."""
    deployment = stage.sandbox.reopened()
    done = list(backfill(deployment, [partition(stage, name) for name in names], deployment.now_us()))
    assert not [outcome.error for outcome in done if outcome.error]


def events(stage: Stage) -> int:
    """Return the id of the newest event."""
    return stage.instance.event_log_storage.get_maximum_record_id() or 0


def content(stage: Stage) -> dict[str, dict[str, object]]:
    """Return the metadata of the newest materializations that depend on files, by asset and partition."""
    of_a_run = result_metadata.RUN_VALUES
    return {
        f"{asset} {name}": {
            field: value for field, value in materialization.metadata.items() if field not in of_a_run
        }
        for asset in CHAIN
        for name, materialization in stage.materializations(asset).items()
    }


def evaluations(stage: Stage, table: str, name: str | None) -> dict[str, tuple[Status, bool]]:
    """Return the status of each check, and whether it refers to the newest materialization."""
    judge, newest = (
        checks.TABLE_CHECKS[table],
        check_evaluations.NewestMaterializations,
    )
    target = newest(stage.instance, [name] if name else []).target(table, name)
    found = {}
    for check in judge.check_keys:
        history = stage.instance.event_log_storage.get_asset_check_execution_history(check, limit=100)
        latest = next((each for each in history if each.partition == name), None)
        if latest is not None:
            evaluation = (
                latest.event.dagster_event.asset_check_evaluation_data
                if latest.event and latest.event.dagster_event
                else None
            )
            assert evaluation is not None
            assert not latest.run_id
            found[check.name] = (latest.status, evaluation.target_materialization_data == target)
    return found


def test_what_a_shell_made_is_reported_as_a_run_reports_it(stage: Stage) -> None:
    """The metadata equal those of a run, the checks are evaluated, and each event is reported once."""
    backfill_in_a_shell(stage, FOUR)
    assert stage.tick(SENSOR).reason == "4 partitions reported, 0 in progress, 0 left out"
    assert {asset: sorted(map(str, stage.materializations(asset))) for asset in CHAIN} == dict.fromkeys(
        CHAIN, sorted(FOUR)
    )
    for table in ("bars", "bar_gaps"):
        names = {check.name for check in checks.TABLE_CHECKS[table].check_keys}
        assert evaluations(stage, table, JANUARY_BTC) == dict.fromkeys(names, (Status.SUCCEEDED, True))
    assert not stage.instance.get_runs()
    before = events(stage)
    assert stage.tick(SENSOR).reason == "0 partitions reported, 0 in progress, 0 left out"
    assert events(stage) == before
    with dg.DagsterInstance.ephemeral() as other:
        run = Stage(stage.definitions, stage.sandbox, other)
        assert run.run("initial_backfill", tags=block(JANUARY, FEBRUARY)).success
        assert content(run) == content(stage)


def test_what_a_run_made_is_not_reported(stage: Stage) -> None:
    """A later shell command that changes nothing is not reported either."""
    assert stage.run("initial_backfill", tags=block(JANUARY, FEBRUARY)).success
    before = events(stage)
    for _ in range(2):
        assert stage.tick(SENSOR).reason == "0 partitions reported, 0 in progress, 0 left out"
        backfill_in_a_shell(stage, FOUR)
    assert stage.tick(SENSOR).reason == "0 partitions reported, 0 in progress, 0 left out"
    assert events(stage) == before


def test_a_reconciliation_of_a_shell_is_reported_once(stage: Stage) -> None:
    """The metadata equal those of a run; a reconciliation older than the bars is not reported."""
    backfill_in_a_shell(stage, FOUR)
    stage.tick(SENSOR)
    deployment = stage.sandbox.reopened()
    for name in FOUR[:2]:
        reconcile_partition(deployment, partition(stage, name))
    report, bars = (
        deployment.lake.reconciliation(partition(stage, FOUR[1])),
        deployment.lake.bars(partition(stage, FOUR[1])),
    )
    while bars.stat().st_ctime_ns <= report.stat().st_ctime_ns:
        os.utime(bars)
    os.utime(deployment.lake.window(partition(stage, FOUR[1])))
    assert stage.tick(SENSOR).reason.startswith("1 partitions reported")
    (reported,) = stage.materializations("month_reconciliation").items()
    before = events(stage)
    assert stage.tick(SENSOR).reason.startswith("0 partitions reported")
    assert events(stage) == before
    assert stage.materialize(["month_reconciliation"], FOUR[0]).success
    by_run = stage.materializations("month_reconciliation")[FOUR[0]].metadata
    assert reported[0] == FOUR[0]
    assert {
        name: value for name, value in by_run.items() if name not in result_metadata.RUN_VALUES
    } == reported[1].metadata


def test_a_file_published_anew_is_reported_again_with_its_checks(stage: Stage) -> None:
    """Only the changed partition is reported, also if its checks were reported before."""
    backfill_in_a_shell(stage, FOUR)
    stage.tick(SENSOR)
    known = {asset: stage.materializations(asset) for asset in CHAIN}
    stage.sandbox.republish(MONTHLY)
    recheck_partition(stage.deployment, partition(stage, JANUARY_BTC), stage.deployment.now_us())
    backfill_in_a_shell(stage, FOUR)
    assert stage.tick(SENSOR).reason == "1 partitions reported, 0 in progress, 0 left out"
    for asset in CHAIN:
        reported = {
            name
            for name, materialization in stage.materializations(asset).items()
            if materialization is not known[asset][name] and materialization != known[asset][name]
        }
        assert reported <= {JANUARY_BTC}
    assert (
        stage.materializations("bars")[JANUARY_BTC].metadata["sha256"]
        != known["bars"][JANUARY_BTC].metadata["sha256"]
    )
    assert set(evaluations(stage, "bars", JANUARY_BTC).values()) == {(Status.SUCCEEDED, True)}
    assert set(evaluations(stage, "bar_gaps", JANUARY_BTC).values()) == {(Status.SUCCEEDED, True)}


def test_a_check_that_fails_is_reported_as_failed(stage: Stage) -> None:
    """A byte of a raw file differs from the recorded digest."""
    backfill_in_a_shell(stage, [JANUARY_BTC])
    path = next((stage.sandbox.root / "raw/spot/klines/1h/BTCUSDT/2024-01/archives").glob("*.zip"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    stage.tick(SENSOR)
    assert evaluations(stage, "bars", JANUARY_BTC)["raw_checksums"] == (Status.FAILED, True)


def test_a_partition_that_a_run_makes_is_left_to_it(stage: Stage) -> None:
    """After the end of the run, assets that it did not materialize are reported."""
    backfill_in_a_shell(stage, [JANUARY_BTC])
    job = stage.definitions.resolve_job_def("initial_backfill")
    run = stage.instance.create_run_for_job(
        job, tags=block(JANUARY, FEBRUARY), status=dg.DagsterRunStatus.STARTED
    )
    assert stage.tick(SENSOR).reason == "0 partitions reported, 1 in progress, 0 left out"
    stage.instance.report_run_failed(run)
    assert stage.tick(SENSOR).reason == "1 partitions reported, 0 in progress, 0 left out"


def test_a_partition_that_is_not_complete_waits_until_nothing_changes(
    stage: Stage, automation: Automation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unfinished partition is reported after five minutes, and the automation completes it."""
    fetch_archives(stage.deployment, partition(stage, JANUARY_BTC), stage.deployment.now_us())
    assert stage.tick(SENSOR).reason == "0 partitions reported, 1 in progress, 0 left out"
    monkeypatch.setattr(arrivals, "SETTLED_S", 0.0)
    assert stage.tick(SENSOR).reason == "1 partitions reported, 0 in progress, 0 left out"
    assert [asset for asset in CHAIN if stage.materializations(asset)] == ["kline_archives", "kline_topups"]
    assert automation.tick() == {name: {JANUARY_BTC} for name in ("bars", "bar_conflicts", "bar_exclusions")}


def test_many_partitions_are_reported_over_several_ticks(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest months come first; each partition is reported once."""
    monkeypatch.setattr(arrivals, "MAX_PARTITIONS", 3)
    backfill_in_a_shell(stage, FOUR)
    assert stage.tick(SENSOR).reason == "3 partitions reported, 0 in progress, 0 left out"
    assert set(stage.materializations("bars")) < set(FOUR)
    assert stage.tick(SENSOR).reason == "1 partitions reported, 0 in progress, 0 left out"
    assert stage.tick(SENSOR).reason == "0 partitions reported, 0 in progress, 0 left out"
    records = stage.instance.fetch_materializations(dg.AssetKey("bars"), limit=100).records
    assert sorted(str(record.partition_key) for record in records) == sorted(FOUR)


def test_rows_bound_a_tick_too(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MAX_ROWS", 1)
    backfill_in_a_shell(stage, FOUR)
    assert stage.tick(SENSOR).reason == "1 partitions reported, 0 in progress, 0 left out"


def test_a_damaged_partition_is_left_out(stage: Stage) -> None:
    """The partition is named, and the others are reported."""
    backfill_in_a_shell(stage, FOUR)
    (stage.sandbox.root / "raw/spot/klines/1h/BTCUSDT/2024-01/archives.json").write_text("{")
    assert stage.tick(SENSOR).reason in {
        "3 partitions reported, 0 in progress, 1 left out",
        "3 partitions reported, 1 in progress, 0 left out",
    }


def test_a_tick_that_broke_off_is_made_up_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next tick evaluates checks of materializations that were reported without them."""
    backfill_in_a_shell(stage, FOUR)
    with monkeypatch.context() as broken:
        broken.setattr(arrivals, "report_evaluation", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            stage.tick(SENSOR)
    assert not evaluations(stage, "bars", JANUARY_BTC)
    assert stage.tick(SENSOR).reason == "0 partitions reported, 0 in progress, 0 left out"
    for name in FOUR:
        for table in ("bars", "bar_gaps"):
            assert set(evaluations(stage, table, name).values()) == {(Status.SUCCEEDED, True)}


def test_the_coverage_report_is_reported_with_its_checks(stage: Stage, automation: Automation) -> None:
    """The automation requests only a report that is older than a ledger."""
    backfill_in_a_shell(stage, FOUR)
    report_coverage(stage.deployment, stage.deployment.now_us())
    stage.tick(SENSOR)
    assert set(stage.materializations("coverage_report")) == {None}
    assert [automation.tick() for _ in range(2)] == [NOTHING] * 2
    checks = evaluations(stage, "coverage_report", None)
    assert {name for name, (status, _) in checks.items() if status is Status.SUCCEEDED} >= {
        "ledgers_current",
        "all_symbols_present",
    }
    assert all(is_current for _, is_current in checks.values())
    reported = stage.materializations("coverage_report")[None].metadata
    assert stage.run("coverage").success
    metadata = stage.materializations("coverage_report")[None].metadata
    of_a_run = result_metadata.RUN_VALUES
    assert {name: metadata[name] for name in reported if name not in of_a_run} == {
        name: reported[name] for name in reported if name not in of_a_run
    }


def test_a_report_that_is_older_than_a_ledger_is_made_by_the_automation(
    stage: Stage, automation: Automation
) -> None:
    """The automation requests the report once, after the last ledger, but no reported bars and gaps."""
    report_coverage(stage.deployment, stage.deployment.now_us())
    backfill_in_a_shell(stage, FOUR)
    stage.tick(SENSOR)
    assert not stage.materializations("coverage_report")
    assert automation.tick() == {"coverage_report": {None}}
    assert automation.tick() == NOTHING


def test_an_automation_tick_between_two_reports_of_a_partition_makes_nothing(
    stage: Stage, automation: Automation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The events of a partition are stored one by one; a tick of the automation falls between them."""
    backfill_in_a_shell(stage, SIX)
    report_one, requested = report_materialization, []
    seen: list[dg.AssetMaterialization] = []

    def report_and_tick(instance: dg.DagsterInstance, event: dg.AssetMaterialization) -> None:
        report_one(instance, event)
        if len(seen) % len(CHAIN) == len(seen) // len(CHAIN):
            requested.append(automation.evaluate())
        seen.append(event)

    monkeypatch.setattr(arrivals, "report_materialization", report_and_tick)
    stage.tick(SENSOR)
    assert requested == [NOTHING] * len(CHAIN)
    assert len(seen) == len(SIX) * len(CHAIN)
    assert automation.evaluate() == {"coverage_report": {None}}


def test_a_cursor_that_cannot_be_read_begins_a_round(stage: Stage) -> None:
    """All partitions are inspected; unchanged ones are not reported."""
    backfill_in_a_shell(stage, FOUR)
    stage.tick(SENSOR)
    stage.cursors[SENSOR] = "nonsense"
    assert stage.tick(SENSOR).reason == "0 partitions reported, 0 in progress, 0 left out"


def test_files_that_did_not_change_are_not_looked_at_again() -> None:
    """A round continues after the last tick.

    The next round begins with the earliest postponed change, or a minute before this round.
    """
    cursor, minute = arrivals_cursor.Round, 60 * 10**9
    now_ns = int(datetime(2024, 3, 10, tzinfo=UTC).timestamp()) * 10**9
    first = cursor.load(None).start(now_ns).record_gaps(5).advance(3)
    again = cursor.load(first.dump()).start(now_ns + 1)
    assert (again.position, again.began_ns, again.newest_gaps_ns) == (3, now_ns, 5)
    assert again.next_round() == cursor(since_ns=now_ns - minute)
    assert again.postpone(40).postpone(50).next_round() == cursor(since_ns=40)
