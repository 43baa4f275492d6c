"""Settings, lake and exchange clients of a deployment, in one object."""

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
from capture_pipeline.deployment.rest_client import create_http, create_rest_client
from capture_pipeline.lake.paths import Lake, Partition
from capture_pipeline.memory import RowBudget
from capture_pipeline.settings.models import Settings


@dataclass(frozen=True)
class Deployment:
    """A deployment: its settings, and the objects that are created from them on first use."""

    settings: Settings

    @cached_property
    def lake(self) -> Lake:
        """The folders and files below `storage.root`."""
        return Lake(self.settings.storage.root)

    @cached_property
    def http(self) -> Http:
        """HTTP transport with the deployment's time-outs and certificates."""
        return create_http(self.settings)

    @cached_property
    def archive(self) -> ArchiveClient:
        """Client of the exchange's archive."""
        return ArchiveClient(self.http, self.settings.archive_url, self.settings.listing_url)

    @cached_property
    def rest(self) -> RestClient:
        """Client of the exchange's REST endpoints."""
        return create_rest_client(self.settings, self.http)

    @cached_property
    def frame_cache(self) -> ParsedFiles:
        """Cache of parsed archive files, so that a file is not parsed again after its verification."""
        return ParsedFiles()

    @cached_property
    def row_budget(self) -> RowBudget:
        """Limit of the rows that all threads process at the same time."""
        return RowBudget()

    @cached_property
    def outages(self) -> list[Outage]:
        """Outages of the shipped calendar and of `gaps.outage_calendar`."""
        return load_calendar(self.settings.gaps.outage_calendar)

    @cached_property
    def irregularities(self) -> list[KnownIrregularity]:
        """Known irregular rows: of the shipped and the configured calendar, and at the edges of outages."""
        gaps = self.settings.gaps
        from_outages = known_from_outages(self.outages, gaps.outage_edge_minutes * MINUTE_US)
        return load_irregularities(gaps.irregularity_calendar) + from_outages

    def known_irregularities(self, partition: Partition) -> list[KnownIrregularity]:
        """Return the known irregularities of a partition's market, symbol and interval."""
        return [
            each
            for each in self.irregularities
            if each.applies_to(partition.market, partition.symbol, partition.interval)
        ]

    def now_us(self) -> int:
        """Return the present by the clock of the venue, microseconds UTC."""
        if self.settings.has_own_clock:
            return self.rest.server_time_us()
        return time.time_ns() // 1000

    def partition(self, symbol: str, month: Month) -> Partition:
        """Return a partition of this deployment's market and interval."""
        return Partition(self.settings.market, self.settings.interval, symbol, month)

    def months(self, now_us: int) -> list[Month]:
        """Return the months of the configured history that began before `now_us`."""
        start, end = self.settings.history.start, self.settings.history.end
        last = min(Month.of(now_us), Month(end.year, end.month)) if end else Month.of(now_us)
        return Month.range(Month(start.year, start.month), last)

    def partitions(self, symbols: Iterable[str], months: Iterable[Month]) -> list[Partition]:
        """Return the partitions of all symbols and months, ordered by symbol, then month."""
        months = list(months)
        return [self.partition(symbol, month) for symbol in symbols for month in months]
