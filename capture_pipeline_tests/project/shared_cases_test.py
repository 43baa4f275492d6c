"""Recorded inputs that an earlier version handled incorrectly, run through the command line.

The inputs are in a folder outside the project. Other tests cover the same behaviour with generated values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from capture_pipeline.cli.main import main
from capture_pipeline_tests.support.deployment import SandboxDeployment, run_sandbox_deployment

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
STREAMS = CASES / "streams"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"no cases at {CASES}")

KLINES = {
    "early-close": ("BTCUSDT", "1h", "2023-03", "2023-03"),
    "ignore-column": ("BTCUSDT", "1d", "2017-08", "2017-08"),
    "off-grid": ("BTCUSDT", "1h", "2018-02", "2018-02"),
    "relisted": ("BTCUSDC", "1h", "2022-08", "2023-04"),
    "checksum-forms": ("BOMUSDT", "1h", "2024-03", "2024-03"),
}


@pytest.fixture(params=KLINES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, SandboxDeployment]]:
    """Start a deployment whose exchange serves the files of one case."""
    name: str = request.param
    symbol, interval, first, last = KLINES[name]
    environment = {"CAPTURE_SYMBOLS": symbol, "CAPTURE_INTERVAL": interval}
    environment |= {"CAPTURE_HISTORY_START": f"{first}-01", "CAPTURE_HISTORY_END": f"{last}-01"}
    calendar = CASES / "klines" / name / "outages.yaml"
    environment |= {"CAPTURE_GAPS_OUTAGE_CALENDAR": str(calendar)} if calendar.is_file() else {}
    with run_sandbox_deployment(
        tmp_path / "lake", {"recorded": CASES / "klines" / name, "now": None, "frozen": False}, **environment
    ) as sandbox:
        yield name, sandbox


def run(sandbox: SandboxDeployment, *arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env=sandbox.environment(), catch_exceptions=False)


def test_months_of_the_exchange_pass_the_gates(case: tuple[str, SandboxDeployment]) -> None:
    """Backfill, ledger, gates and coverage end without an error that has no remedy.

    An unverified file is reported.
    """
    name, sandbox = case
    backfill = run(sandbox, "klines", "backfill", "--json")
    assert backfill.exit_code == (1 if name == "checksum-forms" else 0), backfill.output
    check = run(sandbox, "check", "--json")
    assert check.exit_code == 0, check.output
    for row in json.loads(run(sandbox, "klines", "coverage", "--json").stdout)["partitions"]:
        assert (row["explained_coverage_percent"], row["unexplained"]) == (100, 0), row
    _expect(name, json.loads(backfill.stdout)["partitions"], sandbox)


def _expect(name: str, partitions: list[dict[str, Any]], sandbox: SandboxDeployment) -> None:
    """Check the particular results of a case."""
    gaps = [row for _, row in _table(sandbox, "bar_gaps")]
    if name == "early-close":
        (bar,) = [row for _, row in _table(sandbox, "bars") if row["open_time_us"] == 1_679_659_200_000_000]
        assert bar["close_time_us"] < bar["open_time_us"] + 3_599_999_000
        assert partitions[0]["irregular"] == {"early_close": {"known": 1, "unknown": 0}}, partitions[0][
            "irregular"
        ]
    elif name == "off-grid":
        assert partitions[0]["excluded"] == {"off_grid": 43}
        assert {row["cause"] for row in gaps} == {"exchange_outage", "off_grid"}
        assert not any("top-up" in row["detail"] for row in gaps)
    elif name == "relisted":
        assert sum(row["bars"] for row in gaps if row["cause"] == "suspended") > 3000
    elif name == "checksum-forms":
        assert "byte order mark" in json.dumps(partitions[0]["unverified"], ensure_ascii=False)


def _table(sandbox: SandboxDeployment, name: str) -> list[tuple[Path, dict[str, Any]]]:
    files = sorted((sandbox.root / "lake" / name).rglob("*.parquet"))
    return [
        (path, row)
        for path in files
        for row in pl.read_parquet(path, hive_partitioning=False).iter_rows(named=True)
    ]


IMPORTS = {
    "c01_us16.gz": ("hftbacktest", [], "microseconds"),
    "c02_na_trades.gz": ("hftbacktest", [], "market um"),
    "c09b_error.gz": ("hftbacktest", ["--market", "spot"], "1 error object"),
    "c12a_clock_back.jsonl.gz": (
        "capture",
        ["--venue", "binance", "--market", "spot"],
        "lower than the previous one",
    ),
}


@pytest.mark.parametrize("name", IMPORTS)
def test_recordings_of_tools_are_imported_and_what_is_odd_is_reported(name: str, tmp_path: Path) -> None:
    """The cases contain other units and markets, error objects, and clocks that were set back."""
    tool, options, told = IMPORTS[name]
    result = CliRunner().invoke(
        main, ["session", "import", str(STREAMS / name), "--format", tool, "--out", str(tmp_path), *options]
    )
    assert result.exit_code == 0, result.output
    assert told in result.output
    (folder,) = (path.parent for path in tmp_path.rglob("metadata.json"))
    assert folder.name.startswith("20250904T153320Z_")


READ = [
    "c03_unicode.jsonl.gz",
    "c04_quarterly.jsonl.gz",
    "c05_third_element.jsonl.gz",
    "c13c_crlf.jsonl.gz",
    "c13i_plain.jsonl",
]


@pytest.mark.parametrize("name", READ)
def test_recordings_are_read_alike_by_every_command(name: str) -> None:
    """The cases contain non-ASCII names, contracts, levels with a third element, CRLF and plain text."""
    report = json.loads(
        CliRunner().invoke(main, ["session", "validate", str(STREAMS / name), "--json"]).stdout
    )
    assert {check["name"]: check["verdict"] for check in report["checks"]}["line_form"] == "PASS"
    result = CliRunner().invoke(main, ["session", "replay", str(STREAMS / name), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["events"] > 0


@pytest.mark.parametrize(("second", "exit_code"), [(1, 0), (2, 0), (2.05, 1), (7, 1), (12.15, 1), (13, 0)])
def test_there_is_no_book_inside_a_hole(second: float, exit_code: int) -> None:
    """The hole lasts from the last diff before the missing ids to the next snapshot."""
    at = f"2025-09-04T15:33:{20 + second:06.3f}Z"
    result = CliRunner().invoke(main, ["session", "book", str(STREAMS / "c20_hole.jsonl.gz"), "--at", at])
    assert result.exit_code == exit_code, result.output
    assert ("60 ids" in result.output) == bool(exit_code)


def test_a_short_hole_ends_a_stretch() -> None:
    """Two ids are missing within 0.3 s."""
    document = json.loads(
        CliRunner()
        .invoke(main, ["session", "diagnose", str(STREAMS / "diagnose-short-gap"), "--json"])
        .stdout
    )
    assert document["score"] < 80
