"""Pattern for lines in the layouts of the exchange, in which each key occurs once and at a fixed position.

A further key of a JSON object needs a comma and a colon. The pattern therefore accepts anything without a
comma between two keys, or without a colon in lists of levels: no other key fits. The JSON decoder checks the
values. Excluding a single byte is several times as fast as matching a class of bytes.

The match of a line includes the start of the next line, because the colon that ends a list of asks belongs to
it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_HEAD = b'{"capture_ns":'
_VALUE, _FLAG = rb"[^,]*+", rb"(?:true|false)"
_NEXT = rb'(?:,"st":[^,}]*+)?+\}\}\n(?:\{"capture_ns":|\Z)'


def _fields(names: str) -> bytes:
    """Build the pattern of keys in their order, each with value and comma; names in brackets are optional."""
    fields = (f'"{name.strip("()")}":'.encode() + _VALUE + b"," for name in names.split())
    return b"".join(
        b"(?:%b)?+" % field if name.startswith("(") else field
        for name, field in zip(names.split(), fields, strict=True)
    )


_TRADE = rb'"e":"trade",' + _fields("E s t p q T m") + rb'"M":' + _FLAG + _NEXT
_FUTURES_TRADE = rb'"e":"trade",' + _fields("E T s t p q (X)") + rb'"m":' + _FLAG + _NEXT
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
    + _fields("E (T) s (ps) U u (pu)")
    + rb'"b":[^:]*+:(?<=,"a":)[^:]*+(?::(?<=,"st":)[^:]*+)?+(?::(?<=\}\}\n\{"capture_ns":)|\Z(?<=\}\}\n))'
)
_LINE = (
    rb'[0-9]++,"stream":"[^"\\\n]++","data":\{(?:'
    + b"|".join((_TRADE, _DIFF, _FUTURES_TRADE, _AGGREGATE, _BEST))
    + b")"
)
_RUN = re.compile(re.escape(_HEAD) + b"(?:" + _LINE + b")*+")


class LinePiece(NamedTuple):
    """Lines that all have a known layout, or one other line."""

    lines: bytes
    is_known: bool


def split_by_layout(block: bytes) -> Iterator[LinePiece]:
    """Split a block of whole lines into pieces, in order."""
    at, size = 0, len(block)
    while at < size:
        end = _end(block, at)
        if end > at:
            yield LinePiece(block if end - at == size else block[at:end], is_known=True)
            at = end
        if at < size:
            end = block.index(b"\n", at) + 1
            yield LinePiece(block[at:end], is_known=False)
            at = end


def _end(block: bytes, at: int) -> int:
    """Return the end of the lines in a known layout that begin at `at`."""
    run = _RUN.match(block, at)
    if not run:
        return at
    return run.end() if run.end() == len(block) else run.end() - len(_HEAD)
