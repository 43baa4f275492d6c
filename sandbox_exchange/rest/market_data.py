"""General and kline endpoints of REST: functions from parameters to JSON values."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from capture_pipeline.binance.periods import parse_time
from capture_pipeline.binance.urls import Market
from capture_pipeline.parsing import PARSE_ERRORS
from sandbox_exchange.clock import SandboxClock
from sandbox_exchange.config.symbols import SymbolSpec
from sandbox_exchange.constants import DEFAULT_ROWS, MAX_ROWS
from sandbox_exchange.market.kline_text import frame_to_rows
from sandbox_exchange.market.source import KlineQuery, Source
from sandbox_exchange.rest.params import LEGAL_SYMBOL, Params, RestError

_SETTLING = "SETTLING"
_PERPETUAL_US = parse_time("2100-12-25T08:00")
_SYMBOLS_RANGE = f'\'^\\[("{LEGAL_SYMBOL}"(,"{LEGAL_SYMBOL}"){{0,}}){{0,1}}\\]$\''

Endpoint = Callable[[Params, bool], Any]
"""Function from parameters, and whether times are in microseconds, to a JSON value."""


class RestApi:
    """General and kline endpoints of one host."""

    def __init__(self, market: Market, source: Source, clock: SandboxClock, budget: int) -> None:
        """Create the endpoints.

        Args:
            market: Spot or futures.
            source: Source of klines and symbols.
            clock: Server time.
            budget: Weight per minute in exchangeInfo.
        """
        self._market = market
        self._source = source
        self._clock = clock
        self._budget = budget

    def endpoints(self) -> dict[str, Endpoint]:
        """Return the endpoints by name."""
        return {
            "ping": self.ping,
            "time": self.time,
            "exchangeInfo": self.exchange_info,
            "klines": self.klines,
        }

    def ping(self, params: Params, micro: bool) -> dict[str, Any]:  # noqa: FBT001, ARG002
        """Return an empty object."""
        self._check_all_read(params)
        return {}

    def time(self, params: Params, micro: bool) -> dict[str, int]:  # noqa: FBT001
        """Return the server time."""
        self._check_all_read(params)
        return {"serverTime": self._now(micro=micro)}

    def klines(self, params: Params, micro: bool) -> list[list[Any]]:  # noqa: FBT001
        """Return klines, oldest first."""
        return self.rows(self.kline_query(params), micro=micro)

    def rows(self, query: KlineQuery, *, micro: bool) -> list[list[Any]]:
        """Return the rows of a query."""
        return frame_to_rows(
            self._source.klines(query, self._clock.now_us() - query.lag_us), microseconds=micro
        )

    def kline_query(self, params: Params) -> KlineQuery:
        """Parse the parameters of a klines request.

        Raises:
            RestError: A parameter is missing, invalid or unknown, or the futures contract is in settlement.
        """
        symbol, interval = params.symbol(self._specs().keys()), params.interval(self._market)
        limit = params.limit(DEFAULT_ROWS[self._market]["klines"], MAX_ROWS[self._market]["klines"])
        start, end = params.time_us("startTime"), params.time_us("endTime")
        params.text("timeZone")
        self._check_all_read(params)
        now = self._clock.now_us()
        if (
            self._market is Market.UM
            and self._source.status(self._market, self._specs()[symbol], now) == _SETTLING
        ):
            raise RestError(-1122, "Invalid symbol status.")
        return KlineQuery(self._market, symbol, interval, start, end, limit, params.lag_us)

    def exchange_info(self, params: Params, micro: bool) -> dict[str, Any]:  # noqa: FBT001
        """Return server time, limits and symbols."""
        specs = self._specs()
        names = list(specs) if self._market is Market.UM else _select_symbols(params, specs)
        self._check_all_read(params)
        now = self._clock.now_us()
        return {
            "timezone": "UTC",
            "serverTime": self._now(micro=micro),
            "rateLimits": [
                {
                    "rateLimitType": "REQUEST_WEIGHT",
                    "interval": "MINUTE",
                    "intervalNum": 1,
                    "limit": self._budget,
                }
            ],
            "exchangeFilters": [],
            "symbols": [
                {
                    **_symbol_info(specs[name], self._source.status(self._market, specs[name], now)),
                    **(_contract_info(specs[name]) if self._market is Market.UM else {}),
                }
                for name in names
            ],
        }

    def _specs(self) -> dict[str, SymbolSpec]:
        return {spec.symbol: spec for spec in self._source.symbols(self._market)}

    def _check_all_read(self, params: Params) -> None:
        # The futures host ignores unknown parameters.
        if self._market is Market.SPOT:
            params.check_all_read()

    def _now(self, *, micro: bool) -> int:
        now = self._clock.now_us()
        return now if micro else now // 1000


def _select_symbols(params: Params, specs: dict[str, SymbolSpec]) -> list[str]:
    """Return the symbols in `symbol` or `symbols`; all symbols if neither parameter is sent."""
    text = params.text("symbols")
    if text is None:
        return [params.symbol(specs.keys())] if "symbol" in params.query else list(specs)
    try:
        names = json.loads(text)  # noqa: TID251 - guarded
    except PARSE_ERRORS:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise RestError(
            -1100, f"Illegal characters found in parameter 'symbols'; legal range is {_SYMBOLS_RANGE}."
        )
    if not set(names) <= specs.keys():
        raise RestError(-1121, "Invalid symbol.")
    return names


def _symbol_info(spec: SymbolSpec, status: str) -> dict[str, Any]:
    tick, lot = f"{spec.tick_size:.8f}", f"{spec.lot_size:.8f}"
    return {
        "symbol": spec.symbol,
        "status": status,
        "baseAsset": spec.base,
        "baseAssetPrecision": 8,
        "quoteAsset": spec.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": tick,
                "maxPrice": "1000000.00000000",
                "tickSize": tick,
            },
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000000.00000000", "stepSize": lot},
        ],
    }


def _contract_info(spec: SymbolSpec) -> dict[str, Any]:
    """Return the fields of a futures contract; a perpetual contract has a delivery date in 2100."""
    kind = "CURRENT_QUARTER" if spec.is_delivery else "PERPETUAL"
    delivery = spec.delisted if spec.is_delivery and spec.delisted is not None else _PERPETUAL_US
    return {
        "pair": spec.pair,
        "contractType": kind,
        "deliveryDate": delivery // 1000,
        "marginAsset": spec.quote,
    }
