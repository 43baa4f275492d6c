"""Tests of the comparison with published data: no difference for a complete capture, else each fault."""

from __future__ import annotations

import io
import zipfile
from datetime import date
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.binance.periods import Interval, TimeRange
from capture_pipeline.binance.streams._reference import decimal_e8
from capture_pipeline.binance.urls import Market, TradesFile
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.proof.comparison import prove_bars, prove_trades
from capture_pipeline.golden.proof.published_trades import parse_published_trades
from capture_pipeline.golden.proof.trade_bars import build_trade_bars
from capture_pipeline.sessions.continuity import IdRange
from capture_pipeline.tables.golden.columns import decimal_text
from capture_pipeline.tables.klines.bars import BARS, rules

STEM = "ETHUSDT-trades-2026-08-03"
START = 1_785_715_200_000_000


def some_trades(count: int = 600) -> pl.DataFrame:
    """Generate ten minutes of trades, one per second."""
    return pl.DataFrame(
        {
            "trade_id": list(range(1000, 1000 + count)),
            "trade_us": [START + 30_000_000 + index * 1_000_000 for index in range(count)],
            "price_e8": [268_000_000_000 + (index * 7919 % 101) * 1_000_000 for index in range(count)],
            "quantity_e8": [(index * 31 % 97 + 1) * 10_000 for index in range(count)],
            "buyer_maker": [index % 3 == 0 for index in range(count)],
        }
    )


def zipped(
    trades: pl.DataFrame, *, unit: int = 1, header: bool = False, edit: tuple[str, str] | None = None
) -> bytes:
    lines = ["id,price,qty,quote_qty,time,is_buyer_maker"] if header else []
    for number, time, price, quantity, maker in trades.select(
        "trade_id", "trade_us", "price_e8", "quantity_e8", "buyer_maker"
    ).iter_rows():
        flags = str(maker).lower() if header else f"{maker},True"
        lines.append(
            f"{number},{decimal_text(price, 8)},{decimal_text(quantity, 8)},0.1,{time // unit},{flags}"
        )
    text = "\n".join(lines) + "\n"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{STEM}.csv", text.replace(*edit) if edit else text)
    return made.getvalue()


@pytest.mark.parametrize(("unit", "header"), [(1, False), (1000, False), (1000, True)])
def test_published_trades_are_read_exactly_in_any_unit(unit: int, header: bool) -> None:
    """Spot files have microseconds and no header. Older files and futures have milliseconds and a header."""
    trades = some_trades()
    read = parse_published_trades(zipped(trades, unit=unit, header=header), STEM, 1 << 24)
    assert read.equals(trades.select(read.columns))
    proof = prove_trades(trades, read)
    assert proof.holds
    assert proof.trades_captured == proof.trades_published == 600
    assert proof.volume_captured == proof.volume_published


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (("1003,2680", "1003,-2680"), 4),
        (("1005,", "1004,"), 6),
        (("1006,2680", "1006,1e3"), 7),
        (("1007,", ","), 8),
        ((",1785715233000000,", ",17,"), 4),
        (("1008,2680.", "1008,2680.123456789"), 9),
        (("1009,2680.", "1009,92233720369."), 10),
        (("1010,2680.", "1010,100000000000."), 11),
        (("0.00320000,0.1", "92233720368.54775808,0.1"), 2),
    ],
)
def test_a_file_that_is_none_is_refused_by_line(edit: tuple[str, str], line: int) -> None:
    """The error contains file, line and remedy."""
    with pytest.raises(MalformedDataError, match=rf"csv, line {line}: .*download the file again") as raised:
        parse_published_trades(zipped(some_trades(20), edit=edit), STEM, 1 << 24)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "largest", ["10000000000.00000000", "46116860414.00000000", "92233720368.54775807", "46116860414.00"]
)
def test_the_largest_quantities_of_the_exchange_are_read_and_proved(largest: str) -> None:
    """`maxQty` of LOT_SIZE has eleven digits before the point.

    Sums of such trades have more digits, in proofs and in bars.
    """
    trades = some_trades(20)
    units = decimal_e8(largest)[0]
    trades = trades.with_columns(
        quantity_e8=pl.when(pl.int_range(pl.len()) < 3).then(pl.lit(units)).otherwise("quantity_e8")
    )
    read = parse_published_trades(zipped(trades, edit=(decimal_text(units, 8), largest)), STEM, 1 << 24)
    assert read.equals(trades.select(read.columns))
    proof = prove_trades(trades, read)
    assert proof.holds
    assert Decimal(proof.volume_captured) == Decimal(sum(trades["quantity_e8"].to_list())).scaleb(-8)
    bars = build_trade_bars(trades, Interval.M1)
    assert sum(bars["volume"].to_list()) == Decimal(proof.volume_captured)


@given(
    st.integers(1, 598),
    st.sampled_from(["missing", "unknown", "price_e8", "quantity_e8", "trade_us", "buyer_maker"]),
)
def test_each_fault_is_named(at: int, fault: str) -> None:
    """A lost, invented or altered trade is reported with its id.

    A trade lost at either end is outside the session.
    """
    trades = some_trades()
    captured = published = trades
    if fault == "missing":
        captured = trades.filter(pl.col("trade_id") != 1000 + at)
    elif fault == "unknown":
        published = trades.filter(pl.col("trade_id") != 1000 + at)
    else:
        # Times are in milliseconds, so an order within a millisecond is unknown.
        other = ~pl.col(fault) if fault == "buyer_maker" else pl.col(fault) + 1000
        captured = trades.with_columns(
            pl.when(pl.col("trade_id") == 1000 + at).then(other).otherwise(pl.col(fault)).alias(fault)
        )
    proof = prove_trades(captured, published)
    assert not proof.holds
    assert proof.differences == 1
    assert (proof.listed[0].where, proof.listed[0].field) == (f"trade {1000 + at}", fault)


def test_times_are_compared_in_the_coarser_unit() -> None:
    """A difference below a millisecond is ignored if the stream has milliseconds.

    If both sides have microseconds, each microsecond counts.
    """
    fine = some_trades().with_columns(pl.col("trade_us") + pl.col("trade_id") % 997)
    coarse = fine.with_columns(pl.col("trade_us") // 1000 * 1000)
    assert (prove_trades(coarse, fine).holds, prove_trades(coarse, fine).time_unit) == (True, "ms")
    moved = fine.with_columns(
        pl.when(pl.col("trade_id") == 1100)
        .then(pl.col("trade_us") + 1)
        .otherwise("trade_us")
        .alias("trade_us")
    )
    assert prove_trades(fine, moved).listed[0].where == "trade 1100"
    late = coarse.with_columns(
        pl.when(pl.col("trade_id") == 1100)
        .then(pl.col("trade_us") + 1000)
        .otherwise("trade_us")
        .alias("trade_us")
    )
    assert [found.field for found in prove_trades(late, fine).listed] == ["trade_us"]


def test_what_the_ledger_lists_is_a_known_loss_and_the_rest_is_not() -> None:
    """The ledger lists ranges of lost ids, one inside another.

    A lost trade outside of these ranges is a difference, and so is its minute.
    """
    trades = some_trades()
    lost = [IdRange(1100, 1112), IdRange(1105, 1106), IdRange(1400, 1400)]
    captured = trades.filter(~pl.any_horizontal(pl.col("trade_id").is_between(*each) for each in lost))
    proof = prove_trades(captured, trades, lost=lost)
    assert (proof.holds, proof.known_lost, proof.differences) == (True, 14, 0)
    gone = trades.filter(pl.col("trade_id").is_between(1100, 1112) | (pl.col("trade_id") == 1400))
    assert proof.volume_known_lost == decimal_text(int(gone["quantity_e8"].sum()), 8)
    bars = prove_bars(captured, build_trade_bars(trades, Interval.M1), lost_us=gone["trade_us"].to_list())
    assert (bars.holds, bars.bars_left_out, bars.bars_compared) == (True, 2, 7)
    worse = prove_trades(captured.filter(pl.col("trade_id") != 1113), trades, lost=lost)
    assert (worse.holds, worse.known_lost, [found.where for found in worse.listed]) == (
        False,
        14,
        ["trade 1113"],
    )


def test_a_part_of_a_session_is_held_to_all_the_session_covers() -> None:
    """Trades lost at midnight are between the last trade of a day and the first one of the next day.

    The ids of the whole session show that they are missing.
    """
    trades = some_trades()
    day = trades[:300]
    assert prove_trades(day[:290], day).holds
    proof = prove_trades(day[:290], day, IdRange(1000, 1599))
    assert [found.where for found in proof.listed] == [f"trade {number}" for number in range(1290, 1300)]
    assert prove_trades(day[:0], day, IdRange(1000, 1599)).differences == 300


def test_rows_that_stand_twice_count_once() -> None:
    """The exchange has published blocks of trades twice.

    A verified file with such a block proves its day.
    """
    trades = some_trades(20)
    twice = pl.concat([trades[:12], trades[5:12], trades[12:]])
    read = parse_published_trades(zipped(twice), STEM, 1 << 24)
    assert read.equals(trades.select(read.columns))
    with pytest.raises(MalformedDataError, match=r"csv, line 13: id is not .* occurs twice: '1005'"):
        parse_published_trades(
            zipped(twice.with_columns(pl.col("quantity_e8") + pl.int_range(pl.len()).eq(12).cast(pl.Int64))),
            STEM,
            1 << 24,
        )


def test_a_trade_of_another_day_is_refused() -> None:
    """The error contains the line of a row of the next day."""
    trades = some_trades(20)
    with pytest.raises(MalformedDataError, match="csv, line 11: time is not"):
        parse_published_trades(zipped(trades), STEM, 1 << 24, TimeRange(START, START + 40_000_000))


def test_only_what_the_session_covers_is_compared() -> None:
    """Published trades before and after the session are no loss.

    A session without trades proves nothing.
    """
    trades = some_trades()
    assert prove_trades(trades[100:500], trades).holds
    assert not prove_trades(trades[:0], trades).holds
    bars = build_trade_bars(trades, Interval.M1)
    proof = prove_bars(trades[100:500], bars)
    assert proof.holds
    assert proof.bars_compared == 5


def test_bars_that_differ_are_listed_by_field() -> None:
    """A lost trade changes the bar of its minute. A minute without trades is no loss."""
    trades = some_trades()
    official = build_trade_bars(trades, Interval.M1)
    quiet = official[5:6].with_columns(
        pl.lit(Decimal(0)).cast(BARS.schema["volume"]).alias("volume"), pl.lit(0, pl.Int64).alias("trades")
    )
    minute = pl.col("trade_us").is_between(START + 5 * 60_000_000, START + 6 * 60_000_000 - 1)
    assert prove_bars(trades.filter(~minute), pl.concat([official[:5], quiet, official[6:]])).holds
    assert [found.field for found in prove_bars(trades.filter(~minute), official).listed] == ["missing"]
    lost = prove_bars(trades.filter(pl.col("trade_id") != 1200), official)
    assert {"volume", "trades"} <= {found.field for found in lost.listed}
    assert {found.where for found in lost.listed} == {"bar 2026-08-03T00:03:00Z"}


@given(st.sampled_from(list(Interval)))
def test_bars_keep_the_rules_of_the_bars_table(interval: Interval) -> None:
    """Bars of captured trades pass the same gates as official bars."""
    bars = build_trade_bars(some_trades(), interval)
    assert bars.schema == pl.Schema(BARS.schema)
    for rule in rules(interval, 2 * START):
        assert bars.select(rule.holds.all()).item(), rule.name
    assert bars["trades"].sum() == 600


def test_sums_beyond_64_bits_are_exact() -> None:
    """Quote volumes are sums of products in units of 1e-16."""
    trades = some_trades(3).with_columns(
        price_e8=pl.lit(9 * 10**17), quantity_e8=pl.lit(10**10), trade_us=pl.lit(START)
    )
    assert build_trade_bars(trades, Interval.M1)["quote_volume"].to_list() == [
        Decimal("2700000000000.00000000")
    ]


def test_the_archives_path() -> None:
    file = TradesFile(Market.SPOT, "ETHUSDT", date(2026, 8, 3))
    assert file.path == "data/spot/daily/trades/ETHUSDT/ETHUSDT-trades-2026-08-03.zip"


def test_first_and_last_price_go_by_id() -> None:
    """The open is the price of the smallest id, and the close is the price of the largest id.

    Trades are in any order, with several of them in one microsecond.
    """
    trades = pl.DataFrame(
        {
            "trade_id": [12, 10, 11],
            "trade_us": [START, START, START],
            "price_e8": [3 * 10**8, 2 * 10**8, 5 * 10**8],
            "quantity_e8": [10**8] * 3,
            "buyer_maker": [False, True, False],
        }
    )
    bar = build_trade_bars(trades, Interval.M1).row(0, named=True)
    assert [bar[name] for name in ("open", "high", "low", "close")] == [
        Decimal(2),
        Decimal(5),
        Decimal(2),
        Decimal(3),
    ]
    assert (bar["taker_buy_volume"], bar["taker_buy_quote_volume"]) == (Decimal(2), Decimal(8))


def test_what_is_no_trade_of_the_market_is_in_no_bar() -> None:
    """An id without a trade changes no bar and is no difference.

    The same applies to orders that the insurance fund or auto-deleveraging filled.
    """
    trades = some_trades(120)
    kinds = {3: ("NA", 0), 50: ("INSURANCE_FUND", 1), 51: ("ADL", 9 * 10**15), 119: ("NA", 0)}
    odd = trades.with_columns(
        pl.Series(
            "order_type", [kinds[index][0] if index in kinds else "MARKET" for index in range(120)], pl.String
        ),
        pl.Series(
            "price_e8",
            [kinds[index][1] if index in kinds else price for index, price in enumerate(trades["price_e8"])],
        ),
    )
    market = trades.with_row_index().filter(~pl.col("index").is_in(list(kinds))).drop("index")
    bars = build_trade_bars(odd, Interval.M1)
    assert bars.equals(build_trade_bars(market, Interval.M1))
    assert prove_bars(odd, bars, covered=TimeRange(START, START + 180_000_000)).holds
    proof = prove_trades(odd, market)
    assert (proof.holds, proof.trades_captured) == (True, 116)
    assert not prove_trades(odd, market.filter(pl.col("trade_id") != 1010)).holds
    published = pl.concat([market, trades[50:51]])
    assert {one.where for one in prove_trades(odd, published).listed} == {"trade 1050"}
    old = trades.with_columns(pl.Series("price_e8", [0, *trades["price_e8"][1:]]))
    assert build_trade_bars(old, Interval.M1).equals(build_trade_bars(trades[1:], Interval.M1))
