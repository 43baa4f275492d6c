"""What is recorded beside raw files: one JSON manifest an asset and partition, published whole after the files it names.

A manifest is the commit point: readers trust only what it lists. All times are microseconds UTC, paths relative to the storage root.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.urls import Granularity


class Record(BaseModel):
    """Base of everything in a manifest: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class ArchiveRecord(Record):
    """One archive file, in one published version.

    Attributes:
        name: The zip's name at the exchange.
        granularity: Monthly or daily.
        start_us: Start of the period it covers.
        end_us: End of that period, exclusive.
        trust: What is known of it.
        usable: Whether its bars may be merged.
        detail: Why it is not, in one line.
        url: Where it was fetched.
        path: Where it lies; None if there is no file.
        bytes: Size of the zip.
        sha256_own: Of the bytes received.
        sha256_published: From the `.CHECKSUM` file.
        etag: As sent.
        last_modified: As sent.
        fetched_at_us: When it was fetched, or asked for in vain.
        checked_at_us: When the published checksum was last read.
        attempts: Downloads it took.
        seconds: Duration of the download.
        rows: Rows in the file.
        first_open_us: Its first open time.
        last_open_us: Its last open time.
        holes: Ranges of its period without a candle.
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
    holes: list[tuple[int, int]] = []

    @property
    def quarantined(self) -> bool:
        """Whether it was set aside as not to be trusted, and no version of it that may be used has come since."""
        # Published anew, a file in quarantine is no longer referred to; one that only lacked its checksum lies with the raw files.
        set_aside = self.trust is Trust.REPUBLISHED and not self.usable and self.path is None
        return set_aside or self.trust in {Trust.MISMATCH, Trust.MALFORMED}

    @property
    def unverified(self) -> bool:
        """Whether the file came and is not used because its checksum is missing or unreadable."""
        return self.trust is Trust.CHECKSUM_MISSING and not self.usable


class ArchivesManifest(Record):
    """All archive files of one partition.

    Attributes:
        files: The current version of each name.
        superseded: Earlier versions that were published under the same name; their files are kept.
    """

    files: list[ArchiveRecord] = []
    superseded: list[ArchiveRecord] = []

    def usable(self) -> list[ArchiveRecord]:
        """Files whose bars may be merged."""
        return [record for record in self.files if record.usable]


class RestPage(Record):
    """One REST answer.

    Attributes:
        asked_start_us: First open time asked for.
        asked_end_us: End of what was asked for, exclusive.
        server_time_us: The exchange's time when the run began; candles that close after it are unfinished.
        asked_at_us: The exchange's time at this request, which may come long after; where it was not read, `server_time_us`.
        answered_end_us: Up to where the answer is complete, exclusive: a candle missing before it does not exist (yet).
        url: The request.
        path: The answer, as sent.
        sha256: Of the answer.
        rows: Finished candles in it.
        present: Ranges of finished candles in it.
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
    present: list[tuple[int, int]]


class TopupsManifest(Record):
    """All REST answers of one partition."""

    pages: list[RestPage] = []


class TradingPeriod(Record):
    """First and last candle of a symbol.

    Attributes:
        first_open_us: Open time of its first candle ever; None if it has none.
        last_open_us: Open time of the newest candle where the symbol no longer trades; None while it trades.
        status: The exchange's word for it, for instance TRADING or BREAK.
        checked_at_us: When this was asked.
        is_archive_only: Whether REST lists the symbol and refuses its klines, as for futures contracts that are being settled.
    """

    first_open_us: int | None
    last_open_us: int | None
    status: str
    checked_at_us: int
    is_archive_only: bool = False
