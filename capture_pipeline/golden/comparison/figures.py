"""Figures of several sessions: rates, latency, spread, depth, volatility, gaps and reconnects."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from pydantic import BaseModel, ConfigDict

from capture_pipeline.binance.periods import Interval
from capture_pipeline.golden.comparison.book_samples import sample_seconds
from capture_pipeline.golden.proof.trade_bars import build_trade_bars
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.sessions.models import SessionMetadata
from capture_pipeline.tables.golden.depth import DEPTH
from capture_pipeline.tables.golden.trades import TRADES
from capture_pipeline.tables.table import Table

_MINUTE_NS = 60_000_000_000
_MAX_POINTS = 1500
_MIN_RETURNS = 2
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


class Figures(BaseModel):
    """Base of the models of the comparison."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Latency(Figures):
    """Capture time minus event time of trades or diffs, in milliseconds.

    The quantiles and limits are those of native and negative messages; None if there are none.

    Attributes:
        native: Number of messages captured at their event or later.
        negative: Number of messages captured before their event: one of the clocks is wrong.
        receipt_filled: Number of messages with equal times to the nanosecond: one time is a copy of the
            other.
        missing: Number of messages without an event time.
        p50: Median.
        p90: 90th percentile.
        p99: 99th percentile.
        least: Minimum.
        most: Maximum.
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
        name: Name of the figure, with its unit.
        seconds: Seconds since the first message of the session.
        values: Values of the figure at `seconds`.
    """

    name: str
    seconds: list[float]
    values: list[float]


class SessionFigures(Figures):
    """Figures of one symbol of a session.

    Attributes:
        session: Id of the session.
        regime: Planned regime, or `unknown`.
        symbol: Symbol in capitals.
        duration_s: Seconds from the first to the last message of the symbol.
        trades: Number of trades.
        diffs: Number of depth diffs.
        trades_per_s: Mean rate of trades.
        diffs_per_s: Mean rate of depth diffs.
        trade_latency: Latency of trades.
        depth_latency: Latency of depth diffs.
        spread_bp: Median spread in basis points of the mid price; None without a valid book.
        spread_p99_bp: 99th percentile of the spread.
        bid_depth: Median quantity of the ten best bids, in the base asset.
        ask_depth: Median quantity of the ten best asks, in the base asset.
        book_valid_s: Seconds in which the book was valid.
        volatility_bp: Standard deviation of one-minute log returns, basis points.
        gaps: Number of gaps in the ledger; None without metadata.
        reconnects: Number of connections that ended; None without metadata.
        series: Messages per minute of trades and diffs, and spread.
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
    """Figures of the sessions, in the given order."""

    sessions: list[SessionFigures]


@dataclass(frozen=True)
class ComparedSession:
    """A session to compare.

    Attributes:
        tables: Tables of the session.
        symbol: Symbol in capitals.
        metadata: Metadata of the session; imports may have none.
    """

    tables: GoldenTables
    symbol: str
    metadata: SessionMetadata | None = None


def compare_sessions(sessions: list[ComparedSession]) -> Comparison:
    """Compare sessions.

    Raises:
        LakeError: A session has no tables, or a file is missing.
    """
    return Comparison(sessions=[_figures(session) for session in sessions])


def classify_latency(messages: pl.DataFrame) -> Latency:
    """Classify and summarise the latencies of messages.

    Args:
        messages: `capture_ns, event_us`, one row per message.
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
        **{name: _round(measured.quantile(at, "nearest")) for name, at in _QUANTILES.items()},
        least=_round(least),  # type: ignore[arg-type]
        most=_round(most),  # type: ignore[arg-type]
    )


def compute_volatility_bp(trades: pl.DataFrame) -> float | None:
    """Compute the standard deviation of one-minute log returns in basis points.

    Returns None for fewer than three minutes with trades.
    """
    close = build_trade_bars(trades, Interval.M1)["close"].cast(pl.Float64)
    returns = close.log().diff().drop_nulls()
    if returns.len() < _MIN_RETURNS:
        return None
    return _round(returns.std() * 1e4)  # type: ignore[operator, arg-type]


def _figures(compared: ComparedSession) -> SessionFigures:
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
    book = sample_seconds(tables, symbol).with_columns(
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
        trade_latency=classify_latency(trades.select("capture_ns", "event_us")),
        depth_latency=classify_latency(diffs.select("capture_ns", "event_us")),
        spread_bp=_round(book["spread_bp"].median()),  # type: ignore[arg-type]
        spread_p99_bp=_round(book["spread_bp"].quantile(0.99, "nearest")),
        bid_depth=_to_coins(book["bid_depth_e8"].median()),  # type: ignore[arg-type]
        ask_depth=_to_coins(book["ask_depth_e8"].median()),  # type: ignore[arg-type]
        book_valid_s=book.height,
        volatility_bp=compute_volatility_bp(trades),
        gaps=statistics.get("gaps"),
        reconnects=statistics.get("reconnects"),
        series=[_rates(trades, TRADES, first), _rates(diffs, DEPTH, first), _spreads(book, first)],
    )


def _rates(messages: pl.DataFrame, table: Table, first_ns: int) -> Series:
    """Count messages in each minute since the first one, including minutes without a message."""
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
    step = max(1, -(-book.height // _MAX_POINTS))
    rows = book.gather_every(step)
    seconds = (rows["second"] - first_ns // 10**9).cast(pl.Float64)
    return Series(name="spread, bp", seconds=seconds.to_list(), values=rows["spread_bp"].round(4).to_list())


def _round(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)


def _to_coins(value: float | None) -> float | None:
    return None if value is None else round(value / 1e8, 8)
