"""Tests of Tardis' files: exact levels, assigned ids, and errors that name the line."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from capture_pipeline.errors import LakeError, MalformedDataError
from capture_pipeline.replay.engine import Replay
from capture_pipeline.replay.messages import CAPTURE, EVENT, KIND, LAST, SNAPSHOT
from capture_pipeline.replay.sources.tardis import TardisSource
from capture_pipeline_tests.support.sessions.book_updates import (
    START_NS,
    Update,
    book_of,
    levels_of,
    market,
    replayed,
)

HEAD = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"
GOOD = "binance,BTCUSDT,1769817600012000,1769817600034517,true,bid,84012.01,0.25"


def shown(value: Decimal) -> str:
    """Format a number as Tardis does: without trailing zeros, a millionth as 1e-6."""
    plain = f"{value.normalize():f}"
    return f"{value.normalize():e}".replace("e-0", "e-") if value and abs(value) < Decimal("1e-6") else plain


def lines(update: Update, *, snapshot: bool = False) -> list[str]:
    arrival = update.capture_ns // 1000
    head = f"binance,BTCUSDT,{arrival - 20_000},{arrival},{str(snapshot).lower()}"
    return [
        f"{head},{'ask' if ask else 'bid'},{shown(price)},{shown(quantity)}"
        for ask, price, quantity in update.changes
    ]


def from_snapshot(updates: list[Update], at: int) -> list[str]:
    """Return the book after `at` updates as a snapshot, followed by the other updates."""
    snapshot = Update(at, updates[at - 1].capture_ns, levels_of(book_of(updates[:at])))
    return lines(snapshot, snapshot=True) + [line for update in updates[at:] for line in lines(update)]


def seeded(updates: list[Update], at: int) -> list[str]:
    """Return the same, after the first half of the updates that the snapshot contains."""
    return [line for update in updates[: at // 2] for line in lines(update)] + from_snapshot(updates, at)


def written(path: Path, rows: list[str], *, packed: bool = True) -> Path:
    text = ("\n".join([HEAD, *rows]) + "\n").encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    return path


@pytest.mark.parametrize("block_bytes", [300, 1 << 14, 1 << 23])
@pytest.mark.parametrize("packed", [True, False])
def test_a_book_comes_back_level_by_level(tmp_path: Path, block_bytes: int, packed: bool) -> None:
    """Updates before the snapshot are dropped, and every price and quantity is exact.

    The cases differ in the size of blocks and in compression.
    """
    updates = market(400, lot="0.00000001")
    source = TardisSource(
        written(tmp_path / "x.csv.gz", seeded(updates, 60), packed=packed), block_bytes=block_bytes
    )
    replay, sides, pieces = replayed(source)
    assert sides == book_of(updates)
    assert source.symbol == "BTCUSDT"
    assert (replay.counts.gaps, replay.counts.snapshots) == (0, 1)
    rows = np.concatenate([piece.rows for piece in pieces], axis=1)
    assert rows.shape[1] == 30 + 1 + 340
    assert rows[KIND].sum() == 1
    assert rows[CAPTURE, 0] == START_NS + 100_000_000
    assert rows[EVENT, 0] == rows[CAPTURE, 0] // 1000 - 20_000


def test_a_snapshot_is_one_message_though_its_rows_came_apart(tmp_path: Path) -> None:
    """Consecutive snapshot rows are one message for any times; diffs of different times are not."""
    rows = [GOOD.replace("034517", f"0345{at}") for at in (10, 11, 12)]
    rows += [row.replace("true", "false") for row in rows]
    (piece,) = [piece for piece in TardisSource(written(tmp_path / "x.csv", rows)) if len(piece) > 1]
    assert piece.rows[KIND].tolist() == [SNAPSHOT, 0, 0]
    assert piece.batch.bounds.tolist() == [[0, 3, 4], [3, 4, 5], [3, 4, 5]]


@pytest.mark.parametrize("block_bytes", [90, 1 << 20])
def test_rows_of_one_arrival_are_one_message(tmp_path: Path, block_bytes: int) -> None:
    """Rows of one arrival are one message even with different exchange times.

    The last row of a price counts.
    """
    head, arrival = "binance,BTCUSDT", 1_769_817_600_100_000
    rows = [
        f"{head},{arrival},{arrival},true,{side},{price},1" for side, price in (("bid", 100), ("ask", 101))
    ]
    rows += [
        f"{head},{arrival + 10},{arrival + 50},false,ask,101,0",
        f"{head},{arrival + 10},{arrival + 50},false,ask,103,1",
        f"{head},{arrival + 20},{arrival + 50},false,bid,102,2",
        f"{head},{arrival + 20},{arrival + 50},false,ask,103,5",
        f"{head},{arrival + 20},{arrival + 60},false,bid,99,1",
    ]
    bests: list[tuple[int, ...]] = []
    replay = Replay(
        [lambda _, first, end, found: bests.extend(tuple(found[:, at].tolist()) for at in range(first, end))]
    )
    pieces = []
    for piece in TardisSource(
        written(tmp_path / "x.csv", rows), tick=Decimal(1), lot=Decimal(1), block_bytes=block_bytes
    ):
        replay.process(piece)
        pieces.append(piece.rows.copy())
    found = np.concatenate(pieces, axis=1)
    assert found[KIND].tolist() == [SNAPSHOT, 0, 0]
    assert (found[CAPTURE] // 1000 - arrival).tolist() == [0, 50, 60]
    assert (found[EVENT] - arrival).tolist() == [0, 20, 20]
    assert bests == [(102, 2, 103, 5)] * 2
    assert replay.book.crossed == 0


def test_a_lost_connection_begins_anew_and_is_counted(tmp_path: Path) -> None:
    """A second snapshot replaces the book, including levels that were not seen before.

    The loss is reported as a gap.
    """
    updates = market(300)
    path = written(tmp_path / "x.csv", seeded(updates[:200], 40) + from_snapshot(updates, 260), packed=False)
    replay, sides, pieces = replayed(TardisSource(path, block_bytes=1000))
    assert sides == book_of(updates)
    assert (replay.counts.gaps, replay.counts.snapshots, replay.counts.unused_snapshots) == (1, 2, 0)
    rows = np.concatenate([piece.rows for piece in pieces], axis=1)
    (first, second) = np.flatnonzero(rows[KIND] == SNAPSHOT)
    assert rows[LAST, first] == rows[LAST, first - 1] + 1
    assert rows[LAST, second - 1] == rows[LAST, second - 2] + 2


def test_a_finer_tick_within_the_file(tmp_path: Path) -> None:
    """Messages have a finer scale from the block with the first finer price on.

    Earlier levels are unchanged.
    """
    coarse, fine = market(200, tick="0.5"), market(200, tick="0.001", seed=8)
    fine = [Update(each.number, each.capture_ns + 60 * 10**9, each.changes) for each in fine]
    path = written(tmp_path / "x.csv", seeded(coarse + fine, 20), packed=False)
    _, sides, pieces = replayed(TardisSource(path, block_bytes=2000))
    assert sides == book_of(coarse + fine)
    ticks = [piece.scale.tick for piece in pieces]
    assert ticks[0] == Decimal("0.5")
    assert ticks[-1] == Decimal("0.001")
    assert ticks == sorted(ticks, reverse=True)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (GOOD.replace("true", "maybe"), "is_snapshot is not valid: 'maybe'"),
        (GOOD.replace("bid", "buy"), "side is not valid: 'buy'"),
        (GOOD.replace("84012.01", "84012,01"), "the row does not have eight fields"),
        (GOOD.replace("84012.01", "-1"), "price is not valid: '-1'"),
        (GOOD.replace("84012.01", "nan"), "price is not valid: 'nan'"),
        (GOOD.replace("84012.01", "1e99"), "price is not valid: '1"),
        (GOOD.replace("84012.01", "+1.5"), "price is not valid: '+1.5'"),
        (GOOD.replace("84012.01", "1.2.3"), "price is not valid: '1.2.3'"),
        (GOOD.replace("84012.01", "1 2"), "price is not valid: '1 2'"),
        (GOOD.replace("84012.01", "0x1"), "price is not valid: '0x1'"),
        (GOOD.replace("84012.01", "1_0"), "price is not valid: '1_0'"),
        (GOOD.replace("0.25", ""), "amount is not valid: ''"),
        (GOOD.replace("1769817600034517", "1769817600034"), "local_timestamp is not valid: '1769817600034'"),
        (GOOD.rpartition(",")[0], ""),
        ("", ""),
    ],
)
def test_a_damaged_row_is_named_by_file_and_line(tmp_path: Path, row: str, told: str) -> None:
    """The error names the line for any block size."""
    path = written(tmp_path / "bad.csv", [GOOD, GOOD, GOOD, row, GOOD], packed=False)
    for block_bytes in (100, 1 << 20):
        with pytest.raises(MalformedDataError) as caught:
            list(TardisSource(path, block_bytes=block_bytes))
        assert str(caught.value).startswith(f"{path}: line 5: {told}")


def test_numbers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Numbers beyond 64 bits and prices between known ticks are errors."""
    long = written(tmp_path / "long.csv", [GOOD.replace("0.25", "123456789012345678.25")], packed=False)
    with pytest.raises(MalformedDataError, match=r"line 2: amount is not valid: '123456789012345678\.25'"):
        list(TardisSource(long))
    mixed = written(
        tmp_path / "mixed.csv",
        [GOOD.replace("0.25", "123456789012"), GOOD.replace("0.25", "0.000000000001")],
        packed=False,
    )
    for block_bytes, told in (
        (90, "the column amount contains a value that does not fit 64 bits"),
        (1 << 20, "the column amount has a value with too many digits from line 2 on"),
    ):
        with pytest.raises(MalformedDataError, match=told):
            list(TardisSource(mixed, block_bytes=block_bytes))
    with pytest.raises(
        MalformedDataError, match=r"contains the price 84012.01, which is not a multiple of 0.1 "
    ):
        list(TardisSource(written(tmp_path / "tick.csv", [GOOD], packed=False), tick=Decimal("0.1")))


def test_zeros_at_the_end_say_nothing(tmp_path: Path) -> None:
    """Trailing zeros change neither the value nor the tick."""
    rows = [GOOD.replace("0.25", "0.2500000000000000000").replace("84012.01", "84012.010")]
    (piece,) = TardisSource(written(tmp_path / "x.csv", rows))
    assert (piece.scale.tick, piece.batch.prices.tolist()) == (Decimal("84012.01"), [1])
    assert piece.scale.quantity(int(piece.batch.lots[0])) == Decimal("0.25")


def test_files_that_are_none(tmp_path: Path) -> None:
    """Each kind of wrong file has its own error."""
    with pytest.raises(LakeError, match="does not exist"):
        list(TardisSource(tmp_path / "none.csv.gz"))
    torn = written(tmp_path / "torn.csv.gz", [GOOD] * 500)
    torn.write_bytes(torn.read_bytes()[:-30])
    with pytest.raises(MalformedDataError, match="the gzip is damaged after byte"):
        list(TardisSource(torn))
    (tmp_path / "trades.csv").write_text("exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n")
    with pytest.raises(MalformedDataError, match="line 1 is not the header"):
        list(TardisSource(tmp_path / "trades.csv"))
    with pytest.raises(MalformedDataError, match="more than one symbol"):
        list(TardisSource(written(tmp_path / "two.csv", [GOOD, GOOD.replace("BTC", "ETH")])))
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(MalformedDataError, match="is empty"):
        list(TardisSource(tmp_path / "empty.csv"))
