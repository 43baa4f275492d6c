"""Configuration of the sandbox: seed, symbols, outages, deliberate differences, clock and faults."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from capture_pipeline.binance.periods import Interval
from capture_pipeline.binance.urls import Granularity, Market
from capture_pipeline.errors import ConfigError
from capture_pipeline.parsing import PARSE_ERRORS, explain, read_yaml
from sandbox_exchange.config.profiles import profile_settings
from sandbox_exchange.config.spans import (
    Arrangement,
    ChecksumFiles,
    IgnoreText,
    MarketSpan,
    OffGrid,
    Omission,
    OrderTypes,
    Outage,
    StrictModel,
    Suspension,
    TimeUs,
)
from sandbox_exchange.config.symbols import DEFAULT_SYMBOLS, LISTED_US, SymbolSpec, create_synthetic_symbol
from sandbox_exchange.constants import (
    CONNECTION_ATTEMPTS,
    CONNECTION_LIFE_S,
    CONNECTION_WINDOW_S,
    DAILY_DELAY_HOURS,
    MONTHLY_DELAY_HOURS,
    PING_EVERY_S,
    PONG_WITHIN_S,
    WEIGHT_BUDGETS,
)
from sandbox_exchange.faults.rules import FaultRule

Model = TypeVar("Model", bound=BaseModel)
_VALUE_FIELDS = r"^(open|high|low|close|volume|quote_volume|count|taker_buy_volume|taker_buy_quote_volume)$"


class EndLocation(StrEnum):
    """Place in which a refusal states its end."""

    BOTH = "both"
    """In `Retry-After`; the end of a ban also in the body."""
    BODY = "body"
    """The end of a ban in the body only; 429 and 403 state no end."""
    NOWHERE = "nowhere"


class Difference(StrictModel):
    """Value of one kind of archive file that differs from the other kind and from REST.

    Attributes:
        symbol: Symbol of the kline.
        open_time: Open time of the kline.
        field: Column of the value.
        granularity: Kind of file with the wrong value.
        delta: Number added to the correct value.
        interval: Interval of the files; None for all intervals.
        market: Market of the files; None for both markets.
    """

    symbol: str
    open_time: TimeUs
    field: Annotated[str, Field(pattern=_VALUE_FIELDS)]
    granularity: Granularity = Granularity.MONTHLY
    delta: Decimal
    interval: Interval | None = None
    market: Market | None = None


def _as_symbol_spec(value: object) -> object:
    return DEFAULT_SYMBOLS.get(value) or SymbolSpec(symbol=value) if isinstance(value, str) else value


class SandboxConfig(StrictModel):
    """Settings of the sandbox.

    Attributes:
        seed: Seed of the synthetic market; the same seed gives the same bytes.
        symbols: Names of known symbols, or complete specifications.
        extra_symbols: Number of additional synthetic symbols (SYN00USDT and so on).
        listed: Listing time of the symbols without a listing time of their own.
        profile: Name of predefined settings; the other settings override them.
        outages: Periods without klines.
        suspensions: Periods in which one symbol does not trade.
        off_grid: Periods in which klines open at times that are not multiples of the interval.
        ignore_texts: Periods in which the ignored column contains text.
        archive_omissions: Rows that archive files lack and REST has.
        archive_repeats: Rows that files contain twice.
        archive_disorder: Rows that files contain in reverse order.
        archive_differences: Values in which archive files differ.
        checksum_forms: Files whose checksum file is written in another valid form.
        order_types: Ids of futures trades that are not trades of the market.
        spot_trade_id_hole_every: Number of spot trades after which one id is skipped, in streams, REST and
            files.
        older_um_frames: Send futures frames as before mid-2026: without `ps` and `st`, and with `s` before
            `a`.
        now: Sandbox time at the start. None for wall time, or for the publication of the last recorded file.
        speed: Sandbox seconds per real second.
        frozen: Whether the clock is stopped.
        monthly_delay_hours: Hours from the end of a month to the publication of its files.
        daily_delay_hours: Hours from the end of a day to the publication of its files.
        weight_budget: REST weight per wall-clock minute on the spot host.
        um_weight_budget: REST weight per wall-clock minute on the futures host.
        rest_lag_s: Age of the newest trade and kline that REST serves, sandbox seconds.
        requests_until_ban: Number of requests during a refusal with 429 after which the answer is 418.
        ban_s: Length of a ban, real seconds.
        ban_stated: Place in which a refusal states its end: header and body, only the body, or nowhere.
        connection_attempts: Accepted stream handshakes per `connection_window_s`.
        connection_window_s: Real seconds.
        ping_every_s: Real seconds between pings on spot stream connections.
        pong_within_s: Real seconds within which a spot client must answer a ping.
        um_ping_every_s: Real seconds between pings on futures stream connections.
        um_pong_within_s: Real seconds within which a futures client must answer a ping.
        connection_life_s: Age at which a stream connection is closed, sandbox seconds.
        stream_buffer_bytes: Unsent bytes above which a stream connection is closed as too slow.
        replay: File of a recorded session that is served instead of the synthetic market.
        recorded: Directory of real kline files that are served instead of the synthetic market.
        market: Market of recorded files whose path does not contain it.
        faults: Rules of the fault script.
    """

    seed: int = 1
    symbols: tuple[Annotated[SymbolSpec, BeforeValidator(_as_symbol_spec)], ...] = tuple(
        DEFAULT_SYMBOLS.values()
    )
    extra_symbols: int = Field(0, ge=0, le=5000)
    listed: TimeUs = LISTED_US
    profile: str | None = None
    outages: tuple[Outage, ...] = ()
    suspensions: tuple[Suspension, ...] = ()
    off_grid: tuple[OffGrid, ...] = ()
    ignore_texts: tuple[IgnoreText, ...] = ()
    archive_omissions: tuple[Omission, ...] = ()
    archive_repeats: tuple[Arrangement, ...] = ()
    archive_disorder: tuple[Arrangement, ...] = ()
    archive_differences: tuple[Difference, ...] = ()
    checksum_forms: tuple[ChecksumFiles, ...] = ()
    order_types: OrderTypes | None = None
    spot_trade_id_hole_every: int | None = Field(None, ge=1)
    older_um_frames: bool = False
    now: TimeUs | None = None
    speed: float = Field(1.0, ge=0)
    frozen: bool = False
    monthly_delay_hours: float = Field(MONTHLY_DELAY_HOURS, ge=0)
    daily_delay_hours: float = Field(DAILY_DELAY_HOURS, ge=0)
    weight_budget: int = Field(WEIGHT_BUDGETS[Market.SPOT], ge=1)
    um_weight_budget: int = Field(WEIGHT_BUDGETS[Market.UM], ge=1)
    rest_lag_s: float = Field(0.0, ge=0)
    requests_until_ban: int = Field(10, ge=1)
    ban_s: float = Field(120.0, gt=0)
    ban_stated: EndLocation = EndLocation.BOTH
    connection_attempts: int = Field(CONNECTION_ATTEMPTS, ge=1)
    connection_window_s: float = Field(CONNECTION_WINDOW_S, gt=0)
    ping_every_s: float = Field(PING_EVERY_S[Market.SPOT], gt=0)
    pong_within_s: float = Field(PONG_WITHIN_S[Market.SPOT], gt=0)
    um_ping_every_s: float = Field(PING_EVERY_S[Market.UM], gt=0)
    um_pong_within_s: float = Field(PONG_WITHIN_S[Market.UM], gt=0)
    connection_life_s: float = Field(float(CONNECTION_LIFE_S), gt=0)
    stream_buffer_bytes: int = Field(16 << 20, ge=1024)
    replay: Path | None = None
    recorded: Path | None = None
    market: Market | None = None
    faults: tuple[FaultRule, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _add_profile(cls, data: Any) -> Any:
        name = data.get("profile") if isinstance(data, dict) else None
        return data if name is None else {**profile_settings(name), **data}

    @model_validator(mode="after")
    def _check_source(self) -> SandboxConfig:
        if self.replay is not None and self.recorded is not None:
            raise ValueError("replay and recorded exclude each other")
        if self.profile is not None and (self.replay is not None or self.recorded is not None):
            raise ValueError(
                "profile applies to the synthetic market only; remove profile, or remove recorded and replay"
            )
        return self

    @model_validator(mode="after")
    def _check_off_grid(self) -> SandboxConfig:
        for span in self.off_grid:
            for outage in self.outages:
                overlap = span.start < outage.end and outage.start < span.end
                if overlap and _share_symbol(span, outage):
                    raise ValueError(
                        "a period of off_grid must not overlap an outage; end it where the outage starts"
                    )
        return self

    def all_symbols(self) -> list[SymbolSpec]:
        """Return the configured and the additional symbols, each with its listing time."""
        named = [
            spec if spec.listed is not None else spec.model_copy(update={"listed": self.listed})
            for spec in self.symbols
        ]
        return named + [create_synthetic_symbol(number, self.listed) for number in range(self.extra_symbols)]


def _share_symbol(one: MarketSpan, other: MarketSpan) -> bool:
    if None not in {one.market, other.market} and one.market is not other.market:
        return False
    return one.symbols is None or other.symbols is None or bool(set(one.symbols) & set(other.symbols))


def validate_model(model: type[Model], data: object, where: str) -> Model:
    """Validate `data` against `model`.

    Raises:
        ConfigError: A key of `data` is unknown, missing or has an invalid value. The message names the key.
    """
    try:
        return model.model_validate(data)
    except PARSE_ERRORS as error:
        raise ConfigError(explain(error), where=where) from None


def load_config(path: Path) -> SandboxConfig:
    """Read a sandbox configuration from a YAML or JSON file.

    Raises:
        ConfigError: The file cannot be read, or a key is unknown or has an invalid value.
    """
    return validate_model(SandboxConfig, read_yaml(path) or {}, str(path))
