"""Tests of the replay of a session: the recorded messages at the recorded speed, and snapshots."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from capture_pipeline.binance.periods import parse_time
from capture_pipeline.errors import ConfigError
from capture_pipeline.sessions.line_format import format_line, splice_line
from capture_pipeline_tests.support.exchange.streams import (
    Exchange,
    close_code,
    exchange,
    receive,
    receive_rest,
    until,
)
from sandbox_exchange.cli import sandbox as command
from sandbox_exchange.server.server import Sandbox, SandboxConfig
from sandbox_exchange.sources.replay import read_records

START = "2026-08-03T14:30:00Z"
START_NS = parse_time(START) * 1000
STREAMS = "/stream?streams=btcusdt@trade/btcusdt@depth@100ms"


def message(stream: str, number: int) -> bytes:
    """Build a message with an unusual form, which must not change."""
    if stream.endswith("@trade"):
        ids = f'"E":{number},"s":"BTCUSDT","t":{number}'
        data = f'{{"e":"trade", {ids},"p":"1.50","q":"1","T":{number},"m":true}}'
    else:
        ids = f'"E":{number},"s":"BTCUSDT","U":{number},"u":{number}'
        data = f'{{"e":"depthUpdate",{ids},"b":[["1.0","2"]],"a":[]}}'
    return f'{{"stream":"{stream}","data":{data}}}'.encode()


def lines() -> list[bytes]:
    """Build ten seconds: a trade and a diff per 100 ms, another symbol, and snapshots at 2 s and 6 s."""
    found = []
    for tick in range(100):
        at = START_NS + tick * 100_000_000
        found += [
            splice_line(at + 1000 * n, message(s, tick + 1))
            for n, s in enumerate(("btcusdt@trade", "btcusdt@depth@100ms", "x@trade"))
        ]
        if tick in {20, 60}:
            book = {"lastUpdateId": tick, "bids": [["1.0", "2"], ["0.9", "1"]], "asks": [["1.1", "3"]]}
            found.append(format_line(at + 5000, "btcusdt@depthSnapshot", json.dumps(book).encode()))
    return found


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Write several gzip members with an incomplete end, as after a kill."""
    path, whole = tmp_path / "btcusdt_capture.jsonl.gz.part", lines()
    members = [gzip.compress(b"".join(whole[start : start + 40])) for start in range(0, len(whole), 40)]
    path.write_bytes(
        b"".join(members)
        + gzip.compress(splice_line(START_NS + 20_000_000_000, message("btcusdt@trade", 999)))[:30]
    )
    return path


def replay(path: Path, **settings: Any) -> Any:
    return exchange(**{"replay": path, "now": None, "frozen": False, "symbols": [], **settings})


def depth(box: Exchange, **params: Any) -> requests.Response:
    return requests.get(f"{box.url}/api/v3/depth", params={"symbol": "BTCUSDT", **params}, timeout=30)


def test_every_message_comes_byte_for_byte_and_then_the_end(recording: Path) -> None:
    """Two connections get their messages and code 1000; a later connection gets nothing."""
    expected = [
        message(stream, tick + 1)
        for tick in range(100)
        for stream in ("btcusdt@trade", "btcusdt@depth@100ms")
    ]
    with replay(recording, speed=100) as box, box.connect("/stream") as one:
        assert box.control("clock") == {"now": START, "now_us": START_NS // 1000, "speed": 0}
        one.send(
            json.dumps({"method": "SUBSCRIBE", "params": ["btcusdt@trade", "btcusdt@depth@100ms"], "id": 1})
        )
        assert receive(one, 1) == [b'{"result":null,"id":1}']
        messages, closed = receive_rest(one)
        assert messages == expected
        assert close_code(closed) == 1000
        assert box.control("streams")["streams"]["btcusdt@trade"] == {
            "first_id": 1,
            "last_id": 100,
            "count": 100,
        }
        with box.connect(STREAMS) as later, pytest.raises(TimeoutError):
            later.recv(timeout=0.1)


def test_the_clock_waits_for_the_first_listener_and_sets_the_pace(recording: Path) -> None:
    """No message passes before the first subscription; 10 s take 0.2 s at 50 times real speed."""
    with replay(recording, speed=50) as box:
        time.sleep(0.1)
        assert box.get("/api/v3/time") == {"serverTime": START_NS // 1_000_000}
        with box.connect(STREAMS) as client:
            begin = time.monotonic()
            assert len(receive_rest(client)[0]) == 200
            assert 0.15 < time.monotonic() - begin < 2


def test_depth_answers_the_last_snapshot_by_then(recording: Path) -> None:
    """Depth returns the last snapshot so far, cut to the limit; ids match the diffs."""
    with replay(recording, speed=0.000001) as box, box.connect(STREAMS):
        assert (depth(box).status_code, depth(box).json()["code"]) == (503, -1001)
        for seconds, last in ((3, 20), (3, 20), (1, 60)):
            box.advance(seconds)
            until(lambda: box.control("streams")["position"][:19] == box.control("clock")["now"][:19])
            assert depth(box).json()["lastUpdateId"] == last
        assert depth(box, limit=1).json()["bids"] == [["1.0", "2"]]
        assert depth(box, symbol="NOPE").json()["code"] == -1121


def test_what_a_recording_does_not_hold_is_refused(recording: Path) -> None:
    """Klines, aggregate trades and archive files give errors; exchangeInfo and ping succeed."""
    with replay(recording) as box:
        for path in ("klines?symbol=BTCUSDT&interval=1m", "aggTrades?symbol=BTCUSDT"):
            answer = requests.get(f"{box.url}/api/v3/{path}", timeout=30)
            assert (answer.status_code, answer.json()["code"]) == (400, -1000)
        assert {entry["symbol"] for entry in box.get("/api/v3/exchangeInfo")["symbols"]} == {"BTCUSDT", "X"}
        assert box.get("/api/v3/ping") == {}
        assert (
            requests.get(
                f"{box.url}/data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2026-07.zip", timeout=30
            ).status_code
            == 404
        )


def test_faults_work_on_a_recording(recording: Path) -> None:
    """A fault rule removes a recorded message."""
    rule = {"fault": "ws_drop", "after": 10, "match": {"stream": "btcusdt@trade"}}
    with (
        replay(recording, speed=100, faults=[rule]) as box,
        box.connect("/stream?streams=btcusdt@trade") as client,
    ):
        assert [json.loads(one)["data"]["t"] for one in receive_rest(client)[0]] == [
            *range(1, 11),
            *range(12, 101),
        ]
        assert box.injected() == [1]


def test_plain_files_are_read_and_memory_does_not_grow(tmp_path: Path) -> None:
    """A plain .jsonl is accepted; a long file is read without loading it."""
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        for number in range(200_000):
            file.write(splice_line(START_NS + number, message("btcusdt@trade", number)))
    assert sum(1 for _ in read_records(path)) == 200_000
    box = Sandbox(SandboxConfig(replay=path))
    assert box.clock.now_us() == START_NS // 1000
    box.close()


@pytest.mark.parametrize(
    ("content", "error_text"),
    [
        (b"", "contains no complete line"),
        (b'{"capture_ns":5', "contains no complete line"),
        (b'{"time":5}\n', "line 1 is not a line of a recording"),
        (b"\x1f\x8bnonsense", "contains no complete line"),
    ],
)
def test_what_is_no_recording_is_refused_on_one_line(tmp_path: Path, content: bytes, error_text: str) -> None:
    """The error contains the file, the line and the remedy."""
    path = tmp_path / "session.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Sandbox(SandboxConfig(replay=path))
    assert error_text in str(caught.value)
    assert "\n" not in str(caught.value)
    result = CliRunner().invoke(command, ["serve", "--port", "0", "--replay", str(path)])
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    result = CliRunner().invoke(
        command, ["serve", "--port", "0", "--replay", str(path), "--recorded", str(tmp_path)]
    )
    assert "replay and recorded exclude each other" in result.output
