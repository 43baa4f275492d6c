"""Known irregular rows: the shipped calendar, the deployment's own, and the klines that listed outages cut.

A row of a verified file is kept even if it is irregular. Its class follows from the row itself; the calendars
list which rows are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, model_validator

from capture_pipeline.binance.periods import Interval, to_us
from capture_pipeline.binance.urls import Market
from capture_pipeline.calendars.loader import load_entries, utc
from capture_pipeline.calendars.outages import Kind, Outage
from capture_pipeline.settings.sessions import Symbol
from capture_pipeline.tables.klines.bars import Irregularity

_CUT_KINDS = frozenset({Irregularity.EARLY_CLOSE, Irregularity.NEGATIVE_LENGTH})
_CUT_INTERVALS = (Interval.S1, Interval.H12)
"""Intervals for which the archive has klines that a halt cut; daily klines were complete."""
_OUTAGES = "outage calendar"


@dataclass(frozen=True)
class KnownIrregularity:
    """A period in which rows of some classes are known to be irregular.

    Attributes:
        start_us: Start, microseconds UTC.
        end_us: End, exclusive; klines that overlap `[start_us, end_us)` are concerned.
        kinds: Classes of the rows.
        reason: Reason in a few words.
        source: Source of the report.
        intervals: Shortest and longest interval of the klines.
        symbols: Symbols; None for all.
        markets: Markets; None for all.
    """

    start_us: int
    end_us: int
    kinds: frozenset[Irregularity]
    reason: str
    source: str = ""
    intervals: tuple[Interval, Interval] = (Interval.S1, Interval.D1)
    symbols: frozenset[str] | None = None
    markets: frozenset[Market] | None = None

    def applies_to(self, market: Market, symbol: str, interval: Interval) -> bool:
        """Return whether the entry concerns klines of this market, symbol and interval."""
        shortest, longest = self.intervals
        return (
            (self.symbols is None or symbol in self.symbols)
            and (self.markets is None or market in self.markets)
            and shortest.us <= interval.us <= longest.us
        )


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")
    start: datetime
    end: datetime
    kinds: list[Irregularity]
    reason: str = "irregular"
    source: str = ""
    shortest: Interval = Interval.S1
    longest: Interval = Interval.D1
    symbols: list[Symbol] | None = None
    markets: list[Market] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> _Entry:
        if utc(self.end) <= utc(self.start):
            raise ValueError("end must be after start")
        if self.longest.us < self.shortest.us:
            raise ValueError("longest must not be below shortest")
        return self


class _Calendar(BaseModel):
    model_config = ConfigDict(extra="forbid")
    irregularities: list[_Entry]


def load_irregularities(extra: Path | None = None) -> list[KnownIrregularity]:
    """Load all known irregularities: the shipped ones, then the deployment's own.

    Args:
        extra: File of the deployment, in the form of the shipped one.

    Raises:
        ConfigError: The file cannot be read, or an entry is not valid.
    """
    calendars = load_entries(_Calendar, "irregularities.yaml", extra, "gaps.irregularity_calendar")
    return [
        KnownIrregularity(
            to_us(utc(entry.start)),
            to_us(utc(entry.end)),
            frozenset(entry.kinds),
            entry.reason,
            entry.source,
            (entry.shortest, entry.longest),
            frozenset(entry.symbols) if entry.symbols else None,
            frozenset(entry.markets) if entry.markets else None,
        )
        for calendar in calendars
        for entry in calendar.irregularities
    ]


def known_from_outages(outages: Sequence[Outage], edge_us: int) -> list[KnownIrregularity]:
    """Return the klines that outages cut: early closes before a halt, and closes before the open time.

    Args:
        outages: Listed outages; suspensions of single symbols cut no kline.
        edge_us: Longest time before the listed start at which a symbol stops, microseconds.
    """
    return [
        KnownIrregularity(
            each.start_us - edge_us,
            each.end_us,
            _CUT_KINDS,
            each.reason,
            each.source or _OUTAGES,
            _CUT_INTERVALS,
            each.symbols,
            each.markets,
        )
        for each in outages
        if each.kind is Kind.OUTAGE
    ]


def is_known(known: Sequence[KnownIrregularity], interval: Interval, kind: pl.Expr) -> pl.Expr:
    """Build an expression that is true for irregular rows that the calendar lists.

    Args:
        known: Entries for the market, symbol and interval of the rows.
        interval: Interval of the rows.
        kind: Class of each row.
    """
    opened = pl.col("open_time_us")
    listed = [
        kind.is_in([str(each) for each in sorted(entry.kinds)])
        & (opened < entry.end_us)
        & (opened + interval.us > entry.start_us)
        for entry in known
    ]
    return pl.any_horizontal(*listed, pl.lit(value=False))
