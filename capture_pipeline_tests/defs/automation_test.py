"""Declarative automation: requests after changed input, and the effect of failed blocking checks."""

from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView

from capture_pipeline.klines import bars as made_bars
from capture_pipeline.klines.merge import SeparatedRows
from capture_pipeline.tables.klines.exclusions import EXCLUSIONS
from capture_pipeline_tests.support.dagster.automation import NOTHING, Automation
from capture_pipeline_tests.support.dagster.stage import BTC, CHAIN, ETH, FEBRUARY, JANUARY, Stage, block, key

MONTHLY = "/data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip"
JANUARY_BTC = key(JANUARY, BTC)


def test_what_lies_downstream_follows_its_input(automation: Automation, stage: Stage) -> None:
    """Each asset is requested once after its input, and only for the changed partitions."""
    stage.materialize(["kline_archives"], JANUARY_BTC)
    assert automation.tick() == {
        name: {JANUARY_BTC} for name in ("kline_topups", "bars", "bar_conflicts", "bar_exclusions")
    }
    assert automation.tick() == NOTHING
    stage.materialize(["kline_topups", "bars", "bar_conflicts", "bar_exclusions"], JANUARY_BTC)
    assert automation.tick() == {"bar_gaps": {JANUARY_BTC}}
    stage.materialize(["bar_gaps"], JANUARY_BTC)
    assert automation.tick() == {"coverage_report": {None}}
    stage.run("coverage")
    assert automation.tick() == NOTHING


def test_a_run_over_the_whole_chain_leaves_only_the_report_to_do(
    automation: Automation, stage: Stage
) -> None:
    """Assets that a run builds itself are not requested again, also in a run of many partitions."""
    assert stage.run("initial_backfill", tags=block(JANUARY, FEBRUARY)).success
    assert automation.tick() == {"coverage_report": {None}}
    assert automation.tick() == NOTHING


@pytest.mark.parametrize("tick", [0, 1])
@pytest.mark.parametrize(
    "instant", ["_compute_run_in_progress_asset_subset", "compute_updated_since_temporal_context_subset"]
)
def test_what_a_run_makes_while_a_tick_is_computed_is_not_asked_for_again(
    automation: Automation, stage: Stage, instant: str, tick: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends in the middle of the first or the second tick after the update."""
    job = stage.definitions.resolve_job_def("initial_backfill")
    stage.instance.create_run_for_job(
        job, tags=block(JANUARY, JANUARY, BTC), status=dg.DagsterRunStatus.STARTED
    )
    stage.instance.report_runless_asset_event(
        dg.AssetMaterialization("kline_archives", partition=JANUARY_BTC)
    )
    original = getattr(AssetGraphView, instant)
    built: list[str] = []

    async def observed(view: AssetGraphView, *key: dg.AssetKey, **given: Any) -> Any:
        if not built and (key or (given["key"],))[0].to_user_string() in {"bars", "kline_archives"}:
            built.extend(CHAIN[1:])
            for name in built:
                stage.instance.report_runless_asset_event(
                    dg.AssetMaterialization(name, partition=JANUARY_BTC)
                )
        return await original(view, *key, **given)

    requested: set[str] = set()
    for number in range(4):
        with monkeypatch.context() as watched:
            if number == tick:
                watched.setattr(AssetGraphView, instant, observed)
            requested |= automation.evaluate().keys()
    assert built
    assert requested == {"coverage_report"}


def test_a_failed_blocking_check_holds_back_its_own_partition_alone(
    automation: Automation, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The three good partitions continue; the bad one continues after its bars are good."""
    stage.sandbox.faults({"match": {"path": MONTHLY}, "fault": "csv_unaligned"})
    with monkeypatch.context() as broken:
        broken.setattr(
            made_bars,
            "separate_rows",
            lambda parts, _step: SeparatedRows(list(parts), pl.DataFrame(schema=EXCLUSIONS.schema)),
        )
        assert not stage.run("initial_backfill", tags=block(JANUARY, FEBRUARY)).success
    sound = {key(JANUARY, ETH), key(FEBRUARY, BTC), key(FEBRUARY, ETH)}
    assert automation.tick() == {"bar_gaps": sound}
    for partition in sorted(sound):
        assert stage.materialize(["bar_gaps"], partition).success
    assert automation.tick() == {"coverage_report": {None}}
    stage.run("coverage")
    assert automation.tick() == NOTHING
    repair_archive(stage)
    assert stage.materialize(
        ["kline_archives", "kline_topups", "bars", "bar_conflicts", "bar_exclusions"], JANUARY_BTC
    ).success
    assert automation.tick() == {"bar_gaps": {JANUARY_BTC}}


@pytest.mark.parametrize("asked_for_before", [False, True])
def test_an_input_that_is_made_again_after_its_ledger_brings_the_ledger(
    automation: Automation, stage: Stage, *, asked_for_before: bool
) -> None:
    """Bars, gaps and bars again may be built between two ticks, so that both are new."""
    first = CHAIN if not asked_for_before else [name for name in CHAIN if name != "bar_gaps"]
    assert stage.materialize(first, JANUARY_BTC).success
    if asked_for_before:
        assert automation.tick() == {"bar_gaps": {JANUARY_BTC}}
        assert stage.materialize(["bar_gaps"], JANUARY_BTC).success
    assert stage.materialize(["bars", "bar_conflicts", "bar_exclusions"], JANUARY_BTC).success
    assert automation.tick() == {"bar_gaps": {JANUARY_BTC}, "coverage_report": {None}}


def test_bars_that_were_never_checked_bring_nothing(automation: Automation, stage: Stage) -> None:
    """Gaps wait until the checks of the bars ran."""
    stage.materialize(
        ["kline_archives", "kline_topups", "bars", "bar_conflicts", "bar_exclusions"],
        JANUARY_BTC,
        with_checks=False,
    )
    assert automation.tick() == NOTHING
    stage.materialize([], tags=block(JANUARY, JANUARY, BTC), checks="bars")
    assert automation.evaluate() == {"bar_gaps": {JANUARY_BTC}}


def test_an_input_that_was_never_made_is_waited_for(automation: Automation, stage: Stage) -> None:
    """Bars are not built from REST answers alone, without archives."""
    stage.materialize(["kline_topups"], JANUARY_BTC)
    assert automation.tick() == NOTHING


def test_a_failed_download_is_not_asked_for_again_and_the_others_go_on(
    automation: Automation, stage: Stage
) -> None:
    """Only the policy of the step retries it; the automation continues the others."""
    stage.sandbox.faults({"match": {"path": MONTHLY}, "fault": "status_403", "times": "always"})
    assert not stage.run("initial_backfill", tags=block(JANUARY, JANUARY)).success
    assert automation.tick() == {
        name: {key(JANUARY, ETH)} for name in ("kline_topups", "bars", "bar_conflicts", "bar_exclusions")
    }


def repair_archive(stage: Stage) -> None:
    """Let the exchange publish a good file, and remove the downloads of the bad one."""
    stage.sandbox.faults()
    folder = stage.sandbox.root / "raw/spot/klines/1h/BTCUSDT/2024-01"
    (folder / "archives.json").unlink()
