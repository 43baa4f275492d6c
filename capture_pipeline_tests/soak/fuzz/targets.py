"""Fuzz targets: parsers of external bytes, each with valid input.

A parser must return a value or raise `CaptureError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request

from capture_pipeline.binance.archive.client import _parse_total_size
from capture_pipeline.binance.archive.klines.parser import parse_csv, parse_rest
from capture_pipeline.binance.archive.protocol import parse_checksum, parse_listing
from capture_pipeline.binance.archive.zip_file import read_only_entry
from capture_pipeline.binance.http.refusals import parse_error, parse_wait
from capture_pipeline.binance.rest.client import parse_statuses, parse_time
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.proof.published_trades import parse_published_trades
from capture_pipeline.parsing import parse_count
from capture_pipeline.recorder.background.book_follower import BookFollower
from capture_pipeline.recorder.background.trade_backfill import _page
from capture_pipeline.recorder.connections.frame_parser import FrameError, FrameParser
from capture_pipeline.recorder.events import EventBus
from capture_pipeline.recorder.ordering.ingress import Intake
from capture_pipeline.sessions.counts import SessionCounts
from capture_pipeline.sessions.gzip_members import build_member
from capture_pipeline.sessions.recordings.source import DamagePolicy, Source
from capture_pipeline_tests.binance.stream_kernel_test import (
    DIFF,
    SNAPSHOT,
    TICKER,
    TRADE,
    UM_LINES,
    check_mutant,
)
from capture_pipeline_tests.support.exchange.websocket_frames import CONT, FIN, PING, TEXT, frame
from sandbox_exchange.faults.rules import FaultScript
from sandbox_exchange.server.control import parse_body
from sandbox_exchange.streams.subscriptions import answer

DATA = {
    name: line.split(b'"data":')[1][:-2]
    for name, line in (("trade", TRADE), ("diff", DIFF), ("snapshot", SNAPSHOT))
}
AGGREGATE = b'{"a":7,"p":"1.5","q":"2.0","f":11,"l":12,"T":1723161255612,"m":true,"M":true}'
KLINE = (
    b"1735689600000,93576.00,93702.15,93489.03,93656.18,52.46,1735689659999,4910000.0,9000,26.1,2440000.0,0"
)
_KLINE_HEADER = (
    b"open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    b"taker_buy_volume,taker_buy_quote_volume,ignore\n"
)
PUBLISHED_TRADE = b"4359204385,93576.00,0.001,93.576,1735689600000123,True,True"
LISTING = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>data</Name>
<Prefix>p/</Prefix><IsTruncated>true</IsTruncated>
<Contents><Key>p/a.zip</Key><LastModified>2025-01-02T08:30:00.000Z</LastModified>
<ETag>"0f"</ETag><Size>123</Size></Contents>
<CommonPrefixes><Prefix>p/q/</Prefix></CommonPrefixes></ListBucketResult>"""


@dataclass(frozen=True)
class Target:
    """Parser to fuzz.

    Attributes:
        run: Function that parses the input; it may create files in the folder.
        seeds: Valid inputs.
        cases: Number of damaged inputs in CI.
    """

    run: Callable[[bytes, Path], object]
    seeds: tuple[bytes, ...]
    cases: int = 300


def _build_zip(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def _parse_messages(data: bytes, _: Path) -> None:
    """Process messages as the recorder does, up to a book with an audit."""
    follower = BookFollower(["ETHUSDT"], lambda *_: None)
    intake = Intake(["ethusdt@trade", "ethusdt@depth@100ms"], SessionCounts(), EventBus())
    for message in data.split(b"\n"):
        placed = intake.place(1, message, 1)
        if placed is not None and placed.diff is not None:
            follower.apply_diff(placed.stream, placed.diff)
    with contextlib.suppress(MalformedDataError):
        follower.apply_snapshot("ETHUSDT", DATA["snapshot"])
    follower.begin_audits()


def _parse_snapshot(data: bytes, _: Path) -> None:
    follower = BookFollower(["ETHUSDT"], lambda *_: None)
    follower.apply_snapshot("ETHUSDT", data)
    follower.begin_audits()


def _parse_frames(data: bytes, _: Path) -> None:
    cutter = FrameParser(lambda _: None, lambda _: None, 70_000)
    with contextlib.suppress(FrameError):
        for at in range(0, len(data), 50):
            cutter.feed(data[at : at + 50])
            while cutter.is_behind:
                cutter.feed()


def _parse_kline_zip(data: bytes, _: Path) -> None:
    parse_csv(read_only_entry(data, "k.csv", 1 << 20, "k.zip"), "k.csv")


def _scan_members(data: bytes, folder: Path) -> None:
    (path := folder / "members.gz").write_bytes(data)
    with Source.open(path, policy=DamagePolicy.SKIP) as source:
        for _ in source:
            pass


def _parse_header(data: bytes, _: Path) -> None:
    text = data.decode("latin-1")
    parse_count(text)
    parse_wait(418, {"retry-after": text, "date": text}, data, 1.0)
    _parse_total_size({"Content-Range": text}, 5)


@dataclass
class _Subscriber:
    streams: dict[str, None] = field(default_factory=dict)
    wrapped: bool = True


def _parse_control(data: bytes, _: Path) -> None:
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
    asyncio.run(parse_body(Request(scope, receive), FaultScript))


def _envelope(stream: str, data: bytes) -> bytes:
    return b'{"stream":"%b","data":%b}' % (stream.encode(), data)


_CHECKSUM = b"0" * 64 + b"  BTCUSDT-1m-2025-01.zip\n"
_INFO = (
    b'{"timezone":"UTC","symbols":[{"symbol":"BTCUSDT","status":"TRADING","filters":[{"a":1}]},'
    b'{"symbol":"X","status":"BREAK"}]}'
)
_REST_KLINE = b'[1735689600000,"1.0","2.0","0.5","1.5","10.0",1735689659999,"15.0",7,"5.0","7.5","0"]'

TARGETS: dict[str, Target] = {
    "recorder messages": Target(
        _parse_messages,
        (_envelope("ethusdt@trade", DATA["trade"]), _envelope("ethusdt@depth@100ms", DATA["diff"])),
    ),
    "websocket frames": Target(
        _parse_frames,
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
    "recording members": Target(_scan_members, (build_member(TRADE * 3, 3) + build_member(DIFF * 2, 2),)),
    "REST depth": Target(_parse_snapshot, (DATA["snapshot"],)),
    "REST aggTrades": Target(lambda data, _: _page(data), (b"[%b,%b]" % (AGGREGATE, AGGREGATE),)),
    "REST klines": Target(
        lambda data, _: parse_rest(data, "rest"), (b"[%b,%b]" % (_REST_KLINE, _REST_KLINE),)
    ),
    "REST time": Target(lambda data, _: parse_time(data, "rest"), (b'{"serverTime":1735689600000}',)),
    "REST exchangeInfo": Target(lambda data, _: parse_statuses(data, "rest"), (_INFO,)),
    "REST errors": Target(lambda data, _: parse_error(data), (b'{"code":-1121,"msg":"Invalid symbol."}',)),
    "HTTP headers": Target(_parse_header, (b"120", b"bytes 5-9/10", b"1.5")),
    "bucket listings": Target(lambda data, _: parse_listing(data), (LISTING,)),
    "checksum files": Target(
        lambda data, _: parse_checksum(data.decode("utf-8", "replace"), "BTCUSDT-1m-2025-01.zip"),
        (_CHECKSUM,),
    ),
    "kline CSV": Target(
        lambda data, _: parse_csv(data, "k.csv"), (KLINE + b"\n" + KLINE, _KLINE_HEADER + KLINE)
    ),
    "kline zips": Target(_parse_kline_zip, (_build_zip("k.csv", (KLINE + b"\n") * 3),)),
    "trade zips": Target(
        lambda data, _: parse_published_trades(data, "t", 1 << 20),
        (_build_zip("t.csv", PUBLISHED_TRADE + b"\n" + PUBLISHED_TRADE.replace(b"385", b"386") + b"\n"),),
    ),
    "trade CSV": Target(
        lambda data, _: parse_published_trades(_build_zip("t.csv", data), "t", 1 << 20),
        (PUBLISHED_TRADE + b"\n" + PUBLISHED_TRADE.replace(b"385", b"386") + b"\n",),
        150,
    ),
    "sandbox stream requests": Target(
        lambda data, _: answer(_Subscriber(), data),
        (b'{"method":"SUBSCRIBE","params":["btcusdt@trade","x@depth"],"id":7}',),
    ),
    "sandbox control": Target(
        _parse_control,
        (
            b'[{"match":{"path":"/api"},"fault":"status_503","times":2}]',
            b'{"faults":[{"match":{},"fault":"slow_body"}]}',
        ),
    ),
}
"""Targets that need no file, by name."""
