"""The real-world profile in backfill, check and coverage, and in Dagster.

The lakes contain hourly bars of both markets over four months. `profile_worlds.py` counts the planted
causes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner, Result

import capture_pipeline
from capture_pipeline.cli.main import main
from capture_pipeline.definitions import build_definitions
from capture_pipeline_tests.support.command import read_json
from capture_pipeline_tests.support.dagster.stage import Stage, key
from capture_pipeline_tests.support.deployment import SandboxDeployment
from capture_pipeline_tests.support.exchange.profile import EARLY, INVERTED, MONTHS, WORLDS, World
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer

pytestmark = pytest.mark.slow

# Names of the product's interface, in one place.
OUTAGE, OFF_GRID, SUSPENDED, OMITTED = "exchange_outage", "off_grid", "suspended", "archive_omission"
BARS, GAPS, EXCLUSIONS = "bars", "bar_gaps", "bar_exclusions"
CLOSE_GATE, OFF_GRID_GATE, IRREGULAR = "close_time_fits", "off_grid_rows_known", "irregular"
JOB = "initial_backfill"
DEMO_FILES = Path(capture_pipeline.__file__).parent / "cli" / "demo" / "files"
PATIENT = {"CAPTURE_HTTP_READ_TIMEOUT_S": "20"}
"""A listing makes the files of its month, which a busy machine does not do within the usual time of tests."""
CALENDARS = {
    "CAPTURE_GAPS_OUTAGE_CALENDAR": str(DEMO_FILES / "outages.yaml"),
    "CAPTURE_GAPS_IRREGULARITY_CALENDAR": str(DEMO_FILES / "irregularities.yaml"),
}
SHIFT_US = 1_694_789_000


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Start an exchange with the profile and a stopped clock."""
    with SandboxServer(SandboxConfig.model_validate({"profile": "real_world", "frozen": True})) as server:
        yield server.url


@pytest.fixture(scope="module", params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    """Return one of the markets."""
    return WORLDS[request.param]


@pytest.fixture(scope="module")
def filled(
    world: World, url: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SandboxDeployment, Result]:
    """Build a lake with a backfill; return the lake and the result."""
    sandbox = SandboxDeployment(
        url, tmp_path_factory.mktemp("real-world") / "data", **world.settings, **CALENDARS, **PATIENT
    )
    return sandbox, run(sandbox, "klines", "backfill", "--json")


def run(sandbox: SandboxDeployment, *arguments: str, **environment: str) -> Result:
    """Run `capture` in this process."""
    return CliRunner().invoke(
        main, list(arguments), env=sandbox.environment(**environment), catch_exceptions=False
    )


def table(sandbox: SandboxDeployment, name: str) -> pl.DataFrame:
    """Return all rows of a table with symbol and month of the partition; no rows if it has no file."""
    files = sorted((sandbox.root / "lake" / name).rglob("*.parquet"))
    frames = [
        pl.read_parquet(path, hive_partitioning=False).with_columns(
            *(pl.lit(_of_path(path, part)).alias(part) for part in ("symbol", "month"))
        )
        for path in files
    ]
    return pl.concat(frames) if frames else pl.DataFrame()


def _of_path(path: Path, name: str) -> str:
    return next(part.removeprefix(f"{name}=") for part in path.parts if part.startswith(f"{name}="))


def hours_of(gaps: pl.DataFrame, cause: str, status: str) -> dict[str, int]:
    """Count the hours of a cause in the ledgers, by symbol."""
    rows = gaps.filter((pl.col("cause") == cause) & (pl.col("status") == status))
    return {
        row["symbol"]: row["bars"] for row in rows.group_by("symbol").agg(pl.col("bars").sum()).to_dicts()
    }


def test_backfill_takes_every_month(world: World, filled: tuple[SandboxDeployment, Result]) -> None:
    """The exit code is 0, no file is quarantined, and the bars of each month are those of the exchange."""
    sandbox, result = filled
    assert result.exit_code == 0, result.output
    rows = read_json(result)["partitions"]
    found = {symbol: tuple(row["bars"] for row in rows if row["symbol"] == symbol) for symbol in world.bars}
    assert found == world.bars
    assert {(row["symbol"], row["month"]): row["quarantined"] for row in rows if row["quarantined"]} == {}
    assert {(row["symbol"], row["month"]): row["unexplained"] for row in rows if row["unexplained"]} == {}
    assert {
        (row["symbol"], row["month"]): row["conflicts"] for row in rows if row["conflicts"]
    } == world.conflicts
    assert {(row["symbol"], row["month"]): row["unverified"] for row in rows if row["unverified"]} == {}
    assert table(sandbox, BARS).height == sum(map(sum, world.bars.values()))


def test_ledgers_name_each_cause(world: World, filled: tuple[SandboxDeployment, Result]) -> None:
    """The test counts off-grid hours, suspended hours and filled omissions.

    No hour is missing for another cause.
    """
    sandbox, _ = filled
    gaps = table(sandbox, GAPS)
    assert hours_of(gaps, OFF_GRID, "open") == world.off_grid
    assert hours_of(gaps, SUSPENDED, "open") == world.suspended
    assert hours_of(gaps, "before_listing", "open") == world.before_listing
    filled_rows = gaps.filter((pl.col("status") == "filled") & (pl.col("cause") == OMITTED)).to_dicts()
    assert {
        (row["symbol"], row["month"], row["filled_by"]): row["bars"] for row in filled_rows
    } == world.filled
    assert set(gaps.filter(pl.col("status") == "open")["cause"]) <= {
        OFF_GRID,
        SUSPENDED,
        OUTAGE,
        "before_listing",
        "not_yet_published",
    }


def test_rows_off_the_grid_are_kept_in_their_table(
    world: World, filled: tuple[SandboxDeployment, Result]
) -> None:
    """Each row appears once, unchanged, with its cause."""
    sandbox, _ = filled
    found = table(sandbox, EXCLUSIONS)
    assert Counter(found["symbol"].to_list() if found.height else []) == world.off_grid
    assert set(found["cause"]) == {OFF_GRID}
    assert set(found["open_time_us"] % 3_600_000_000) == {SHIFT_US}


def test_irregular_close_times_are_in_the_bars_as_sent(
    world: World, filled: tuple[SandboxDeployment, Result]
) -> None:
    """These are the candles before the three halts."""
    sandbox, _ = filled
    bars = table(sandbox, BARS)
    unit = pl.when(pl.col("time_unit") == "ms").then(1000).otherwise(1)
    closed, opened = pl.col("close_time_us"), pl.col("open_time_us")
    odd = bars.filter(closed != opened + 3_600_000_000 - unit).with_columns(
        kind=pl.when(closed < opened).then(pl.lit(INVERTED)).otherwise(pl.lit(EARLY))
    )
    found: dict[tuple[str, str], dict[str, int]] = {}
    for row in odd.to_dicts():
        found.setdefault((row["symbol"], row["month"]), Counter())[row["kind"]] += 1
    assert found == world.irregular


def test_check_passes_and_counts_irregular_rows(
    world: World, filled: tuple[SandboxDeployment, Result]
) -> None:
    """With the demo's calendars every gate of severity ERROR passes.

    All irregular rows are known, except for rows off the grid of the futures market.
    """
    sandbox, _ = filled
    result = run(sandbox, "check", "--json")
    document = read_json(result)
    failed = [
        (each["gate"], each["symbol"], each["month"])
        for each in document["results"]
        if not each["passed"] and _is_error(each)
    ]
    assert (result.exit_code, failed) == (0, [])
    warned = {
        (each["gate"], each["symbol"], each["month"]) for each in document["results"] if not each["passed"]
    }
    off_grid = (
        {(OFF_GRID_GATE, symbol, "2024-12") for symbol in world.off_grid} if world.market == "um" else set()
    )
    assert warned == off_grid
    assert irregular(document, "known") == world.irregular
    assert irregular(document, "unknown") == {}


def test_irregular_rows_that_no_calendar_lists_are_a_warning(
    world: World, filled: tuple[SandboxDeployment, Result]
) -> None:
    """The month is kept, the exit code is 0, and the rows are counted as unknown."""
    sandbox, _ = filled
    shipped_alone = dict.fromkeys(CALENDARS, "")
    result = run(sandbox, "check", "--json", "--gate", CLOSE_GATE, **shipped_alone)
    assert result.exit_code == 0, result.output
    assert irregular(read_json(result), "unknown") == world.irregular


def irregular(document: dict[str, Any], which: str) -> dict[tuple[str, str], dict[str, int]]:
    """Return irregular rows of the gate of close times, known or unknown, by partition."""
    found = {}
    for each in document["results"]:
        counts = {
            kind: numbers[which]
            for kind, numbers in each["values"].get(IRREGULAR, {}).items()
            if numbers[which]
        }
        if each["gate"] == CLOSE_GATE and counts:
            found[each["symbol"], each["month"]] = counts
    return found


def _is_error(result: dict[str, Any]) -> bool:
    return bool(result["severity"] == "ERROR")


def test_coverage_expects_no_suspended_hour(world: World, filled: tuple[SandboxDeployment, Result]) -> None:
    """All missing hours are explained."""
    sandbox, _ = filled
    result = run(sandbox, "klines", "coverage", "--json")
    assert result.exit_code == 0, result.output
    rows = {(row["symbol"], row["month"]): row for row in read_json(result)["partitions"]}
    suspended = {
        symbol: sum(row["suspended"] or 0 for (of, _), row in rows.items() if of == symbol)
        for symbol in world.suspended
    }
    assert suspended == world.suspended
    for symbol, present in world.bars.items():
        off_grid = world.off_grid.get(symbol, 0)
        assert tuple(rows[symbol, month]["present"] for month in MONTHS) == present
        missing = {month: rows[symbol, month]["missing"] for month in MONTHS}
        assert missing == {month: off_grid if month == "2024-12" else 0 for month in MONTHS}
        assert {
            rows[symbol, month]["expected"] for month in MONTHS if not rows[symbol, month]["present"]
        } <= {0}
        assert {rows[symbol, month]["unexplained"] for month in MONTHS} == {0}


def test_a_second_backfill_fetches_nothing_and_changes_nothing(
    filled: tuple[SandboxDeployment, Result],
) -> None:
    """No file is requested twice, and all files stay identical."""
    sandbox, first = filled
    assert first.exit_code == 0, first.output
    before = {path: path.read_bytes() for path in (sandbox.root / "lake" / BARS).rglob("*.parquet")}
    rows = read_json(run(sandbox, "klines", "backfill", "--json"))["partitions"]
    assert [row["fetched"] for row in rows] == [[]] * len(rows)
    assert {path: path.read_bytes() for path in before} == before


def test_dagster_materializes_every_partition_and_all_blocking_checks_pass(
    world: World, url: str, tmp_path: Path
) -> None:
    """One run over all partitions succeeds; rows and causes equal those of the command line."""
    sandbox = SandboxDeployment(url, tmp_path / "data", **world.settings, **CALENDARS, **PATIENT)
    definitions = build_definitions(sandbox.deployment.settings)
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        stage = Stage(definitions, sandbox, instance)
        ends = {"start": key("2024-11", min(world.bars)), "end": key("2025-02", max(world.bars))}
        result = stage.run(
            JOB, tags={f"dagster/asset_partition_range_{name}": value for name, value in ends.items()}
        )
        failed = [
            (each.check_name, each.partition)
            for each in result.get_asset_check_evaluations()
            if not each.passed and (each.blocking or each.severity is dg.AssetCheckSeverity.ERROR)
        ]
        assert (result.success, failed) == (True, [])
        evaluated = {
            str(each.partition)
            for each in result.get_asset_check_evaluations()
            if each.check_name == "values"
        }
        assert evaluated == {key(month, symbol) for month in MONTHS for symbol in world.bars}
        rows = {
            partition: materialization.metadata["dagster/partition_row_count"].value
            for partition, materialization in stage.materializations(BARS).items()
        }
    assert rows == {
        key(month, symbol): count
        for symbol, counts in world.bars.items()
        for month, count in zip(MONTHS, counts, strict=True)
    }
    gaps = table(sandbox, GAPS)
    assert (hours_of(gaps, OFF_GRID, "open"), hours_of(gaps, SUSPENDED, "open")) == (
        world.off_grid,
        world.suspended,
    )
