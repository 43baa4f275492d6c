"""Ids of messages, which give their order in a stream.

A trade has `t`, an aggregate `a`, and a spot diff the range `U..u`. A futures diff continues the diff with
`u = pu`, and its `U` may be greater than `pu + 1`. Such a diff covers `pu + 1 .. u`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from capture_pipeline.binance.streams.messages import (
    WireDiff,
    decode_agg_ids,
    decode_trade_ids,
    decode_wire_diff,
)
from capture_pipeline.binance.streams.names import StreamKind
from capture_pipeline.orderbook.synchronization import first_covered_id


class MessageIds(msgspec.Struct, frozen=True, gc=False):
    """First and last id of a message, its event time as sent, and the diff if the message is one."""

    first: int
    last: int
    event_time: int
    diff: WireDiff | None = None


IdParser = Callable[[bytes], MessageIds]
"""Raises one of `parsing.PARSE_ERRORS` if the data are not a message of its stream."""


def find_id_parser(kind: StreamKind) -> IdParser | None:
    """Return the parser of the ids of a stream; None if its messages have no ids."""
    return _ID_PARSERS.get(kind)


def ids_of(kind: StreamKind, data: bytes) -> MessageIds | None:
    """Parse the ids of one message; None if its stream has no ids.

    Raises:
        ValueError: The data are not a message of this stream; other `parsing.PARSE_ERRORS` are possible.
    """
    place = find_id_parser(kind)
    return None if place is None else place(data)


def _trade(data: bytes) -> MessageIds:
    trade = decode_trade_ids(data)
    number = trade.trade_id
    return MessageIds(number, number, trade.event_time)


def _aggregate(data: bytes) -> MessageIds:
    aggregate = decode_agg_ids(data)
    return MessageIds(aggregate.agg_id, aggregate.agg_id, aggregate.event_time)


def _diff(data: bytes) -> MessageIds:
    diff = decode_wire_diff(data)
    first = first_covered_id(diff.first_id, diff.previous_id)
    return MessageIds(first, diff.last_id, diff.event_time, diff)


_ID_PARSERS: dict[StreamKind, IdParser] = {
    StreamKind.TRADE: _trade,
    StreamKind.AGG_TRADE: _aggregate,
    StreamKind.DEPTH: _diff,
}
