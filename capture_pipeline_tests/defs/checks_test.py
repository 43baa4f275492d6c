"""Gates as asset checks: blocking, failing rows, alert levels, and errors inside a gate."""

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from capture_pipeline.checks.feasibility import CRITERIA
from capture_pipeline.checks.klines import list_gates
from capture_pipeline.checks.model import CheckSpec, Severity
from capture_pipeline.checks.recordings import RECORDING_CHECKS
from capture_pipeline.klines import bars as made_bars
from capture_pipeline.klines.merge import SeparatedRows
from capture_pipeline.tables.klines import bars as bar_table
from capture_pipeline.tables.klines.exclusions import EXCLUSIONS
from capture_pipeline.tables.table import Rule
from capture_pipeline_tests.support.dagster.definitions import NOW, SETTINGS
from capture_pipeline_tests.support.dagster.stage import BTC, ETH, FEBRUARY, JANUARY, Stage, block, key
from capture_pipeline_tests.support.deployment import run_sandbox_deployment

MONTHLY = "/data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip"


def evaluations(result: dg.ExecuteInProcessResult, partition: str) -> dict[str, dg.AssetCheckEvaluation]:
    return {
        each.check_name: each for each in result.get_asset_check_evaluations() if each.partition == partition
    }


def failing_rows(evaluation: dg.AssetCheckEvaluation, gate: str = "") -> list[dict[str, object]]:
    table = evaluation.metadata[f"failing_rows_{gate}" if gate else "failing_rows"]
    assert isinstance(table, dg.TableMetadataValue)
    return [dict(record.data) for record in table.records]


def steps(result: dg.ExecuteInProcessResult) -> set[str]:
    return {
        event.step_key or ""
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_START
    }


OTHERS = {"golden_samples", "next_day_proof", "go_no_go", *(criterion.asset for criterion in CRITERIA)}
"""Assets whose checks are no gates of the archive."""


def test_every_gate_is_in_one_check(definitions: dg.Definitions) -> None:
    """Three checks combine the gates of bars; every other gate is one check of its own."""
    graph = definitions.resolve_asset_graph()
    every = {check_key: graph.get_check_spec(check_key) for check_key in graph.asset_check_keys}
    assert {
        key.name: spec.description for key, spec in every.items() if key.asset_key.path == ["golden_samples"]
    } == {spec.name: spec.description for spec in RECORDING_CHECKS}
    assert {
        key.name for key, spec in every.items() if spec.blocking and key.asset_key.path == ["golden_samples"]
    } == {spec.name for spec in RECORDING_CHECKS if spec.blocking}
    checks = {key: spec for key, spec in every.items() if key.asset_key.path[0] not in OTHERS}
    gates: dict[dg.AssetCheckKey, list[CheckSpec]] = {}
    for gate in list_gates():
        gates.setdefault(dg.AssetCheckKey(dg.AssetKey(gate.asset), gate.asset_check or gate.name), []).append(
            gate
        )
    assert set(checks) == set(gates)
    assert {key.name for key in checks if key.asset_key.path == ["bars"]} == {
        "timestamps",
        "values",
        "raw_checksums",
    }
    for check_key, spec in checks.items():
        assert spec.description == " ".join(gate.description for gate in gates[check_key])
        for gate in gates[check_key]:
            assert (
                spec.blocking is gate.blocking is (gate.asset == "bars" and gate.severity is Severity.ERROR)
            )
            assert spec.metadata["severity"] == str(gate.severity)
            assert (spec.partitions_def is None) == (gate.asset == "coverage_report")


def test_a_failed_blocking_check_stops_what_lies_downstream_and_shows_its_rows(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an irregular row in the bars, the run builds no gap ledger; the check names the row."""
    monkeypatch.setattr(
        made_bars,
        "separate_rows",
        lambda parts, _step: SeparatedRows(list(parts), pl.DataFrame(schema=EXCLUSIONS.schema)),
    )
    stage.sandbox.faults({"match": {"path": MONTHLY}, "fault": "csv_unaligned"})
    result = stage.run("month_close", tags=block(JANUARY, FEBRUARY))
    assert stage.sandbox.injected()
    assert not result.success
    assert "bars_checks" in steps(result)
    assert not {"bar_gaps", "month_reconciliation"} & steps(result)
    failed = evaluations(result, key(JANUARY, BTC))["timestamps"]
    assert (failed.passed, failed.blocking, failed.severity) == (False, True, dg.AssetCheckSeverity.ERROR)
    assert failed.metadata["level"].value == "critical"
    gates: Any = failed.metadata["gates"].value
    assert {name for name, found in gates.items() if found["verdict"] != "passed"} == {"open_times_on_grid"}
    assert (gates["open_times_on_grid"]["failing"], gates["open_times_on_grid"]["level"]) == (1, "critical")
    (event,) = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_FAILURE]
    for text in (failed.description or "", event.step_failure_data.error_display_string):
        for name in (JANUARY, BTC, "open_times_on_grid", f"symbol={BTC}/month=2024-01/bars.parquet"):
            assert name in text.replace("\\", "")
    rows = failing_rows(failed, "open_times_on_grid")
    assert len(rows) == failed.metadata["failing"].value == 1
    assert int(str(rows[0]["open_time_us"])) % 3_600_000_000
    assert all(each.passed for each in evaluations(result, key(JANUARY, ETH)).values())
    latest = [
        each.partition for each in result.get_asset_check_evaluations() if each.check_name == "timestamps"
    ][-1]
    assert latest == key(JANUARY, BTC), "the page of a check shows its latest evaluation"
    assert stage.materializations("bar_gaps") == {}


def test_failing_rows_are_capped(stage: Stage) -> None:
    """Every row of an altered file is irregular: all are counted, twenty are shown."""
    assert stage.run("initial_backfill", key(JANUARY, BTC)).success
    path = next(Path(stage.sandbox.root).glob("lake/bars/**/bars.parquet"))
    pl.read_parquet(path, hive_partitioning=False).with_columns(-pl.col("low")).write_parquet(path)
    result = stage.materialize(["bar_gaps"], key(JANUARY, BTC), checks="bars")
    assert result.success
    failed = evaluations(result, key(JANUARY, BTC))["values"]
    assert (failed.passed, failed.blocking, failed.severity) == (False, False, dg.AssetCheckSeverity.WARN)
    gates: Any = failed.metadata["gates"].value
    assert gates["prices_positive"]["irregular"] == {"price_not_positive": {"known": 0, "unknown": 744}}
    assert gates["prices_positive"]["failing"] == failed.metadata["failing"].value == 744
    rows = failing_rows(failed, "prices_positive")
    assert len(rows) == stage.deployment.settings.gates.failing_rows_shown == 20
    assert rows[0]["low"].startswith("-")  # type: ignore[attr-defined]


def test_what_lies_downstream_follows_in_the_run_in_which_the_checks_pass(stage: Stage) -> None:
    """The run need not build the bars itself."""
    assert stage.materialize(
        ["kline_archives", "kline_topups", "bars", "bar_conflicts", "bar_exclusions"],
        key(JANUARY, BTC),
        with_checks=False,
    ).success
    result = stage.materialize(["bar_gaps"], key(JANUARY, BTC), checks="bars")
    assert result.success
    order = [
        event.step_key for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_SUCCESS
    ]
    assert order[:2] == ["bars_checks", "bar_gaps"]


def test_a_raw_file_altered_later_fails_its_check(stage: Stage) -> None:
    """The check compares the digest of each raw file with the recorded one, and names the file."""
    assert stage.run("initial_backfill", key(JANUARY, BTC)).success
    path = next(Path(stage.sandbox.root).glob("raw/**/*.zip"))
    path.write_bytes(path.read_bytes() + b"\0")
    result = stage.materialize(["bar_gaps"], key(JANUARY, BTC), checks="bars")
    failed = evaluations(result, key(JANUARY, BTC))["raw_checksums"]
    assert not failed.passed
    assert str(failing_rows(failed)[0]["file"]).endswith(path.name)
    assert path.name in (failed.description or "").replace("\\", "")


def test_a_bug_in_a_gate_is_an_error_and_no_verdict(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate with an unknown column fails the step, without a retry and without evaluations."""
    broken = Rule("prices_positive", "Prices are positive.", pl.col("no_such_column") > 0)
    monkeypatch.setattr(bar_table, "rules", lambda _interval, _now_us: [broken])
    result = stage.run("initial_backfill", key(JANUARY, BTC))
    assert not result.success
    (event,) = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_FAILURE]
    assert event.step_key == "bars_checks"
    assert "a gate is broken" in event.step_failure_data.error_display_string
    assert result.get_asset_check_evaluations() == []
    assert "bar_gaps" not in steps(result)


@pytest.mark.parametrize(("hours", "level"), [(30, "warning"), (60, "critical")])
def test_a_check_that_does_not_block_tells_how_loud_it_is(
    hours: int, level: str, stage: Stage, tmp_path: Path
) -> None:
    """With missing klines the run succeeds; both failed checks have a severity and a level."""
    end = f"2024-01-{10 + hours // 24}T{hours % 24:02}:00:00Z"
    outage = {"outages": [{"start": "2024-01-10T00:00:00Z", "end": end}], "now": NOW}
    with run_sandbox_deployment(tmp_path / "other", outage, **SETTINGS) as other:
        stage.sandbox = other
        result = stage.run("initial_backfill", key(JANUARY, BTC))
    assert result.success
    found = evaluations(result, key(JANUARY, BTC))
    failed = {name: each for name, each in found.items() if not each.passed}
    assert {name: each.severity.value for name, each in failed.items()} == {
        "coverage": "ERROR",
        "unexplained_missing": "ERROR",
        "long_gap": "WARN",
    }
    assert {each.metadata["level"].value for each in failed.values()} == {level}
    assert failed["unexplained_missing"].metadata["failing"].value == hours
    assert failing_rows(failed["unexplained_missing"])[0]["bars"] == hours


def test_checks_run_alone_judge_all_that_was_ever_made(stage: Stage) -> None:
    """Without selected partitions, as in the UI, all materialized partitions are checked."""
    assert stage.run("initial_backfill", tags=block(JANUARY, JANUARY)).success
    result = stage.materialize([], checks="bars")
    assert result.success
    assert evaluations(result, key(JANUARY, BTC)).keys() == evaluations(result, key(JANUARY, ETH)).keys()
    assert {each.partition for each in result.get_asset_check_evaluations()} == {
        key(JANUARY, BTC),
        key(JANUARY, ETH),
    }
    assert all(each.passed for each in result.get_asset_check_evaluations())


def test_the_lake_is_held_to_its_gates_as_a_whole(stage: Stage) -> None:
    """A symbol without bars and stale bars fail the checks of the unpartitioned report."""
    assert stage.run("initial_backfill", key(JANUARY, BTC)).success
    result = stage.run("coverage")
    assert result.success
    found = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert {name: each.passed for name, each in found.items()} == {
        "all_symbols_present": False,
        "ledgers_current": True,
        "freshness": False,
    }
    assert [row["symbol"] for row in failing_rows(found["all_symbols_present"])] == [ETH]
    assert [row["symbol"] for row in failing_rows(found["freshness"])] == [BTC, ETH]
