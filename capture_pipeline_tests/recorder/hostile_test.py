"""A real recorder against an exchange that violates the WebSocket protocol or floods it."""

from __future__ import annotations

import gzip
import json
import re
import signal
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from capture_pipeline.cli.exits import EXIT_INTERRUPTED
from capture_pipeline_tests.support.deployment import SandboxDeployment
from capture_pipeline_tests.support.exchange.websocket_frames import (
    BINARY,
    CLOSE,
    CONT,
    FIN,
    PING,
    TEXT,
    Behaviour,
    flood,
    frame,
    hostile_server,
    send_pieces,
    trade,
)
from capture_pipeline_tests.support.sessions.recorder import Live

MIB = 1 << 20
RSV1 = 0x40
_FLOOD = 1 << 16
_AGAIN_AT_ONCE = {"CAPTURE_RECORDING_STEADY_S": "0.000001", "CAPTURE_RECORDING_SILENCE_S": "60"}
"""The next connection follows a short wait, whatever the one before was worth, and none ends by silence."""


def bomb() -> bytes:
    """A gigabyte of zeros in a permessage-deflate frame, twice."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(64)) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4]


VIOLATIONS: dict[str, tuple[Behaviour, str]] = {
    "masked": (send_pieces(frame(FIN | TEXT, b"{}", mask=True)), "1002"),
    "compressed bomb that was not agreed": (send_pieces(frame(FIN | RSV1 | TEXT, bomb())), "1002"),
    "unknown kind of data": (send_pieces(frame(FIN | 0x3, b"{}")), "1002"),
    "unknown kind of control": (send_pieces(frame(FIN | 0xB)), "1002"),
    "ping in fragments": (send_pieces(frame(PING, b"beat")), "1002"),
    "long ping": (send_pieces(frame(FIN | PING, b"x" * 126)), "1002"),
    "fragment of nothing": (send_pieces(frame(FIN | CONT, b"{}")), "1002"),
    "message inside a message": (send_pieces(frame(TEXT, b"{"), frame(FIN | TEXT, b"{}")), "1002"),
    "too big": (send_pieces(frame(FIN | TEXT, b"{", size=2 * MIB + 1)), "1009"),
    "endless": (send_pieces(frame(FIN | TEXT, b"{", size=(1 << 63) + 5)), "1009|1002"),
    "too big in fragments": (send_pieces(frame(TEXT, b" " * MIB), *[frame(CONT, b" " * MIB)] * 2), "1009"),
    "20,000 empty fragments": (send_pieces(frame(TEXT), frame(CONT) * 20_000, frame(FIN | CONT)), "1009"),
    "bad UTF-8": (send_pieces(frame(FIN | TEXT, trade(1_000_000).replace(b"BTC", b"B\xffC"))), "1007"),
    "bad UTF-8 in fragments": (send_pieces(frame(TEXT, b"{\xc3"), frame(FIN | CONT, b"(}")), "1007"),
    "close code that there is not": (send_pieces(frame(FIN | CLOSE, b"\x03\xe7")), "1002"),
    "close code that is never sent": (send_pieces(frame(FIN | CLOSE, b"\x03\xed")), "1002"),
    "half a close code": (send_pieces(frame(FIN | CLOSE, b"\x03")), "1002"),
    "close reason that is not UTF-8": (send_pieces(frame(FIN | CLOSE, b"\x03\xe8\xff\xfe")), "1007"),
}


def slow_handshake(one: socket.socket) -> None:
    """Send one byte at a time, forever."""
    for letter in b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 10_000:
        one.sendall(bytes([letter]))
        time.sleep(0.1)


slow_handshake.is_before_the_handshake = True  # type: ignore[attr-defined]


def slow_frame(one: socket.socket) -> None:
    """Send a frame of 2 MiB in the smallest pieces."""
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.sendall(frame(FIN | TEXT, size=2 * MIB))
    for _ in range(2 * MIB):
        one.sendall(b" ")


ENDLESS: dict[str, Behaviour] = {
    "empty messages": flood(frame(FIN | TEXT) * _FLOOD),
    "small messages behind a big one": flood(
        frame(FIN | TEXT, b"1") * _FLOOD, before=frame(FIN | BINARY, bytes(2 * MIB))
    ),
    "pings whose answers nobody reads": flood(frame(FIN | PING, b"x" * 125) * 500),
    "short pings behind a big message": flood(
        frame(FIN | PING) * _FLOOD, before=frame(FIN | BINARY, bytes(2 * MIB))
    ),
    "fragments without end": flood(frame(CONT) * _FLOOD, before=frame(TEXT)),
    "bytes of one frame": slow_frame,
    "handshake": slow_handshake,
}


@contextmanager
def recorder(root: Path, *behaviours: Behaviour, answer: bytes = b"", seconds: float = 600) -> Iterator[Live]:
    """Start a session with one connection to a hostile server whose REST never answers."""
    with hostile_server(*behaviours, answer=answer) as server:
        sandbox = SandboxDeployment(server.url, root, CAPTURE_HTTP_ATTEMPTS="1")
        live = Live(sandbox, seconds, ["BTCUSDT"], connections=1)
        try:
            yield live
        finally:
            if live.process is not None and live.process.poll() is None:
                live.kill()


@pytest.mark.slow
def test_a_violation_ends_the_connection_with_its_own_cause(tmp_path: Path) -> None:
    """The connection ends at once with the close code; messages before it are recorded."""
    last = send_pieces(
        *(frame(FIN | TEXT, trade(number)) for number in range(len(VIOLATIONS) + 2, len(VIOLATIONS) + 50))
    )
    with recorder(tmp_path, *(behaviour for behaviour, _ in VIOLATIONS.values()), last) as live:
        live.start(**_AGAIN_AT_ONCE)
        live.wait(lambda status: status.messages >= len(VIOLATIONS) + 40)
        ended = live.events("connection_ended")
        live.end()
        found = {
            name: (event["cause"], event["detail"]) for name, event in zip(VIOLATIONS, ended, strict=True)
        }
        wrong = {
            name: found[name]
            for name, (_, code) in VIOLATIONS.items()
            if found[name][0] != "protocol error" or not re.match(code, found[name][1])
        }
        assert not wrong
        live.check_ids()
        assert not live.gaps


@pytest.mark.slow
@pytest.mark.parametrize("flood", ENDLESS)
def test_a_signal_is_obeyed_whatever_arrives(tmp_path: Path, flood: str) -> None:
    """The work is linear in the received bytes, in slices, so a flood delays neither signals nor timers."""
    with recorder(tmp_path, ENDLESS[flood]) as live:
        live.start(CAPTURE_RECORDING_SILENCE_S="600")
        live.wait(
            lambda status: status.messages > 0 or (flood == "handshake" and status.state == "connecting")
        )
        assert live.process is not None
        live.process.send_signal(signal.SIGTERM)
        live.process.communicate(timeout=30)
        assert live.process.returncode == EXIT_INTERRUPTED


@pytest.mark.slow
def test_the_planned_end_is_obeyed_in_a_flood(tmp_path: Path) -> None:
    """The session is complete."""
    with recorder(tmp_path, ENDLESS["empty messages"], seconds=15) as live:
        live.start()
        code, output = live.wait_for_end()
        assert code == 0, output
        assert live.metadata.state == "complete"


def test_json_nested_deeply_is_rejected_and_recording_goes_on(tmp_path: Path) -> None:
    """The nesting is in a message of the combined stream, in the value of an id or next to the ids."""
    deep = b"[" * 100_000 + b"]" * 100_000
    beside = trade(2).replace(b'"M":true', b'"M":' + deep)
    instead = trade(2).replace(b'"t":2', b'"t":' + deep)
    with recorder(
        tmp_path, send_pieces(*(frame(FIN | TEXT, each) for each in (beside, instead, trade(2))))
    ) as live:
        live.start(**_AGAIN_AT_ONCE)
        live.wait(lambda status: status.messages == 2)
        live.end()
        assert live.metadata.statistics["rejected_messages"] == 2
        reasons = [event["reason"] for event in live.events("rejected_message")]
        assert reasons == ["it is nested too deeply", "Expected `int`, got `array` - at `$.t`"]
        lines = gzip.decompress(live.folder.recording.read_bytes()).splitlines()
        assert [json.loads(line)["data"]["t"] for line in lines] == [1, 2]


def test_an_extension_that_was_not_offered_is_refused(tmp_path: Path) -> None:
    """A server that compresses without an agreement violates the handshake."""
    with recorder(
        tmp_path, send_pieces(), answer=b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
    ) as live:
        live.start()
        live.wait(lambda _: bool(live.folder.events.exists() and live.events("connection_refused")))
        assert "xtension" in live.events("connection_refused")[0]["detail"]
        assert not live.events("connection_opened")
