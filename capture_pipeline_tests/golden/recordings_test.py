"""Tests of import and validation of real recordings with known properties."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from capture_pipeline.binance.streams.messages import decode_depth, decode_snapshot, decode_trade
from capture_pipeline.binance.streams.names import StreamKind, kind_of
from capture_pipeline.checks.model import Verdict
from capture_pipeline.checks.recordings import DEFAULTS
from capture_pipeline.golden.imports.session_builder import import_session
from capture_pipeline.golden.imports.sources import Origin
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.orderbook.levels import to_units
from capture_pipeline.orderbook.local_book import LocalBook
from capture_pipeline.orderbook.synchronization import Step
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.recordings.reader import read_lines

TEN_MINUTES = replace(DEFAULTS, min_messages=79_000, duration_s=650)


@dataclass
class Bar:
    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    quote: int = 0
    trades: int = 0
    taker_buy: int = 0


@pytest.fixture(scope="module")
def ether(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> SessionFolder:
    files = [recordings / "binance_spot_stream" / f"ethusdt_2024080{day}.gz" for day in (8, 9)]
    return import_session(Origin.HFTBACKTEST, files, tmp_path_factory.mktemp("ether"))


def test_two_files_over_midnight_are_one_sound_session(ether: SessionFolder) -> None:
    """No id is missing, and the single snapshot is the base of the book.

    All 1,056 best prices and quantities are equal.
    """
    report = validate(ether.path, TEN_MINUTES)
    assert report.verdict is Verdict.PASS
    streams = report.statistics["streams"]
    assert {name: figures["messages"] for name, figures in streams.items()} == {
        "ethusdt@bookTicker": 58_758,
        "ethusdt@depth@100ms": 6_470,
        "ethusdt@depthSnapshot": 1,
        "ethusdt@trade": 14_515,
    }
    assert all(
        not figures["gaps"] and not figures["duplicates"] and not figures["overlaps"]
        for figures in streams.values()
    )
    assert report.check("book_best").figures == {"compared": 1056, "differing": 0}
    assert report.check("book_valid").figures["shares"] == {"ETHUSDT": 1.0}


def test_the_exchange_s_bytes_are_unchanged(ether: SessionFolder, recordings: Path) -> None:
    """The data and the stamp of every line are those of the source, byte for byte."""
    source = [
        line.rstrip(b"\n").split(b" ", 1)
        for day in (8, 9)
        for line in gzip.decompress(
            (recordings / "binance_spot_stream" / f"ethusdt_2024080{day}.gz").read_bytes()
        ).splitlines(keepends=True)
    ]
    count = 0
    for (_, line), (stamp, message) in zip(read_lines(ether.recording), source, strict=True):
        data = bytes(line.data)
        assert message in (data, b'{"stream":"%b","data":%b}' % (line.stream.encode(), data))
        assert line.capture_ns == int(stamp)
        count += 1
    assert count == 79_744


def test_minute_bars_follow_from_the_trades(ether: SessionFolder, recordings: Path) -> None:
    """The ten complete minutes by exchange time have the known prices, volumes and counts."""
    bars: dict[int, Bar] = {}
    for _, line in read_lines(ether.recording):
        if kind_of(line.stream) is StreamKind.TRADE:
            trade = decode_trade(line.data)
            price, quantity = to_units(trade.price), to_units(trade.quantity)
            bar = bars.setdefault(trade.trade_time // 60_000 * 60_000, Bar(price, price, price, price))
            bar.high, bar.low, bar.close = max(bar.high, price), min(bar.low, price), price
            bar.volume += quantity
            bar.quote += price * quantity
            bar.trades += 1
            bar.taker_buy += 0 if trade.buyer_maker else quantity
    with (recordings / "binance_spot_stream" / "ethusdt_minute_bars.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    for row in rows:
        whole, fraction = row["quote_volume"].split(".")
        known = {name: to_units(row[name]) for name in ("open", "high", "low", "close", "volume")}
        expected = Bar(
            **known,
            quote=int(whole + fraction),
            trades=int(row["trades"]),
            taker_buy=to_units(row["taker_buy_volume"]),
        )
        assert bars[int(row["open_time_ms"])] == expected


def test_the_second_file_alone_has_no_seed(recordings: Path, tmp_path: Path) -> None:
    """Without a snapshot no book can be built, and the report says so. The ids are sound."""
    file = recordings / "binance_spot_stream" / "ethusdt_20240809.gz"
    report = validate(import_session(Origin.HFTBACKTEST, [file], tmp_path).path, TEN_MINUTES)
    assert {"seed", "book_valid"} <= {check.spec.name for check in report.failed}
    assert "no seed: no usable snapshot of ETHUSDT" in report.check("seed").reason
    book = [report.check(name) for name in ("book_crossed", "book_best", "book_audits")]
    assert [(check.verdict, check.reason.partition(":")[0]) for check in book] == [
        (Verdict.SKIPPED, "there is no book")
    ] * 3
    assert report.check("continuity").verdict is Verdict.PASS


def test_removed_lines_are_reported_with_exactly_their_ids(ether: SessionFolder, tmp_path: Path) -> None:
    """Three removed trades and two removed diffs are three gaps with the removed ids."""
    lines = gzip.decompress(ether.recording.read_bytes()).splitlines(keepends=True)
    numbered = list(read_lines(ether.recording))
    trades = [number for number, line in numbered if kind_of(line.stream) is StreamKind.TRADE]
    diffs = [number for number, line in numbered if kind_of(line.stream) is StreamKind.DEPTH]
    gone = [trades[700], trades[701], trades[9000], diffs[300], diffs[301]]
    copy = tmp_path / "x.jsonl.gz"
    copy.write_bytes(
        gzip.compress(b"".join(line for number, line in enumerate(lines, 1) if number not in gone), 1)
    )
    report = validate(copy, TEN_MINUTES)
    data = {number: bytes(line.data) for number, line in numbered if number in gone}
    first, second, third = (decode_trade(data[number]).trade_id for number in gone[:3])
    from_id, to_id = decode_depth(data[gone[3]]).first_id, decode_depth(data[gone[4]]).last_id
    places = {
        (place["stream"], place["last_good_id"] + 1, place["first_good_id"] - 1)
        for place in report.check("continuity").figures["places"]
    }
    assert places == {
        ("ethusdt@trade", first, second),
        ("ethusdt@trade", third, third),
        ("ethusdt@depth@100ms", from_id, to_id),
    }
    assert {"continuity", "book_valid"} <= {check.spec.name for check in report.failed}


def test_four_interleaved_symbols_have_their_books(recordings: Path, tmp_path: Path) -> None:
    """All four snapshots fit. The last id of the first diff of one symbol equals the id of its snapshot.

    This diff is dropped, and no gap is found. Five of the twenty subscribed streams have no message within
    the half minute, which is the only reason for failure.
    """
    files = [
        recordings / "binance_combined_stream" / name for name in ("spot.ws.txt", "spot.depth_snapshots.txt")
    ]
    folder = import_session(Origin.CRYPTOFEED, files, tmp_path)
    assert folder.session.startswith("20211012T002832Z_nknusdt-plus3-")
    report = validate(folder.path, replace(DEFAULTS, min_messages=269, duration_s=30, duration_tolerance_s=1))
    assert [check.spec.name for check in report.failed] == ["streams"]
    silent = (
        "runeeur@bookTicker",
        "blzeth@kline_1m",
        "runeeur@kline_1m",
        "blzeth@aggTrade",
        "runeeur@aggTrade",
    )
    assert report.check("streams").figures == {
        "planned": 20,
        "wrong": dict.fromkeys(silent, "never sent a message"),
    }
    assert report.check("snapshots").figures == {"snapshots": 4}
    assert report.check("book_valid").figures["shares"] == dict.fromkeys(
        ("NKNUSDT", "BLZETH", "LRCBTC", "RUNEEUR"), 1.0
    )
    sync, steps = LocalBook(), []
    for _, line in read_lines(folder.recording):
        if line.stream == "blzeth@depth@100ms":
            steps.append(sync.process_diff(decode_depth(line.data)))
        elif line.stream == "blzeth@depthSnapshot":
            steps.append(sync.process_snapshot(decode_snapshot(line.data)))
    assert steps[:3] == [Step.BUFFERED, Step.LOADED, Step.BRIDGED]
    assert set(steps[3:]) == {Step.APPLIED}
