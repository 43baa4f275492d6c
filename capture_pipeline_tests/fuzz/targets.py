"""The parsers of bytes from outside, each with sound input; they may return a value or raise the project's own error, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request

from capture_pipeline.binance.archive.client import _continues
from capture_pipeline.binance.archive.klines import parse_csv, parse_rest
from capture_pipeline.binance.archive.protocol import parse_checksum, parse_listing
from capture_pipeline.binance.archive.zip_file import only_entry
from capture_pipeline.binance.http.refusals import parse_error, parse_wait
from capture_pipeline.binance.rest.client import parse_statuses, parse_time
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.proof.published_trades import parse_published_trades
from capture_pipeline.parsing import parse_count
from capture_pipeline.recorder.background.book_follower import Follower
from capture_pipeline.recorder.background.trade_backfill import _page
from capture_pipeline.recorder.connections.frame_parser import FrameCutter, FrameError
from capture_pipeline.recorder.ordering.ingress import Intake
from capture_pipeline.sessions.gzip_members import member_of
from capture_pipeline.sessions.gzip_members import scan as scan_members
from capture_pipeline_tests.binance.stream_kernel_test import (
    DIFF,
    SNAPSHOT,
    TICKER,
    TRADE,
    UM_LINES,
    check_mutant,
)
from capture_pipeline_tests.recorder.hostile import CONT, FIN, PING, TEXT, frame
from sandbox_exchange.faults.rules import FaultScript
from sandbox_exchange.server.control import body_of
from sandbox_exchange.streams.subscribe import answer

DATA = {
    name: line.split(b'"data":')[1][:-2]
    for name, line in (("trade", TRADE), ("diff", DIFF), ("snapshot", SNAPSHOT))
}
AGGREGATE = b'{"a":7,"p":"1.5","q":"2.0","f":11,"l":12,"T":1723161255612,"m":true,"M":true}'
KLINE = (
    b"1735689600000,93576.00,93702.15,93489.03,93656.18,52.46,1735689659999,4910000.0,9000,26.1,2440000.0,0"
)
_KLINE_HEADER = b"open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore\n"
PUBLISHED_TRADE = b"4359204385,93576.00,0.001,93.576,1735689600000123,True,True"
LISTED = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>data</Name><Prefix>p/</Prefix><IsTruncated>true</IsTruncated>
<Contents><Key>p/a.zip</Key><LastModified>2025-01-02T08:30:00.000Z</LastModified><ETag>"0f"</ETag><Size>123</Size></Contents>
<CommonPrefixes><Prefix>p/q/</Prefix></CommonPrefixes></ListBucketResult>"""


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        run: Parses the input; it may use files in the folder.
        seeds: Sound input, which the parser takes.
        cases: How many inputs CI tries.
    """

    run: Callable[[bytes, Path], object]
    seeds: tuple[bytes, ...]
    cases: int = 300


def _zipped(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def _message(data: bytes, _: Path) -> None:
    """The way of messages through the recorder, up to a book with an audit."""
    follower = Follower(["ETHUSDT"], lambda *_: None)
    intake = Intake(["ethusdt@trade", "ethusdt@depth@100ms"], lambda _: None, lambda *_: None)
    for message in data.split(b"\n"):
        placed = intake.place(1, message, 1)
        if placed is not None and placed.diff is not None:
            follower.diff(placed.stream, placed.diff)
    with contextlib.suppress(MalformedDataError):
        follower.snapshot("ETHUSDT", DATA["snapshot"])
    follower.begin_audits()


def _snapshot(data: bytes, _: Path) -> None:
    follower = Follower(["ETHUSDT"], lambda *_: None)
    follower.snapshot("ETHUSDT", data)
    follower.begin_audits()


def _frames(data: bytes, _: Path) -> None:
    cutter = FrameCutter(lambda _: None, lambda _: None, 70_000)
    with contextlib.suppress(FrameError):
        for at in range(0, len(data), 50):
            cutter.feed(data[at : at + 50])
            while cutter.is_behind:
                cutter.feed()


def _kline_zip(data: bytes, _: Path) -> None:
    parse_csv(only_entry(data, "k.csv", 1 << 20, "k.zip"), "k.csv")


def _members(data: bytes, _: Path) -> None:
    scan_members(data, 0, lambda _: None)


def _header(data: bytes, _: Path) -> None:
    text = data.decode("latin-1")
    parse_count(text)
    parse_wait(418, {"retry-after": text, "date": text}, data, 1.0)
    _continues({"Content-Range": text}, 5)


@dataclass
class _Subscriber:
    streams: dict[str, None] = field(default_factory=dict)
    wrapped: bool = True


def _control(data: bytes, _: Path) -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": data, "more_body": False}

    scope = {
        "type": "http",
        "method": "PUT",
        "path": "/_sandbox/faults",
        "headers": [],
        "query_string": b"",
        "server": ("x", 1),
    }
    asyncio.run(body_of(Request(scope, receive), FaultScript))


def _envelope(stream: str, data: bytes) -> bytes:
    return b'{"stream":"%b","data":%b}' % (stream.encode(), data)


_CHECKSUM = b"0" * 64 + b"  BTCUSDT-1m-2025-01.zip\n"
_INFO = b'{"timezone":"UTC","symbols":[{"symbol":"BTCUSDT","status":"TRADING","filters":[{"a":1}]},{"symbol":"X","status":"BREAK"}]}'
_REST_KLINE = b'[1735689600000,"1.0","2.0","0.5","1.5","10.0",1735689659999,"15.0",7,"5.0","7.5","0"]'

TARGETS: dict[str, Target] = {
    "recorder messages": Target(
        _message, (_envelope("ethusdt@trade", DATA["trade"]), _envelope("ethusdt@depth@100ms", DATA["diff"]))
    ),
    "websocket frames": Target(
        _frames,
        (
            frame(FIN | TEXT, b"{}" * 90)
            + frame(TEXT, b"a")
            + frame(FIN | PING, b"p")
            + frame(FIN | CONT, b"b")
            + frame(FIN | TEXT, b"c" * 700),
        ),
        1000,
    ),
    "recording lines": Target(
        lambda data, _: check_mutant(data),
        (TRADE, DIFF, SNAPSHOT, TICKER, TRADE + DIFF + SNAPSHOT, *UM_LINES),
        200,
    ),
    "recording members": Target(_members, (member_of(TRADE * 3, 3) + member_of(DIFF * 2, 2),)),
    "REST depth": Target(_snapshot, (DATA["snapshot"],)),
    "REST aggTrades": Target(lambda data, _: _page(data), (b"[%b,%b]" % (AGGREGATE, AGGREGATE),)),
    "REST klines": Target(
        lambda data, _: parse_rest(data, "rest"), (b"[%b,%b]" % (_REST_KLINE, _REST_KLINE),)
    ),
    "REST time": Target(lambda data, _: parse_time(data, "rest"), (b'{"serverTime":1735689600000}',)),
    "REST exchangeInfo": Target(lambda data, _: parse_statuses(data, "rest"), (_INFO,)),
    "REST errors": Target(lambda data, _: parse_error(data), (b'{"code":-1121,"msg":"Invalid symbol."}',)),
    "HTTP headers": Target(_header, (b"120", b"bytes 5-9/10", b"1.5")),
    "bucket listings": Target(lambda data, _: parse_listing(data), (LISTED,)),
    "checksum files": Target(
        lambda data, _: parse_checksum(data.decode("utf-8", "replace"), "BTCUSDT-1m-2025-01.zip"),
        (_CHECKSUM,),
    ),
    "kline CSV": Target(
        lambda data, _: parse_csv(data, "k.csv"), (KLINE + b"\n" + KLINE, _KLINE_HEADER + KLINE)
    ),
    "kline zips": Target(_kline_zip, (_zipped("k.csv", (KLINE + b"\n") * 3),)),
    "trade zips": Target(
        lambda data, _: parse_published_trades(data, "t", 1 << 20),
        (_zipped("t.csv", PUBLISHED_TRADE + b"\n" + PUBLISHED_TRADE.replace(b"385", b"386") + b"\n"),),
    ),
    "trade CSV": Target(
        lambda data, _: parse_published_trades(_zipped("t.csv", data), "t", 1 << 20),
        (PUBLISHED_TRADE + b"\n" + PUBLISHED_TRADE.replace(b"385", b"386") + b"\n",),
        150,
    ),
    "sandbox stream requests": Target(
        lambda data, _: answer(_Subscriber(), data),
        (b'{"method":"SUBSCRIBE","params":["btcusdt@trade","x@depth"],"id":7}',),
    ),
    "sandbox control": Target(
        _control,
        (
            b'[{"match":{"path":"/api"},"fault":"status_503","times":2}]',
            b'{"faults":[{"match":{},"fault":"slow_body"}]}',
        ),
    ),
}
"""Parsers that need no file, by name."""
