"""Stream messages of USD-M futures, in the exchange's field order; numbers have the decimals of their symbol."""

from __future__ import annotations

from capture_pipeline.binance.urls import Market
from capture_pipeline.sandbox.book import Diffs
from capture_pipeline.sandbox.frames import Scale
from capture_pipeline.sandbox.market import AGGREGATES_FROM, TradeIds
from capture_pipeline.sandbox.stream_messages import Key, Message
from capture_pipeline.sandbox.stream_text import level_texts, sent_times, trade_rows
from capture_pipeline.sandbox.tape import Trades

MARKET_ORDER, NO_TRADE = "MARKET", "NA"
"""Values of `X`: a trade of the market, and an id without any trade."""


def um_trade_messages(trades: Trades, key: Key, symbol: str, scale: Scale, ids: TradeIds) -> list[Message]:
    """`@trade`: the trades of the market, and between them the ids that are no trades of it."""
    messages = []
    for sent, (at, t, i, p, q, maker) in zip(_sent(trades, ids), trade_rows(trades, key, scale), strict=True):
        rows, kind = [(sent, p, q, MARKET_ORDER)], ids.kind_after(i)
        if kind is not None:
            rows.append((sent + 1, *(("0", "0") if kind == NO_TRADE else (p, q)), kind))
        messages += [
            Message(
                at,
                key,
                (
                    f'{{"e":"trade","E":{t},"T":{t},"s":"{symbol}","t":{number},"p":"{price}","q":"{quantity}","X":"{kind}","m":{maker}}}'
                ).encode(),
                number,
                number,
            )
            for number, price, quantity, kind in rows
        ]
    return messages


def um_agg_trade_messages(trades: Trades, key: Key, symbol: str, scale: Scale, ids: TradeIds) -> list[Message]:
    """`@aggTrade`: each trade is an aggregate of its own, with an id that is not the trade's."""
    since = AGGREGATES_FROM[Market.UM]
    return [
        Message(
            at,
            key,
            (
                f'{{"e":"aggTrade","E":{t},"s":"{symbol}","a":{since + a},"p":"{p}","q":"{q}","nq":"{q}",'
                f'"f":{i},"l":{i},"T":{t},"m":{maker}}}'
            ).encode(),
            since + a,
            since + a,
        )
        for i, (at, t, a, p, q, maker) in zip(_sent(trades, ids), trade_rows(trades, key, scale), strict=True)
    ]


def _sent(trades: Trades, ids: TradeIds) -> list[int]:
    sent: list[int] = ids.sent(Market.UM, trades.ids).tolist()
    return sent


def um_depth_messages(diffs: Diffs, key: Key, symbol: str, scale: Scale) -> list[Message]:
    """`@depth@100ms`: `pu` is the `u` before, and `U` may lie beyond the id that follows it, as at the exchange."""
    first, last = diffs.first_id.tolist(), diffs.last_id.tolist()
    bids, asks = level_texts(diffs.bids, scale), level_texts(diffs.asks, scale)
    beyond = [low + (high - low) // 3 for low, high in zip(first, last, strict=True)]
    rows = zip(diffs.time_us.tolist(), sent_times(diffs.time_us, key), beyond, first, last, bids, asks, strict=True)
    return [
        Message(
            at,
            key,
            f'{{"e":"depthUpdate","E":{t},"T":{t},"s":"{symbol}","U":{shown},"u":{high},"pu":{low - 1},"b":[{b}],"a":[{a}]}}'.encode(),
            low,
            high,
        )
        for at, t, shown, low, high, b, a in rows
    ]
