"""Lines of a recording of which only the ids are read: a block at once where all is usual, one by one and exactly where it is not.

Usual is the line form, byte for byte, with an object as data that holds no other object, so that nothing can follow it. A regular
expression sees to the form, the decoder to the JSON inside.
"""

from __future__ import annotations

import re

import msgspec

from capture_pipeline.binance.streams import StreamKind, kind_of

_USUAL = re.compile(rb'(?:\{"capture_ns":[0-9]+,"stream":"[^"\\\n]+","data":\{[^}\n]*+\}\}\n)*+')
_HEAD = re.compile(rb'\{"capture_ns":(0|[1-9][0-9]{0,18}),"stream":"([^"\\\n]+)","data":')
_BLANK = b" \t\r"
_WITH_IDS = frozenset({StreamKind.TRADE, StreamKind.DEPTH, StreamKind.SNAPSHOT})


class Ids(msgspec.Struct, gc=False):
    """What puts a message in its place; -1 where it carries no such id."""

    trade_id: int = msgspec.field(name="t", default=-1)
    first_id: int = msgspec.field(name="U", default=-1)
    last_id: int = msgspec.field(name="u", default=-1)
    previous_id: int = msgspec.field(name="pu", default=-1)
    snapshot_id: int = msgspec.field(name="lastUpdateId", default=-1)


class IdLine(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A line of which only the ids are read."""

    capture_ns: int
    stream: str
    data: Ids


_decode_block = msgspec.json.Decoder(IdLine).decode_lines
_decode_ids = msgspec.json.Decoder(Ids).decode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode


def usual_lines(block: bytes) -> list[IdLine] | None:
    """The lines of a block, or None where one of them is not in the usual form."""
    if not _USUAL.fullmatch(block):
        return None
    try:
        return _decode_block(block)
    except msgspec.DecodeError:
        return None


def exact_line(raw: bytes) -> IdLine:
    """The ids of one line in exactly the line form.

    Raises:
        ValueError: It is not, or its data are no JSON or have ids of another type.
    """
    head = _HEAD.match(raw)
    if not head or not raw.endswith(b"}"):
        raise ValueError("is not in the line form")
    data = raw[head.end() : -1]
    if not data or data[:1] in _BLANK or data[-1:] in _BLANK:
        raise ValueError("has blanks around its data")
    stream = head[2].decode()
    if kind_of(stream) in _WITH_IDS:
        return IdLine(int(head[1]), stream, _decode_ids(data))
    _decode_any(data)
    return IdLine(int(head[1]), stream, Ids())
