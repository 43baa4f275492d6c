"""The calendar of exchange outages: the shipped one, extended by the deployment's own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, model_validator

from capture_pipeline.binance.periods import to_us
from capture_pipeline.binance.urls import Market
from capture_pipeline.config_sessions import Symbol
from capture_pipeline.quality.calendars import load_entries, utc


@dataclass(frozen=True)
class Outage:
    """A time during which the exchange made no candle.

    Attributes:
        start_us: Microseconds UTC.
        end_us: Exclusive.
        reason: In a few words.
        symbols: Those it holds for; None for all.
        markets: Those it holds for; None for all.
    """

    start_us: int
    end_us: int
    reason: str
    symbols: frozenset[str] | None = None
    markets: frozenset[Market] | None = None

    def holds_for(self, market: Market, symbol: str) -> bool:
        """Whether it concerns this symbol of this market."""
        return (self.symbols is None or symbol in self.symbols) and (self.markets is None or market in self.markets)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")
    start: datetime
    end: datetime
    reason: str = "outage"
    symbols: list[Symbol] | None = None
    markets: list[Market] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> _Entry:
        if utc(self.end) <= utc(self.start):
            raise ValueError("end must lie after start")
        return self


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
        Outage(
            to_us(utc(entry.start)),
            to_us(utc(entry.end)),
            entry.reason,
            frozenset(entry.symbols) if entry.symbols else None,
            frozenset(entry.markets) if entry.markets else None,
        )
        for calendar in load_entries(_Calendar, "outages.yaml", extra, "gaps.outage_calendar")
        for entry in calendar.outages
    ]
