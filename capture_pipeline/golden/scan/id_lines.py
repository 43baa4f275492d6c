"""Lines of a recording of which only the ids are read: many at once where their layout is known, one by one and exactly where it is not.

A decoder takes the last of two keys of one name. In a known layout (`layouts.py`) no key stands twice; everywhere else it is looked for.
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
_MOST_DIGITS = 19


class Ids(msgspec.Struct, gc=False):
    """What puts a message in its place; -1 where it carries no such id."""

    trade_id: Int64 = msgspec.field(name="t", default=-1)
    first_id: Int64 = msgspec.field(name="U", default=-1)
    last_id: Int64 = msgspec.field(name="u", default=-1)
    previous_id: Int64 = msgspec.field(name="pu", default=-1)
    snapshot_id: Int64 = msgspec.field(name="lastUpdateId", default=-1)
    asks_or_id: msgspec.Raw = msgspec.field(name="a", default=_NO_ID)

    @property
    def aggregate_id(self) -> int:
        """Of an aggregate, whose key `a` a diff has for its asks; -1 where it is no id."""
        text = bytes(self.asks_or_id)
        return int(text) if text.isdigit() and len(text) < _MOST_DIGITS else -1


class IdLine(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A line of which only the ids are read."""

    capture_ns: Int64
    stream: str
    data: Ids


_decode_lines = msgspec.json.Decoder(IdLine).decode_lines
_decode_ids = msgspec.json.Decoder(Ids).decode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode


def usual_lines(run: bytes) -> list[IdLine] | None:
    """Lines in a known layout, or None where one of them holds what is no JSON or no id."""
    try:
        return _decode_lines(run)
    except PARSE_ERRORS:
        return None


def exact_line(raw: bytes) -> IdLine:
    """The ids of one line in exactly the line form.

    Raises:
        ValueError: It is not, or its data are no JSON, have ids of another type, or a key twice.
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
    _look_for_repeats(data)
    return line


def _look_for_repeats(data: bytes) -> None:
    """Refuse data of which an object, at any depth, has a key twice, spelled out or escaped.

    Raises:
        ValueError: It has.
    """
    _decode_pairs(data.decode())


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    keys = set()
    for key, _ in pairs:
        if key in keys:
            raise ValueError(f"has the key {key[:40]!r} twice")
        keys.add(key)


_decode_pairs = json.JSONDecoder(object_pairs_hook=_distinct, parse_int=str, parse_float=str).decode
