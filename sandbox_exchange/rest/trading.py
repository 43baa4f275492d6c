"""REST endpoints depth and aggTrades of the synthetic market."""

from __future__ import annotations

from typing import Any

from capture_pipeline.binance.periods import HOUR_US
from capture_pipeline.binance.streams.messages import Level
from capture_pipeline.binance.urls import Market
from sandbox_exchange.clock import SandboxClock
from sandbox_exchange.constants import DEFAULT_ROWS, MAX_ROWS, UM_DEPTHS, UM_REACH_US
from sandbox_exchange.market.kline_text import Scale
from sandbox_exchange.market.market import AGGREGATES_FROM, SyntheticMarket
from sandbox_exchange.market.prng import Ints
from sandbox_exchange.market.trades import Aggregates, Trades
from sandbox_exchange.rest.market_data import Endpoint
from sandbox_exchange.rest.params import Params, RestError

_NO_BOUND = 1 << 40


class TradingApi:
    """Endpoints depth and aggTrades of one host."""

    def __init__(self, market: Market, synthetic: SyntheticMarket | None, clock: SandboxClock) -> None:
        """Create the endpoints; without a market, as with recorded files, they return an error."""
        self._market = market
        self._synthetic = synthetic
        self._clock = clock

    def endpoints(self) -> dict[str, Endpoint]:
        """Return the endpoints by name."""
        return {"depth": self.depth, "aggTrades": self.agg_trades}

    def depth(self, params: Params, micro: bool) -> dict[str, Any]:  # noqa: FBT001, ARG002
        """Return a snapshot of the book."""
        market, symbol = self._require_market(), self._symbol(params)
        spot = self._market is Market.SPOT
        limit = params.limit(
            DEFAULT_ROWS[self._market]["depth"], MAX_ROWS[self._market]["depth"] if spot else _NO_BOUND
        )
        if not spot and limit not in UM_DEPTHS:
            raise RestError(-4021, f"'{limit}' is not valid depth limit.")
        self._check_all_read(params)
        book, now = market.book(self._market, symbol), self._clock.now_us()
        snapshot = book.snapshot(book.last_changed_slot(now), limit)
        scale = Scale(book.spec, self._market)
        times = {} if spot else {"E": now // 1000, "T": snapshot.time_us // 1000}
        return {
            "lastUpdateId": snapshot.last_update_id,
            **times,
            "bids": _levels(snapshot.bids, scale),
            "asks": _levels(snapshot.asks, scale),
        }

    def agg_trades(self, params: Params, micro: bool) -> list[dict[str, Any]]:  # noqa: FBT001
        """Return aggregates: the trades of one taker order at one price."""
        market, symbol = self._require_market(), self._symbol(params)
        first_id, limit = (
            params.number("fromId"),
            params.limit(DEFAULT_ROWS[self._market]["aggTrades"], MAX_ROWS[self._market]["aggTrades"]),
        )
        start, end = params.time_us("startTime"), params.time_us("endTime")
        self._check_all_read(params)
        if first_id is not None and (start is not None or end is not None):
            raise RestError(-1128, "Combination of optional parameters invalid.")
        now = self._clock.now_us()
        aggregates = self._select(market, symbol, first_id, start, end, limit, now - params.lag_us)
        rows, scale = aggregates.rows, Scale(market.trade_series(self._market, symbol).spec, self._market)
        self._check_age(rows, start, now)
        best = {"M": True} if self._market is Market.SPOT else {}
        columns = zip(
            (AGGREGATES_FROM[self._market] + rows.ids).tolist(),
            scale.text("price", rows.price),
            scale.text("lot", rows.quantity),
            market.trade_ids.sent_ids(self._market, aggregates.first).tolist(),
            market.trade_ids.sent_ids(self._market, aggregates.last).tolist(),
            (rows.time_us if micro else rows.time_us // 1000).tolist(),
            (rows.taker_buys == 0).tolist(),
            strict=True,
        )
        return [dict(zip("apqflTm", values, strict=True)) | best for values in columns]

    def _check_age(self, trades: Trades, start_us: int | None, now_us: int) -> None:
        """Check that requested futures trades are in the time window of the exchange.

        Raises:
            RestError: The first trade or `startTime` is older than the window (-4166).
        """
        oldest = min(
            [*([start_us] if start_us is not None else []), *trades.time_us[:1].tolist()], default=now_us
        )
        if self._market is Market.UM and oldest < now_us - UM_REACH_US:
            raise RestError(-4166, "Search window is restricted to recent 2 days only.")

    def _select(
        self,
        market: SyntheticMarket,
        symbol: str,
        first_id: int | None,
        start: int | None,
        end: int | None,
        limit: int,
        now: int,
    ) -> Aggregates:
        if first_id is not None:
            first = max(0, first_id - AGGREGATES_FROM[self._market])
            return market.aggregates_from(self._market, symbol, first, limit, now + 1)
        if start is None and end is None:
            last = market.trade_series(self._market, symbol).last_trade_before(now + 1)
            newest = int(last.aggregates[0]) if len(last) else -1
            return market.aggregates_from(self._market, symbol, max(0, newest - limit + 1), limit, now + 1)
        low = start if start is not None else (end or 0) - HOUR_US
        # `startTime` and `endTime` are whole milliseconds and both included.
        high = end + 1000 if end is not None else low + HOUR_US
        aggregates = Aggregates.of(market.trades(self._market, symbol, low, min(now + 1, high)))
        return (
            aggregates.slice_rows(0, limit)
            if start is not None
            else aggregates.slice_rows(max(0, len(aggregates) - limit), len(aggregates))
        )

    def _symbol(self, params: Params) -> str:
        return params.symbol([spec.symbol for spec in self._require_market().symbols(self._market)])

    def _check_all_read(self, params: Params) -> None:
        if self._market is Market.SPOT:
            params.check_all_read()

    def _require_market(self) -> SyntheticMarket:
        if self._synthetic is None:
            raise RestError(-1000, "Recorded files contain no trades and no book.")
        return self._synthetic


def _levels(levels: Ints, scale: Scale) -> list[Level]:
    prices, sizes = scale.text("price", levels[:, 0].copy()), scale.text("lot", levels[:, 1].copy())
    return list(zip(prices.to_list(), sizes.to_list(), strict=True))
