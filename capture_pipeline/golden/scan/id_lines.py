"""Decoding of the ids in lines: many lines at once in a known layout, else one by one with all checks.

A JSON decoder ignores all but the last of several equal keys. A known layout (`line_layouts.py`) excludes
duplicate keys; all other lines are checked for them.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from capture_pipeline.binance.streams.messages import Int64
from capture_pipeline.binance.streams.names import StreamKind, kind_of
from capture_pipeline.parsing import PARSE_ERRORS

_HEAD = re.compile(rb'\{"capture_ns":(0|[1-9][0-9]{0,18}),"stream":"([^"\\\n]+)","data":')
_BLANK = b" \t\r"
_WITH_IDS = frozenset({StreamKind.TRADE, StreamKind.AGG_TRADE, StreamKind.DEPTH, StreamKind.SNAPSHOT})
_NO_ID = msgspec.Raw(b"-1")
_MAX_DIGITS = 19


class Ids(msgspec.Struct, gc=False):
    """Ids of a message; -1 if the message does not contain the id."""

    trade_id: Int64 = msgspec.field(name="t", default=-1)
    first_id: Int64 = msgspec.field(name="U", default=-1)
    last_id: Int64 = msgspec.field(name="u", default=-1)
    previous_id: Int64 = msgspec.field(name="pu", default=-1)
    snapshot_id: Int64 = msgspec.field(name="lastUpdateId", default=-1)
    asks_or_id: msgspec.Raw = msgspec.field(name="a", default=_NO_ID)

    @property
    def aggregate_id(self) -> int:
        """Id of an aggregate trade; -1 if `a` is not an id. A diff has its asks under the same key."""
        text = bytes(self.asks_or_id)
        return int(text) if text.isdigit() and len(text) < _MAX_DIGITS else -1


class IdLine(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A line of a recording with the ids of its message."""

    capture_ns: Int64
    stream: str
    data: Ids


_decode_lines = msgspec.json.Decoder(IdLine).decode_lines
_decode_ids = msgspec.json.Decoder(Ids).decode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode


def decode_known_lines(run: bytes) -> list[IdLine] | None:
    """Decode lines in a known layout. Returns None if a line is not JSON or an id is not a number."""
    try:
        return _decode_lines(run)
    except PARSE_ERRORS:
        return None


def decode_line_exactly(raw: bytes) -> IdLine:
    """Decode the ids of one line, with all checks of the line form.

    Raises:
        ValueError: The line is not in the line form, its data are not JSON, an id has another type, or an
            object has a key twice.
    """
    head = _HEAD.match(raw)
    if not head or not raw.endswith(b"}"):
        raise ValueError("is not in the line form")
    data = raw[head.end() : -1]
    if not data or data[:1] in _BLANK or data[-1:] in _BLANK:
        raise ValueError("has blanks around its data")
    stream = head[2].decode()
    if kind_of(stream) in _WITH_IDS:
        line = IdLine(int(head[1]), stream, _decode_ids(data))
    else:
        _decode_any(data)
        line = IdLine(int(head[1]), stream, Ids())
    _check_duplicate_keys(data)
    return line


def _check_duplicate_keys(data: bytes) -> None:
    """Check that no object in the data has a key twice, at any depth and in any spelling.

    Raises:
        ValueError: An object has a key twice.
    """
    _decode_pairs(data.decode())


def _check_keys(pairs: list[tuple[str, Any]]) -> None:
    keys = set()
    for key, _ in pairs:
        if key in keys:
            raise ValueError(f"has the key {key[:40]!r} twice")
        keys.add(key)


_decode_pairs = json.JSONDecoder(object_pairs_hook=_check_keys, parse_int=str, parse_float=str).decode
