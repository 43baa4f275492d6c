"""Comparison of captured trades with published trades, and of bars of captured trades with published klines.

The functions have no I/O. Data that a session covers only partly are excluded: ids before its first and after
its last trade, and bars that are not completely between both. Losses in the gap ledger are not differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from capture_pipeline.binance.periods import Interval, TimeRange, iso
from capture_pipeline.golden.proof.trade_bars import build_trade_bars, is_market_trade
from capture_pipeline.sessions.continuity import IdRange

_MAX_LISTED = 50
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


class Difference(BaseModel):
    """A difference between captured and published data.

    Attributes:
        where: `trade 1520538925` or `bar 2026-08-03T14:31:00Z`.
        field: Name of the field; `missing` if the row was only published, `unknown` if it was only captured.
        captured: Captured value.
        published: Published value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    where: str
    field: str
    captured: str
    published: str


class Proof(BaseModel):
    """Result of a comparison.

    Attributes:
        holds: True if something was compared and nothing differs.
        trades_captured: Number of captured trades within the compared ids.
        trades_published: Number of published trades within the compared ids.
        known_lost: Number of published trades that were not captured and are in the gap ledger.
        first_id: First compared id.
        last_id: Last compared id.
        volume_captured: Base volume of the captured trades, exact.
        volume_published: Base volume of the published trades, exact.
        volume_known_lost: Base volume of the known losses, exact.
        time_unit: Unit in which times are compared: the coarser unit of both sides.
        bars_compared: Number of compared bars.
        bars_left_out: Number of bars that were not compared because they contain a known loss.
        differences: Number of differences.
        listed: The first fifty differences.
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
    captured: pl.DataFrame, published: pl.DataFrame, ids: IdRange | None = None, lost: Sequence[IdRange] = ()
) -> Proof:
    """Compare captured trades with published trades by id.

    Ids that are not market trades (see `is_market_trade`) are compared only if they are published.

    Args:
        captured: Frame of `golden_trades`.
        published: Result of `parse_published_trades` for one day, or for several days joined.
        ids: Ids that the session covers, if `captured` is a part of the session.
        lost: Ids that the gap ledger lists.
    """
    if ids is None and captured.is_empty():
        return Proof(holds=False, differences=0, listed=[])
    first, last = ids or value_range(captured, "trade_id")
    published = published.filter(pl.col("trade_id").is_between(first, last))
    captured = _select_comparable(captured, published)
    known = select_known_losses(captured, published, lost)
    both = captured.join(published, on="trade_id", how="full", suffix="_published", coalesce=True)
    both = both.join(known, on="trade_id", how="anti").sort("trade_id")
    unit = min(_unit(captured), _unit(published), key=("ms", "us").index)
    found, count = _find_differences(both, _MS if unit == "ms" else 1)
    repeated = captured.height - captured["trade_id"].n_unique()
    if repeated:
        found.insert(
            0,
            _trade_difference(
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
        listed=found[:_MAX_LISTED],
    )


def prove_bars(
    captured: pl.DataFrame,
    official: pl.DataFrame,
    interval: Interval = Interval.M1,
    covered: TimeRange | None = None,
    lost_us: Sequence[int] = (),
) -> Proof:
    """Compare bars of captured trades with official bars, in intervals that the session covers completely.

    Args:
        captured: Frame of `golden_trades`.
        official: Bars of the lake, or published klines.
        interval: Interval of the official bars.
        covered: Covered range, if `captured` is a part of the session (see
            `covered_range`).
        lost_us: Times of known losses; their bars are excluded.
    """
    if covered is None and captured.is_empty():
        return Proof(holds=False, differences=0, listed=[])
    start, end = covered or covered_range(captured, interval)
    left_out = sorted({open_us for time_us in lost_us if start <= (open_us := interval.floor(time_us)) < end})
    is_compared = pl.col("open_time_us").is_between(start, end, closed="left") & ~pl.col(
        "open_time_us"
    ).is_in(left_out)
    ours, theirs = build_trade_bars(captured, interval).filter(is_compared), official.filter(is_compared)
    both = theirs.join(ours, on="open_time_us", how="full", suffix="_captured", coalesce=True).sort(
        "open_time_us"
    )
    found = [difference for row in both.iter_rows(named=True) for difference in _bar_differences(row)]
    return Proof(
        holds=theirs.height > 0 and not found,
        bars_compared=theirs.height,
        bars_left_out=len(left_out),
        differences=len(found),
        listed=found[:_MAX_LISTED],
    )


def _select_comparable(captured: pl.DataFrame, published: pl.DataFrame) -> pl.DataFrame:
    """Remove captured rows that are not market trades and that the exchange did not publish."""
    others = captured.filter(~is_market_trade(captured))
    return (
        captured
        if others.is_empty()
        else captured.join(others.join(published, on="trade_id", how="anti"), on="trade_id", how="anti")
    )


def covered_range(captured: pl.DataFrame, interval: Interval) -> TimeRange:
    """Return the range of whole intervals between the trades; empty if it ends before its start."""
    first, last = value_range(captured, "trade_us")
    return TimeRange(interval.ceil(first + 1), interval.floor(last))


def select_known_losses(
    captured: pl.DataFrame, published: pl.DataFrame, lost: Sequence[IdRange]
) -> pl.DataFrame:
    """Select published trades that were not captured and are in the gap ledger."""
    return published.filter(is_within(published["trade_id"], lost)).join(captured, on="trade_id", how="anti")


class ValueRange(NamedTuple):
    """Smallest and largest value of a column."""

    least: int
    most: int


def value_range(frame: pl.DataFrame, name: str) -> ValueRange:
    """Return the range of a column of integers that is not empty."""
    return ValueRange(int(frame[name].min()), int(frame[name].max()))  # type: ignore[arg-type]


def is_within(ids: pl.Series, ranges: Sequence[IdRange]) -> pl.Series:
    """Return a mask of the ids that are in one of the ranges."""
    if not ranges:
        return pl.Series([False]).new_from_index(0, len(ids))
    ordered = np.array(sorted(ranges), np.int64)
    # Ranges may overlap: a later line of the ledger may be inside an earlier one.
    ends = np.maximum.accumulate(ordered[:, 1])
    values = ids.to_numpy()
    at = np.searchsorted(ordered[:, 0], values, side="right") - 1
    return pl.Series((at >= 0) & (values <= ends[at]))


def _unit(trades: pl.DataFrame) -> str:
    """Return the unit of the times: streams have milliseconds, files of the spot market have microseconds."""
    return "ms" if (trades["trade_us"] % _MS == 0).all() else "us"


class _Differences(NamedTuple):
    """The first differences, and the number of all."""

    listed: list[Difference]
    total: int


def _find_differences(both: pl.DataFrame, unit_us: int) -> _Differences:
    """Find the differences. A trade on only one side counts as a difference."""
    is_one_sided = pl.col("price_e8").is_null() | pl.col("price_e8_published").is_null()
    one_sided, paired = both.filter(is_one_sided), both.filter(~is_one_sided)
    found = [_one_sided_difference(row) for row in one_sided.head(_MAX_LISTED).iter_rows(named=True)]
    count = one_sided.height
    for name in _VALUES:
        ours, theirs = pl.col(name), pl.col(f"{name}_published")
        bad = paired.filter(ours // unit_us != theirs // unit_us if name == "trade_us" else ours != theirs)
        count += bad.height
        rows = bad.head(_MAX_LISTED).iter_rows(named=True)
        found += [
            _trade_difference(row["trade_id"], name, row[name], row[f"{name}_published"]) for row in rows
        ]
    return _Differences(found, count)


def _volume(trades: pl.DataFrame) -> str:
    total = int(trades["quantity_e8"].cast(pl.Int128).sum())
    return f"{total // 10**8}.{total % 10**8:08d}"


def _trade_difference(number: object, name: str, ours: object, theirs: object) -> Difference:
    return Difference(where=f"trade {number}", field=name, captured=str(ours), published=str(theirs))


def _one_sided_difference(row: dict[str, object]) -> Difference:
    is_missing = row["price_e8"] is None
    return _trade_difference(
        row["trade_id"], *(("missing", "none", "there") if is_missing else ("unknown", "there", "none"))
    )


def _bar_differences(row: dict[str, object]) -> list[Difference]:
    """Compare one interval. An official bar without trades equals no captured bar."""
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
