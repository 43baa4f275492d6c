"""Settings, lake and exchange in one hand: what every operation takes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from capture_pipeline.binance.archive.client import ArchiveClient
from capture_pipeline.binance.archive.frame_cache import ParsedFiles
from capture_pipeline.binance.http.transport import Http
from capture_pipeline.binance.periods import MINUTE_US, Month
from capture_pipeline.binance.rest.client import RestClient
from capture_pipeline.calendars.irregularities import (
    KnownIrregularity,
    known_from_outages,
    load_irregularities,
)
from capture_pipeline.calendars.outages import Outage, load_calendar
from capture_pipeline.deployment.rest_client import http_of, rest_of
from capture_pipeline.lake.paths import Lake, Partition
from capture_pipeline.memory import RowBudget
from capture_pipeline.settings.models import Settings


@dataclass(frozen=True)
class Workspace:
    """One deployment.

    Attributes:
        settings: Its settings.
    """

    settings: Settings

    @cached_property
    def lake(self) -> Lake:
        """Where it writes."""
        return Lake(self.settings.storage.root)

    @cached_property
    def http(self) -> Http:
        """Its transport."""
        return http_of(self.settings)

    @cached_property
    def archive(self) -> ArchiveClient:
        """The exchange's archive."""
        return ArchiveClient(self.http, self.settings.archive_url, self.settings.listing_url)

    @cached_property
    def rest(self) -> RestClient:
        """The exchange's REST endpoints."""
        return rest_of(self.settings, self.http)

    @cached_property
    def parsed(self) -> ParsedFiles:
        """Frames of archive files between their verification and their bars."""
        return ParsedFiles()

    @cached_property
    def budget(self) -> RowBudget:
        """Rows that its threads work on at the same time."""
        return RowBudget()

    @cached_property
    def outages(self) -> list[Outage]:
        """The shipped calendar and the deployment's own."""
        return load_calendar(self.settings.gaps.outage_calendar)

    @cached_property
    def irregularities(self) -> list[KnownIrregularity]:
        """Known irregular rows: the shipped calendar, the deployment's own, and the candles that listed outages cut."""
        gaps = self.settings.gaps
        cut = known_from_outages(self.outages, gaps.outage_edge_minutes * MINUTE_US)
        return load_irregularities(gaps.irregularity_calendar) + cut

    def known_irregularities(self, partition: Partition) -> list[KnownIrregularity]:
        """Return the known irregularities that concern one partition."""
        return [
            each
            for each in self.irregularities
            if each.applies_to(partition.market, partition.symbol, partition.interval)
        ]

    def now_us(self) -> int:
        """The time that "in the future" and "fresh" are measured against: the wall clock, or the sandbox's own."""
        if self.settings.venue == "sandbox":
            return self.rest.server_time_us()
        return time.time_ns() // 1000

    def partition(self, symbol: str, month: Month) -> Partition:
        """One partition of this deployment's market and interval."""
        return Partition(self.settings.market, self.settings.interval, symbol, month)

    def months(self, now_us: int) -> list[Month]:
        """The months of the configured history that have begun."""
        start, end = self.settings.history.start, self.settings.history.end
        last = min(Month.of(now_us), Month(end.year, end.month)) if end else Month.of(now_us)
        return Month.range(Month(start.year, start.month), last)

    def partitions(self, symbols: Iterable[str], months: Iterable[Month]) -> list[Partition]:
        """The product, by symbol and then month."""
        months = list(months)
        return [self.partition(symbol, month) for symbol in symbols for month in months]
