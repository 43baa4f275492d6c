"""`capture check`: exit codes, JSON and the JUnit file that a CI system reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import polars as pl
import pytest

from capture_pipeline.binance.periods import HOUR_US, Month, parse_time
from capture_pipeline.checks.klines import list_gates
from capture_pipeline.klines.quality import row_gates as gates_of_the_lake
from capture_pipeline_tests.support.command import Run, read_json
from capture_pipeline_tests.support.deployment import SandboxDeployment

CALENDAR = (
    "outages:\n  - {start: 2025-01-15T02:00:00Z, end: 2025-01-15T06:00:00Z, markets: "
    "[spot], reason: a test}\n"
)
Spoil = Callable[[pl.DataFrame], pl.DataFrame]


def january(sandbox: SandboxDeployment) -> Path:
    """Return the path of the Parquet file of January."""
    return sandbox.deployment.lake.bars(sandbox.deployment.partition("BTCUSDT", Month(2025, 1)))


def spoil(sandbox: SandboxDeployment, how: Spoil) -> None:
    """Change the bars without the project's functions."""
    path = january(sandbox)
    how(pl.read_parquet(path, hive_partitioning=False)).write_parquet(path)


def at_row(column: str, value: pl.Expr, row: int = 100) -> Spoil:
    """Replace one value of a row."""
    return lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) == row)
        .then(value)
        .otherwise(pl.col(column))
        .cast(frame.schema[column])
        .alias(column)
    )


FAULTS: list[tuple[str, Spoil]] = [
    ("schema", lambda frame: frame.with_columns(pl.col("close").cast(pl.Float64))),
    ("open_times_increase", lambda frame: frame.reverse()),
    ("open_times_unique", lambda frame: pl.concat([frame.head(5), frame.slice(4)])),
    ("open_times_on_grid", at_row("open_time_us", pl.col("open_time_us") + 1)),
    ("none_in_future", at_row("open_time_us", pl.lit(parse_time("2025-02-20T11:00:00Z")), row=739)),
]
IRREGULAR: list[tuple[str, Spoil]] = [
    ("high_is_highest", at_row("high", pl.col("low") / 2)),
    ("low_is_lowest", at_row("low", pl.col("high") * 2)),
    ("prices_positive", at_row("low", pl.lit(0))),
    ("volumes_not_negative", at_row("volume", pl.lit(-1))),
    ("taker_within_total", at_row("taker_buy_volume", pl.col("volume") + 1)),
    ("close_time_fits", at_row("close_time_us", pl.col("close_time_us") + 1)),
]


def test_a_sound_lake_passes_once_its_outage_is_listed(run: Run, tmp_path: Path) -> None:
    """The exit code is 0, and every gate is evaluated."""
    calendar = tmp_path / "outages.yaml"
    calendar.write_text(CALENDAR)
    environment = {
        "CAPTURE_GAPS_OUTAGE_CALENDAR": str(calendar),
        "CAPTURE_GATES_COVERAGE_ERROR_BELOW_PERCENT": "99",
    }
    assert run("klines", "gaps", **environment).exit_code == 0
    result = run("check", "--json", **environment)
    document = read_json(result)
    assert (result.exit_code, document["failed"]) == (0, 0), result.output
    assert {entry["gate"] for entry in document["results"]} == {spec.name for spec in list_gates()}


def test_a_hole_without_proof_fails_coverage_and_is_shown(run: Run) -> None:
    """Four of 744 hours are missing: the report shows ERROR, the range and its state in the ledger."""
    result = run("check", "--json")
    failed = {entry["gate"]: entry for entry in read_json(result)["results"] if not entry["passed"]}
    assert result.exit_code == 1
    assert set(failed) == {"coverage", "unexplained_missing"}
    (hole,) = failed["unexplained_missing"]["failing"]
    assert (hole["start_us"], hole["bars"], hole["cause"]) == (
        parse_time("2025-01-15T02:00:00Z"),
        4,
        "unknown",
    )


def test_progress_is_told_a_year_of_a_symbol_at_a_time(run: Run) -> None:
    """Progress lines go to standard error; with `--json` there are none."""
    steps = [line for line in run("check").stderr.splitlines() if line.startswith("check ")]
    assert steps == ["check 1/3 BTCUSDT 2025", "check 2/3 coverage of each month", "check 3/3 the whole lake"]
    assert "check " not in run("check", "--json").stderr


@pytest.mark.parametrize(("gate", "how"), FAULTS, ids=[gate for gate, _ in FAULTS])
def test_a_planted_fault_exits_1_and_the_junit_file_names_it(
    gate: str, how: Spoil, sandbox: SandboxDeployment, run: Run, tmp_path: Path
) -> None:
    """The failing test case names the gate, the symbol, the month and the rows."""
    spoil(sandbox, how)
    junit = tmp_path / "new" / "junit.xml"
    result = run("check", "--gate", gate, "--from", "2025-01", "--to", "2025-01", "--junit", str(junit))
    assert result.exit_code == 1, result.output
    assert gate in result.stdout
    suite = ET.parse(junit).getroot()[0]
    failed = [case for case in suite if case.find("failure") is not None]
    assert [(case.get("name"), case.get("classname")) for case in failed] == [(gate, "bars.BTCUSDT|2025-01")]
    assert (suite.get("failures"), suite.get("errors")) == ("1", "0")


@pytest.mark.parametrize(("gate", "how"), IRREGULAR, ids=[gate for gate, _ in IRREGULAR])
def test_an_irregular_row_is_shown_and_exits_0(
    gate: str, how: Spoil, sandbox: SandboxDeployment, run: Run, tmp_path: Path
) -> None:
    """A verified file may contain such a row: the gate warns, and the JUnit case passes with the text."""
    spoil(sandbox, how)
    junit = tmp_path / "junit.xml"
    result = run("check", "--gate", gate, "--from", "2025-01", "--to", "2025-01", "--junit", str(junit))
    assert result.exit_code == 0, result.output
    assert gate in result.stdout
    suite = ET.parse(junit).getroot()[0]
    told_of = [
        (case.get("name"), out.text or "") for case in suite if (out := case.find("system-out")) is not None
    ]
    assert [(name, "1 of 740 rows are irregular" in text) for name, text in told_of] == [(gate, True)]


def test_a_price_of_zero_is_shown_as_0(sandbox: SandboxDeployment, run: Run) -> None:
    """The price is 0 in the table and in JSON; other decimals have all their digits."""
    spoil(sandbox, at_row("low", pl.lit(0)))
    arguments = ("check", "--gate", "prices_positive", "--from", "2025-01", "--to", "2025-01")
    shown = run(*arguments).stdout
    assert "0E-8" not in shown
    assert re.search(r"│ 0 +│|^low +0 *$", shown, re.MULTILINE)  # a narrow terminal shows each row as a block
    (row,) = next(entry for entry in read_json(run(*arguments, "--json"))["results"] if not entry["passed"])[
        "failing"
    ]
    assert row["low"] == "0"
    assert "E" not in "".join(
        str(value) for name, value in row.items() if name not in {"kind", "source", "time_unit"}
    )


def test_an_altered_raw_file_fails_its_checksum(sandbox: SandboxDeployment, run: Run) -> None:
    """One byte of the zip from which the bars were built is changed; the report names the zip."""
    raw = next(
        sandbox.deployment.lake.raw(sandbox.deployment.partition("BTCUSDT", Month(2025, 1))).rglob("*.zip")
    )
    raw.chmod(0o644)
    content = bytearray(raw.read_bytes())
    content[len(content) // 2] ^= 1
    raw.write_bytes(bytes(content))
    result = run("check", "--gate", "raw_checksums", "--json")
    failed = [entry for entry in read_json(result)["results"] if not entry["passed"]]
    assert result.exit_code == 1
    assert [(entry["month"], raw.name in entry["summary"]) for entry in failed] == [("2025-01", True)]


def test_a_month_that_was_never_backfilled_is_a_failure_not_a_silence(run: Run) -> None:
    """December belongs to the history but was never downloaded."""
    result = run("check", "--json", CAPTURE_HISTORY_START="2024-12-01")
    december = [entry for entry in read_json(result)["results"] if entry["month"] == "2024-12"]
    assert {entry["gate"]: entry["passed"] for entry in december} == {
        "ledger_fits": False,
        "coverage": False,
        "unexplained_missing": False,
    }
    assert "never backfilled" in december[0]["summary"]


def test_a_symbol_without_bars_and_an_old_month_are_told(run: Run) -> None:
    """Both gates of the whole lake fail and name the symbols; the newest bar opened 90 minutes ago."""
    result = run("check", "--json", "--symbol", "BTCUSDT,ETHUSDT", CAPTURE_GATES_FRESHNESS_HOURS="1")
    failed = {
        entry["gate"]: entry["summary"] for entry in read_json(result)["results"] if not entry["passed"]
    }
    assert "ETHUSDT" in failed["all_symbols_present"]
    assert "BTCUSDT, ETHUSDT" in failed["freshness"]


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("--gate", "nonsense"), {}, "there is no gate nonsense"),
        ((), {"CAPTURE_STORAGE_ROOT": "/nowhere"}, "there is nothing to check"),
        ((), {"CAPTURE_CONFIG": "/nowhere/pipeline.yaml"}, "/nowhere/pipeline.yaml"),
        ((), {"CAPTURE_GATES_LONG_GAP_HOURS": "soon"}, "long_gap_hours"),
        (("--from", "2025-03", "--to", "2025-02"), {}, "--to is before --from"),
        (("--symbol", "btc-usdt"), {}, "BTC-USDT"),
    ],
)
def test_what_keeps_it_from_running_is_one_line_and_exit_2(
    arguments: tuple[str, ...], environment: dict[str, str], said: str, run: Run
) -> None:
    """The command prints no traceback and does not exit with 1, which means bad data."""
    result = run("check", *arguments, **environment)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_bug_in_a_gate_is_an_error_and_no_verdict_on_the_data(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is 2; the JUnit file contains an <error> and no <failure>."""
    junit = tmp_path / "junit.xml"
    monkeypatch.setattr(gates_of_the_lake, "is_valid", lambda *_: 1 // 0)
    result = run("check", "--junit", str(junit))
    assert result.exit_code == 2
    assert "ZeroDivisionError" in result.stderr
    suite = ET.parse(junit).getroot()[0]
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")
    assert suite[0].find("error") is not None


def test_the_gates_are_listed(run: Run) -> None:
    """The list explains each gate."""
    result = run("check", "--list")
    assert result.exit_code == 0
    assert all(spec.name in result.stdout for spec in list_gates())


def test_an_hour_is_an_hour() -> None:
    """The planted hole is four bars of the interval of these tests."""
    assert parse_time("2025-01-15T06:00:00Z") - parse_time("2025-01-15T02:00:00Z") == 4 * HOUR_US
