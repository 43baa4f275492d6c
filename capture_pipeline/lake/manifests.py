"""Manifests: one JSON file per asset and partition, published after the raw files that it lists.

A manifest is the commit point: readers trust only the files in it. All times are microseconds UTC, and paths
are relative to the storage root.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import TimeRange
from capture_pipeline.binance.urls import Granularity


class Record(BaseModel):
    """Base of the models in a manifest; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class ArchiveRecord(Record):
    """One archive file in one published version.

    Attributes:
        name: Name of the zip at the exchange.
        granularity: Monthly or daily.
        start_us: Start of its period.
        end_us: End of its period, exclusive.
        trust: Result of its verification.
        usable: Whether its bars may be merged.
        detail: Reason why it is not usable, in one line.
        url: URL of the download.
        path: Path of the zip; None if there is no file.
        bytes: Size of the zip.
        sha256_own: SHA-256 of the received bytes.
        sha256_published: SHA-256 in the `.CHECKSUM` file.
        etag: `ETag` as sent.
        last_modified: `Last-Modified` as sent.
        fetched_at_us: Time of the download, or of the request that found no file.
        checked_at_us: Time at which the published checksum was last read.
        attempts: Count of download attempts.
        seconds: Duration of the download.
        rows: Count of rows.
        first_open_us: First open time.
        last_open_us: Last open time.
        holes: Ranges of its period without a kline.
    """

    name: str
    granularity: Granularity
    start_us: int
    end_us: int
    trust: Trust
    usable: bool = False
    detail: str | None = None
    url: str
    path: str | None = None
    bytes: int = 0
    sha256_own: str | None = None
    sha256_published: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    fetched_at_us: int
    checked_at_us: int
    attempts: int = 0
    seconds: float = 0.0
    rows: int = 0
    first_open_us: int | None = None
    last_open_us: int | None = None
    holes: list[TimeRange] = []

    @property
    def bounds(self) -> TimeRange:
        """Period of the file."""
        return TimeRange(self.start_us, self.end_us)

    @property
    def quarantined(self) -> bool:
        """True if the file is in quarantine and no usable version of it has been published since."""
        # A republished file in quarantine has no path any more. A file that only lacked its checksum stays
        # with the raw files.
        is_replaced = self.trust is Trust.REPUBLISHED and not self.usable and self.path is None
        return is_replaced or self.trust in {Trust.MISMATCH, Trust.MALFORMED}

    @property
    def unverified(self) -> bool:
        """True if the file was received and is not used because its checksum is missing or unreadable."""
        return self.trust is Trust.CHECKSUM_MISSING and not self.usable

    @property
    def source(self) -> str:
        """The `source` of the bars of the file."""
        return "monthly" if self.granularity is Granularity.MONTHLY else "daily"


class ArchivesManifest(Record):
    """All archive files of one partition.

    Attributes:
        files: Current version of each file.
        superseded: Earlier versions under the same names; their files are kept.
    """

    files: list[ArchiveRecord] = []
    superseded: list[ArchiveRecord] = []

    def usable(self) -> list[ArchiveRecord]:
        """List the files whose bars may be merged."""
        return [record for record in self.files if record.usable]

    def downloaded(self) -> list[ArchiveRecord]:
        """List the files of which a version was downloaded, usable or not."""
        return [record for record in self.files if record.trust is not Trust.NOT_PUBLISHED]


class RestPage(Record):
    """One REST answer.

    Attributes:
        asked_start_us: First requested open time.
        asked_end_us: End of the requested range, exclusive.
        server_time_us: Time of the exchange at the start of the run; klines that close later are unfinished.
        asked_at_us: Time of the exchange at this request, which may be much later; `server_time_us` if
            unknown.
        answered_end_us: End of the complete part of the answer, exclusive: a kline missing before it does
            not exist (yet).
        url: URL of the request.
        path: Path of the answer as sent.
        sha256: SHA-256 of the answer.
        rows: Count of finished klines in the answer.
        present: Ranges of finished klines in the answer.
    """

    asked_start_us: int
    asked_end_us: int
    server_time_us: int
    asked_at_us: int = Field(default_factory=lambda data: int(data["server_time_us"]))
    answered_end_us: int
    url: str
    path: str
    sha256: str
    rows: int
    present: list[TimeRange]


class TopupsManifest(Record):
    """All REST answers of one partition."""

    pages: list[RestPage] = []


class TradingPeriod(Record):
    """First and last kline of a symbol.

    Attributes:
        first_open_us: Open time of the first kline ever; None if there is none.
        last_open_us: Open time of the last kline if the symbol no longer trades; None while it trades.
        status: Status at the exchange, for instance TRADING or BREAK.
        checked_at_us: Time of the request.
        is_archive_only: Whether REST lists the symbol and refuses its klines, as for futures contracts in
            settlement.
    """

    first_open_us: int | None
    last_open_us: int | None
    status: str
    checked_at_us: int
    is_archive_only: bool = False
