"""What a sandbox is made of: seed, symbols, outages, deliberate differences, clock and faults. Validated, without behaviour."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from capture_pipeline.binance.periods import Interval
from capture_pipeline.binance.urls import Granularity, Market
from capture_pipeline.errors import ConfigError
from capture_pipeline.parsing import PARSE_ERRORS, explain, read_yaml
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
from sandbox_exchange.market.spans import (
    Arrangement,
    ChecksumFiles,
    IgnoreText,
    MarketSpan,
    OffGrid,
    Omission,
    OrderTypes,
    Outage,
    Strict,
    Suspension,
    TimeUs,
)
from sandbox_exchange.market.symbols import DEFAULT_SYMBOLS, LISTED_US, SymbolSpec, synthetic
from sandbox_exchange.profiles import profile_settings
from sandbox_exchange.rest.rate_limiter import Stated

Model = TypeVar("Model", bound=BaseModel)
_VALUE_FIELDS = r"^(open|high|low|close|volume|quote_volume|count|taker_buy_volume|taker_buy_quote_volume)$"


class Difference(Strict):
    """A value that differs in one kind of archive file from the other kind and from REST.

    Attributes:
        symbol: Whose candle.
        open_time: Its open time.
        field: Which value.
        granularity: Which kind of file is wrong.
        delta: Added to the value, in the value's own unit.
        interval: Only in files of this interval; None for all.
        market: Only in this market; None for both.
    """

    symbol: str
    open_time: TimeUs
    field: Annotated[str, Field(pattern=_VALUE_FIELDS)]
    granularity: Granularity = Granularity.MONTHLY
    delta: Decimal
    interval: Interval | None = None
    market: Market | None = None


def _symbol(value: object) -> object:
    return DEFAULT_SYMBOLS.get(value) or SymbolSpec(symbol=value) if isinstance(value, str) else value


class SandboxConfig(Strict):
    """Everything that decides what the sandbox serves.

    Attributes:
        seed: Of the market; the same seed gives the same bytes.
        symbols: Names of known symbols, or whole specifications.
        extra_symbols: How many synthetic symbols (SYN00USDT …) are added.
        listed: Listing time of the symbols that do not state their own.
        profile: Shipped settings beneath these ones.
        outages: Times without candles.
        suspensions: Times in which one symbol does not trade.
        off_grid: Candles that open beside the grid.
        ignore_texts: Texts in the column that is not interpreted.
        archive_omissions: Holes that REST can fill.
        archive_repeats: Rows that files contain twice.
        archive_disorder: Rows that files contain in reverse order.
        archive_differences: Values in which archive files differ.
        checksum_forms: Checksum files in another form.
        order_types: Ids of the futures' trades that are no trades of the market.
        spot_trade_id_hole_every: After so many trades of spot one id is left out in streams, REST and files alike.
        older_um_frames: The futures' streams send frames as before the middle of 2026: without `ps` and `st`, and `s` before `a`.
        now: Sandbox time at the start; None for wall time, or for the time by which all recorded files are published.
        speed: Sandbox seconds a real second.
        frozen: Whether the clock stands.
        monthly_delay_hours: Publication of monthly files after the month's end.
        daily_delay_hours: Publication of daily files after the day's end.
        weight_budget: REST weight a wall-clock minute on the spot host.
        um_weight_budget: The same on the futures host.
        rest_lag_s: Age of the trades and candles that REST serves, sandbox seconds.
        requests_until_ban: Requests sent despite 429 that bring 418.
        ban_s: Length of a ban, real seconds.
        ban_stated: Where refusals of an address state their end.
        connection_attempts: Handshakes of streams in `connection_window_s` that are admitted.
        connection_window_s: Real seconds.
        ping_every_s: Pings on spot stream connections, real seconds.
        pong_within_s: How long a pong may take, real seconds.
        um_ping_every_s: Pings on the futures' stream connections, real seconds.
        um_pong_within_s: How long a pong may take there, real seconds.
        connection_life_s: Age at which a stream connection is closed, sandbox seconds.
        stream_buffer_bytes: A stream connection with more unsent bytes is closed as too slow.
        replay: Serve this recorded session in place of the market.
        recorded: Serve real kline files below this directory in place of the market.
        market: Market of recorded files whose path does not state it.
        faults: Fault script.
    """

    seed: int = 1
    symbols: tuple[Annotated[SymbolSpec, BeforeValidator(_symbol)], ...] = tuple(DEFAULT_SYMBOLS.values())
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
    ban_stated: Stated = Stated.BOTH
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
    def _with_profile(cls, data: Any) -> Any:
        name = data.get("profile") if isinstance(data, dict) else None
        return data if name is None else {**profile_settings(name), **data}

    @model_validator(mode="after")
    def _one_source(self) -> SandboxConfig:
        if self.replay is not None and self.recorded is not None:
            raise ValueError("replay and recorded exclude each other")
        if self.profile is not None and (self.replay is not None or self.recorded is not None):
            raise ValueError(
                "profile is of the synthetic market; leave it out, or leave out recorded and replay"
            )
        return self

    @model_validator(mode="after")
    def _off_grid_while_trading(self) -> SandboxConfig:
        for stretch in self.off_grid:
            for outage in self.outages:
                if (
                    stretch.start < outage.end
                    and outage.start < stretch.end
                    and _share_a_symbol(stretch, outage)
                ):
                    raise ValueError(
                        "a stretch of off_grid must not overlap an outage; end it where the outage starts"
                    )
        return self

    def all_symbols(self) -> list[SymbolSpec]:
        """Configured and synthetic symbols, each with its listing time."""
        named = [
            spec if spec.listed is not None else spec.model_copy(update={"listed": self.listed})
            for spec in self.symbols
        ]
        return named + [synthetic(number, self.listed) for number in range(self.extra_symbols)]


def _share_a_symbol(one: MarketSpan, other: MarketSpan) -> bool:
    if None not in {one.market, other.market} and one.market is not other.market:
        return False
    return one.symbols is None or other.symbols is None or bool(set(one.symbols) & set(other.symbols))


def validated(model: type[Model], data: object, where: str) -> Model:
    """`data` as `model`.

    Raises:
        ConfigError: It does not fit; one line says which key and why.
    """
    try:
        return model.model_validate(data)
    except PARSE_ERRORS as error:
        raise ConfigError(explain(error), where=where) from None


def load_config(path: Path) -> SandboxConfig:
    """A sandbox configuration from a YAML or JSON file.

    Raises:
        ConfigError: It cannot be read, or a key does not fit.
    """
    return validated(SandboxConfig, read_yaml(path) or {}, str(path))
