"""The layouts in which the exchange writes its messages, as one pattern over the lines of a block: each key where it stands, and once.

A key of JSON needs a colon, and a further key of the same object a comma. So between two keys of a layout stands anything without a comma,
or, of the lists of levels, without a colon: no other key fits in. That the values are sound JSON is the decoder's business. Both are
excluded single bytes, which the matcher passes over several times as fast as a class of bytes.

A line's match reaches over the head of the next one, for the colon that ends a list of asks is that one's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_HEAD = b'{"capture_ns":'
_VALUE, _FLAG = rb"[^,]*+", rb"(?:true|false)"
_NEXT = rb'\}\}\n(?:\{"capture_ns":|\Z)'


def _fields(names: str) -> bytes:
    """Keys in their order, each with its value and the comma behind it; a name in brackets may be left out."""
    made = (f'"{name.strip("()")}":'.encode() + _VALUE + b"," for name in names.split())
    return b"".join(
        b"(?:%b)?+" % field if name.startswith("(") else field
        for name, field in zip(names.split(), made, strict=True)
    )


_TRADE = rb'"e":"trade",' + _fields("E s t p q T m") + rb'"M":' + _FLAG + _NEXT
_AGGREGATE = (
    rb'"e":"aggTrade",'
    + _fields("E s a p q (nq) f l T")
    + rb'"m":'
    + _FLAG
    + rb'(?:,"M":'
    + _FLAG
    + rb")?+"
    + _NEXT
)
_BEST = _fields("u s b B a") + rb'"A":"[^"]*+"' + _NEXT
_DIFF = (
    rb'"e":"depthUpdate",'
    + _fields("E (T) s U u (pu)")
    + rb'"b":[^:]*+:(?<=,"a":)[^:]*+(?::(?<=\}\}\n\{"capture_ns":)|\Z(?<=\}\}\n))'
)
_LINE = rb'[0-9]++,"stream":"[^"\\\n]++","data":\{(?:' + b"|".join((_TRADE, _DIFF, _AGGREGATE, _BEST)) + b")"
_RUN = re.compile(re.escape(_HEAD) + b"(?:" + _LINE + b")*+")


def runs(block: bytes) -> Iterator[tuple[bytes, bool]]:
    """A block of whole lines in pieces, in order: lines that are all in a known layout, or one that is not, and which of the two."""
    at, size = 0, len(block)
    while at < size:
        end = _end(block, at)
        if end > at:
            yield (block if end - at == size else block[at:end]), True
            at = end
        if at < size:
            end = block.index(b"\n", at) + 1
            yield block[at:end], False
            at = end


def _end(block: bytes, at: int) -> int:
    """Where the lines in a known layout end that begin at a place."""
    run = _RUN.match(block, at)
    if not run:
        return at
    return run.end() if run.end() == len(block) else run.end() - len(_HEAD)
