"""What the streams send, as typed structs whose prices and quantities stay the exchange's own strings.

Decoding validates the JSON as a whole; fields that are not named here are skipped. `…Ids` read only what puts a message in its place.
Source: the exchange's WebSocket and REST documentation; futures diffs carry `pu`, spot ones do not.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from capture_pipeline.errors import MalformedData

Id = Annotated[int, msgspec.Meta(ge=0)]
Level = tuple[str, str]
"""Price and quantity as sent; a quantity of zero removes the level."""
_NOTHING = msgspec.Raw(b"null")


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One trade. `buyer_maker` is true where the seller took."""

    trade_id: Id = msgspec.field(name="t")
    event_time: int = msgspec.field(name="E")
    trade_time: int = msgspec.field(name="T")
    symbol: str = msgspec.field(name="s")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    buyer_maker: bool = msgspec.field(name="m")


class AggTrade(msgspec.Struct, frozen=True, gc=False):
    """One aggregate of trades `first_id..last_id`, of a stream or of REST."""

    agg_id: Id = msgspec.field(name="a")
    first_id: Id = msgspec.field(name="f")
    last_id: Id = msgspec.field(name="l")
    trade_time: int = msgspec.field(name="T")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    buyer_maker: bool = msgspec.field(name="m")


class DepthDiff(msgspec.Struct, frozen=True, gc=False):
    """Changed levels; it covers the update ids `first_id..last_id`, quantities are absolute."""

    event_time: int = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    first_id: Id = msgspec.field(name="U")
    last_id: Id = msgspec.field(name="u")
    bids: list[Level] = msgspec.field(name="b")
    asks: list[Level] = msgspec.field(name="a")
    previous_id: Id | None = msgspec.field(name="pu", default=None)


class DepthSnapshot(msgspec.Struct, frozen=True, gc=False):
    """The answer of REST `depth`: the best levels of either side, best first."""

    last_id: Id = msgspec.field(name="lastUpdateId")
    bids: list[Level]
    asks: list[Level]


class BookTicker(msgspec.Struct, frozen=True, gc=False):
    """The best bid and ask after update `update_id`."""

    update_id: Id = msgspec.field(name="u")
    symbol: str = msgspec.field(name="s")
    bid: str = msgspec.field(name="b")
    bid_quantity: str = msgspec.field(name="B")
    ask: str = msgspec.field(name="a")
    ask_quantity: str = msgspec.field(name="A")


class TradeIds(msgspec.Struct, frozen=True, gc=False):
    """Place of a trade."""

    trade_id: Id = msgspec.field(name="t")
    event_time: int = msgspec.field(name="E")


class WireDiff(msgspec.Struct, frozen=True, gc=False):
    """A diff whose levels are still text: its place, and levels for those who ask. `previous_id` only of futures."""

    first_id: Id = msgspec.field(name="U")
    last_id: Id = msgspec.field(name="u")
    event_time: int = msgspec.field(name="E")
    previous_id: Id | None = msgspec.field(name="pu", default=None)
    bids_text: msgspec.Raw = msgspec.field(name="b", default=_NOTHING)
    asks_text: msgspec.Raw = msgspec.field(name="a", default=_NOTHING)

    @property
    def bids(self) -> list[Level]:
        """Decoded anew each time.

        Raises:
            MalformedData: They are missing, or no levels.
        """
        return _levels(self.bids_text)

    @property
    def asks(self) -> list[Level]:
        """Likewise."""
        return _levels(self.asks_text)


class AggIds(msgspec.Struct, frozen=True, gc=False):
    """Place of an aggregate trade."""

    agg_id: Id = msgspec.field(name="a")
    event_time: int = msgspec.field(name="E")


decode_trade = msgspec.json.Decoder(Trade).decode
decode_agg_trade = msgspec.json.Decoder(AggTrade).decode
decode_agg_trades = msgspec.json.Decoder(list[AggTrade]).decode
decode_depth = msgspec.json.Decoder(DepthDiff).decode
decode_snapshot = msgspec.json.Decoder(DepthSnapshot).decode
decode_book_ticker = msgspec.json.Decoder(BookTicker).decode
decode_trade_ids = msgspec.json.Decoder(TradeIds).decode
decode_agg_ids = msgspec.json.Decoder(AggIds).decode
decode_wire_diff = msgspec.json.Decoder(WireDiff).decode
"""Each raises `msgspec.DecodeError` (a ValueError) for what is not valid JSON of that shape."""


def _levels(text: msgspec.Raw) -> list[Level]:
    try:
        return _decode_levels(text)
    except msgspec.DecodeError as error:
        raise MalformedData(f"is no diff: {error}", remedy="the message is damaged; record it anew") from None


_decode_levels = msgspec.json.Decoder(list[Level]).decode
