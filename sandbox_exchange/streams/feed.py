"""Feed of the synthetic market: messages are rendered in blocks of time, once for all connections."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import chain
from operator import attrgetter
from zlib import crc32

from capture_pipeline.binance.streams.names import StreamKind, kind_of, symbol_of
from capture_pipeline.binance.urls import Market
from sandbox_exchange.market.book import SLOT_US
from sandbox_exchange.market.kline_text import Scale
from sandbox_exchange.market.market import SyntheticMarket
from sandbox_exchange.market.trades import Trades
from sandbox_exchange.streams.futures_messages import FuturesMessages
from sandbox_exchange.streams.messages import Message, MessageWindow, StreamKey
from sandbox_exchange.streams.spot_messages import (
    agg_trade_messages,
    depth_messages,
    ticker_messages,
    trade_messages,
)

_BLOCK_SLOTS = 250
_BLOCK_US = _BLOCK_SLOTS * SLOT_US
_CACHED_BLOCKS = 2
_SLOW_STEP = 10
_TIME = attrgetter("time_us")
_TradeRenderer = Callable[[Trades, StreamKey, str, Scale], list[Message]]
_DEPTH_STEPS = {
    Market.SPOT: {"depth@100ms": 1, "depth": _SLOW_STEP, "depth@1000ms": _SLOW_STEP},
    Market.UM: {"depth@100ms": 1},
}
_KINDS = {
    Market.SPOT: {StreamKind.TRADE, StreamKind.AGG_TRADE, StreamKind.BOOK_TICKER},
    Market.UM: {StreamKind.TRADE, StreamKind.AGG_TRADE},
}


class MarketFeed:
    """Streams of spot and futures. An unknown stream has no messages, as at the exchange."""

    runs_without_listeners = is_finished = False

    def __init__(self, market: SyntheticMarket) -> None:
        self._market = market
        futures = FuturesMessages(market.trade_ids, market.has_older_um_frames)
        self._trade_renderers: dict[Market, dict[StreamKind, _TradeRenderer]] = {
            Market.SPOT: {
                StreamKind.TRADE: partial(trade_messages, market.trade_ids),
                StreamKind.AGG_TRADE: partial(agg_trade_messages, market.trade_ids),
            },
            Market.UM: {StreamKind.TRADE: futures.trades, StreamKind.AGG_TRADE: futures.aggregates},
        }
        self._depth_renderers = {Market.SPOT: depth_messages, Market.UM: futures.depth}
        self._specs = {(of, spec.symbol): spec for of in Market for spec in market.symbols(of)}
        self._blocks: dict[StreamKey, dict[int, list[Message]]] = {}

    def render(self, keys: Collection[StreamKey], start_us: int, end_us: int) -> Iterator[None]:
        """Render the messages of `(start_us, end_us]`; yield after each block for pings."""
        for key in sorted(filter(self._is_served, keys)):
            for block in self._block_range(key, start_us, end_us):
                if block not in self._blocks.get(key, ()):
                    self._get_block(key, block)
                    yield

    def window(self, keys: Collection[StreamKey], start_us: int, end_us: int) -> MessageWindow:
        """Return all messages in `(start_us, end_us]`, in order of time, and `end_us`."""
        for key in self._blocks.keys() - set(keys):
            del self._blocks[key]
        parts = [
            self._messages_between(key, start_us, end_us) for key in sorted(keys) if self._is_served(key)
        ]
        return MessageWindow(sorted(chain.from_iterable(parts), key=_TIME), end_us)

    def _is_served(self, key: StreamKey) -> bool:
        name, _, topic = key.stream.partition("@")
        is_kind = kind_of(key.stream) in _KINDS[key.market] or topic in _DEPTH_STEPS[key.market]
        return is_kind and name.islower() and (key.market, symbol_of(key.stream)) in self._specs

    def _messages_between(self, key: StreamKey, start_us: int, end_us: int) -> list[Message]:
        messages = list(
            chain.from_iterable(
                self._get_block(key, block) for block in self._block_range(key, start_us, end_us)
            )
        )
        return messages[
            bisect_right(messages, start_us, key=_TIME) : bisect_right(messages, end_us, key=_TIME)
        ]

    def _block_range(self, key: StreamKey, start_us: int, end_us: int) -> range:
        origin = (
            self._market.trade_series(key.market, symbol_of(key.stream)).hours.first_us
            - self._shift(key) * SLOT_US
        )
        return range(max(0, (start_us - origin) // _BLOCK_US), (end_us - origin) // _BLOCK_US + 1)

    def _step(self, key: StreamKey) -> int:
        """Return the minimum number of slots that a diff covers."""
        stream_step = _DEPTH_STEPS[key.market].get(key.stream.partition("@")[2], 1)
        return math.lcm(self._specs[key.market, symbol_of(key.stream)].book_slots or 1, stream_step)

    def _shift(self, key: StreamKey) -> int:
        """Return the slots by which the blocks of a stream start earlier.

        The shift differs by stream, so that the blocks of many streams are not rendered at the same time.
        """
        step = self._step(key)
        return crc32(key.stream.encode()) % (_BLOCK_SLOTS // step) * step

    def _get_block(self, key: StreamKey, block: int) -> list[Message]:
        blocks = self._blocks.setdefault(key, {})
        if block not in blocks:
            blocks[block] = self._render_block(key, block)
            while len(blocks) > _CACHED_BLOCKS:
                del blocks[next(iter(blocks))]
        return blocks[block]

    def _render_block(self, key: StreamKey, block: int) -> list[Message]:
        market, symbol, kind = key.market, symbol_of(key.stream), kind_of(key.stream)
        scale, first = Scale(self._specs[market, symbol], market), block * _BLOCK_SLOTS - self._shift(key)
        if self._specs[market, symbol].book_slots is None and kind in {
            StreamKind.DEPTH,
            StreamKind.BOOK_TICKER,
        }:
            return []
        if kind is StreamKind.DEPTH:
            diffs = self._market.book(market, symbol).diffs(first, first + _BLOCK_SLOTS, self._step(key))
            return self._depth_renderers[market](diffs, key, symbol, scale)
        if kind is StreamKind.BOOK_TICKER:
            return ticker_messages(
                self._market.book(market, symbol).best(first, first + _BLOCK_SLOTS), key, symbol, scale
            )
        start = self._market.trade_series(market, symbol).hours.first_us + first * SLOT_US
        trades = self._market.trades(market, symbol, start, start + _BLOCK_US)
        return self._trade_renderers[market][kind](trades, key, symbol, scale)
