"""Captured trades against the trades the exchange publishes, and bars made of them against its klines.

Pure: frames in, a verdict out. What a session covers only in part is left out: ids before its first and after its last trade, and bars
that do not lie wholly between them. What its gap ledger lists is a known loss and no difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from capture_pipeline.binance.periods import Interval, iso
from capture_pipeline.golden.proof.trade_bars import bars_of, is_market_trade

_MOST_LISTED = 50
_MS = 1000
_VALUES = ("price_e8", "quantity_e8", "trade_us", "buyer_maker")
_BAR_COLUMNS = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trades",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)
Ranges = Sequence[tuple[int, int]]
"""Ids `first..last`, both included."""


class Difference(BaseModel):
    """One thing that is not as the exchange says.

    Attributes:
        where: `trade 1520538925` or `bar 2026-08-03T14:31:00Z`.
        field: What differs; `missing` is published and not captured, `unknown` the reverse.
        captured: Ours.
        published: The exchange's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    where: str
    field: str
    captured: str
    published: str


class Proof(BaseModel):
    """What a comparison found.

    Attributes:
        holds: Whether nothing differs and something was compared.
        trades_captured: Trades within the compared ids.
        trades_published: Likewise.
        known_lost: Published ones that are not captured and stand in the gap ledger.
        first_id: First id compared.
        last_id: Last id compared.
        volume_captured: Their base volume, exact.
        volume_published: Likewise.
        volume_known_lost: Of the known losses.
        time_unit: The coarser of the units in which both tell times, and in which they are compared.
        bars_compared: Bars compared with official ones.
        bars_left_out: Bars not compared, for a known loss lies in them.
        differences: How many there are.
        listed: The first fifty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    holds: bool
    trades_captured: int = 0
    trades_published: int = 0
    known_lost: int = 0
    first_id: int | None = None
    last_id: int | None = None
    volume_captured: str = "0"
    volume_published: str = "0"
    volume_known_lost: str = "0"
    time_unit: str = "us"
    bars_compared: int = 0
    bars_left_out: int = 0
    differences: int
    listed: list[Difference]


def prove_trades(
    captured: pl.DataFrame, published: pl.DataFrame, ids: tuple[int, int] | None = None, lost: Ranges = ()
) -> Proof:
    """Captured trades against published ones, by id.

    Ids that are no trades of the market (see `is_market_trade`) are compared where they are published, and left out where they are not.

    Args:
        captured: A frame of `golden_trades`.
        published: As `published_trades` returns, of one day or several joined.
        ids: First and last id that the session covers, where `captured` is a part of it; without them those of `captured`.
        lost: Ids that the gap ledger lists.
    """
    if ids is None and captured.is_empty():
        return Proof(holds=False, differences=0, listed=[])
    first, last = ids or span(captured, "trade_id")
    published = published.filter(pl.col("trade_id").is_between(first, last))
    captured = _comparable(captured, published)
    known = known_lost(captured, published, lost)
    both = captured.join(published, on="trade_id", how="full", suffix="_published", coalesce=True)
    both = both.join(known, on="trade_id", how="anti").sort("trade_id")
    unit = min(_unit(captured), _unit(published), key=("ms", "us").index)
    found, count = _differing(both, _MS if unit == "ms" else 1)
    repeated = captured.height - captured["trade_id"].n_unique()
    if repeated:
        found.insert(
            0,
            _of_trade(
                captured.filter(captured["trade_id"].is_duplicated())["trade_id"][0], "repeated", repeated, 0
            ),
        )
    return Proof(
        holds=not count + repeated and not both.is_empty(),
        trades_captured=captured.height,
        trades_published=published.height,
        known_lost=known.height,
        first_id=first,
        last_id=last,
        volume_captured=_volume(captured),
        volume_published=_volume(published),
        volume_known_lost=_volume(known),
        time_unit=unit,
        differences=count + repeated,
        listed=found[:_MOST_LISTED],
    )


def prove_bars(
    captured: pl.DataFrame,
    official: pl.DataFrame,
    interval: Interval = Interval.M1,
    covered: tuple[int, int] | None = None,
    lost_us: Sequence[int] = (),
) -> Proof:
    """Bars made of captured trades against official ones, in the intervals that the session covers whole.

    Args:
        captured: A frame of `golden_trades`.
        official: Klines or bars, for instance of the lake, or of `binance.klines.parse_csv`.
        interval: Of the official ones.
        covered: `[start, end)` in microseconds that is covered, where `captured` is a part of the session; as of `whole_bars`.
        lost_us: Times of trades that are known to be lost; their bars are left out.
    """
    if covered is None and captured.is_empty():
        return Proof(holds=False, differences=0, listed=[])
    start, end = covered or whole_bars(captured, interval)
    left_out = sorted({open_us for time_us in lost_us if start <= (open_us := interval.floor(time_us)) < end})
    is_meant = pl.col("open_time_us").is_between(start, end, closed="left") & ~pl.col("open_time_us").is_in(
        left_out
    )
    ours, theirs = bars_of(captured, interval).filter(is_meant), official.filter(is_meant)
    both = theirs.join(ours, on="open_time_us", how="full", suffix="_captured", coalesce=True).sort(
        "open_time_us"
    )
    found = [difference for row in both.iter_rows(named=True) for difference in _of_bar(row)]
    return Proof(
        holds=theirs.height > 0 and not found,
        bars_compared=theirs.height,
        bars_left_out=len(left_out),
        differences=len(found),
        listed=found[:_MOST_LISTED],
    )


def _comparable(captured: pl.DataFrame, published: pl.DataFrame) -> pl.DataFrame:
    """Trades of the market, and whatever else is published."""
    others = captured.filter(~is_market_trade(captured))
    return (
        captured
        if others.is_empty()
        else captured.join(others.join(published, on="trade_id", how="anti"), on="trade_id", how="anti")
    )


def whole_bars(captured: pl.DataFrame, interval: Interval) -> tuple[int, int]:
    """`[start, end)` of the intervals that lie wholly between the first and the last trade; empty where `end <= start`."""
    first, last = span(captured, "trade_us")
    return interval.ceil(first + 1), interval.floor(last)


def known_lost(captured: pl.DataFrame, published: pl.DataFrame, lost: Ranges) -> pl.DataFrame:
    """The published trades that stand in the gap ledger and were not captured."""
    return published.filter(within(published["trade_id"], lost)).join(captured, on="trade_id", how="anti")


def span(frame: pl.DataFrame, name: str) -> tuple[int, int]:
    """Smallest and largest value of a column of integers that is not empty."""
    return int(frame[name].min()), int(frame[name].max())  # type: ignore[arg-type]


def within(ids: pl.Series, ranges: Ranges) -> pl.Series:
    """Return which ids lie in one of the ranges."""
    if not ranges:
        return pl.Series([False]).new_from_index(0, len(ids))
    ordered = np.array(sorted(ranges), np.int64)
    # A later line of the ledger may lie within an earlier one.
    ends = np.maximum.accumulate(ordered[:, 1])
    values = ids.to_numpy()
    at = np.searchsorted(ordered[:, 0], values, side="right") - 1
    return pl.Series((at >= 0) & (values <= ends[at]))


def _unit(trades: pl.DataFrame) -> str:
    """The streams tell times in milliseconds where spot's files tell microseconds."""
    return "ms" if (trades["trade_us"] % _MS == 0).all() else "us"


def _differing(both: pl.DataFrame, unit_us: int) -> tuple[list[Difference], int]:
    """The first differences, and how many there are; a trade that only one side has is one."""
    is_lone = pl.col("price_e8").is_null() | pl.col("price_e8_published").is_null()
    lone, paired = both.filter(is_lone), both.filter(~is_lone)
    found, count = [_lone(row) for row in lone.head(_MOST_LISTED).iter_rows(named=True)], lone.height
    for name in _VALUES:
        ours, theirs = pl.col(name), pl.col(f"{name}_published")
        bad = paired.filter(ours // unit_us != theirs // unit_us if name == "trade_us" else ours != theirs)
        count += bad.height
        rows = bad.head(_MOST_LISTED).iter_rows(named=True)
        found += [_of_trade(row["trade_id"], name, row[name], row[f"{name}_published"]) for row in rows]
    return found, count


def _volume(trades: pl.DataFrame) -> str:
    total = int(trades["quantity_e8"].cast(pl.Int128).sum())
    return f"{total // 10**8}.{total % 10**8:08d}"


def _of_trade(number: object, name: str, ours: object, theirs: object) -> Difference:
    return Difference(where=f"trade {number}", field=name, captured=str(ours), published=str(theirs))


def _lone(row: dict[str, object]) -> Difference:
    is_missing = row["price_e8"] is None
    return _of_trade(
        row["trade_id"], *(("missing", "none", "there") if is_missing else ("unknown", "there", "none"))
    )


def _of_bar(row: dict[str, object]) -> list[Difference]:
    """What differs in one interval; no bar of ours equals an official one without a trade."""
    where = f"bar {iso(int(str(row['open_time_us'])))}"
    if row["trades"] is None:
        return [
            Difference(
                where=where, field="unknown", captured=f"{row['trades_captured']} trades", published="no bar"
            )
        ]
    if row["trades_captured"] is None:
        is_quiet = row["trades"] == 0
        return (
            []
            if is_quiet
            else [
                Difference(
                    where=where, field="missing", captured="no trade", published=f"{row['trades']} trades"
                )
            ]
        )
    return [
        Difference(where=where, field=name, captured=str(row[f"{name}_captured"]), published=str(row[name]))
        for name in _BAR_COLUMNS
        if row[f"{name}_captured"] != row[name]
    ]
