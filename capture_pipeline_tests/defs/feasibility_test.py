"""Benchmarks and the verdict in Dagster: numeric figures, checks of criteria, and regressions."""

import threading
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from capture_pipeline.checks.feasibility import CRITERIA, DISK, EXACT, GAPS, THROUGHPUT, Criterion
from capture_pipeline.checks.model import Bound
from capture_pipeline.defs.feasibility import arrivals
from capture_pipeline.errors import BusyError
from capture_pipeline.feasibility.benchmarks import benchmark_turn, measure_decimals
from capture_pipeline.feasibility.evidence import Evidence, EvidenceStore, Reading, new_evidence
from capture_pipeline.lake.files import file_lock
from capture_pipeline_tests.support.dagster.stage import QUIET, Stage

DECIMALS = {"rows": 5_000, "block_rows": 1_000, "repeats": 1}
REPLAYS = {"events": 4_200, "repeats": 1, "cap_mb": 4096}
DISKS = {"rows": [1_000, 2_000], "medium_mib": 8, "repeats": 1}


def run_asset(
    stage: Stage, asset: str, config: dict[str, Any] | None = None, *, only_checks: bool = False
) -> dg.ExecuteInProcessResult:
    """Materialize an asset and run its checks, or run its checks only."""
    checks = dg.AssetSelection.checks_for_assets(asset)
    return dg.materialize(
        [*(stage.definitions.assets or []), *(stage.definitions.asset_checks or [])],  # type: ignore[list-item]
        selection=checks if only_checks else dg.AssetSelection.assets(asset).without_checks() | checks,
        run_config={**QUIET, "ops": {asset: {"config": config}}} if config else QUIET,
        instance=stage.instance,
        resources={"deployment": stage.deployment},
        raise_on_error=False,
    )


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, str]]:
    """Return for each check of a run whether it passed, and its severity."""
    return {
        each.check_name: (each.passed, each.severity.value) for each in result.get_asset_check_evaluations()
    }


def store_of(stage: Stage) -> EvidenceStore:
    return EvidenceStore(stage.deployment.lake.reports())


def latest(stage: Stage, asset: str) -> Evidence:
    found = store_of(stage).latest(asset)
    assert found
    return found[0]


def passing_value(criterion: Criterion) -> float:
    """Return a value that meets a criterion."""
    return {
        Bound.AT_LEAST: 2 * criterion.threshold.limit,
        Bound.BELOW: criterion.threshold.limit / 2,
        Bound.EXACTLY: criterion.threshold.limit,
    }[criterion.threshold.bound]


def publish_all(stage: Stage, **readings: float) -> None:
    """Publish evidence of every asset with values that meet the criteria, except for the given values."""
    for asset in {criterion.asset for criterion in CRITERIA}:
        found = [
            Reading(criterion=one.name, measured=readings.get(one.name, passing_value(one)))
            for one in CRITERIA
            if one.asset == asset
        ]
        store_of(stage).publish(new_evidence(asset, found, {}, {"input": "0" * 64}))


def test_decimals_are_compared_and_held_exact(stage: Stage) -> None:
    """A small run publishes evidence and numeric figures; without an earlier run there is no regression."""
    result = run_asset(stage, EXACT.asset, DECIMALS)
    assert result.success
    assert verdicts(result) == {"decimals_exact": (True, "ERROR"), "no_regression": (True, "WARN")}
    (materialized,) = stage.materializations(EXACT.asset).values()
    metadata = materialized.metadata
    assert metadata["rows"].value == DECIMALS["rows"]
    assert metadata["decimal_errors"].value == 0
    assert isinstance(metadata["project_rows_per_s_sum"], dg.FloatMetadataValue)
    assert "float64" in str(metadata["tables"].value)
    assert Path(str(metadata["evidence"].value)) == store_of(stage).path(EXACT.asset)
    assert latest(stage, EXACT.asset).figures["rows"] == DECIMALS["rows"]


def test_replays_are_measured_and_held_to_their_gates(stage: Stage) -> None:
    """A run of generated updates has numeric rates and memory, both checks, and the name of its input."""
    result = run_asset(stage, THROUGHPUT.asset, REPLAYS)
    assert result.success
    checks = verdicts(result)
    assert (checks["throughput"][1], checks["memory"], checks["no_regression"]) == (
        "WARN",
        (True, "WARN"),
        (True, "WARN"),
    )
    (materialized,) = stage.materializations(THROUGHPUT.asset).values()
    rates = {
        kind: float(str(materialized.metadata[f"{kind}_events_s"].value))
        for kind in ("memory", "parquet", "raw")
    }
    assert latest(stage, THROUGHPUT.asset).reading(THROUGHPUT).measured == min(rates.values())
    assert materialized.metadata["pressure_held"].value == 1.0
    assert list(latest(stage, THROUGHPUT.asset).inputs) == ["4,200 made level updates"]


def test_the_disk_is_measured_where_the_lake_lies(stage: Stage) -> None:
    """A small run leaves only the evidence and its lock in the lake."""
    result = run_asset(stage, DISK.asset, DISKS)
    assert result.success
    assert verdicts(result)["disk_rate"] == (latest(stage, DISK.asset).failed == [], "WARN")
    (materialized,) = stage.materializations(DISK.asset).values()
    margin = latest(stage, DISK.asset).reading(DISK).measured
    assert materialized.metadata["disk_rate"].value == margin
    assert not stage.deployment.lake.state("io_benchmark").exists()
    table = str(materialized.metadata["tables"].value)
    assert "zstd 1, 512k, by column" in table
    assert "JSONL.gz" in table


def test_evidence_of_a_shell_is_reported_as_a_run_reports_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metadata and evaluations equal those of a run. Recent evidence is left to the run that wrote it."""
    publish_all(stage)
    measure_decimals(stage.deployment.lake, DECIMALS["rows"], DECIMALS["block_rows"], 7, 1)
    assert (
        stage.tick("evidence_arrivals").reason
        == "no benchmark was measured outside Dagster since the last tick"
    )
    monkeypatch.setattr(arrivals, "_SETTLED_US", -60_000_000)
    assert (
        stage.tick("evidence_arrivals").reason
        == "reported: decimal_benchmark, io_benchmark, replay_benchmark"
    )
    (reported,) = stage.materializations(EXACT.asset).values()
    judged = stage.instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [dg.AssetCheckKey(dg.AssetKey(EXACT.asset), name) for name in ("decimals_exact", "no_regression")]
    )
    assert {record.status.value for record in judged.values()} == {"SUCCEEDED"}
    assert len(judged) == 2
    assert (
        stage.tick("evidence_arrivals").reason
        == "no benchmark was measured outside Dagster since the last tick"
    )
    assert run_asset(stage, EXACT.asset, DECIMALS).success
    (by_run,) = stage.materializations(EXACT.asset).values()
    assert set(by_run.metadata) == set(reported.metadata)
    assert by_run.metadata["inputs"] == reported.metadata["inputs"]


def test_damaged_evidence_is_named_and_the_others_are_reported(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "_SETTLED_US", -60_000_000)
    publish_all(stage)
    store_of(stage).path(EXACT.asset).write_text("{")
    assert stage.tick("evidence_arrivals").reason == "reported: io_benchmark, replay_benchmark"


@pytest.mark.parametrize(
    ("criterion", "check", "measured", "severity"),
    [(EXACT, "decimals_exact", 1.0, "ERROR"), (DISK, "disk_rate", 0.99, "WARN")],
)
def test_a_criterion_that_fails_fails_its_check(
    stage: Stage, criterion: Criterion, check: str, measured: float, severity: str
) -> None:
    """The severity is WARN with a mitigation, which is named, and ERROR without one."""
    store_of(stage).publish(
        new_evidence(
            criterion.asset, [Reading(criterion=criterion.name, measured=measured, note="as made")], {}, {}
        )
    )
    result = run_asset(stage, criterion.asset, only_checks=True)
    assert result.success
    assert verdicts(result)[check] == (False, severity)
    evaluation = next(each for each in result.get_asset_check_evaluations() if each.check_name == check)
    assert evaluation.description == "FAIL: as made"
    assert evaluation.metadata["measured"].value == measured
    assert evaluation.metadata["mitigation"].value == (criterion.remedy or "none")


@pytest.mark.parametrize(("now", "holds"), [(69.0, False), (71.0, True), (1000.0, True)])
def test_a_figure_that_falls_below_seven_tenths_of_the_runs_before_warns(
    now: float, holds: bool, stage: Stage
) -> None:
    """The median does not include the run itself."""
    name, store = "sustained_write_mb_s", store_of(stage)
    for number, value in enumerate([100.0, 1.0, 100.0, now]):
        evidence = new_evidence(
            DISK.asset, [Reading(criterion=DISK.name, measured=2)], {name: value, "needed_mb_s": value}, {}
        )
        store.publish(evidence.model_copy(update={"measured_us": 10**15 + number}))
    result = run_asset(stage, DISK.asset, only_checks=True)
    assert verdicts(result) == {"disk_rate": (True, "WARN"), "no_regression": (holds, "WARN")}
    evaluation = next(
        each for each in result.get_asset_check_evaluations() if each.check_name == "no_regression"
    )
    assert evaluation.metadata[f"ratio_{name}"].value == pytest.approx(now / 100)
    assert evaluation.metadata["compared"].value == 1
    assert ("0.69 of the median of earlier runs" in (evaluation.description or "")) is not holds


def test_checks_without_evidence_say_what_to_do(stage: Stage) -> None:
    """The check of the verdict does the same without a verdict."""
    for asset, remedy in ((EXACT.asset, f"materialize {EXACT.asset}"), ("go_no_go", "materialize go_no_go")):
        result = run_asset(stage, asset, only_checks=True)
        assert not result.success
        assert any(
            remedy in str(event.event_specific_data) for event in result.all_events if event.is_step_failure
        )


@pytest.mark.parametrize(
    ("readings", "overall", "passed", "severity"),
    [
        ({}, "Go", True, "ERROR"),
        ({GAPS.name: 5.0}, "Conditional", False, "WARN"),
        ({EXACT.name: 2.0, GAPS.name: 5.0}, "No-Go", False, "ERROR"),
    ],
)
def test_the_verdict_is_published_and_its_check_follows(
    readings: dict[str, float], overall: str, passed: bool, severity: str, stage: Stage
) -> None:
    """Go passes, Conditional warns with the mitigation, No-Go fails; the run succeeds in all cases."""
    publish_all(stage, **readings)
    result = run_asset(stage, "go_no_go")
    assert result.success
    assert verdicts(result) == {"go": (passed, severity)}
    (evaluation,) = result.get_asset_check_evaluations()
    assert (evaluation.description or "").startswith(overall)
    assert (GAPS.remedy in (evaluation.description or "")) is (GAPS.name in readings)
    (materialized,) = stage.materializations("go_no_go").values()
    metadata = materialized.metadata
    assert metadata["overall"].value == overall
    assert metadata[EXACT.name].value == readings.get(EXACT.name, 0)
    assert metadata[f"margin_{DISK.name}"].value == 2
    for name, ending in (("page", "html"), ("json", "json")):
        path = Path(str(metadata[name].value))
        assert path == stage.deployment.lake.reports() / f"go_no_go.{ending}"
        assert overall in path.read_text()
    assert (stage.deployment.lake.reports() / "go_no_go.md").read_text() == metadata["verdict"].value


def test_without_any_evidence_the_verdict_is_not_judged_and_no_error(stage: Stage) -> None:
    """The result names every criterion."""
    result = run_asset(stage, "go_no_go")
    assert result.success
    (evaluation,) = result.get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (evaluation.description or "").startswith("Not judged")
    assert all(
        f"{criterion.description}: not measured" in (evaluation.description or "") for criterion in CRITERIA
    )


def test_damaged_evidence_fails_the_step_and_names_the_file(stage: Stage) -> None:
    """No page is published."""
    publish_all(stage)
    store_of(stage).path(DISK.asset).write_text("{")
    result = run_asset(stage, "go_no_go")
    assert not result.success
    assert any(
        f"{DISK.asset}.json" in str(event.event_specific_data)
        for event in result.all_events
        if event.is_step_failure
    )
    assert not (stage.deployment.lake.reports() / "go_no_go.html").exists()


def test_the_verdict_hangs_on_every_asset_that_measures(definitions: dg.Definitions) -> None:
    """The dependencies are the assets of all criteria."""
    spec = next(spec for spec in definitions.resolve_all_asset_specs() if spec.key == dg.AssetKey("go_no_go"))
    assert {dep.asset_key.to_user_string() for dep in spec.deps} == {
        criterion.asset for criterion in CRITERIA
    }


@pytest.mark.parametrize(
    ("asset", "config"),
    [(EXACT.asset, {"rows": 4}), (DISK.asset, {"medium_mib": 9}), (EXACT.asset, {"repeats": 0})],
)
def test_configuration_that_measures_nothing_is_refused(
    asset: str, config: dict[str, Any], stage: Stage
) -> None:
    """Nothing is written."""
    assert not run_asset(stage, asset, config).success
    assert store_of(stage).latest(asset) is None


def test_sizes_that_hold_no_message_are_told_in_one_line(stage: Stage) -> None:
    """The step fails with a domain error instead of a traceback."""
    result = run_asset(stage, DISK.asset, {"rows": [3]})
    assert not result.success
    assert any(
        "measure nothing" in str(event.event_specific_data)
        for event in result.all_events
        if event.is_step_failure
    )


def test_two_benchmarks_do_not_measure_each_other(stage: Stage) -> None:
    """The second benchmark waits until the first one ends."""
    order = list[str]()

    def second() -> None:
        with benchmark_turn(stage.deployment.lake) as store:
            order.append(f"second in {store.folder.name}")

    thread = threading.Thread(target=second)
    with benchmark_turn(stage.deployment.lake):
        thread.start()
        with (
            pytest.raises(BusyError, match=r"benchmark\.lock"),
            file_lock(stage.deployment.lake.state("benchmark.lock")),
        ):
            pass
        thread.join(1)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second in feasibility"]
