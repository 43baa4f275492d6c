"""The synthetic market as streams: messages are rendered in blocks of time, once for all connections and however the clock runs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from itertools import chain
from operator import attrgetter

from capture_pipeline.binance.streams import StreamKind, kind_of, symbol_of
from capture_pipeline.binance.urls import Market
from capture_pipeline.sandbox.book import SLOT_US
from capture_pipeline.sandbox.frames import Scale
from capture_pipeline.sandbox.market import SyntheticMarket
from capture_pipeline.sandbox.stream_messages import Key, Message
from capture_pipeline.sandbox.stream_text import agg_trade_messages, depth_messages, ticker_messages, trade_messages

_BLOCK_SLOTS = 250
_BLOCK_US = _BLOCK_SLOTS * SLOT_US
_KEPT_BLOCKS = 2
_SLOW_STEP = 10
_TIME = attrgetter("time_us")
_DEPTH_STEPS = {"depth@100ms": 1, "depth": _SLOW_STEP, "depth@1000ms": _SLOW_STEP}


class MarketFeed:
    """Spot streams; names of no stream are listened to in vain, as at the exchange."""

    goes_on = ended = False

    def __init__(self, market: SyntheticMarket) -> None:
        """Render nothing yet."""
        self._market = market
        self._specs = {spec.symbol: spec for spec in market.symbols(Market.SPOT)}
        self._blocks: dict[Key, dict[int, list[Message]]] = {}

    def window(self, keys: Collection[Key], start_us: int, end_us: int) -> tuple[list[Message], int]:
        """Messages in `(start_us, end_us]`; always complete."""
        for key in self._blocks.keys() - set(keys):
            del self._blocks[key]
        parts = [self._part(key, start_us, end_us) for key in sorted(keys) if self._is_served(key.stream)]
        return sorted(chain.from_iterable(parts), key=_TIME), end_us

    def _is_served(self, stream: str) -> bool:
        kind, topic = kind_of(stream), stream.partition("@")[2]
        is_kind = kind in {StreamKind.TRADE, StreamKind.AGG_TRADE, StreamKind.BOOK_TICKER} or topic in _DEPTH_STEPS
        return is_kind and stream.partition("@")[0].islower() and symbol_of(stream) in self._specs

    def _part(self, key: Key, start_us: int, end_us: int) -> list[Message]:
        origin = self._market.tape(Market.SPOT, symbol_of(key.stream)).hours.first_us
        blocks = range(max(0, (start_us - origin) // _BLOCK_US), (end_us - origin) // _BLOCK_US + 1)
        messages = list(chain.from_iterable(self._block(key, block) for block in blocks))
        return messages[bisect_right(messages, start_us, key=_TIME) : bisect_right(messages, end_us, key=_TIME)]

    def _block(self, key: Key, block: int) -> list[Message]:
        kept = self._blocks.setdefault(key, {})
        if block not in kept:
            kept[block] = self._rendered(key, block)
            while len(kept) > _KEPT_BLOCKS:
                del kept[next(iter(kept))]
        return kept[block]

    def _rendered(self, key: Key, block: int) -> list[Message]:
        symbol, kind = symbol_of(key.stream), kind_of(key.stream)
        scale, first = Scale(self._specs[symbol], Market.SPOT), block * _BLOCK_SLOTS
        if kind is StreamKind.DEPTH:
            step = _DEPTH_STEPS[key.stream.partition("@")[2]]
            diffs = self._market.book(Market.SPOT, symbol).diffs(first, first + _BLOCK_SLOTS, step)
            return depth_messages(diffs, key, symbol, scale)
        if kind is StreamKind.BOOK_TICKER:
            return ticker_messages(self._market.book(Market.SPOT, symbol).best(first, first + _BLOCK_SLOTS), key, symbol, scale)
        start = self._market.tape(Market.SPOT, symbol).hours.first_us + block * _BLOCK_US
        trades = self._market.trades(Market.SPOT, symbol, start, start + _BLOCK_US)
        return (trade_messages if kind is StreamKind.TRADE else agg_trade_messages)(trades, key, symbol, scale)
