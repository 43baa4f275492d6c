"""Calls of each compiled kernel, which fill the cache of compiled code."""

from __future__ import annotations

import tempfile
from pathlib import Path

from capture_pipeline.binance.archive.klines.parser import parse_csv, parse_rest
from capture_pipeline.binance.streams.columns import PADDING
from capture_pipeline.binance.streams.decoders import CompiledDecoder
from capture_pipeline.feasibility.replay_throughput.synthetic_events import generate_events
from capture_pipeline.feasibility.replay_throughput.synthetic_session import (
    SYMBOL,
    make_session,
    recording_of,
    tables_of,
)
from capture_pipeline.replay.engine import Replay
from capture_pipeline.replay.sources.golden import GoldenSource
from capture_pipeline.replay.sources.raw import RawSource

_ROW = "1704067200000,1.0,2.0,0.5,1.5,10.0,1704067259999,15.0,3,5.0,7.5,0"
_LINE = b'{"capture_ns":1,"stream":"btcusdt@%b","data":%b}\n'
_DATA = {
    b"trade": b'{"e":"trade","E":1,"s":"BTCUSDT","t":1,"p":"1.00000000",'
    b'"q":"1.00000000","T":1,"m":true,"M":true}',
    b"depth@100ms": b'{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":2,'
    b'"b":[["1.00000000","1.00000000"]],"a":[]}',
    b"depthSnapshot": b'{"lastUpdateId":2,"bids":[["1.00000000","1.00000000"]],"asks":[]}',
}


def klines() -> None:
    """Call the kernels of klines."""
    parse_csv(f"{_ROW}\n".encode(), "warm-up")
    fields = _ROW.split(",")
    row = ",".join(field if place in {0, 6, 8} else f'"{field}"' for place, field in enumerate(fields))
    parse_rest(f"[[{row}]]".encode(), "warm-up")


def streams() -> None:
    """Call the kernel of recordings."""
    lines = b"".join(_LINE % (name, data) for name, data in _DATA.items())
    CompiledDecoder("warm-up").decode(lines + bytes(PADDING))


def books() -> None:
    """Call the kernels of replay with generated level updates, in memory, from lines and from tables."""
    for messages in generate_events(1):
        Replay().process(messages)
    with tempfile.TemporaryDirectory() as folder:
        make_session(Path(folder), 100)
        for source in (RawSource(recording_of(Path(folder))), GoldenSource(tables_of(Path(folder)), SYMBOL)):
            replay = Replay()
            for messages in source:
                replay.process(messages)
                replay.book.top(1)
                replay.book.prune(1.0)
