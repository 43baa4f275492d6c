"""Tests of the proof from recorder to report, with a session over midnight."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from capture_pipeline.binance.periods import Interval, iso, parse_time
from capture_pipeline.binance.urls import Market, TradesFile
from capture_pipeline.cli.main import main
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import ConfigError, TransientError
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.proof.captured_trades import COLUMNS, _read_recording
from capture_pipeline.golden.proof.prover import prove
from capture_pipeline.golden.proof.published_files import fetch_trades
from capture_pipeline.golden.proof.report import (
    DayProof,
    SessionProof,
    State,
    combine_states,
    markdown,
    read_proof,
)
from capture_pipeline.golden.proof.schedule import find_due_sessions
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.klines.backfill import backfill
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.tables.golden.trades import TRADES
from capture_pipeline_tests.support.deployment import NO_SETTINGS
from capture_pipeline_tests.support.sessions.midnight import BOTH_OUT, FIRST_OUT, MARKET, OVER, recorded
from capture_pipeline_tests.support.sessions.recorder import Live, live

THURSDAY, FRIDAY = date(2025, 2, 20), date(2025, 2, 21)
ZIP, KLINES = "*BTCUSDT-trades-2025-02-20.zip", "*daily*BTCUSDT-1m-2025-02-20.zip"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Record a session without a gap."""
    with live(tmp_path_factory.mktemp("whole"), speed=4, config=MARKET) as one:
        yield recorded(one)


@pytest.fixture
def exchange(whole: Live) -> Iterator[Live]:
    """Run an exchange that has published everything, with a lake that contains the session and no proofs."""
    whole.sandbox.clock(now=BOTH_OUT)
    yield whole
    whole.sandbox.faults()
    for name in ("raw", "lake", "reports", "quarantine", "state"):
        shutil.rmtree(whole.sandbox.root / name, ignore_errors=True)


def proof_of(one: Live) -> SessionProof:
    return prove(one.sandbox.deployment, one.folder)


def parts(day: DayProof) -> tuple[Any, Any]:
    assert day.trades is not None
    assert day.bars is not None
    return day.trades, day.bars


def trades(one: Live) -> pl.DataFrame:
    """Convert the session, and return the captured trades."""
    root = one.sandbox.deployment.lake.tables()
    convert(one.folder.recording, one.folder.session, root)
    return GoldenTables(root, one.folder.session).scan(TRADES, "BTCUSDT").collect()


def run(one: Live, *arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env=one.sandbox.environment())


def test_a_whole_session_holds_over_midnight(exchange: Live) -> None:
    """Every id between the first and the last trade, and each whole minute, agree on both days.

    Tables and recording give the same result.
    """
    found = trades(exchange)
    proof = proof_of(exchange)
    assert (proof.state, proof.captured_from) == (State.HOLDS, "tables")
    assert [day.day for day in proof.days] == [THURSDAY, FRIDAY]
    assert proof.figures.trades_captured == proof.figures.trades_published == found.height > 150
    first, last = parts(proof.days[0])
    assert (first.first_id, first.last_id, first.time_unit) == (
        found["trade_id"].min(),
        found["trade_id"].max(),
        "ms",
    )
    start, end = int(found["trade_us"].min()), int(found["trade_us"].max())  # type: ignore[arg-type]
    minutes = (Interval.M1.floor(end) - Interval.M1.ceil(start + 1)) // Interval.M1.us
    assert proof.figures.bars_compared == minutes >= 2
    assert last.bars_compared >= 1
    shutil.rmtree(exchange.sandbox.deployment.lake.tables())
    again = proof_of(exchange)
    assert again.captured_from == "recording"
    assert again.days == proof.days
    assert read_proof(exchange.sandbox.deployment.lake.proof(again.session)) == again


def test_a_day_that_is_not_published_waits(exchange: Live) -> None:
    """No file is published, then the first day, then both. No file of an unfinished day is requested."""
    states = []
    for now in (OVER, FIRST_OUT, BOTH_OUT):
        exchange.sandbox.clock(now=now)
        exchange.sandbox.forget_requests()
        proof = proof_of(exchange)
        states.append((proof.state, [day.state for day in proof.days]))
        asked = {entry["path"].rpartition("/")[2].partition(".")[0] for entry in exchange.sandbox.requests()}
        assert ("BTCUSDT-trades-2025-02-21" in asked) == (now == BOTH_OUT)
    waiting, holds = State.WAITING, State.HOLDS
    assert states == [(waiting, [waiting, waiting]), (waiting, [holds, waiting]), (holds, [holds, holds])]
    assert proof.due_us is None


def test_what_was_fetched_is_fetched_no_more(exchange: Live) -> None:
    """The second proof requests checksums only.

    The lake contains the unchanged zips under their digests.
    """
    proof = proof_of(exchange)
    lake = exchange.sandbox.deployment.lake
    assert sorted(path.rpartition("/")[0] for path in proof.days[0].files) == [
        "raw/spot/daily_klines/BTCUSDT",
        "raw/spot/trades/BTCUSDT",
    ]
    assert all(lake.resolve(path).is_file() for day in proof.days for path in day.files)
    exchange.sandbox.forget_requests()
    assert proof_of(exchange).days == proof.days
    assert {entry["path"].endswith((".CHECKSUM", "/time")) for entry in exchange.sandbox.requests()} == {True}
    lake.resolve(proof.days[0].files[0]).write_bytes(b"altered")
    again = proof_of(exchange)
    assert again.state is State.UNPROVED
    assert "was altered after the download" in again.days[0].uncompared[0].reason
    assert again.days[1] == proof.days[1]


def test_one_trade_that_differs_is_told_with_its_id(exchange: Live) -> None:
    """The report has the id and both values of the changed trade, and the command exits with 1."""
    found = trades(exchange).filter(pl.col("trade_us") < parse_time("2025-02-21"))
    wanted = int(found["trade_id"][50])
    of_day = fetch_trades(exchange.sandbox.deployment, TradesFile(Market.SPOT, "BTCUSDT", THURSDAY))
    assert of_day is not None
    row = wanted - int(of_day.frame["trade_id"][0])
    exchange.sandbox.faults(
        {"match": {"path": ZIP}, "fault": "csv_negative", "field": "qty", "row": row, "value": "7.00000000"}
    )
    result = run(exchange, "session", "prove", exchange.folder.session, "--json")
    assert result.exit_code == 1, result.output
    document = json.loads(result.stdout)
    assert document["state"] == "differs"
    listed = document["days"][0]["trades"]["listed"]
    captured = str(found["quantity_e8"][50])
    assert listed == [
        {"where": f"trade {wanted}", "field": "quantity_e8", "captured": captured, "published": "700000000"}
    ]
    assert document["figures"]["trades_differing"] == 1
    assert document["figures"]["bars_differing"] == 0


def test_a_kline_that_differs_is_told_with_its_minute(exchange: Live) -> None:
    """The trades agree, and one candle differs. The report has its minute and field."""
    fault = {
        "match": {"path": KLINES},
        "fault": "csv_negative",
        "field": "count",
        "row": 1438,
        "value": "12345",
    }
    exchange.sandbox.faults(fault)
    proof = proof_of(exchange)
    assert proof.state is State.DIFFERS
    _, bars = parts(proof.days[0])
    assert [(found.where, found.field, found.published) for found in bars.listed] == [
        ("bar 2025-02-20T23:58:00Z", "trades", "12345")
    ]
    assert proof.figures.trades_differing == 0
    assert "differences" in markdown(proof)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"fault": "checksum_wrong"}, "is not the published"),
        ({"fault": "checksum_missing"}, "cannot be verified: no checksum is published"),
        ({"fault": "zip_bit_flip"}, "zip"),
        ({"fault": "zip_truncated"}, "is not a readable zip"),
        ({"fault": "csv_empty"}, "is not a CSV table"),
        ({"fault": "csv_conflicting_duplicate"}, "occurs twice"),
        ({"fault": "csv_other_month"}, "time is not valid in this trades file"),
        ({"fault": "csv_future"}, "time is not valid in this trades file"),
        ({"fault": "csv_extra_column"}, "has 8 columns"),
        ({"fault": "csv_nan"}, "price is not valid in this trades file"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_told_and_the_rest_compared(
    exchange: Live, fault: dict[str, Any], said: str
) -> None:
    """The file goes to the quarantine, and the report contains the reason.

    The command exits with 2. Without the fault, the next proof passes.
    """
    exchange.sandbox.faults({"match": {"path": ZIP}, **fault})
    proof = proof_of(exchange)
    (told,) = proof.days[0].uncompared
    assert (proof.state, told.file, said in told.reason) == (
        State.UNPROVED,
        "BTCUSDT-trades-2025-02-20.zip",
        True,
    )
    assert (proof.days[0].trades, [day.state for day in proof.days]) == (None, [State.UNPROVED, State.HOLDS])
    assert [day.bars.holds for day in proof.days if day.bars] == [True, True]
    assert f"could not be compared with {told.file}" in markdown(proof)
    root = exchange.sandbox.root
    assert not list((root / "raw/spot/trades/BTCUSDT").glob("*02-20*"))
    reasons = list((root / "quarantine/spot/trades/BTCUSDT").glob("*.reason.txt"))
    assert [said in reason.read_text() for reason in reasons] == [True]
    result = run(exchange, "session", "prove", exchange.folder.session)
    assert (
        result.exit_code,
        "2025-02-20 could not be compared with BTCUSDT-trades-2025-02-20.zip: " in result.stdout,
    ) == (2, True)
    exchange.sandbox.faults()
    assert proof_of(exchange).state is State.HOLDS


def test_klines_that_cannot_be_trusted_leave_the_trades_proved(exchange: Live) -> None:
    """Trades that cannot be trusted leave the klines proved as well.

    A difference is reported even if other data could not be compared.
    """
    exchange.sandbox.faults({"match": {"path": KLINES}, "fault": "zip_truncated"})
    proof = proof_of(exchange)
    day = proof.days[0]
    assert day.trades is not None
    assert (day.trades.holds, day.bars, day.state) == (True, None, State.UNPROVED)
    assert [told.file for told in day.uncompared] == ["BTCUSDT-1m-2025-02-20.zip"]
    differing = day.model_copy(update={"trades": day.trades.model_copy(update={"differences": 1})})
    assert (differing.state, combine_states([proof.days[1], differing, day])) == (
        State.DIFFERS,
        State.DIFFERS,
    )
    assert combine_states([proof.days[1], day]) is State.UNPROVED


def test_an_exchange_out_of_reach_is_no_verdict_on_a_file(exchange: Live) -> None:
    """A temporary failure ends the proof, and no report is published."""
    exchange.sandbox.faults({"match": {"path": ZIP}, "fault": "status_500", "times": 99})
    with pytest.raises(TransientError):
        proof_of(exchange)
    assert not exchange.sandbox.deployment.lake.proof(exchange.folder.session).exists()


def test_a_download_that_breaks_off_goes_on(exchange: Live) -> None:
    """The client requests the rest of the file as a range, and the whole file is verified."""
    exchange.sandbox.faults({"match": {"path": ZIP}, "fault": "truncated_body"})
    assert proof_of(exchange).state is State.HOLDS
    assert exchange.sandbox.injected() == 1
    ranges = [
        entry
        for entry in exchange.sandbox.requests()
        if entry["path"].endswith("02-20.zip") and entry["range"]
    ]
    assert ranges


def test_bars_of_the_lake_are_preferred_where_they_reach(exchange: Live) -> None:
    """If the lake contains the 1m bars of the month, no daily klines are fetched."""
    deployment = exchange.sandbox.reopened(CAPTURE_INTERVAL="1m")
    partitions = deployment.partitions(["BTCUSDT"], [deployment.months(deployment.now_us())[1]])
    list(backfill(deployment, partitions, deployment.now_us()))
    exchange.sandbox.forget_requests()
    proof = prove(deployment, exchange.folder)
    assert (proof.state, {day.bars_from for day in proof.days}) == (State.HOLDS, {"lake"})
    assert not [entry for entry in exchange.sandbox.requests() if "/klines/" in entry["path"]]


def test_a_file_published_anew_is_fetched_beside_the_first(exchange: Live) -> None:
    """Raw files are never changed: both versions are kept, and the proof uses the newer one."""
    first = proof_of(exchange).days[0].files
    exchange.sandbox.republish(TradesFile(Market.SPOT, "BTCUSDT", THURSDAY).path)
    second = proof_of(exchange).days[0].files
    lake = exchange.sandbox.deployment.lake
    assert first[0] != second[0]
    assert lake.resolve(first[0]).is_file()
    assert lake.resolve(second[0]).is_file()


def test_commands_convert_and_prove(exchange: Live) -> None:
    """The commands print files and rows, then counts per day. Exit code 0 includes a proof that waits."""
    session = exchange.folder.session
    result = run(exchange, "session", "convert", session)
    assert result.exit_code == 0, result.output
    assert "rows of golden_trades" in result.stdout
    assert run(exchange, "session", "convert", "20200101T000000Z_btcusdt").exit_code == 2
    exchange.sandbox.clock(now=OVER)
    waiting = run(exchange, "session", "prove", session)
    assert waiting.exit_code == 0
    assert (
        "BTCUSDT 2025-02-20 waits for BTCUSDT-trades-2025-02-20.zip, due 2025-02-21T05:00:00Z"
        in waiting.stdout
    )
    exchange.sandbox.clock(now=BOTH_OUT)
    holds = run(exchange, "session", "prove", session)
    assert (holds.exit_code, holds.stdout.splitlines()[-1].startswith("holds; from its tables;")) == (0, True)


def test_a_session_of_another_exchange_is_refused(exchange: Live) -> None:
    """A recording of the sandbox is not compared with the real exchange, and no request is sent."""
    environment = {**exchange.sandbox.environment(), "CAPTURE_VENUE": "binance"}
    deployment = Deployment(load_settings(environ=environment, path=NO_SETTINGS))
    with pytest.raises(ConfigError, match="was recorded at venue sandbox"):
        prove(deployment, exchange.folder)


def test_trades_lost_at_midnight_are_missed(exchange: Live) -> None:
    """The trades are after the last captured trade of a day and before the first one of the next day.

    Each trade is reported with its day.
    """
    trades(exchange)
    tables, midnight = (
        GoldenTables(exchange.sandbox.deployment.lake.tables(), exchange.folder.session),
        parse_time("2025-02-21"),
    )
    cut = 0
    for path in tables.paths(TRADES, "BTCUSDT"):
        whole = pl.read_parquet(path, hive_partitioning=False)
        rest = whole.filter(~pl.col("trade_us").is_between(midnight - 20_000_000, midnight + 20_000_000))
        rest.write_parquet(path)
        cut += whole.height - rest.height
    proof = proof_of(exchange)
    differing = [parts(day)[0].differences for day in proof.days]
    assert min(differing) > 0
    assert sum(differing) == cut
    assert {found.field for day in proof.days for found in parts(day)[0].listed} == {"missing"}
    assert "bar 2025-02-21T00:00:00Z" in {found.where for found in parts(proof.days[1])[1].listed}


def test_a_recording_is_read_in_blocks(exchange: Live) -> None:
    """Trades of several blocks equal those of the tables: no block overwrites the previous one."""
    found = trades(exchange).select(COLUMNS)
    assert _read_recording(exchange.folder, ["BTCUSDT"], 1 << 19)["BTCUSDT"].collect().equals(found)


def test_sessions_are_due_when_their_last_day_should_be_out(exchange: Live) -> None:
    """A session is due if it has tables, no proof, and its last day ended recently enough.

    A session is due again while its proof waits or lacks a file.
    """
    deployment, folder = exchange.sandbox.deployment, exchange.folder

    def due(now: str) -> tuple[list[str], int]:
        exchange.sandbox.clock(now=now)
        found = find_due_sessions(deployment.lake, [folder], deployment.now_us())
        return found.wanted, found.later

    assert due(BOTH_OUT) == ([], 0)
    trades(exchange)
    assert due("2025-02-22T04:59:00Z") == ([], 1)
    assert due(BOTH_OUT) == ([folder.session], 0)
    assert due("2025-03-09T00:00:00Z") == ([], 0)
    exchange.sandbox.clock(now=FIRST_OUT)
    assert iso(proof_of(exchange).due_us or 0) == "2025-02-22T05:00:00Z"
    assert due(FIRST_OUT) == ([], 1)
    assert due(BOTH_OUT) == ([folder.session], 0)
    exchange.sandbox.faults({"match": {"path": ZIP}, "fault": "checksum_wrong"})
    shutil.rmtree(exchange.sandbox.root / "raw")
    assert proof_of(exchange).state is State.UNPROVED
    assert due(BOTH_OUT) == ([folder.session], 0)
    exchange.sandbox.faults()
    proof_of(exchange)
    assert due(BOTH_OUT) == ([], 0)
    deployment.lake.proof(folder.session).write_text("{}")
    assert list(find_due_sessions(deployment.lake, [folder], deployment.now_us()).damaged) == [folder.session]


def test_ids_of_the_ledger_are_known_losses(tmp_path: Path) -> None:
    """Trades that no connection received are counted, and the proof passes.

    Without the ledger, each of them is a difference.
    """
    with live(tmp_path, speed=4, config=MARKET) as one:
        one.sandbox.faults(
            {"fault": "ws_drop", "after": 100, "times": 7, "match": {"stream": "btcusdt@trade"}}
        )
        recorded(one)
        one.sandbox.clock(now=BOTH_OUT)
        lost = sum(gap.ids_lost for gap in one.gaps if gap.stream == "btcusdt@trade")
        assert lost == 7
        proof = proof_of(one)
        assert (proof.state, proof.figures.known_lost, proof.figures.trades_differing) == (
            State.HOLDS,
            7,
            0,
        )
        assert proof.figures.trades_captured + 7 == proof.figures.trades_published
        bare = SessionFolder(shutil.copytree(one.folder.path, tmp_path / "bare" / one.folder.session))
        bare.gaps.write_text("")
        without = prove(one.sandbox.deployment, bare)
        assert (without.state, without.figures.trades_differing) == (State.DIFFERS, 7)
        assert {found.field for found in parts(without.days[0])[0].listed} == {"missing"}
        one.sandbox.faults({"match": {"path": ZIP}, "fault": "checksum_wrong"})
        shutil.rmtree(one.sandbox.root / "raw")
        blind = prove(one.sandbox.deployment, one.folder)
        assert [day.bars is None for day in blind.days] == [True, False]
        assert "only the trades file shows in which minutes" in blind.days[0].uncompared[1].reason
