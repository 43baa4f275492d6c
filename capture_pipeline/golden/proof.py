"""Next-day proof: captured trades against the trades the exchange publishes, and bars made of them against its klines.

Pure: frames and bytes in, a verdict out. What a session covers only in part is left out: minutes before its first and after its last
trade, and for ids whatever lies outside `[first captured, last captured]`.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from datetime import date

import polars as pl
from pydantic import BaseModel, ConfigDict

from capture_pipeline.binance.periods import Interval
from capture_pipeline.binance.urls import Granularity, Market, valid_symbol
from capture_pipeline.binance.zips import only_entry
from capture_pipeline.errors import MalformedData
from capture_pipeline.golden.bars import bars_of

_COLUMNS = ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker", "is_best_match")
_FEWEST = 6
"""Futures have no isBestMatch."""
_NUMBER, _DECIMAL, _FLAG = r"^[0-9]{1,18}$", r"^[0-9]{1,10}(\.[0-9]{1,8})?$", r"^(?i:true|false)$"
_MS_FROM, _US_FROM, _US_TO = 10**11, 10**14, 10**17
_MOST_LISTED = 50
_BAR_COLUMNS = ("open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume")
_REMEDY = "fetch the file again; compare it with its checksum"


@dataclass(frozen=True)
class TradesFile:
    """One day of published trades.

    Attributes:
        market: Spot or USD-M futures.
        symbol: For instance BTCUSDT.
        day: UTC.
    """

    market: Market
    symbol: str
    day: date

    @property
    def stem(self) -> str:
        """`BTCUSDT-trades-2026-08-03`."""
        return f"{valid_symbol(self.symbol)}-trades-{self.day}"

    @property
    def name(self) -> str:
        """The zip's name."""
        return f"{self.stem}.zip"

    @property
    def path(self) -> str:
        """The whole path below the archive's host."""
        return f"{self.market.archive_root}/{Granularity.DAILY}/trades/{self.symbol}/{self.name}"


class Difference(BaseModel):
    """One thing that is not as the exchange says.

    Attributes:
        where: `trade 1520538925` or `minute 2026-08-03T14:31`.
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
    """What the comparison found.

    Attributes:
        holds: Whether nothing differs and something was compared.
        trades_captured: Trades within the compared ids.
        trades_published: Likewise.
        first_id: First id compared.
        last_id: Last id compared.
        volume_captured: Their base volume, exact.
        volume_published: Likewise.
        minutes_compared: Bars compared with official ones.
        differences: How many there are.
        listed: The first fifty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    holds: bool
    trades_captured: int = 0
    trades_published: int = 0
    first_id: int | None = None
    last_id: int | None = None
    volume_captured: str = "0"
    volume_published: str = "0"
    minutes_compared: int = 0
    differences: int
    listed: list[Difference]


def published_trades(content: bytes, stem: str, max_bytes: int) -> pl.DataFrame:
    """The trades of an archive zip; unit and header are told from the bytes.

    Args:
        content: The zip.
        stem: Its name without `.zip`.
        max_bytes: The most it may inflate to.

    Returns:
        `trade_id, price_e8, quantity_e8, trade_us, buyer_maker`, sorted by id.

    Raises:
        MalformedData: It is no sound trades file; file and line are named.
    """
    where = f"{stem}.zip:{stem}.csv"
    text = only_entry(content, f"{stem}.csv", max_bytes, f"{stem}.zip")
    has_header = text[:1].isalpha()
    try:
        rows = pl.read_csv(io.BytesIO(text), has_header=False, infer_schema=False, skip_rows=int(has_header), truncate_ragged_lines=False)
    except pl.exceptions.PolarsError as error:
        raise MalformedData(f"is no table: {' '.join(str(error).split())[:100]}", where=where, remedy=_REMEDY) from None
    if not _FEWEST <= rows.width <= len(_COLUMNS):
        raise MalformedData(f"has {rows.width} columns, 6 or 7 were expected", where=where, remedy=_REMEDY)
    rows.columns = list(_COLUMNS[: rows.width])
    _check(rows, where, 1 + has_header)
    units = [pl.col(name).cast(pl.Decimal(20, 8)).to_physical().cast(pl.Int64) for name in ("price", "qty")]
    time = pl.col("time").cast(pl.Int64)
    return rows.select(
        pl.col("id").cast(pl.Int64).alias("trade_id"),
        units[0].alias("price_e8"),
        units[1].alias("quantity_e8"),
        pl.when(time >= _US_FROM).then(time).otherwise(time * 1000).alias("trade_us"),
        (pl.col("is_buyer_maker").str.to_lowercase() == "true").alias("buyer_maker"),
    ).sort("trade_id")


def prove_trades(captured: pl.DataFrame, published: pl.DataFrame, hours: tuple[int, int] | None = None) -> Proof:
    """Captured trades against published ones, by id.

    Args:
        captured: A frame of `golden_trades`.
        published: As `published_trades` returns, of one day or several joined.
        hours: `[start, end)` in microseconds by trade time to keep to, for instance the days for which files were published.
    """
    if hours:
        captured = captured.filter(pl.col("trade_us").is_between(*hours, closed="left"))
    if captured.is_empty():
        return Proof(holds=False, differences=0, listed=[])
    first, last = int(captured["trade_id"].min()), int(captured["trade_id"].max())  # type: ignore[arg-type]
    published = published.filter(pl.col("trade_id").is_between(first, last))
    both = captured.join(published, on="trade_id", how="full", suffix="_published", coalesce=True).sort("trade_id")
    found = [
        Difference(where=f"trade {first}", field="repeated", captured=str(captured.height), published=str(captured["trade_id"].n_unique()))
    ]
    if captured["trade_id"].is_unique().all():
        found.clear()
    count = len(found)
    for name in ("price_e8", "quantity_e8", "trade_us", "buyer_maker"):
        theirs = f"{name}_published"
        bad = both.filter(pl.col(name).ne_missing(pl.col(theirs)))
        is_lost = pl.col(name).is_null() | pl.col(theirs).is_null()
        lone, differing = bad.filter(is_lost), bad.filter(~is_lost)
        count += differing.height + (lone.height if name == "price_e8" else 0)
        found += [_of_trade(row, name, row[name], row[theirs]) for row in differing.head(_MOST_LISTED).iter_rows(named=True)]
        if name == "price_e8":
            found += [_lone(row, name) for row in lone.head(_MOST_LISTED).iter_rows(named=True)]
    return Proof(
        holds=not count,
        trades_captured=captured.height,
        trades_published=published.height,
        first_id=first,
        last_id=last,
        volume_captured=_volume(captured),
        volume_published=_volume(published),
        differences=count,
        listed=found[:_MOST_LISTED],
    )


def prove_bars(captured: pl.DataFrame, official: pl.DataFrame, interval: Interval = Interval.M1) -> Proof:
    """Bars made of captured trades against official ones, in the intervals that the session covers whole.

    Args:
        captured: A frame of `golden_trades`.
        official: Klines or bars, for instance of the lake, or of `binance.klines.parse_csv`.
        interval: Of the official ones.
    """
    if captured.is_empty():
        return Proof(holds=False, differences=0, listed=[])
    start = interval.ceil(int(captured["trade_us"].min()) + 1)  # type: ignore[arg-type]
    end = interval.floor(int(captured["trade_us"].max()))  # type: ignore[arg-type]
    covered = pl.col("open_time_us").is_between(start, end, closed="left")
    ours = bars_of(captured, interval).filter(covered)
    theirs = official.filter(covered)
    both = theirs.join(ours, on="open_time_us", how="full", suffix="_captured", coalesce=True).sort("open_time_us")
    found: list[Difference] = []
    for row in both.iter_rows(named=True):
        found += _of_bar(row)
    compared = theirs.height
    return Proof(holds=compared > 0 and not found, minutes_compared=compared, differences=len(found), listed=found[:_MOST_LISTED])


def _check(rows: pl.DataFrame, where: str, first_line: int) -> None:
    patterns = {"id": _NUMBER, "price": _DECIMAL, "qty": _DECIMAL, "time": _NUMBER, "is_buyer_maker": _FLAG}
    for name, pattern in patterns.items():
        bad = ~rows[name].str.contains(pattern).fill_null(value=False)
        if bad.any():
            _refuse(rows, name, bad, where, first_line)
    time = rows["time"].cast(pl.Int64)
    bad = ~(time.is_between(_MS_FROM, _US_TO, closed="left"))
    if bad.any():
        _refuse(rows, "time", bad, where, first_line)
    if not rows["id"].is_unique().all():
        _refuse(rows, "id", ~rows["id"].is_first_distinct(), where, first_line)


def _refuse(rows: pl.DataFrame, name: str, bad: pl.Series, where: str, first_line: int) -> None:
    at = int(bad.arg_max() or 0)
    what = f"{name} is not what a trades file holds, or stands twice: {rows[name][at]!r}"
    raise MalformedData(re.sub(r"\s+", " ", what)[:160], where=f"{where}, line {first_line + at}", remedy=_REMEDY)


def _volume(trades: pl.DataFrame) -> str:
    total = int(trades["quantity_e8"].cast(pl.Int128).sum())
    return f"{total // 10**8}.{total % 10**8:08d}"


def _of_trade(row: dict[str, object], name: str, ours: object, theirs: object) -> Difference:
    return Difference(where=f"trade {row['trade_id']}", field=name, captured=str(ours), published=str(theirs))


def _lone(row: dict[str, object], name: str) -> Difference:
    is_missing = row[name] is None
    return _of_trade(row, "missing" if is_missing else "unknown", "none" if is_missing else "there", "there" if is_missing else "none")


def _of_bar(row: dict[str, object]) -> list[Difference]:
    """What differs in one interval; no bar of ours equals an official one without a trade."""
    minute = pl.Series([row["open_time_us"]]).cast(pl.Datetime("us")).dt.strftime("%Y-%m-%dT%H:%M:%S")[0]
    where = f"bar {minute}"
    if row["trades"] is None:
        return [Difference(where=where, field="unknown", captured=f"{row['trades_captured']} trades", published="no bar")]
    if row["trades_captured"] is None:
        is_quiet = row["trades"] == 0
        return [] if is_quiet else [Difference(where=where, field="missing", captured="no trade", published=f"{row['trades']} trades")]
    return [
        Difference(where=where, field=name, captured=str(row[f"{name}_captured"]), published=str(row[name]))
        for name in _BAR_COLUMNS
        if row[f"{name}_captured"] != row[name]
    ]
