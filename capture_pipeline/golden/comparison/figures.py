"""Regimes side by side: rates, latency, spread, depth, volatility, gaps and reconnects of several sessions, from tables and metadata."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from pydantic import BaseModel, ConfigDict

from capture_pipeline.binance.periods import Interval
from capture_pipeline.golden.comparison.book_samples import sampled
from capture_pipeline.golden.proof.trade_bars import build_trade_bars
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.sessions.models import SessionMetadata
from capture_pipeline.tables.golden import DEPTH, TRADES, GoldenTable

_MINUTE_NS = 60_000_000_000
_MOST_POINTS = 1500
_FEWEST_RETURNS = 2
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


class Figures(BaseModel):
    """Base of what is shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Latency(Figures):
    """`capture − event` of trades or diffs, in milliseconds, by class.

    Attributes:
        native: Messages captured at or after their event.
        negative: Captured before it: one of the two clocks is off.
        receipt_filled: Event and capture are one instant to the nanosecond, so one was filled in from the other; not measured.
        missing: Without an event time.
        p50: Of native and negative ones; None without any.
        p90: Likewise.
        p99: Likewise.
        least: Likewise.
        most: Likewise.
    """

    native: int
    negative: int
    receipt_filled: int
    missing: int
    p50: float | None
    p90: float | None
    p99: float | None
    least: float | None
    most: float | None


class Series(Figures):
    """A figure over time.

    Attributes:
        name: What it is, with its unit.
        seconds: Since the session's first message.
        values: One each.
    """

    name: str
    seconds: list[float]
    values: list[float]


class SessionFigures(Figures):
    """One session and symbol.

    Attributes:
        session: Its id.
        regime: As planned, or `unknown`.
        symbol: In capitals.
        duration_s: From first to last message of the symbol.
        trades: Count.
        diffs: Count.
        trades_per_s: Mean.
        diffs_per_s: Mean.
        trade_latency: Of trades.
        depth_latency: Of diffs.
        spread_bp: Median spread in basis points of the mid price; None without a valid book.
        spread_p99_bp: Its 99th percentile.
        bid_depth: Median quantity of the ten best bids, base asset.
        ask_depth: Likewise of asks.
        book_valid_s: Seconds in which the book was valid.
        volatility_bp: Standard deviation of one-minute log returns, basis points.
        gaps: Gaps in the ledger; None without metadata.
        reconnects: Connections that ended; None without metadata.
        series: Messages a minute, spread.
    """

    session: str
    regime: str
    symbol: str
    duration_s: float
    trades: int
    diffs: int
    trades_per_s: float
    diffs_per_s: float
    trade_latency: Latency
    depth_latency: Latency
    spread_bp: float | None
    spread_p99_bp: float | None
    bid_depth: float | None
    ask_depth: float | None
    book_valid_s: int
    volatility_bp: float | None
    gaps: int | None
    reconnects: int | None
    series: list[Series]


class Comparison(Figures):
    """Sessions, in the order given."""

    sessions: list[SessionFigures]


@dataclass(frozen=True)
class Compared:
    """What to compare.

    Attributes:
        tables: Of the session.
        symbol: In capitals.
        metadata: Where the session has one; imports may not.
    """

    tables: GoldenTables
    symbol: str
    metadata: SessionMetadata | None = None


def regime_comparison(sessions: list[Compared]) -> Comparison:
    """Compare sessions.

    Raises:
        LakeError: One has no tables, or a file of them is gone.
    """
    return Comparison(sessions=[_figures(session) for session in sessions])


def latency(messages: pl.DataFrame) -> Latency:
    """Class the latencies of messages.

    Args:
        messages: `capture_ns, event_us`, one row a message.
    """
    late = pl.col("capture_ns") - pl.col("event_us") * 1000
    kinds = messages.select(
        late.alias("late"),
        pl.when(pl.col("event_us").fill_null(0) <= 0)
        .then(pl.lit("missing"))
        .when(late == 0)
        .then(pl.lit("receipt_filled"))
        .when(late < 0)
        .then(pl.lit("negative"))
        .otherwise(pl.lit("native"))
        .alias("kind"),
    )
    counts = dict(kinds["kind"].value_counts().iter_rows())
    measured = kinds.filter(pl.col("kind").is_in(["native", "negative"]))["late"] / 1e6
    least, most = measured.min(), measured.max()
    return Latency(
        **{name: counts.get(name, 0) for name in ("native", "negative", "receipt_filled", "missing")},
        **{name: _rounded(measured.quantile(at, "nearest")) for name, at in _QUANTILES.items()},
        least=_rounded(least),  # type: ignore[arg-type]
        most=_rounded(most),  # type: ignore[arg-type]
    )


def volatility_bp(trades: pl.DataFrame) -> float | None:
    """Standard deviation of one-minute log returns in basis points; None for fewer than three minutes with trades."""
    close = build_trade_bars(trades, Interval.M1)["close"].cast(pl.Float64)
    returns = close.log().diff().drop_nulls()
    if returns.len() < _FEWEST_RETURNS:
        return None
    return _rounded(returns.std() * 1e4)  # type: ignore[operator, arg-type]


def _figures(compared: Compared) -> SessionFigures:
    tables, symbol, metadata = compared.tables, compared.symbol, compared.metadata
    trades = tables.collect(tables.scan(TRADES, symbol))
    diffs = tables.collect(
        tables.scan(DEPTH, symbol)
        .select("line", "capture_ns", "event_us")
        .unique("line", maintain_order=True)
    )
    stamps = pl.concat([trades["capture_ns"], diffs["capture_ns"]])
    first, last = (int(stamps.min()), int(stamps.max())) if stamps.len() else (0, 0)  # type: ignore[arg-type]
    seconds = (last - first) / 1e9
    book = sampled(tables, symbol).with_columns(
        ((pl.col("ask_e8") - pl.col("bid_e8")) * 2e4 / (pl.col("ask_e8") + pl.col("bid_e8"))).alias(
            "spread_bp"
        )
    )
    statistics = metadata.statistics if metadata else {}
    return SessionFigures(
        session=tables.session,
        regime=metadata.plan.regime if metadata else "unknown",
        symbol=symbol,
        duration_s=round(seconds, 3),
        trades=trades.height,
        diffs=diffs.height,
        trades_per_s=round(trades.height / seconds, 3) if seconds else 0.0,
        diffs_per_s=round(diffs.height / seconds, 3) if seconds else 0.0,
        trade_latency=latency(trades.select("capture_ns", "event_us")),
        depth_latency=latency(diffs.select("capture_ns", "event_us")),
        spread_bp=_rounded(book["spread_bp"].median()),  # type: ignore[arg-type]
        spread_p99_bp=_rounded(book["spread_bp"].quantile(0.99, "nearest")),
        bid_depth=_coins(book["bid_depth_e8"].median()),  # type: ignore[arg-type]
        ask_depth=_coins(book["ask_depth_e8"].median()),  # type: ignore[arg-type]
        book_valid_s=book.height,
        volatility_bp=volatility_bp(trades),
        gaps=statistics.get("gaps"),
        reconnects=statistics.get("reconnects"),
        series=[_rates(trades, TRADES, first), _rates(diffs, DEPTH, first), _spreads(book, first)],
    )


def _rates(messages: pl.DataFrame, table: GoldenTable, first_ns: int) -> Series:
    """Messages in each minute since the first, also where there were none."""
    counts = (
        messages.group_by(((pl.col("capture_ns") - first_ns) // _MINUTE_NS).alias("minute"))
        .len()
        .sort("minute")
    )
    found: dict[int, int] = dict(counts.iter_rows())
    minutes = range(max(found, default=-1) + 1)
    name = f"{table.name.removeprefix('golden_')} messages a minute"
    return Series(
        name=name,
        seconds=[60.0 * minute for minute in minutes],
        values=[float(found.get(minute, 0)) for minute in minutes],
    )


def _spreads(book: pl.DataFrame, first_ns: int) -> Series:
    step = max(1, -(-book.height // _MOST_POINTS))
    rows = book.gather_every(step)
    seconds = (rows["second"] - first_ns // 10**9).cast(pl.Float64)
    return Series(name="spread, bp", seconds=seconds.to_list(), values=rows["spread_bp"].round(4).to_list())


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)


def _coins(value: float | None) -> float | None:
    return None if value is None else round(value / 1e8, 8)
