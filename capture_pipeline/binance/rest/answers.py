"""Parsers of answers of the REST endpoints for the time and the symbols of the exchange."""

from __future__ import annotations

from typing import Annotated

import msgspec

from capture_pipeline.errors import ProtocolViolationError
from capture_pipeline.parsing import guard_parser

_LAST_MS = 253_402_300_799_999
"""The end of the year 9999, milliseconds UTC."""


class _Time(msgspec.Struct):
    serverTime: Annotated[int, msgspec.Meta(ge=0, le=_LAST_MS)]  # noqa: N815 - the exchange's name


class _Symbol(msgspec.Struct):
    symbol: str
    status: str


class _Info(msgspec.Struct):
    symbols: list[_Symbol]


_decode_time = msgspec.json.Decoder(_Time).decode
_decode_info = msgspec.json.Decoder(_Info).decode


def parse_time(body: bytes, where: str) -> int:
    """Parse the answer of `time` to microseconds UTC.

    Raises:
        ProtocolViolationError: The answer does not contain a time.
    """
    with guard_parser(where, f"does not contain the time: {body[:80]!r}", kind=ProtocolViolationError):
        return _decode_time(body).serverTime * 1000


def parse_statuses(body: bytes, where: str) -> dict[str, str]:
    """Parse the answer of `exchangeInfo` to the status of each symbol.

    Raises:
        ProtocolViolationError: The answer does not contain symbols with their status.
    """
    with guard_parser(where, f"is not an exchangeInfo: {body[:80]!r}", kind=ProtocolViolationError):
        return {entry.symbol: entry.status for entry in _decode_info(body).symbols}
