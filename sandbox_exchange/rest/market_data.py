"""The REST endpoints over a source: parameters in, JSON values out. Weights and HTTP stand in `rest_http.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from capture_pipeline.binance.periods import parse_time
from capture_pipeline.binance.urls import Market
from capture_pipeline.parsing import PARSE_ERRORS
from sandbox_exchange.clock import SandboxClock
from sandbox_exchange.constants import DEFAULT_ROWS, MOST_ROWS
from sandbox_exchange.market.kline_text import frame_to_rows
from sandbox_exchange.market.source import KlineQuery, Source
from sandbox_exchange.market.symbols import SymbolSpec
from sandbox_exchange.rest.params import LEGAL_SYMBOL, Params, RestError

_SETTLING = "SETTLING"
_PERPETUAL_US = parse_time("2100-12-25T08:00")
_SYMBOLS_RANGE = f'\'^\\[("{LEGAL_SYMBOL}"(,"{LEGAL_SYMBOL}"){{0,}}){{0,1}}\\]$\''

Endpoint = Callable[[Params, bool], Any]
"""Parameters, and whether times are wanted in microseconds, to a JSON value."""


class RestApi:
    """General and kline endpoints of one host."""

    def __init__(self, market: Market, source: Source, clock: SandboxClock, budget: int) -> None:
        """Keep what is served.

        Args:
            market: Spot or futures.
            source: Klines and symbols.
            clock: Server time.
            budget: Weight a minute, as exchangeInfo states it.
        """
        self._market = market
        self._source = source
        self._clock = clock
        self._budget = budget

    def endpoints(self) -> dict[str, Endpoint]:
        """The endpoints by name."""
        return {
            "ping": self.ping,
            "time": self.time,
            "exchangeInfo": self.exchange_info,
            "klines": self.klines,
        }

    def ping(self, params: Params, micro: bool) -> dict[str, Any]:  # noqa: FBT001, ARG002
        """Nothing."""
        self._finish(params)
        return {}

    def time(self, params: Params, micro: bool) -> dict[str, int]:  # noqa: FBT001
        """Server time."""
        self._finish(params)
        return {"serverTime": self._now(micro=micro)}

    def klines(self, params: Params, micro: bool) -> list[list[Any]]:  # noqa: FBT001
        """Candles, oldest first."""
        return self.rows(self.kline_query(params), micro=micro)

    def rows(self, query: KlineQuery, *, micro: bool) -> list[list[Any]]:
        """The rows of a query."""
        return frame_to_rows(
            self._source.klines(query, self._clock.now_us() - query.lag_us), microseconds=micro
        )

    def kline_query(self, params: Params) -> KlineQuery:
        """What a klines request asks for.

        Raises:
            RestError: As the exchange refuses it.
        """
        symbol, interval = params.symbol(self._known().keys()), params.interval(self._market)
        limit = params.limit(DEFAULT_ROWS[self._market]["klines"], MOST_ROWS[self._market]["klines"])
        start, end = params.time_us("startTime"), params.time_us("endTime")
        params.text("timeZone")
        self._finish(params)
        now = self._clock.now_us()
        if (
            self._market is Market.UM
            and self._source.status(self._market, self._known()[symbol], now) == _SETTLING
        ):
            raise RestError(-1122, "Invalid symbol status.")
        return KlineQuery(self._market, symbol, interval, start, end, limit, params.lag_us)

    def exchange_info(self, params: Params, micro: bool) -> dict[str, Any]:  # noqa: FBT001
        """Server time, limits and symbols."""
        known = self._known()
        chosen = list(known) if self._market is Market.UM else _chosen(params, known)
        self._finish(params)
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
                    **_symbol_info(known[name], self._source.status(self._market, known[name], now)),
                    **(_contract_info(known[name]) if self._market is Market.UM else {}),
                }
                for name in chosen
            ],
        }

    def _known(self) -> dict[str, SymbolSpec]:
        return {spec.symbol: spec for spec in self._source.symbols(self._market)}

    def _finish(self, params: Params) -> None:
        # The futures host ignores what it does not know.
        if self._market is Market.SPOT:
            params.finish()

    def _now(self, *, micro: bool) -> int:
        now = self._clock.now_us()
        return now if micro else now // 1000


def _chosen(params: Params, known: dict[str, SymbolSpec]) -> list[str]:
    """The symbols that `symbol` or `symbols` names; all where neither is sent."""
    several = params.text("symbols")
    if several is None:
        return [params.symbol(known.keys())] if "symbol" in params.query else list(known)
    try:
        names = json.loads(several)  # noqa: TID251 - guarded
    except PARSE_ERRORS:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise RestError(
            -1100, f"Illegal characters found in parameter 'symbols'; legal range is {_SYMBOLS_RANGE}."
        )
    if not set(names) <= known.keys():
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
    """The fields of a futures contract; a perpetual one is delivered in 2100."""
    kind = "CURRENT_QUARTER" if spec.is_delivery else "PERPETUAL"
    delivery = spec.delisted if spec.is_delivery and spec.delisted is not None else _PERPETUAL_US
    return {
        "pair": spec.pair,
        "contractType": kind,
        "deliveryDate": delivery // 1000,
        "marginAsset": spec.quote,
    }
