"""Decoder of one line of a recording in any valid layout. It is the reference for the kernel.

It is slow and general: msgspec validates the JSON, and a pattern validates the numbers. A line that is
rejected here is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from capture_pipeline.binance.decimals import MAX_UNITS, PLACES, PLAIN_DECIMAL, UNIT
from capture_pipeline.binance.streams.columns import DEPTH, SKIP, SNAPSHOT, TRADE
from capture_pipeline.binance.streams.messages import (
    DepthDiff,
    DepthSnapshot,
    Level,
    decode_depth,
    decode_snapshot,
    decode_trade,
)
from capture_pipeline.binance.streams.names import StreamKind, event_us, kind_of, symbol_of
from capture_pipeline.binance.symbols import validate_symbol
from capture_pipeline.errors import ConfigError, MalformedDataError
from capture_pipeline.parsing import PARSE_ERRORS, explain

_FAILURES: tuple[type[Exception], ...] = (ConfigError, *PARSE_ERRORS)
_DECIMAL = re.compile(PLAIN_DECIMAL)
_MAX_INT64 = 2**63 - 1
_LONGEST_ORDER_TYPE = 64
_KINDS = {StreamKind.TRADE: TRADE, StreamKind.DEPTH: DEPTH, StreamKind.SNAPSHOT: SNAPSHOT}
_REMEDY = "delete this line, or record again"


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    capture_ns: int
    stream: str
    data: msgspec.Raw


class ParsedDecimal(NamedTuple):
    """Price or quantity in units of 1e-8, and its number of decimals."""

    units: int
    places: int


class ParsedLevel(NamedTuple):
    """Price and quantity in units of 1e-8; `places` is 16 times the price's decimals plus the quantity's."""

    price: int
    quantity: int
    places: int


@dataclass
class ParsedLine:
    """A line with its values in the form of the kernel's outputs.

    Attributes:
        stream: Name of the stream.
        kind: `TRADE`, `DEPTH`, `SNAPSHOT` or `SKIP`.
        row: First values of the kernel's row: of a trade up to `T_PLACES`, of a book up to `D_PREVIOUS`.
        bids: Levels of the bids.
        asks: Levels of the asks.
        order_type: `X` of a trade as sent; None without `X`. The kernel accepts only `MARKET`.
    """

    stream: str
    kind: int
    row: list[int] = field(default_factory=list)
    bids: list[ParsedLevel] = field(default_factory=list)
    asks: list[ParsedLevel] = field(default_factory=list)
    order_type: str | None = None


def decimal_e8(text: str) -> ParsedDecimal:
    """Parse a price or quantity.

    Raises:
        ValueError: The text has a sign, an exponent, superfluous leading zeros or more than eight decimals,
            or the value needs more than 64 bits.
    """
    found = _DECIMAL.fullmatch(text)
    if not found:
        raise ValueError(f"{text[:40]!r} is not a plain number of up to eight decimals")
    fraction = found[2] or ""
    value = int(found[1]) * UNIT + int(fraction.ljust(PLACES, "0"))
    if value > MAX_UNITS:
        raise ValueError(f"{text!r} does not fit 64 bits in units of 1e-8")
    return ParsedDecimal(value, len(fraction))


def kernel_kind(stream: str) -> int:
    """Return the kind with which the kernel parses the lines of a stream."""
    return _KINDS.get(kind_of(stream), SKIP)


def read_line(line: bytes, where: str) -> ParsedLine:
    """Read one line.

    Args:
        line: The line, with or without its line feed.
        where: File and line number, for errors.

    Raises:
        MalformedDataError: The line is not a line of a recording, or its message does not have the exchange's
            form.
    """
    try:
        return _parse_line(line)
    except _FAILURES as error:
        what = f"{explain(error)}, found {line[:100]!r}"
        raise MalformedDataError(what, where=where, remedy=_REMEDY) from None


def _parse_line(line: bytes) -> ParsedLine:
    envelope = _decode_line(line)
    kind, data = kernel_kind(envelope.stream), envelope.data
    found = ParsedLine(envelope.stream, kind, [_check_int64(envelope.capture_ns)])
    if kind == SKIP:
        return found
    symbol = validate_symbol(symbol_of(envelope.stream))
    if kind == TRADE:
        trade = decode_trade(data)
        (price, price_places), (quantity, quantity_places) = (
            decimal_e8(trade.price),
            decimal_e8(trade.quantity),
        )
        found.row += [
            _check_int64(event_us(trade.event_time)),
            _check_int64(event_us(trade.trade_time)),
            _check_int64(trade.trade_id),
        ]
        found.row += [price, quantity, int(trade.buyer_maker), price_places * 16 + quantity_places]
        found.order_type = _convert_order_type(trade.order_type)
        _check_symbol(trade.symbol, symbol)
        return found
    book: DepthDiff | DepthSnapshot
    if kind == DEPTH:
        book = diff = decode_depth(data)
        previous = -1 if diff.previous_id is None else _check_int64(diff.previous_id)
        found.row += [
            _check_int64(event_us(diff.event_time)),
            _check_int64(diff.first_id),
            _check_int64(diff.last_id),
            previous,
        ]
        _check_symbol(diff.symbol, symbol)
    else:
        book = decode_snapshot(data)
        found.row += [0, 0, _check_int64(book.last_id), -1]
    found.bids, found.asks = (
        [_parse_level(level) for level in book.bids],
        [_parse_level(level) for level in book.asks],
    )
    return found


def _parse_level(level: Level) -> ParsedLevel:
    (price, price_places), (quantity, quantity_places) = decimal_e8(level[0]), decimal_e8(level[1])
    return ParsedLevel(price, quantity, price_places * 16 + quantity_places)


def _convert_order_type(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    """Convert `X` to text: a string as it is, another value as JSON.

    Raises:
        ValueError: The text has more than `_LONGEST_ORDER_TYPE` characters.
    """
    if value is None:
        return None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if len(text) > _LONGEST_ORDER_TYPE:
        raise ValueError(f"X has {len(text):,} characters, {_LONGEST_ORDER_TYPE} at most are read")
    return text


def _check_int64(value: int) -> int:
    if not -_MAX_INT64 <= value <= _MAX_INT64:
        raise ValueError(f"{value} does not fit 64 bits")
    return value


def _check_symbol(found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(f"a message of {found[:40]!r} is in a stream of {expected}")


_decode_line = msgspec.json.Decoder(_Line).decode
