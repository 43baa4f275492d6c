"""Declarative automation: what is asked for by itself after its input changed, and what a failed blocking check holds back."""

from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView

from capture_pipeline.klines import bars as made_bars
from capture_pipeline.tables.exclusions import EXCLUSION_SCHEMA, SeparatedRows
from capture_pipeline_tests.defs.stage import BTC, CHAIN, ETH, FEBRUARY, JANUARY, Stage, block, key

MONTHLY = "/data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip"
JANUARY_BTC = key(JANUARY, BTC)
NOTHING: dict[str, set[str | None]] = {}


@dataclass
class Automation:
    """The automation's ticks, one after the other.

    Attributes:
        stage: What it watches.
        cursor: Its memory.
    """

    stage: Stage
    cursor: Any = None

    def tick(self) -> dict[str, set[str | None]]:
        """What is asked for after an update: by the second tick that sees it, or by the first if it waited for something else."""
        first, second = self.evaluate(), self.evaluate()
        assert not first.keys() & second.keys()
        return first | second

    def evaluate(self) -> dict[str, set[str | None]]:
        """What is asked for now: partitions by asset; None for an asset without partitions."""
        result = dg.evaluate_automation_conditions(
            self.stage.definitions, self.stage.instance, cursor=self.cursor
        )
        self.cursor = result.cursor
        asked: dict[str, set[str | None]] = {}
        for entry in result.results:
            if not entry.true_subset.is_empty:
                keys = {
                    item.partition_key for item in entry.true_subset.expensively_compute_asset_partitions()
                }
                asked[entry.key.to_user_string()] = keys
        return asked


@pytest.fixture
def automation(stage: Stage) -> Automation:
    """One that has seen the state in which nothing was ever made."""
    made = Automation(stage)
    assert made.tick() == NOTHING
    return made


def test_what_lies_downstream_follows_its_input(automation: Automation, stage: Stage) -> None:
    """Archives bring top-ups and bars, bars bring gaps, gaps bring the report; each once, and nothing for other partitions."""
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
    """What a run makes itself is not asked for again, also where it holds many partitions."""
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
    """Its input is updated, and the rest is made at an instant within the first or the second tick that sees the update."""
    job = stage.definitions.resolve_job_def("initial_backfill")
    stage.instance.create_run_for_job(
        job, tags=block(JANUARY, JANUARY, BTC), status=dg.DagsterRunStatus.STARTED
    )
    stage.instance.report_runless_asset_event(
        dg.AssetMaterialization("kline_archives", partition=JANUARY_BTC)
    )
    original = getattr(AssetGraphView, instant)
    made: list[str] = []

    async def observed(view: AssetGraphView, *key: dg.AssetKey, **given: Any) -> Any:
        if not made and (key or (given["key"],))[0].to_user_string() in {"bars", "kline_archives"}:
            made.extend(CHAIN[1:])
            for name in made:
                stage.instance.report_runless_asset_event(
                    dg.AssetMaterialization(name, partition=JANUARY_BTC)
                )
        return await original(view, *key, **given)

    asked: set[str] = set()
    for number in range(4):
        with monkeypatch.context() as watched:
            if number == tick:
                watched.setattr(AssetGraphView, instant, observed)
            asked |= automation.evaluate().keys()
    assert made
    assert asked == {"coverage_report"}


def test_a_failed_blocking_check_holds_back_its_own_partition_alone(
    automation: Automation, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ended before the gap ledger; the three sound partitions go on, the bad one only once its bars are sound."""
    stage.deployment.faults({"match": {"path": MONTHLY}, "fault": "csv_unaligned"})
    with monkeypatch.context() as broken:
        broken.setattr(
            made_bars,
            "separate_rows",
            lambda parts, _step: SeparatedRows(list(parts), pl.DataFrame(schema=EXCLUSION_SCHEMA)),
        )
        assert not stage.run("initial_backfill", tags=block(JANUARY, FEBRUARY)).success
    sound = {key(JANUARY, ETH), key(FEBRUARY, BTC), key(FEBRUARY, ETH)}
    assert automation.tick() == {"bar_gaps": sound}
    for partition in sorted(sound):
        assert stage.materialize(["bar_gaps"], partition).success
    assert automation.tick() == {"coverage_report": {None}}
    stage.run("coverage")
    assert automation.tick() == NOTHING
    mend(stage)
    assert stage.materialize(
        ["kline_archives", "kline_topups", "bars", "bar_conflicts", "bar_exclusions"], JANUARY_BTC
    ).success
    assert automation.tick() == {"bar_gaps": {JANUARY_BTC}}


@pytest.mark.parametrize("asked_for_before", [False, True])
def test_an_input_that_is_made_again_after_its_ledger_brings_the_ledger(
    automation: Automation, stage: Stage, *, asked_for_before: bool
) -> None:
    """Also where bars, gaps and bars again are made between two ticks, so that both are new at the next one."""
    first = CHAIN if not asked_for_before else [name for name in CHAIN if name != "bar_gaps"]
    assert stage.materialize(first, JANUARY_BTC).success
    if asked_for_before:
        assert automation.tick() == {"bar_gaps": {JANUARY_BTC}}
        assert stage.materialize(["bar_gaps"], JANUARY_BTC).success
    assert stage.materialize(["bars", "bar_conflicts", "bar_exclusions"], JANUARY_BTC).success
    assert automation.tick() == {"bar_gaps": {JANUARY_BTC}, "coverage_report": {None}}


def test_bars_that_were_never_checked_bring_nothing(automation: Automation, stage: Stage) -> None:
    """Not judged is not passed: gaps wait until the checks ran."""
    stage.materialize(
        ["kline_archives", "kline_topups", "bars", "bar_conflicts", "bar_exclusions"],
        JANUARY_BTC,
        with_checks=False,
    )
    assert automation.tick() == NOTHING
    stage.materialize([], tags=block(JANUARY, JANUARY, BTC), checks="bars")
    assert automation.evaluate() == {"bar_gaps": {JANUARY_BTC}}


def test_an_input_that_was_never_made_is_waited_for(automation: Automation, stage: Stage) -> None:
    """Answers of REST alone make no bars: without archives it is not known what they stand in for."""
    stage.materialize(["kline_topups"], JANUARY_BTC)
    assert automation.tick() == NOTHING


def test_a_failed_download_is_not_asked_for_again_and_the_others_go_on(
    automation: Automation, stage: Stage
) -> None:
    """Retries are the step's own; the automation only goes on with what came."""
    stage.deployment.faults({"match": {"path": MONTHLY}, "fault": "status_403", "times": "always"})
    assert not stage.run("initial_backfill", tags=block(JANUARY, JANUARY)).success
    assert automation.tick() == {
        name: {key(JANUARY, ETH)} for name in ("kline_topups", "bars", "bar_conflicts", "bar_exclusions")
    }


def mend(stage: Stage) -> None:
    """The exchange's file is sound again; what was fetched of the bad one is moved aside."""
    stage.deployment.faults()
    folder = stage.deployment.root / "raw/spot/klines/1h/BTCUSDT/2024-01"
    (folder / "archives.json").unlink()
