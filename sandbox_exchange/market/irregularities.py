"""Irregularities of the klines and files of the synthetic market.

Close times before an outage, times off the grid and texts in the column `ignore` apply to archive and REST.
Repeated rows and rows in reverse order apply to archive files only. Rows are frames of
`sandbox_exchange.market.kline_text`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from capture_pipeline.binance.periods import SECOND_US, Interval, TimeRange
from capture_pipeline.binance.urls import Market, TradesFile
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.config.spans import Arrangement, IgnoreText, LastCandle, OffGrid, Outage
from sandbox_exchange.faults.kinds import ChecksumForm
from sandbox_exchange.market.kline_text import decimal_text
from sandbox_exchange.market.prng import Ints
from sandbox_exchange.market.source import AnyFile, KlineQuery

_OPEN = pl.col("open_us")
_MULTIPLIER, _MAX_IGNORE, _IGNORE_DECIMALS = 2_654_435_761, 10**15, 8


@dataclass(frozen=True)
class Irregularities:
    """Irregularities of one symbol in one market.

    Attributes:
        outages: Outages with a shortened last kline, the latest first.
        off_grid: Periods whose klines open off the grid.
        ignore_texts: Periods with other texts in the column `ignore`.
    """

    outages: tuple[Outage, ...] = ()
    off_grid: tuple[OffGrid, ...] = ()
    ignore_texts: tuple[IgnoreText, ...] = ()

    @classmethod
    def from_config(cls, config: SandboxConfig, market: Market, symbol: str) -> Irregularities:
        """Select the irregularities of a symbol of a market."""
        outages = [
            each
            for each in config.outages
            if each.applies_to(market, symbol) and each.last_candle is not LastCandle.WHOLE
        ]
        # An outage that starts while the symbol does not trade has no last kline.
        closed = closed_times(config, market, symbol)
        with_last_candle = [
            each for each in outages if not any(start < each.start <= end for start, end in closed)
        ]
        return cls(
            tuple(sorted(with_last_candle, key=lambda outage: outage.start, reverse=True)),
            tuple(each for each in config.off_grid if each.applies_to(market, symbol)),
            tuple(each for each in config.ignore_texts if each.applies_to(market, symbol)),
        )

    def add_opens(self, opens: Ints, interval: Interval, start_us: int, end_us: int) -> Ints:
        """Add the open times in `[start_us, end_us)` of the inverted klines at the start of an outage."""
        starts = [outage.start for outage in self.outages if outage.last_candle is LastCandle.INVERTED]
        added = [start for start in starts if start_us <= start < end_us and start % interval.us == 0]
        return np.union1d(opens, np.array(added, np.int64)) if added else opens

    def apply(self, frame: pl.DataFrame, interval: Interval, now_us: int) -> pl.DataFrame:
        """Apply the irregularities to klines; the number of rows does not change.

        Args:
            frame: Klines on the grid, in order of time.
            interval: Length of the klines.
            now_us: Present time. An outage that starts later does not change a close time yet.
        """
        if frame.is_empty():
            return frame
        first, end = int(frame["open_us"][0]), int(frame["open_us"][-1]) + interval.us
        for span in self.off_grid:
            if first < span.end and span.start < end:
                frame = shift_times(frame, span, interval)
        for outage in self.outages:
            if first <= outage.start < end + interval.us and outage.start <= now_us:
                frame = close_early(frame, outage, interval)
        for each in self.ignore_texts:
            if first < each.end and each.start < end:
                frame = replace_ignore(frame, each)
        return frame

    def widen(self, query: KlineQuery) -> KlineQuery:
        """Return a query for klines on the grid that include all klines selected by `select_page`."""
        if not self.off_grid:
            return query
        start = None if query.start_us is None else query.interval.floor(query.start_us)
        return replace(query, start_us=start, limit=query.limit + 1)

    def select_page(self, frame: pl.DataFrame, query: KlineQuery, now_us: int) -> pl.DataFrame:
        """Select the klines of a query by their shifted open times."""
        if not self.off_grid:
            return frame
        last = now_us if query.end_us is None else min(query.end_us, now_us)
        frame = frame.filter(_OPEN.is_between(query.start_us or 0, last))
        return frame.tail(query.limit) if query.start_us is None else frame.head(query.limit)


def shift_times(frame: pl.DataFrame, span: OffGrid, interval: Interval) -> pl.DataFrame:
    """Add the shift, modulo the interval, to open and close times of the klines in a period."""
    by = pl.when(_is_in_span(span)).then(span.shift_us % interval.us).otherwise(0)
    return frame.with_columns(_OPEN + by, pl.col("close_us") + by)


def close_early(frame: pl.DataFrame, outage: Outage, interval: Interval) -> pl.DataFrame:
    """Set the close time of the last kline, and of an inverted kline, to 1 µs before an outage."""
    last_open = outage.start if outage.last_candle is LastCandle.INVERTED else outage.start - 1
    is_last = _OPEN.is_between(outage.start - interval.us + 1, last_open)
    return frame.with_columns(
        pl.when(is_last).then(outage.start - 1).otherwise(pl.col("close_us")).alias("close_us")
    )


def replace_ignore(frame: pl.DataFrame, change: IgnoreText) -> pl.DataFrame:
    """Replace the text in the column `ignore`."""
    text = (
        pl.lit(change.text)
        if change.text is not None
        else decimal_text(_OPEN // SECOND_US * _MULTIPLIER % _MAX_IGNORE, _IGNORE_DECIMALS)
    )
    return frame.with_columns(
        pl.when(_is_in_span(change)).then(text).otherwise(pl.col("ignore")).alias("ignore")
    )


def closed_times(config: SandboxConfig, market: Market, symbol: str) -> list[TimeRange]:
    """Return the outages and suspensions of a symbol."""
    outages = [
        TimeRange(outage.start, outage.end) for outage in config.outages if outage.applies_to(market, symbol)
    ]
    return outages + [
        TimeRange(each.start, each.end)
        for each in config.suspensions
        if each.symbol == symbol and each.market in {None, market}
    ]


def suspended_status(config: SandboxConfig, market: Market, symbol: str, now_us: int) -> str | None:
    """Return the status of the suspension at a time; None without a suspension."""
    active = (
        each
        for each in config.suspensions
        if each.symbol == symbol and each.market in {None, market} and each.start <= now_us < each.end
    )
    return next((str(each.status) for each in active), None)


def rearrange_rows(frame: pl.DataFrame, time: pl.Expr, config: SandboxConfig, file: AnyFile) -> pl.DataFrame:
    """Repeat rows of a file and reverse their order according to the settings.

    Args:
        frame: Rows of the file.
        time: Expression of the time of a row, microseconds.
        config: Settings of the sandbox.
        file: File to which the rows belong.
    """
    steps: list[tuple[tuple[Arrangement, ...], Callable[[pl.DataFrame, pl.Series], pl.DataFrame]]] = [
        (config.archive_repeats, _repeat),
        (config.archive_disorder, _reverse),
    ]
    for spans, change in steps:
        for span in spans:
            if _applies_to_file(span, file):
                inside = frame.select(time.is_between(span.start, span.end, closed="left")).to_series()
                frame = change(frame, inside) if inside.any() else frame
    return frame


def checksum_form(config: SandboxConfig, file: AnyFile) -> ChecksumForm | None:
    """Return the form of the checksum file of a file; None for the usual form."""
    spans = config.checksum_forms
    return next(
        (
            each.form
            for each in spans
            if _applies_to_file(each, file) and each.start <= file.bounds.start_us < each.end
        ),
        None,
    )


def _applies_to_file(span: Arrangement, file: AnyFile) -> bool:
    kind = "trades" if isinstance(file, TradesFile) else "klines"
    is_of_file = (
        span.symbol == file.symbol
        and file.granularity in span.granularities
        and span.market in {None, file.market}
    )
    start, end = file.bounds
    return is_of_file and kind in span.data and span.start < end and start < span.end


def _repeat(frame: pl.DataFrame, inside: pl.Series) -> pl.DataFrame:
    end = int(inside.arg_true()[-1]) + 1
    return pl.concat([frame.head(end), frame.filter(inside), frame.slice(end)])


def _reverse(frame: pl.DataFrame, inside: pl.Series) -> pl.DataFrame:
    order, positions = np.arange(frame.height), inside.arg_true().to_numpy()
    order[positions] = positions[::-1]
    return frame[order]


def _is_in_span(span: OffGrid | IgnoreText) -> pl.Expr:
    return _OPEN.is_between(span.start, span.end, closed="left")


__all__ = [
    "Irregularities",
    "checksum_form",
    "close_early",
    "closed_times",
    "rearrange_rows",
    "replace_ignore",
    "shift_times",
    "suspended_status",
]
