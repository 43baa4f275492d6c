"""The calendar of outages and suspensions: the shipped one, extended by the deployment's own."""

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
    """What an entry of the calendar is about."""

    OUTAGE = "outage"
    """The exchange stood still. Its candles are expected, and their absence is explained."""
    SUSPENSION = "suspension"
    """Single symbols did not trade. No candle of theirs is expected."""


class Edges(StrEnum):
    """Where the start and the end of an entry come from."""

    REPORTED = "reported"
    """The source states these times."""
    DERIVED = "derived"
    """Taken from the last candle before and the first one after it, rounded down to whole minutes."""
    APPROXIMATE = "approximate"
    """The source states the day, or sources differ. A candle beside it is explained once REST has been seen without it."""


@dataclass(frozen=True)
class Outage:
    """A time during which the exchange made no candle.

    Attributes:
        start_us: Microseconds UTC.
        end_us: Exclusive.
        reason: In a few words.
        symbols: Those it holds for; None for all.
        markets: Those it holds for; None for all.
        kind: Outage of the exchange, or suspension of single symbols.
        source: Who states it; None where the entry does not say.
        edges: Where start and end come from.
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
        """Whether it concerns this symbol of this market."""
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
            raise ValueError("end must lie after start")
        if self.kind is Kind.SUSPENSION and not self.symbols:
            raise ValueError("a suspension needs symbols; without them write kind: outage")
        return self

    def entry(self) -> Outage:
        """Return the entry in microseconds.

        Without `kind` one that names symbols and lasts a day or longer is a suspension, any other an outage: a halt of hours is no
        suspension, and its candles stay expected.
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
    """All known outages, the deployment's own after the shipped ones.

    Args:
        extra: The deployment's file, in the shipped one's form.

    Raises:
        ConfigError: It cannot be read, or an entry is wrong.
    """
    return [
        entry.entry()
        for calendar in load_entries(_Calendar, "outages.yaml", extra, "gaps.outage_calendar")
        for entry in calendar.outages
    ]
