"""Stream messages of spot, with the field order of the exchange and eight decimals."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from capture_pipeline.binance.urls import Market
from sandbox_exchange.market.book import BestPrices, Diffs, SideChanges
from sandbox_exchange.market.kline_text import Scale
from sandbox_exchange.market.market import TradeIds
from sandbox_exchange.market.prng import Ints
from sandbox_exchange.market.trades import Aggregates, Trades
from sandbox_exchange.streams.messages import Message, StreamKey


def trade_messages(ids: TradeIds, trades: Trades, key: StreamKey, symbol: str, scale: Scale) -> list[Message]:
    """Render `@trade`."""
    return [
        Message(
            at,
            key,
            (
                f'{{"e":"trade","E":{t},"s":"{symbol}","t":{i},"p":"{p}","q":"{q}",'
                f'"T":{t},"m":{maker},"M":true}}'
            ).encode(),
            i,
            i,
        )
        for i, (at, t, _, p, q, maker) in zip(
            ids.sent_ids(Market.SPOT, trades.ids).tolist(), trade_rows(trades, key, scale), strict=True
        )
    ]


def agg_trade_messages(
    ids: TradeIds, trades: Trades, key: StreamKey, symbol: str, scale: Scale
) -> list[Message]:
    """Render `@aggTrade`: one message for the trades of a taker order at one price, as in REST."""
    aggregates = Aggregates.of(trades)
    first_ids, last_ids = (
        ids.sent_ids(Market.SPOT, each).tolist() for each in (aggregates.first, aggregates.last)
    )
    rows = zip(trade_rows(aggregates.rows, key, scale), first_ids, last_ids, strict=True)
    return [
        Message(
            at,
            key,
            (
                f'{{"e":"aggTrade","E":{t},"s":"{symbol}","a":{a},"p":"{p}","q":"{q}",'
                f'"f":{first},"l":{last},"T":{t},"m":{maker},"M":true}}'
            ).encode(),
            a,
            a,
        )
        for (at, t, a, p, q, maker), first, last in rows
    ]


def depth_messages(diffs: Diffs, key: StreamKey, symbol: str, scale: Scale) -> list[Message]:
    """Render `@depth` at any speed."""
    times, first, last = diffs.time_us.tolist(), diffs.first_id.tolist(), diffs.last_id.tolist()
    bids, asks = level_texts(diffs.bids, scale), level_texts(diffs.asks, scale)
    return [
        Message(
            at,
            key,
            f'{{"e":"depthUpdate","E":{t},"s":"{symbol}","U":{low},"u":{high},"b":[{b}],"a":[{a}]}}'.encode(),
            low,
            high,
        )
        for at, t, low, high, b, a in zip(
            times, sent_times(diffs.time_us, key), first, last, bids, asks, strict=True
        )
    ]


def ticker_messages(best: BestPrices, key: StreamKey, symbol: str, scale: Scale) -> list[Message]:
    """Render `@bookTicker`, which contains no time."""
    columns = [
        scale.text(kind, best.rows[:, place].copy())
        for place, kind in enumerate(("price", "lot", "price", "lot"))
    ]
    rows = zip(best.time_us.tolist(), best.last_id.tolist(), *columns, strict=True)
    return [
        Message(
            at, key, f'{{"u":{u},"s":"{symbol}","b":"{b}","B":"{bq}","a":"{a}","A":"{aq}"}}'.encode(), u, u
        )
        for at, u, b, bq, a, aq in rows
    ]


class TradeRow(NamedTuple):
    """Values of a trade.

    Attributes:
        time_us: Time, microseconds UTC.
        sent_time: Time in the unit of the stream.
        trade_id: Id of the market.
        price: Text of the price.
        quantity: Text of the quantity.
        buyer_maker: `true` if the seller was the taker.
    """

    time_us: int
    sent_time: int
    trade_id: int
    price: str
    quantity: str
    buyer_maker: str


def trade_rows(trades: Trades, key: StreamKey, scale: Scale) -> Iterator[TradeRow]:
    """Iterate over the trades."""
    texts = scale.text("price", trades.price), scale.text("lot", trades.quantity)
    makers = ("false" if taker else "true" for taker in trades.taker_buys.tolist())
    rows = zip(
        trades.time_us.tolist(),
        sent_times(trades.time_us, key),
        trades.ids.tolist(),
        *texts,
        makers,
        strict=True,
    )
    return map(TradeRow._make, rows)


def sent_times(time_us: Ints, key: StreamKey) -> list[int]:
    """Convert times to the unit of a stream."""
    times: list[int] = (time_us if key.micro else time_us // 1000).tolist()
    return times


def level_texts(side: SideChanges, scale: Scale) -> list[str]:
    """Render the levels of one side of each diff."""
    texts = (
        '["' + scale.text("price", side.price) + '","' + scale.text("lot", side.quantity) + '"]'
    ).to_list()
    bounds = side.bounds.tolist()
    return [",".join(texts[first:end]) for first, end in pairwise(bounds)]
