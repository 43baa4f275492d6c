"""Client of the REST endpoints for market data, within the exchange's limits of request weight.

Source: the exchange's REST documentation; the weights are in `urls.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlencode

from capture_pipeline.binance.http.pauses import Limits
from capture_pipeline.binance.http.retries import retry_transient
from capture_pipeline.binance.http.settings import RateLimits
from capture_pipeline.binance.http.transport import Answer, Http
from capture_pipeline.binance.periods import Interval
from capture_pipeline.binance.rest.answers import parse_statuses, parse_time
from capture_pipeline.binance.rest.limiter import RequestLimiter
from capture_pipeline.binance.symbols import unknown_symbols_error
from capture_pipeline.binance.urls import Market, depth_limit, request_weight
from capture_pipeline.errors import (
    AccessDeniedError,
    ConfigError,
    RateLimitedError,
    RequestRefusedError,
)

PAGE_ROWS = 1000
INVALID_SYMBOL, INVALID_SYMBOL_STATUS = -1121, -1122
UNKNOWN_SYMBOL = frozenset({INVALID_SYMBOL, INVALID_SYMBOL_STATUS})
"""Codes for a symbol that is not listed (any more); futures send the second one for expired contracts."""
_BODY_CAP = 32 << 20
_MAX_TRIES = 5
_NOT_FOUND = 404


class RestClient:
    """Client of the REST endpoints for the data of one market."""

    def __init__(
        self,
        http: Http,
        base_url: str,
        market: Market,
        limits: RateLimits,
        address: Limits,
        *,
        now_s: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Create a client.

        Args:
            http: Transport.
            base_url: Address of the host.
            market: Market of the endpoints.
            limits: Budget of weight and longest wait.
            address: Limits of this machine's address.
            now_s: Wall clock in seconds.
            sleep: Function that waits for a number of seconds.
        """
        self._http, self._base, self._market = http, base_url.rstrip("/"), market
        self._limiter = RequestLimiter(
            self._base, limits, market.weight_per_minute, address, now_s=now_s, sleep=sleep
        )

    def server_time_us(self) -> int:
        """Request the exchange's time, microseconds UTC."""
        answer = self._get("time", {})
        return parse_time(answer.body, f"{self._base} time")

    def klines_url(self, symbol: str, interval: Interval, start_us: int, end_us: int) -> str:
        """Return endpoint and parameters of one page of klines that open in `[start_us, end_us)`."""
        return f"klines?{urlencode(_klines_params(symbol, interval, start_us, end_us))}"

    def klines(self, symbol: str, interval: Interval, start_us: int, end_us: int) -> bytes:
        """Request a page of at most 1000 klines that open in `[start_us, end_us)`; return the body as sent.

        Raises:
            RequestRefusedError: The exchange refuses the request, for instance because of an unknown symbol
                (-1121).
        """
        return self._get("klines", _klines_params(symbol, interval, start_us, end_us)).body

    def edge_klines(self, symbol: str, interval: Interval, *, first: bool) -> bytes:
        """Request the first kline of a symbol, or the newest one; the body is returned as sent."""
        params: dict[str, str | int] = {"symbol": symbol, "interval": str(interval), "limit": 1}
        return self._get("klines", {**params, "startTime": 0} if first else params).body

    def depth(self, symbol: str, limit: int) -> bytes:
        """Request the best `limit` levels of each side of the book; the body is returned as sent."""
        limit = depth_limit(self._market, limit)
        return self._get("depth", {"symbol": symbol, "limit": limit}).body

    def agg_trades(self, symbol: str, *, start_ms: int, end_ms: int) -> bytes:
        """Request at most 1000 aggregate trades of `[start_ms, end_ms]`; the body is returned as sent."""
        params: dict[str, str | int] = {
            "symbol": symbol,
            "startTime": start_ms,
            "endTime": end_ms,
            "limit": PAGE_ROWS,
        }
        return self._get("aggTrades", params).body

    def agg_trades_from(self, symbol: str, agg_id: int) -> bytes:
        """Request at most 1000 aggregate trades with ids from `agg_id`; the body is returned as sent."""
        params: dict[str, str | int] = {"symbol": symbol, "fromId": agg_id, "limit": PAGE_ROWS}
        return self._get("aggTrades", params).body

    def agg_trades_pause_s(self, share: float) -> float:
        """Return the pause between requests for aggregate trades that uses `share` of the weight budget."""
        return request_weight(self._market, "aggTrades") * 60 / (share * self._limiter.weight_per_minute)

    def symbol_status(self, symbol: str) -> str | None:
        """Request the status of a symbol as the exchange names it; None if the symbol is not listed."""
        try:
            answer = self._get("exchangeInfo", {"symbol": symbol} if self._market is Market.SPOT else {})
        except RequestRefusedError as error:
            if error.code in UNKNOWN_SYMBOL:
                return None
            raise
        return self._statuses(answer).get(symbol)

    def listed_symbols(self) -> list[str]:
        """Request all listed symbols."""
        return list(self.symbol_statuses())

    def symbol_statuses(self) -> dict[str, str]:
        """Request the status of all listed symbols; the answer has several megabytes."""
        return self._statuses(self._get("exchangeInfo", {}))

    def unknown_symbols(self, symbols: Sequence[str]) -> ConfigError | None:
        """Return the error about symbols that the exchange does not list; None if it lists all of them.

        One request is sent, and a second one only if a symbol is unknown.
        """
        if self._market is Market.SPOT:
            try:
                named = json.dumps(list(symbols), separators=(",", ":"), ensure_ascii=False)
                self._get("exchangeInfo", {"symbols": named})
            except RequestRefusedError as error:
                if error.code not in UNKNOWN_SYMBOL:
                    raise
            else:
                return None
        listed = self.listed_symbols()
        listed_set = set(listed)
        unknown = [symbol for symbol in symbols if symbol not in listed_set]
        # A venue without any listed symbol, for instance a replayed recording of futures, proves nothing.
        return unknown_symbols_error(unknown, listed) if unknown and listed else None

    def _statuses(self, answer: Answer) -> dict[str, str]:
        return parse_statuses(answer.body, f"{self._base} exchangeInfo")

    def _get(self, endpoint: str, params: Mapping[str, str | int]) -> Answer:
        weight = request_weight(self._market, endpoint, params.get("limit"))
        url = f"{self._base}{self._market.rest_root}/{endpoint}"
        for _ in range(_MAX_TRIES):
            answer = retry_transient(self._http.settings, lambda: self._send(url, params, weight))
            if answer is None:
                continue
            if answer.status == _NOT_FOUND:
                raise RequestRefusedError(
                    "does not exist (404)", status=_NOT_FOUND, where=url, remedy="check the endpoint's host"
                )
            return answer
        raise RateLimitedError(
            f"still refuses the request after {_MAX_TRIES} attempts",
            retry_after_s=60,
            where=url,
            remedy="run again later, or lower rate_limits.use_percent",
        )

    def _send(self, url: str, params: Mapping[str, str | int], weight: int) -> Answer | None:
        """Send a request as soon as the limits allow it, and record a refusal of the address.

        Returns:
            The answer; None if the address was refused for at most `rate_limits.max_wait_s`.
        """
        self._limiter.wait(weight, url)
        try:
            return self._http.get(url, max_bytes=_BODY_CAP, params=params, on_headers=self._limiter.learn)
        except (RateLimitedError, AccessDeniedError) as error:
            if not self._limiter.record_refusal(error):
                raise
            return None


def _klines_params(symbol: str, interval: Interval, start_us: int, end_us: int) -> dict[str, str | int]:
    return {
        "symbol": symbol,
        "interval": str(interval),
        "startTime": start_us // 1000,
        "endTime": end_us // 1000 - 1,
        "limit": PAGE_ROWS,
    }
