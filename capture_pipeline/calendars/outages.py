"""Calendar of outages and suspensions: the shipped one, then the deployment's own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, model_validator

from capture_pipeline.binance.periods import DAY_US, to_us
from capture_pipeline.binance.urls import Market
from capture_pipeline.calendars.loader import load_entries, utc
from capture_pipeline.settings.sessions import Symbol


class Kind(StrEnum):
    """Kind of an entry of the calendar."""

    OUTAGE = "outage"
    """The exchange halted. Klines are expected, and the entry explains their absence."""
    SUSPENSION = "suspension"
    """Single symbols did not trade. Their klines are not expected."""


class Edges(StrEnum):
    """Origin of the start and the end of an entry."""

    REPORTED = "reported"
    """The source states these times."""
    DERIVED = "derived"
    """Taken from the last kline before and the first one after, rounded down to whole minutes."""
    APPROXIMATE = "approximate"
    """The source states only the day, or sources differ. A missing kline next to the period is explained
    once REST was seen without it."""


@dataclass(frozen=True)
class Outage:
    """A period without klines.

    Attributes:
        start_us: Start, microseconds UTC.
        end_us: End, exclusive.
        reason: Reason in a few words.
        symbols: Symbols; None for all.
        markets: Markets; None for all.
        kind: Outage of the exchange, or suspension of single symbols.
        source: Source of the report; None if the entry has none.
        edges: Origin of start and end.
    """

    start_us: int
    end_us: int
    reason: str
    symbols: frozenset[str] | None = None
    markets: frozenset[Market] | None = None
    kind: Kind = Kind.OUTAGE
    source: str | None = None
    edges: Edges = Edges.REPORTED

    def applies_to(self, market: Market, symbol: str) -> bool:
        """Return whether the entry concerns this market and symbol."""
        return (self.symbols is None or symbol in self.symbols) and (
            self.markets is None or market in self.markets
        )


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")
    start: datetime
    end: datetime
    reason: str | None = None
    symbols: list[Symbol] | None = None
    markets: list[Market] | None = None
    kind: Kind | None = None
    source: str | None = None
    edges: Edges = Edges.REPORTED

    @model_validator(mode="after")
    def _consistent(self) -> _Entry:
        if utc(self.end) <= utc(self.start):
            raise ValueError("end must be after start")
        if self.kind is Kind.SUSPENSION and not self.symbols:
            raise ValueError("a suspension needs symbols; without them write kind: outage")
        return self

    def entry(self) -> Outage:
        """Return the entry with times in microseconds.

        Without `kind`, an entry with symbols and of a day or longer is a suspension. Any other is an outage,
        because the klines of a halt of hours stay expected.
        """
        start_us, end_us = to_us(utc(self.start)), to_us(utc(self.end))
        kind = self.kind or (Kind.SUSPENSION if self.symbols and end_us - start_us >= DAY_US else Kind.OUTAGE)
        return Outage(
            start_us,
            end_us,
            self.reason or str(kind),
            frozenset(self.symbols) if self.symbols else None,
            frozenset(self.markets) if self.markets else None,
            kind,
            self.source,
            self.edges,
        )


class _Calendar(BaseModel):
    model_config = ConfigDict(extra="forbid")
    outages: list[_Entry]


def load_calendar(extra: Path | None = None) -> list[Outage]:
    """Load all known outages: the shipped ones, then the deployment's own.

    Args:
        extra: File of the deployment, in the form of the shipped one.

    Raises:
        ConfigError: The file cannot be read, or an entry is not valid.
    """
    return [
        entry.entry()
        for calendar in load_entries(_Calendar, "outages.yaml", extra, "gaps.outage_calendar")
        for entry in calendar.outages
    ]
