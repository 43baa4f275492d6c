"""All commands with a symbol of Chinese letters (spot) and with a delivery contract (USD-M)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.dataset
import pytest
from click.testing import CliRunner, Result

from capture_pipeline.cli.main import main
from capture_pipeline.recorder.lifecycle import list_sessions, sessions_root
from capture_pipeline_tests.support.deployment import NOW, SandboxDeployment, run_sandbox_deployment
from capture_pipeline_tests.support.sessions.recorder import BUSY, QUICK

CHINESE, QUARTERLY = "币安人生USDT", "BTCUSDT_240329"
QUIET_NAMES = [{"symbol": symbol, "trades_per_day": 5760} for symbol in (CHINESE, QUARTERLY)]
NAMES = [{**BUSY, "symbol": CHINESE}, {**BUSY, "symbol": QUARTERLY}, BUSY]


@dataclass(frozen=True)
class Case:
    """Symbol of a market, in the spelling of the user and of the exchange."""

    market: str
    written: str
    symbol: str


CASES = [Case("spot", "币安人生usdt", CHINESE), Case("um", "btcusdt_240329", QUARTERLY)]


@pytest.fixture(scope="module", params=CASES, ids=["spot", "um"])
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = request.param
    return made


def capture(sandbox: SandboxDeployment, *arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env=sandbox.environment(**QUICK), catch_exceptions=False)


@pytest.fixture(scope="module")
def filled(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxDeployment]:
    """Build a lake of one symbol from January 2025 on; the settings name the symbol in small letters."""
    root = tmp_path_factory.mktemp("names") / "data"
    config = {"symbols": [*QUIET_NAMES, "BTCUSDT"], "listed": "2024-12-20", "now": NOW, "archive_omissions": [
        {"symbol": case.symbol, "start": "2025-01-05T03:00:00Z", "end": "2025-01-05T06:00:00Z"}
    ]}  # fmt: skip
    with run_sandbox_deployment(
        root,
        config,
        CAPTURE_MARKET=case.market,
        CAPTURE_SYMBOLS=case.written,
        CAPTURE_HISTORY_END="2025-01-31",
    ) as sandbox:
        made = capture(sandbox, "klines", "backfill", "--json")
        assert made.exit_code == 0, made.output
        assert {row["symbol"] for row in json.loads(made.stdout)["partitions"]} == {case.symbol}
        yield sandbox


def test_klines_are_filled_checked_and_shown(case: Case, filled: SandboxDeployment) -> None:
    """The commands gaps, check, topup and coverage accept `--symbol` in small letters too."""
    ledger = json.loads(capture(filled, "klines", "gaps", "--symbol", case.written, "--json").stdout)
    assert [(row["symbol"], row["bars"], row["status"]) for row in ledger] == [(case.symbol, 3, "filled")]
    for arguments in (
        ("check",),
        ("klines", "topup"),
        ("klines", "recheck"),
        ("klines", "coverage"),
        ("klines", "coverage", "--symbol", case.written),
    ):
        done = capture(filled, *arguments)
        assert done.exit_code == 0, done.output
    assert case.symbol in str(json.loads(capture(filled, "klines", "coverage", "--json").stdout))
    assert case.symbol in (filled.root / "reports" / "coverage.html").read_text(encoding="utf-8")


def test_sql_polars_and_pyarrow_read_the_same_symbol(case: Case, filled: SandboxDeployment) -> None:
    """The folder name is the unchanged symbol, which every reader of Hive partitions returns."""
    query = (
        f"SELECT symbol, month, count(*) AS bars FROM bars WHERE symbol = '{case.symbol}' "  # noqa: S608
        "GROUP BY ALL ORDER BY ALL"
    )
    rows = json.loads(capture(filled, "sql", query, "--json").stdout)
    assert (rows[0]["symbol"], rows[0]["month"], rows[0]["bars"]) == (case.symbol, "2025-01", 744)
    lake = filled.root / "lake" / "bars"
    frame = (
        pl.scan_parquet(f"{lake}/**/*.parquet", hive_partitioning=True)
        .filter(pl.col("symbol") == case.symbol)
        .collect()
    )
    table = pyarrow.dataset.dataset(lake, partitioning="hive").to_table(
        filter=pyarrow.dataset.field("symbol") == case.symbol
    )
    files = f"read_parquet('{lake}/**/*.parquet', hive_partitioning = true)"
    found = duckdb.connect().execute(f"SELECT * FROM {files} WHERE symbol = ?", [case.symbol])  # noqa: S608 - the test's own folder
    assert frame.height == table.num_rows == len(found.fetchall()) == sum(row["bars"] for row in rows)
    assert frame["market"].unique().to_list() == [case.market]


def test_an_unknown_symbol_is_reported_with_a_similar_one(case: Case, filled: SandboxDeployment) -> None:
    """The command sends two requests for exchangeInfo, whatever the number of months."""
    filled.forget_requests()
    wrong = case.symbol.replace("USDT", "USTD")
    told = capture(filled, "klines", "backfill", "--symbol", wrong, "--from", "2024-12")
    assert told.exit_code == 2, told.output
    assert f"does not know {wrong}" in told.output
    assert f"did you mean {case.symbol}" in told.output
    assert sum(request["path"].endswith("exchangeInfo") for request in filled.requests()) <= 2


@pytest.mark.parametrize(
    "command",
    [
        ("klines", "backfill"),
        ("klines", "gaps"),
        ("check",),
        ("klines", "coverage"),
        ("session", "start"),
        ("session", "preflight"),
    ],
)
@pytest.mark.parametrize("text", ["../x", "a/b", "BTC\u202eUSDT"])
def test_a_hostile_symbol_is_one_line_in_every_command(
    text: str, command: tuple[str, ...], tmp_path: Path
) -> None:
    """The symbol is refused before any request and before any file is written."""
    nowhere = SandboxDeployment("http://127.0.0.1:9", tmp_path / "data")
    told = capture(nowhere, *command, "--symbol", text)
    assert told.exit_code == 2, told.output
    assert "is not a symbol" in told.output
    assert "\u202e" not in told.output
    assert not (tmp_path / "data").exists()


def recording_of(symbol: str, path: Path) -> Path:
    """Write a recording of generated values: a snapshot, five diffs and a trade."""
    name, start = symbol.lower(), 1_757_100_000_000
    book = {"lastUpdateId": 70, "bids": [["9.50", "1.0"], ["9.00", "2.0"]], "asks": [["10.00", "1.5"]]}
    lines: list[tuple[str, object]] = [(f"{name}@depthSnapshot", book)]
    for number in range(71, 76):
        diff = {
            "e": "depthUpdate",
            "E": start + number,
            "s": symbol,
            "U": number,
            "u": number,
            "b": [["9.50", f"{number}.0"]],
            "a": [],
        }
        lines.append((f"{name}@depth@100ms", diff))
    trade = {
        "e": "trade",
        "E": start + 80,
        "s": symbol,
        "t": 5,
        "p": "9.50",
        "q": "1",
        "T": start + 80,
        "m": True,
        "M": True,
    }
    lines.append((f"{name}@trade", trade))
    with gzip.open(path, "wb") as file:
        for number, (stream, data) in enumerate(lines):
            line = {"capture_ns": (start + 100 * number) * 1_000_000, "stream": stream, "data": data}
            file.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
    return path


def replayed(path: Path, symbol: str) -> dict[str, Any]:
    """Return the output of `replay` and `validate` for a recording."""
    runner = CliRunner()
    report = json.loads(
        runner.invoke(main, ["session", "validate", str(path), "--json"], catch_exceptions=False).stdout
    )
    failed = {check["name"] for check in report["checks"] if check["verdict"] == "FAIL"}
    told: dict[str, Any] = json.loads(
        runner.invoke(
            main, ["session", "replay", str(path), "--symbol", symbol, "--json"], catch_exceptions=False
        ).stdout
    )
    assert not failed & {"line_form", "symbols", "continuity", "book_valid"}
    return told


@pytest.mark.parametrize("symbol", [CHINESE, QUARTERLY, "ÅUSDT"])
def test_a_recording_of_any_symbol_is_validated_and_replayed(symbol: str, tmp_path: Path) -> None:
    """The output contains the symbol."""
    told = replayed(recording_of(symbol, tmp_path / "r.jsonl.gz"), symbol)
    assert (told["symbol"], told["state"], told["last_id"], told["best"]["bid_quantity"]) == (
        symbol,
        "synced",
        75,
        "75.00000000",
    )


@pytest.mark.parametrize(
    ("name", "symbol"), [("c03_unicode.jsonl.gz", CHINESE), ("c04_quarterly.jsonl.gz", "BTCUSDT_260327")]
)
def test_shared_recordings_are_validated_and_replayed(name: str, symbol: str) -> None:
    """The recordings are in a folder next to the project."""
    path = Path(__file__).resolve().parents[3] / "shared" / "cases" / "streams" / name
    if not path.is_file():
        pytest.skip(f"no recording at {path}")
    told = replayed(path, symbol)
    assert (told["symbol"], told["state"], told["gaps"]) == (symbol, "synced", 0)


@pytest.mark.slow
def test_a_session_is_recorded_validated_converted_and_replayed(case: Case, tmp_path: Path) -> None:
    """The test covers the stream address, the tables, the book at a time, and the replay by the sandbox."""
    config = {"frozen": False, "speed": 20, "symbols": NAMES}
    with run_sandbox_deployment(
        tmp_path / "data", config, CAPTURE_MARKET=case.market, CAPTURE_SYMBOLS=case.written
    ) as live:
        unknown = capture(live, "session", "start", "--symbol", "BTCUSTD", "--duration", "3s")
        assert (unknown.exit_code, "did you mean BTCUSDT" in unknown.output) == (2, True)
        assert not list_sessions(sessions_root(live.deployment.settings))
        checked = capture(live, "session", "preflight", "--symbol", case.written, "--seconds", "1")
        assert all(f"PASS  {name}" in checked.output for name in ("symbols", "test capture")), checked.output
        started = capture(live, "session", "start", "--symbol", case.written, "--duration", "5s")
        assert started.exit_code == 0, started.output
        assert "0 gaps, 0 ids lost" in started.output
        folder = list_sessions(sessions_root(live.deployment.settings))[0]
        checks = {
            check["name"]: check["verdict"]
            for check in json.loads(capture(live, "session", "validate", str(folder.path), "--json").stdout)[
                "checks"
            ]
        }
        passed = ("line_form", "continuity", "streams", "ledger", "book_valid", "book_crossed")
        assert {name: checks[name] for name in passed} == dict.fromkeys(passed, "PASS")
        converted = capture(live, "session", "convert", folder.session)
        assert converted.exit_code == 0, converted.output
        for target in (str(folder.path), folder.session):
            told = json.loads(
                capture(live, "session", "replay", target, "--symbol", case.written, "--json").stdout
            )
            assert (told["symbol"], told["state"], told["gaps"]) == (case.symbol, "synced", 0)
        book = json.loads(
            capture(
                live,
                "session",
                "book",
                folder.session,
                "--symbol",
                case.written,
                "--at",
                "2100-01-01T00:00:00Z",
                "--json",
            ).stdout
        )
        assert (book["symbol"], book["state"]) == (case.symbol, "unknown")  # after the recording's end
        assert json.loads(
            capture(live, "sql", "SELECT DISTINCT symbol FROM golden_depth", "--json").stdout
        ) == [{"symbol": case.symbol}]
        assert capture(live, "session", "list").exit_code == 0
        market = {"replay": str(folder.recording), "frozen": False, "now": None}
        with run_sandbox_deployment(tmp_path / "again", market, CAPTURE_MARKET="spot") as again:
            assert again.deployment.rest.listed_symbols() == [case.symbol]
