"""The ids of a message: what puts it in its place in its stream.

Trades go by `t`, aggregates by `a`, spot diffs by their range `U..u`. Futures diffs continue by `pu`, and their `U` may lie beyond it: such
a diff covers everything since its predecessor, `pu + 1 .. u`.
"""

from __future__ import annotations

from typing import NamedTuple

from capture_pipeline.binance.messages import decode_agg_ids, decode_depth_ids, decode_trade_ids
from capture_pipeline.binance.streams import StreamKind


class Ids(NamedTuple):
    """First and last id that a message covers, and the exchange's time of it, as sent."""

    first: int
    last: int
    event_time: int


def ids_of(kind: StreamKind | None, data: bytes | memoryview) -> Ids | None:
    """The ids of a message, None where its stream has none.

    Raises:
        msgspec.DecodeError: It is not what that stream sends.
    """
    if kind is StreamKind.TRADE:
        trade = decode_trade_ids(data)
        return Ids(trade.trade_id, trade.trade_id, trade.event_time)
    if kind is StreamKind.DEPTH:
        diff = decode_depth_ids(data)
        first = diff.first_id if diff.previous_id is None else diff.previous_id + 1
        return Ids(first, diff.last_id, diff.event_time)
    if kind is StreamKind.AGG_TRADE:
        aggregate = decode_agg_ids(data)
        return Ids(aggregate.agg_id, aggregate.agg_id, aggregate.event_time)
    return None
