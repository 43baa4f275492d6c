"""The ids of a message: what puts it in its place in its stream.

Trades go by `t`, aggregates by `a`, spot diffs by their range `U..u`. Futures diffs continue by `pu`, and their `U` may lie beyond it: such
a diff covers everything since its predecessor, `pu + 1 .. u`.
"""

from __future__ import annotations

from collections.abc import Callable

from capture_pipeline.binance.streams.messages import (
    WireDiff,
    decode_agg_ids,
    decode_trade_ids,
    decode_wire_diff,
)
from capture_pipeline.binance.streams.names import StreamKind

Ids = tuple[int, int, int, WireDiff | None]
"""First and last id that a message covers, the exchange's time of it, as sent, and the diff, if it is one."""
IdParser = Callable[[bytes], Ids]
"""Raises one of `parsing.PARSE_ERRORS` for what that stream does not send."""


def find_id_parser(kind: StreamKind) -> IdParser | None:
    """What finds the ids of a stream's messages; None where they have none."""
    return _ID_PARSERS.get(kind)


def ids_of(kind: StreamKind, data: bytes) -> Ids | None:
    """The ids of one message, None where its stream has none.

    Raises:
        ValueError: It is not what that stream sends; any other of `parsing.PARSE_ERRORS` likewise.
    """
    place = find_id_parser(kind)
    return None if place is None else place(data)


def _trade(data: bytes) -> Ids:
    trade = decode_trade_ids(data)
    number = trade.trade_id
    return number, number, trade.event_time, None


def _aggregate(data: bytes) -> Ids:
    aggregate = decode_agg_ids(data)
    return aggregate.agg_id, aggregate.agg_id, aggregate.event_time, None


def _diff(data: bytes) -> Ids:
    diff = decode_wire_diff(data)
    first = diff.first_id if diff.previous_id is None else diff.previous_id + 1
    return first, diff.last_id, diff.event_time, diff


_ID_PARSERS: dict[StreamKind, IdParser] = {
    StreamKind.TRADE: _trade,
    StreamKind.AGG_TRADE: _aggregate,
    StreamKind.DEPTH: _diff,
}
