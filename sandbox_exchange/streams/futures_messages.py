"""Stream messages of USD-M futures, with the field order of the exchange and the decimals of each symbol."""

from __future__ import annotations

from dataclasses import dataclass

from capture_pipeline.binance.urls import Market
from sandbox_exchange.market.book import Diffs
from sandbox_exchange.market.kline_text import Scale
from sandbox_exchange.market.market import AGGREGATES_FROM, TradeIds
from sandbox_exchange.market.prng import Ints
from sandbox_exchange.market.trades import Aggregates, Trades
from sandbox_exchange.streams.messages import Message, StreamKey
from sandbox_exchange.streams.spot_messages import level_texts, sent_times, trade_rows

MARKET_ORDER, NO_TRADE = "MARKET", "NA"
"""Values of the field `X`: a trade of the market, and an id without a trade."""


@dataclass(frozen=True)
class FuturesMessages:
    """Renderer of the messages of futures streams.

    Attributes:
        ids: Conversion of trade ids to the ids that are sent.
        is_older: Whether frames have the form from before mid-2026: without `ps` and `st`, and with `s`
            before `a`.
    """

    ids: TradeIds
    is_older: bool = False

    def trades(self, trades: Trades, key: StreamKey, symbol: str, scale: Scale) -> list[Message]:
        """Render `@trade`: the trades of the market, and other ids between them."""
        messages = []
        for sent, (at, t, i, p, q, maker) in zip(
            self._sent_ids(trades.ids), trade_rows(trades, key, scale), strict=True
        ):
            rows, kind = [(sent, p, q, MARKET_ORDER)], self.ids.order_type_after(i)
            if kind is not None:
                rows.append((sent + 1, *(("0", "0") if kind == NO_TRADE else (p, q)), kind))
            for number, price, quantity, order in rows:
                ids = f'"E":{t},"T":{t},"s":"{symbol}","t":{number}'
                text = (
                    f'{{"e":"trade",{ids},"p":"{price}","q":"{quantity}","X":"{order}","m":{maker}{self._end}'
                )
                messages.append(Message(at, key, text.encode(), number, number))
        return messages

    def aggregates(self, trades: Trades, key: StreamKey, symbol: str, scale: Scale) -> list[Message]:
        """Render `@aggTrade`: the trades of a taker order at one price, with ids of their own."""
        aggregates, offset = Aggregates.of(trades), AGGREGATES_FROM[Market.UM]
        rows = zip(
            trade_rows(aggregates.rows, key, scale),
            self._sent_ids(aggregates.first),
            self._sent_ids(aggregates.last),
            strict=True,
        )
        messages = []
        for (at, t, number, p, q, maker), first, last in rows:
            a = offset + number
            names = f'"s":"{symbol}","a":{a}' if self.is_older else f'"a":{a},"s":"{symbol}"'
            values = f'"p":"{p}","q":"{q}","nq":"{q}","f":{first},"l":{last},"T":{t},"m":{maker}'
            text = f'{{"e":"aggTrade","E":{t},{names},{values}{self._end}'
            messages.append(Message(at, key, text.encode(), a, a))
        return messages

    def depth(self, diffs: Diffs, key: StreamKey, symbol: str, scale: Scale) -> list[Message]:
        """Render `@depth@100ms`: `pu` is the previous `u`; `U` may be more than `pu + 1`."""
        first, last = diffs.first_id.tolist(), diffs.last_id.tolist()
        bids, asks = level_texts(diffs.bids, scale), level_texts(diffs.asks, scale)
        first_shown = [low + (high - low) // 3 for low, high in zip(first, last, strict=True)]
        rows = zip(
            diffs.time_us.tolist(),
            sent_times(diffs.time_us, key),
            first_shown,
            first,
            last,
            bids,
            asks,
            strict=True,
        )
        pair = "" if self.is_older else f'"ps":"{symbol.partition("_")[0]}",'
        messages = []
        for at, t, shown, low, high, b, a in rows:
            ids = f'"s":"{symbol}",{pair}"U":{shown},"u":{high},"pu":{low - 1}'
            text = f'{{"e":"depthUpdate","E":{t},"T":{t},{ids},"b":[{b}],"a":[{a}]{self._end}'
            messages.append(Message(at, key, text.encode(), low, high))
        return messages

    @property
    def _end(self) -> str:
        return "}" if self.is_older else ',"st":1}'

    def _sent_ids(self, ids: Ints) -> list[int]:
        sent: list[int] = self.ids.sent_ids(Market.UM, ids).tolist()
        return sent
