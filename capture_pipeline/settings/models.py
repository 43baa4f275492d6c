"""Settings of a deployment: types, limits and defaults of all keys of `pipeline.yaml`.

The file and the environment are read by `settings.loader`.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from capture_pipeline.binance.http.settings import Http, Percent, RateLimits, Section
from capture_pipeline.binance.periods import Interval
from capture_pipeline.binance.streams.names import ROUTE
from capture_pipeline.binance.urls import NO_UM_SECONDS, Market, has_interval
from capture_pipeline.settings.alerts import Alerts
from capture_pipeline.settings.sessions import (
    DEFAULT_SESSIONS,
    PlannedSession,
    Recording,
    SessionGates,
    Symbol,
)

DEFAULT_SYMBOLS = [
    "BTCUSDT",
    "ETHUSDT",
    "BNBUSDT",
    "SOLUSDT",
    "XRPUSDT",
    "ADAUSDT",
    "DOGEUSDT",
    "AVAXUSDT",
    "TRXUSDT",
    "DOTUSDT",
]
BUCKET = "data.binance.vision"
"""Name of the archive's bucket."""
EXCHANGE_HOSTS = ("binance.com", "binance.vision", "s3-ap-northeast-1.amazonaws.com")
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class History(Section):
    """First and last month of the data."""

    start: date = Field(
        date(2021, 1, 1), description="Any day of the first month; the whole month is included."
    )
    end: date | None = Field(
        None,
        description="Any day of the last month; the whole month is included. Default: the present month.",
    )

    @model_validator(mode="after")
    def _check_order(self) -> History:
        if self.end and self.end < self.start:
            raise ValueError("end is before start")
        return self


class Storage(Section):
    """Folder of all files that the pipeline writes."""

    root: Path = Field(
        Path("data"),
        description="Folder of all written files; a relative path starts at the folder of pipeline.yaml.",
    )


class Retention(Section):
    """Age at which run history and quarantined files are removed. Raw files and bars are never removed."""

    run_history_days: int = Field(
        90, ge=1, description="Finished runs and their event logs older than this are removed."
    )
    quarantine_days: int = Field(365, ge=1, description="Quarantined files older than this are removed.")


class Endpoints(Section):
    """The exchange's hosts. The defaults serve market data only and need no key."""

    archive: str = Field("https://data.binance.vision", description="URL of the public archive.")
    listing: str = Field(
        "https://s3-ap-northeast-1.amazonaws.com/data.binance.vision",
        description="URL of the archive's bucket, for listings, and for files of which the archive serves "
        "an old version.",
    )
    rest_spot: str = Field("https://data-api.binance.vision", description="REST host for spot.")
    rest_um: str = Field("https://fapi.binance.com", description="REST host for USD-M futures.")
    stream_spot: str = Field("wss://data-stream.binance.vision", description="WebSocket host for spot.")
    stream_um: str = Field(
        f"wss://fstream.binance.com/{ROUTE}",
        description="WebSocket host for USD-M futures. {route} is replaced by the endpoint of a stream: "
        "public for order books, market for trades.",
    )
    extra_hosts: list[str] = Field(
        [], description="Further hosts that the endpoints may use, for instance a mirror."
    )


class Archive(Section):
    """Verification of archive files by checksums."""

    pinned_checksums: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(
        {}, description="SHA-256 by file name, for files whose published checksum is known to be wrong."
    )
    accept_without_checksum: bool = Field(
        default=False, description="Accept files for which no checksum is published."
    )
    recheck_days: int = Field(
        7, ge=1, description="Days between two reads of the published checksum of an ingested file."
    )


class Gaps(Section):
    """Explanation of missing bars."""

    sightings: int = Field(
        2, ge=2, description="REST answers without a kline after which the kline counts as non-existent."
    )
    sighting_minutes: int = Field(30, ge=1, description="Shortest time between two such answers.")
    outage_edge_minutes: int = Field(
        30,
        ge=0,
        description="A non-existent kline this close to a listed outage or suspension is attributed to it.",
    )
    outage_calendar: Path | None = Field(
        None,
        description="A YAML file with further outages and suspensions, in the format of the shipped file.",
    )
    irregularity_calendar: Path | None = Field(
        None, description="A YAML file with known irregular rows, in the format of the shipped file."
    )


class Gates(Section):
    """Thresholds of the gates of klines."""

    coverage_error_below_percent: Percent = Field(
        99.9,
        description="The gate coverage fails below this share of the expected bars. Bars whose absence is "
        "explained are not expected.",
    )
    unexplained_error_percent: Percent = Field(
        0.01,
        description="The gate unexplained_missing fails if this share of the expected bars, or more, is "
        "missing without an explanation.",
    )
    coverage_warning_below_percent: Percent = Field(
        99.0,
        description="The gate coverage_with_outages fails below this share; the alert of a failed coverage "
        "gate is a warning.",
    )
    coverage_critical_below_percent: Percent = Field(
        95.0, description="The alert of a failed coverage gate is critical below this share."
    )
    long_gap_hours: float = Field(
        24, gt=0, description="The gate long_gap fails for a gap that is longer than this."
    )
    freshness_hours: float = Field(
        30, gt=0, description="Highest allowed age of the newest bar of the current month."
    )
    failing_rows_shown: int = Field(
        20, ge=1, le=1000, description="Maximum number of rows that are shown for a failed gate."
    )


class Settings(BaseSettings):
    """All keys of `pipeline.yaml`."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, validate_default=False, case_sensitive=True, protected_namespaces=()
    )

    venue: Literal["binance", "sandbox"] = Field(
        "binance", description="The real exchange, or the sandbox on loopback."
    )
    sandbox_url: str = Field(
        "http://127.0.0.1:8650", description="URL of the sandbox; used only with venue: sandbox."
    )
    market: Market = Field(Market.SPOT, description="spot, or um for USD-M futures.")
    interval: Interval = Field(Interval.M1, description="Interval of the klines.")
    symbols: list[Symbol] = Field(
        DEFAULT_SYMBOLS, min_length=1, description="Symbols as the exchange writes them."
    )
    owners: list[str] = Field(
        ["team:market-data"], description="Owners shown on every asset: an e-mail address or team:name."
    )
    history: History = History()
    storage: Storage = Storage()
    retention: Retention = Retention()
    endpoints: Endpoints = Endpoints()
    http: Http = Http()
    rate_limits: RateLimits = RateLimits()
    archive: Archive = Archive()
    gaps: Gaps = Gaps()
    gates: Gates = Gates()
    recording: Recording = Recording()
    sessions: list[PlannedSession] = Field(
        DEFAULT_SESSIONS, description="Sessions that the scheduler records."
    )
    session_gates: SessionGates = SessionGates()
    alerts: Alerts = Alerts()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the values of the caller, so that `Settings()` are the default settings."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @model_validator(mode="after")
    def _check_consistency(self) -> Settings:
        if len(set(self.symbols)) != len(self.symbols):
            raise ValueError("symbols: a symbol is listed twice")
        if not has_interval(self.market, self.interval):
            raise ValueError(NO_UM_SECONDS)
        if self.venue == "sandbox":
            _check_url("sandbox_url", self.sandbox_url, _LOOPBACK, schemes=("http",))
            return self
        allowed = {*EXCHANGE_HOSTS, *self.endpoints.extra_hosts}
        for name in ("archive", "listing", "rest_spot", "rest_um"):
            _check_url(f"endpoints.{name}", getattr(self.endpoints, name), allowed, schemes=("https",))
        for name in ("stream_spot", "stream_um"):
            _check_url(f"endpoints.{name}", getattr(self.endpoints, name), allowed, schemes=("wss",))
        return self

    @property
    def loopback_url(self) -> str | None:
        """URL of the sandbox; None for the real exchange."""
        return self.sandbox_url if self.venue == "sandbox" else None

    @property
    def public_archive_url(self) -> str | None:
        """URL of the archive of the real exchange; None for the sandbox."""
        return None if self.venue == "sandbox" else self.endpoints.archive

    @property
    def has_own_clock(self) -> bool:
        """True if the clock of the venue differs from UTC on purpose."""
        return self.venue == "sandbox"

    @property
    def archive_url(self) -> str:
        """URL of the archive of the configured venue."""
        return self.public_archive_url or self.sandbox_url

    @property
    def listing_url(self) -> str:
        """URL of the archive's bucket of the configured venue."""
        return (
            f"{self.sandbox_url.rstrip('/')}/{BUCKET}" if self.venue == "sandbox" else self.endpoints.listing
        )

    @property
    def rest_url(self) -> str:
        """REST host of the configured venue and market."""
        if self.venue == "sandbox":
            return self.sandbox_url
        return self.endpoints.rest_spot if self.market is Market.SPOT else self.endpoints.rest_um

    @property
    def stream_url(self) -> str:
        """WebSocket host of the configured venue and market."""
        if self.venue == "sandbox":
            host = "ws" + self.sandbox_url.removeprefix("http").rstrip("/")
            return host if self.market is Market.SPOT else f"{host}/fstream/{ROUTE}"
        return self.endpoints.stream_spot if self.market is Market.SPOT else self.endpoints.stream_um


def _check_url(key: str, url: str, allowed: set[str], schemes: tuple[str, ...]) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if (
        parts.scheme not in schemes
        or parts.username
        or not any(host == name or host.endswith("." + name) for name in allowed)
    ):
        raise ValueError(f"{key}: {url!r} must be {schemes[0]}:// on one of {', '.join(sorted(allowed))}")
