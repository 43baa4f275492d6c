"""Tests of the tables of a real recording: every message, and the bars of its trades."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from capture_pipeline.binance.periods import Interval
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.proof.trade_bars import build_trade_bars
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.tables.golden.columns import decimal_text
from capture_pipeline.tables.golden.depth import DEPTH
from capture_pipeline.tables.golden.snapshots import SNAPSHOTS
from capture_pipeline.tables.golden.trades import TRADES
from capture_pipeline_tests.support.sessions.eth import SESSION, import_eth, raw_lines
from capture_pipeline_tests.support.sessions.lines import altered


@pytest.fixture(scope="module")
def tables(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> GoldenTables:
    root = tmp_path_factory.mktemp("eth")
    convert(
        import_eth(recordings, root / "ethusdt_capture_20240808T235414Z.jsonl.gz"),
        SESSION,
        root / "lake",
        block_bytes=1 << 20,
    )
    return GoldenTables(root / "lake", SESSION)


def levels(rows: list[dict[str, int]], side: int) -> str:
    """Format a list of levels like the exchange does."""
    texts = [
        f'["{decimal_text(row["price_e8"], row["price_places"])}",'
        f'"{decimal_text(row["quantity_e8"], row["quantity_places"])}"]'
        for row in rows
        if row["side"] == side
    ]
    return f"[{','.join(texts)}]"


def rebuilt_trades(tables: GoldenTables) -> Iterator[tuple[int, str]]:
    for row in tables.scan(TRADES, "ETHUSDT").collect().iter_rows(named=True):
        price, quantity = (
            decimal_text(row[f"{name}_e8"], row[f"{name}_places"]) for name in ("price", "quantity")
        )
        maker = "true" if row["buyer_maker"] else "false"
        times = f'"E":{row["event_us"] // 1000},"s":"ETHUSDT","t":{row["trade_id"]}'
        rest = f'"p":"{price}","q":"{quantity}","T":{row["trade_us"] // 1000},"m":{maker},"M":true'
        yield row["line"], f'{{"stream":"ethusdt@trade","data":{{"e":"trade",{times},{rest}}}}}'


def rebuilt_books(tables: GoldenTables) -> Iterator[tuple[int, str]]:
    for (line,), group in tables.scan(DEPTH, "ETHUSDT").collect().group_by("line", maintain_order=True):
        rows = group.to_dicts()
        head = rows[0]
        ids = f'"E":{head["event_us"] // 1000},"s":"ETHUSDT","U":{head["first_id"]},"u":{head["last_id"]}'
        lists = f'"b":{levels(rows, 0)},"a":{levels(rows, 1)}'
        yield int(str(line)), f'{{"stream":"ethusdt@depth@100ms","data":{{"e":"depthUpdate",{ids},{lists}}}}}'
    for (line,), group in tables.scan(SNAPSHOTS, "ETHUSDT").collect().group_by("line", maintain_order=True):
        rows = group.to_dicts()
        yield (
            int(str(line)),
            f'{{"lastUpdateId":{rows[0]["last_id"]},"bids":{levels(rows, 0)},"asks":{levels(rows, 1)}}}',
        )


def test_every_message_can_be_written_again_byte_for_byte(tables: GoldenTables, recordings: Path) -> None:
    """The tables contain all ids, times, prices and quantities of trades, diffs and the snapshot.

    The number of decimals is kept as well.
    """
    built = {**dict(rebuilt_trades(tables)), **dict(rebuilt_books(tables))}
    sent = {
        number: raw.decode()
        for number, (_, raw) in enumerate(raw_lines(recordings), 1)
        if b"@bookTicker" not in raw[:60]
    }
    assert built.keys() == sent.keys()
    assert [number for number in sent if built[number] != sent[number]] == []


def test_counts_and_capture_times_are_the_recordings(tables: GoldenTables, recordings: Path) -> None:
    """The manifest counts every stream.

    Capture times have nanoseconds, and the hour of a file follows from the capture time.
    """
    manifest = tables.manifest()
    assert sum(manifest.messages.values()) == manifest.lines == sum(1 for _ in raw_lines(recordings))
    assert manifest.fallback_lines == len(manifest.messages), (
        "only the first line of each stream is left to msgspec"
    )
    stamps = {number: stamp for number, (stamp, _) in enumerate(raw_lines(recordings), 1)}
    for table in (TRADES, DEPTH, SNAPSHOTS):
        rows = tables.scan(table, "ETHUSDT").select("line", "capture_ns").collect()
        assert all(stamps[line] == stamp for line, stamp in rows.iter_rows())
    assert {file.hour for file in manifest.files} == {"2024-08-08T23", "2024-08-09T00"}
    assert not altered(tables)


def test_the_ten_minute_bars(tables: GoldenTables, recordings: Path) -> None:
    """The bars equal those that an independent program computed from the recording by exchange time."""
    expected = pl.read_csv(recordings / "binance_spot_stream" / "ethusdt_minute_bars.csv", infer_schema=False)
    bars = build_trade_bars(tables.scan(TRADES, "ETHUSDT").collect(), Interval.M1)
    bars = bars.filter(
        pl.col("open_time_us").is_in([int(value) * 1000 for value in expected["open_time_ms"]])
    )
    assert bars.height == expected.height == 10
    for name in ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "trades"):
        assert [Decimal(value) for value in bars[name].to_list()] == [
            Decimal(value) for value in expected[name]
        ], name
