"""Messages of the streams as typed structs. Prices and quantities remain strings as sent.

Decoding validates the whole JSON text; unknown fields are skipped. The structs `…Ids` contain only the fields
that give the order of messages. Source: the exchange's WebSocket and REST documentation. Diffs of futures
have `pu`, diffs of spot do not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.parsing import PARSE_ERRORS, explain

T = TypeVar("T")
Id = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
EventTime = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999_999)]
"""Milliseconds or microseconds UTC, up to the year 9999."""
Level = tuple[str, str]
"""Price and quantity as sent; a quantity of zero removes the level."""
_LooseLevel = Annotated[
    list[str | Annotated[list[Any], msgspec.Meta(max_length=0)]], msgspec.Meta(min_length=2, max_length=3)
]
"""A level that may have an empty list as its third element, which the exchange sent until 2019-03."""
_NOTHING = msgspec.Raw(b"null")
MARKET_ORDER = "MARKET"
"""Value of `X` of futures' trades on the market."""


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One trade. `buyer_maker` is true if the seller was the taker.

    `order_type` is `X` of futures: `MARKET`, or another value, for instance `NA`, `INSURANCE_FUND` or `ADL`,
    for a trade outside the market.
    """

    trade_id: Id = msgspec.field(name="t")
    event_time: Int64 = msgspec.field(name="E")
    trade_time: Int64 = msgspec.field(name="T")
    symbol: str = msgspec.field(name="s")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    buyer_maker: bool = msgspec.field(name="m")
    order_type: Any = msgspec.field(name="X", default=None)


class AggTrade(msgspec.Struct, frozen=True, gc=False):
    """One aggregate of the trades `first_id` to `last_id`, of a stream or of REST."""

    agg_id: Id = msgspec.field(name="a")
    first_id: Id = msgspec.field(name="f")
    last_id: Id = msgspec.field(name="l")
    trade_time: Int64 = msgspec.field(name="T")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    buyer_maker: bool = msgspec.field(name="m")


class DepthDiff(msgspec.Struct, frozen=True, gc=False):
    """Changed levels, for the update ids `first_id` to `last_id`. Quantities are absolute."""

    event_time: Int64 = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    first_id: Id = msgspec.field(name="U")
    last_id: Id = msgspec.field(name="u")
    bids: list[Level] = msgspec.field(name="b")
    asks: list[Level] = msgspec.field(name="a")
    previous_id: Id | None = msgspec.field(name="pu", default=None)


class DepthSnapshot(msgspec.Struct, frozen=True, gc=False):
    """Answer of REST `depth`: the best levels of each side, the best one first."""

    last_id: Id = msgspec.field(name="lastUpdateId")
    bids: list[Level]
    asks: list[Level]


class BookTicker(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask after update `update_id`."""

    update_id: Id = msgspec.field(name="u")
    symbol: str = msgspec.field(name="s")
    bid: str = msgspec.field(name="b")
    bid_quantity: str = msgspec.field(name="B")
    ask: str = msgspec.field(name="a")
    ask_quantity: str = msgspec.field(name="A")


class TradeIds(msgspec.Struct, frozen=True, gc=False):
    """Id and event time of a trade."""

    trade_id: Id = msgspec.field(name="t")
    event_time: EventTime = msgspec.field(name="E")


class WireDiff(msgspec.Struct, frozen=True, gc=False):
    """A diff whose levels are decoded on access. `previous_id` is None for spot."""

    first_id: Id = msgspec.field(name="U")
    last_id: Id = msgspec.field(name="u")
    event_time: EventTime = msgspec.field(name="E")
    previous_id: Id | None = msgspec.field(name="pu", default=None)
    bids_text: msgspec.Raw = msgspec.field(name="b", default=_NOTHING)
    asks_text: msgspec.Raw = msgspec.field(name="a", default=_NOTHING)

    @property
    def bids(self) -> list[Level]:
        """Bids, decoded at each access.

        Raises:
            MalformedDataError: The bids are missing, or are not levels.
        """
        return _parse_levels(self.bids_text)

    @property
    def asks(self) -> list[Level]:
        """Asks, decoded at each access.

        Raises:
            MalformedDataError: The asks are missing, or are not levels.
        """
        return _parse_levels(self.asks_text)


class AggIds(msgspec.Struct, frozen=True, gc=False):
    """Id and event time of an aggregate trade."""

    agg_id: Id = msgspec.field(name="a")
    event_time: EventTime = msgspec.field(name="E")


decode_trade = msgspec.json.Decoder(Trade).decode
decode_agg_trade = msgspec.json.Decoder(AggTrade).decode
decode_agg_trades = msgspec.json.Decoder(list[AggTrade]).decode
decode_book_ticker = msgspec.json.Decoder(BookTicker).decode
decode_trade_ids = msgspec.json.Decoder(TradeIds).decode
decode_agg_ids = msgspec.json.Decoder(AggIds).decode
decode_wire_diff = msgspec.json.Decoder(WireDiff).decode
"""Each decoder raises one of `parsing.PARSE_ERRORS` if the bytes are not valid JSON of its struct."""


class _LooseDiff(DepthDiff, frozen=True, gc=False):
    bids: list[_LooseLevel] = msgspec.field(name="b")  # type: ignore[assignment]
    asks: list[_LooseLevel] = msgspec.field(name="a")  # type: ignore[assignment]


class _LooseSnapshot(DepthSnapshot, frozen=True, gc=False):
    bids: list[_LooseLevel]  # type: ignore[assignment]
    asks: list[_LooseLevel]  # type: ignore[assignment]


_decode_depth = msgspec.json.Decoder(DepthDiff).decode
_decode_snapshot = msgspec.json.Decoder(DepthSnapshot).decode
_decode_levels = msgspec.json.Decoder(list[Level]).decode
_decode_loose_depth = msgspec.json.Decoder(_LooseDiff).decode
_decode_loose_snapshot = msgspec.json.Decoder(_LooseSnapshot).decode
_decode_loose_levels = msgspec.json.Decoder(list[_LooseLevel]).decode


def decode_depth(data: bytes | msgspec.Raw) -> DepthDiff:
    """Decode a diff; an empty third element of a level is dropped.

    Raises:
        ValueError: The message is not JSON with the fields of a diff.
        RecursionError: The message is nested too deeply.
    """
    try:
        return _decode_depth(data)
    except msgspec.ValidationError as error:
        loose = _decode_or_raise(_decode_loose_depth, data, error)
        bids, asks = _strip_levels(loose.bids, error), _strip_levels(loose.asks, error)
        return DepthDiff(
            loose.event_time, loose.symbol, loose.first_id, loose.last_id, bids, asks, loose.previous_id
        )


def decode_snapshot(data: bytes | msgspec.Raw) -> DepthSnapshot:
    """Decode a snapshot; an empty third element of a level is dropped.

    Raises:
        ValueError: The message is not JSON with the fields of a snapshot.
        RecursionError: The message is nested too deeply.
    """
    try:
        return _decode_snapshot(data)
    except msgspec.ValidationError as error:
        loose = _decode_or_raise(_decode_loose_snapshot, data, error)
        return DepthSnapshot(
            loose.last_id, _strip_levels(loose.bids, error), _strip_levels(loose.asks, error)
        )


def _parse_levels(text: msgspec.Raw) -> list[Level]:
    try:
        return _decode_levels(text)
    except PARSE_ERRORS as error:
        with contextlib.suppress(*PARSE_ERRORS):
            return _strip_levels(_decode_loose_levels(text), msgspec.ValidationError(str(error)))
        raise MalformedDataError(
            f"is not a diff: {explain(error)}", remedy="the message is damaged; record it again"
        ) from None


def _decode_or_raise(
    decode: Callable[[bytes | msgspec.Raw], T], data: bytes | msgspec.Raw, error: msgspec.ValidationError
) -> T:
    """Decode levels with an optional third element; if that fails, raise the error of the strict decoder."""
    try:
        return decode(data)
    except PARSE_ERRORS:
        raise error from None


def _strip_levels(levels: Sequence[Sequence[Any]], error: msgspec.ValidationError) -> list[Level]:
    """Return price and quantity of levels; raise `error` if a third element is not an empty list."""
    for level in levels:
        price, quantity, *rest = level
        if (
            not isinstance(price, str)
            or not isinstance(quantity, str)
            or any(isinstance(each, str) for each in rest)
        ):
            raise error from None
    return [(level[0], level[1]) for level in levels]
