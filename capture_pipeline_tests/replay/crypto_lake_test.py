"""Tests of Crypto Lake's files: exact decimals, merging of two tables, prices between ticks."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from capture_pipeline.errors import LakeError, MalformedDataError
from capture_pipeline.replay.messages import EVENT, FIRST, KIND, LAST, POSITION, SNAPSHOT
from capture_pipeline.replay.sources.crypto_lake import CryptoLakeSource
from capture_pipeline_tests.support.sessions.book_updates import START_NS, Update, book_of, market, replayed

LEVELS = 20
DIFFS = {
    "timestamp": pa.int64(), "receipt_timestamp": pa.int64(), "sequence_number": pa.int64(),
    "side_is_bid": pa.bool_(), "price": pa.float64(), "size": pa.float64(),
}  # fmt: skip


def deltas(folder: Path, updates: Sequence[Update], *, renamed: bool = False, **changed: Any) -> Path:
    """Write a file of `book_delta_v2`; update n has the sequence number 3 n."""
    rows = [
        (
            update.capture_ns - 20_000_000,
            update.capture_ns,
            3 * update.number,
            not ask,
            float(price),
            float(quantity),
        )
        for update in updates
        for ask, price, quantity in update.changes
    ]
    table = pa.table(
        {name: pa.array([row[at] for row in rows], kind) for at, (name, kind) in enumerate(DIFFS.items())}
    )
    for name, column in changed.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    if renamed:
        times = {name: table[name].cast(pa.timestamp("ns")) for name in ("timestamp", "receipt_timestamp")}
        table = pa.table({"origin_time": times["timestamp"], "received_time": times["receipt_timestamp"], **{
            name: table[name] for name in list(DIFFS)[2:]
        }})  # fmt: skip
    path = (
        folder
        / "book_delta_v2"
        / "exchange=BINANCE"
        / "symbol=BTC-USDT"
        / "dt=2026-01-31"
        / "1.snappy.parquet"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=100)
    return path


def books(folder: Path, updates: Sequence[Update], every: int, first: int) -> Path:
    """Write a file of `book`: the best twenty levels per side at regular updates."""
    rows = []
    for at in range(first, len(updates) + 1, every):
        last, sides = updates[at - 1], book_of(updates[:at])
        row: dict[str, Any] = {
            "timestamp": -1,
            "receipt_timestamp": last.capture_ns,
            "sequence_number": 3 * last.number,
        }
        for side, prices, levels in (
            ("bid", sorted(sides[0], reverse=True), sides[0]),
            ("ask", sorted(sides[1]), sides[1]),
        ):
            for level in range(LEVELS):
                there = level < len(prices)
                row[f"{side}_{level}_price"] = float(prices[level]) if there else float("nan")
                row[f"{side}_{level}_size"] = float(levels[prices[level]]) if there else float("nan")
        rows.append(row)
    path = folder / "book.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("block_rows", [10, 97, 1 << 17])
@pytest.mark.parametrize("renamed", [True, False])
def test_a_book_comes_back_level_by_level(tmp_path: Path, block_rows: int, renamed: bool) -> None:
    """The first snapshot is the base of the book, and every value is exact.

    The cases differ in the size of blocks and in the names of the times. Later snapshots change nothing.
    """
    updates = market(300)
    # While a book has at most twenty levels, a snapshot of twenty levels contains all of them.
    thin = next(at for at in range(1, 300) if max(map(len, book_of(updates[:at]))) == LEVELS)
    source = CryptoLakeSource(
        deltas(tmp_path, updates, renamed=renamed), books(tmp_path, updates, 40, thin), block_rows=block_rows
    )
    replay, sides, pieces = replayed(source)
    assert sides == book_of(updates)
    assert source.symbol == "BTC-USDT"
    assert (replay.counts.gaps, replay.counts.snapshots) == (0, 1)
    rows = np.concatenate([piece.rows for piece in pieces], axis=1)
    assert (rows[KIND] == SNAPSHOT).sum() == replay.counts.unused_snapshots + 1 == len(range(thin, 301, 40))
    assert rows[EVENT, 0] == (START_NS + 80_000_000) // 1000
    assert (rows[EVENT, rows[KIND] == SNAPSHOT] == 0).all()


def test_gaps_are_seen_where_every_message_is_numbered_and_only_there(tmp_path: Path) -> None:
    """A lost message is a gap only if the feed has consecutive ids."""
    updates = market(50)
    kept = updates[:20] + updates[21:]
    numbers = pa.array([update.number for update in kept for _ in update.changes], pa.int64())
    numbered = deltas(tmp_path, kept, sequence_number=numbers)
    rows = np.concatenate(
        [piece.rows for piece in CryptoLakeSource(numbered, has_consecutive_ids=True)], axis=1
    )
    (gap,) = np.flatnonzero(rows[FIRST, 1:] != rows[LAST, :-1] + 1)
    assert rows[FIRST, gap + 1] == rows[LAST, gap] + 2
    unknown = np.concatenate([piece.rows for piece in CryptoLakeSource(numbered, block_rows=30)], axis=1)
    assert (unknown[FIRST, 1:] == unknown[LAST, :-1] + 1).all()


@pytest.mark.parametrize("block_rows", [1, 2, 3, 1 << 17])
def test_of_one_time_diffs_come_before_the_snapshot(tmp_path: Path, block_rows: int) -> None:
    """For any block size, the snapshot contains earlier diffs, and later diffs continue it."""
    updates = [
        Update(number, START_NS + (number > 4), [(False, Decimal(number), Decimal(1))])
        for number in range(1, 7)
    ]
    made = [update for update in updates if update.number <= 4]
    source = CryptoLakeSource(deltas(tmp_path, updates), books(tmp_path, made, 1, 4), block_rows=block_rows)
    rows = np.concatenate([piece.rows for piece in source], axis=1)
    assert rows[KIND].tolist() == [0, 0, 0, 0, SNAPSHOT, 0, 0]
    assert rows[LAST].tolist() == [3, 6, 9, 12, 12, 15, 18]
    assert rows[POSITION].tolist() == list(range(7))


def test_a_finer_tick_within_the_file(tmp_path: Path) -> None:
    """Messages have a finer scale from the block with the first finer price on.

    Earlier levels are unchanged.
    """
    coarse = market(100, tick="0.5")
    fine = [
        Update(100 + each.number, each.capture_ns + 60 * 10**9, each.changes)
        for each in market(100, tick="0.001", seed=8)
    ]
    thin = next(at for at in range(1, 100) if max(map(len, book_of(coarse[:at]))) == LEVELS)
    source = CryptoLakeSource(
        deltas(tmp_path, coarse + fine), books(tmp_path, coarse, 1000, thin), block_rows=50
    )
    _, sides, pieces = replayed(source)
    assert sides == book_of(coarse + fine)
    ticks = [piece.scale.tick for piece in pieces]
    assert (ticks[0], ticks[-1]) == (Decimal("0.5"), Decimal("0.001"))
    assert ticks == sorted(ticks, reverse=True)


def test_floats_are_taken_for_the_decimals_they_were(tmp_path: Path) -> None:
    """The noise of an addition is ignored, and tiny prices do not become zero.

    Large quantities of eight decimals are exact.
    """
    one = Update(1, START_NS, [(False, Decimal(1), Decimal(1))] * 4)
    values = pa.array([0.1 + 0.2, 0.00001234, 60000.01, 2.675])
    sizes = pa.array([323596.20492261, 0.00000001, 0.0, 8_000_000.5])
    (piece,) = CryptoLakeSource(deltas(tmp_path, [one], price=values, size=sizes))
    assert [piece.scale.price(int(tick)) for tick in piece.batch.prices] == [
        Decimal(text) for text in ("0.3", "0.00001234", "60000.01", "2.675")
    ]
    assert [piece.scale.quantity(int(lots)) for lots in piece.batch.lots] == [
        Decimal(text) for text in ("323596.20492261", "0.00000001", "0", "8000000.5")
    ]


@pytest.mark.parametrize(
    ("price", "known", "told"),
    [
        (84_000.01 + 3e-8 / 7, None, "which has too many digits"),
        (84_000.015, "0.01", "contains the price 84000.015, which is not a multiple of 0.01"),
        (84_000.01 + 1e-9, "0.01", "not a multiple of 0.01|has too many digits"),
        (float("nan"), None, "contains a price that is negative or not a number"),
        (-1.0, None, "contains a price that is negative or not a number"),
        (float("inf"), None, "contains a price that is negative or not a number"),
    ],
)
def test_a_price_between_ticks_is_refused(tmp_path: Path, price: float, known: str | None, told: str) -> None:
    """A price between ticks is an error and is not rounded."""
    updates = market(3)
    count = sum(len(update.changes) for update in updates)
    path = deltas(tmp_path, updates, price=pa.array([84_000.01] * (count - 1) + [price]))
    with pytest.raises(MalformedDataError, match=told) as caught:
        list(CryptoLakeSource(path, tick=None if known is None else Decimal(known)))
    assert str(caught.value).startswith(str(path))


def test_files_that_are_none(tmp_path: Path) -> None:
    """Each kind of damage has its own error."""
    updates = market(5)
    path = deltas(tmp_path, updates)
    count = pq.read_metadata(path).num_rows
    with pytest.raises(LakeError, match="does not exist"):
        list(CryptoLakeSource(tmp_path / "none.parquet"))
    with pytest.raises(MalformedDataError, match="has no column bid_0_price"):
        list(CryptoLakeSource(path, path))
    pq.write_table(pq.read_table(path).drop_columns(["sequence_number"]), tmp_path / "other.parquet")
    with pytest.raises(MalformedDataError, match="has no column sequence_number"):
        list(CryptoLakeSource(tmp_path / "other.parquet"))
    with pytest.raises(MalformedDataError, match=f"row {count - 1} has no price"):
        list(CryptoLakeSource(deltas(tmp_path, updates, price=pa.array([1.0] * (count - 1) + [None]))))
    with pytest.raises(
        MalformedDataError, match=f"row 0 has the receipt time {START_NS // 1000}, not nanoseconds"
    ):
        list(
            CryptoLakeSource(
                deltas(tmp_path, updates, receipt_timestamp=pa.array([START_NS // 1000] * count))
            )
        )
    with pytest.raises(
        MalformedDataError, match="the column sequence_number has the type double, not integers"
    ):
        list(CryptoLakeSource(deltas(tmp_path, updates, sequence_number=pa.array([1.0] * count))))
    damaged = deltas(tmp_path, market(400))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 2000] = b"x" * 2000
    damaged.write_bytes(content)
    with pytest.raises(MalformedDataError, match="is damaged after row"):
        list(CryptoLakeSource(damaged, block_rows=50))
    half = pq.read_table(books(tmp_path, updates, 1, 1))
    at = half.schema.get_field_index("ask_0_size")
    pq.write_table(
        half.set_column(at, "ask_0_size", pa.array([None] * half.num_rows, pa.float64())),
        tmp_path / "half.parquet",
    )
    with pytest.raises(MalformedDataError, match="has a price without a size"):
        list(CryptoLakeSource(deltas(tmp_path, updates), tmp_path / "half.parquet"))
    torn = deltas(tmp_path, updates)
    torn.write_bytes(torn.read_bytes()[:-10])
    with pytest.raises(MalformedDataError, match="is not a Parquet file"):
        list(CryptoLakeSource(torn))
